//! The rows of an epoch once more, from the log.
//!
//! An epoch's record says which records it covers, in which order they were read, and which of them were dropped as seen
//! before. Plans are deterministic, so that is all it takes to have the same rows again: they are written once, to the
//! log, and readers that keep up find them in memory. It knows nothing of state: what depends on it is kept in the record.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use playhouse_log::{Log, Partition};

use super::input::{ReadFailure, read_records};
use super::late;
use crate::TopicPartition;
use crate::epoch::{EpochLogError, EpochRef};
use crate::sql::{self, Pipeline, RunError};

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    EpochLog(#[from] EpochLogError),
    #[error("log of topic {topic}, partition {partition}: {reason}", topic = .partition.topic, partition = .partition.partition)]
    Read { partition: TopicPartition, reason: String },
    #[error("pipeline: {0}")]
    Run(#[from] RunError),
    #[error("the records of epoch {0} give other rows than they gave first: the topic is not the same any more")]
    Rows(u64),
}

/// What the plans saw of an epoch.
struct Inputs {
    /// By source.
    batches: Vec<RecordBatch>,
    /// By row, where each came from: an index into the epoch's ranges, and the offset.
    records: Vec<(usize, i64)>,
}

/// Reads epochs' rows, wherever they are.
#[derive(Clone)]
pub struct Replay {
    log: Arc<Log>,
    pipeline: Arc<Pipeline>,
}

impl Replay {
    pub(super) fn new(log: Arc<Log>, pipeline: Arc<Pipeline>) -> Replay {
        Replay { log, pipeline }
    }

    /// The rows of one stream of an epoch. Reads files and computes: for a blocking thread of a tokio runtime.
    pub fn rows(&self, epoch: &EpochRef, stream: usize) -> Result<Vec<RecordBatch>, ReplayError> {
        match epoch.rows(stream)? {
            Some(rows) => Ok(rows),
            None => self.compute(epoch, stream),
        }
    }

    /// The records that rows of one stream of an epoch were made of; `rows` are numbers in that stream, in order. Reads files
    /// and computes, like [`Replay::rows`].
    pub(crate) fn records(
        &self,
        epoch: &EpochRef,
        stream: usize,
        rows: &[u64],
    ) -> Result<Vec<(TopicPartition, i64)>, ReplayError> {
        let Some(source) = self.pipeline.streams.get(stream).map(|stream| stream.source) else {
            return late::records(&self.rows(epoch, stream)?, rows).ok_or(ReplayError::Rows(epoch.header.number));
        };
        let Inputs { batches, records } = self.inputs(epoch, Some(source))?;
        let mut found = Vec::with_capacity(rows.len());
        let mut wanted = rows.iter().copied().peekable();
        // Each input row gives one row of the stream or none, so how many a piece gives tells where a row came from.
        let mut output = 0;
        let mut pieces = vec![(0, records.len())];
        while let Some((from, count)) = pieces.pop() {
            let Some(next) = wanted.peek() else { break };
            let gives = self.run(&sql::only(&batches, source, from, count), stream, epoch)?;
            let gives: u64 = gives.iter().map(|batch| batch.num_rows() as u64).sum();
            if gives == count as u64 {
                while let Some(row) = wanted.next_if(|row| *row < output + gives) {
                    let (range, offset) = records[from + (row - output) as usize];
                    found.push((epoch.header.ranges[range].partition.clone(), offset));
                }
                output += gives;
            } else if *next >= output + gives {
                output += gives;
            } else {
                pieces.push((from + count / 2, count - count / 2));
                pieces.push((from, count / 2));
            }
        }
        if found.len() == rows.len() { Ok(found) } else { Err(ReplayError::Rows(epoch.header.number)) }
    }

    /// The partitions that rows of a stream may come from.
    pub(crate) fn partitions(&self, stream: usize) -> Vec<TopicPartition> {
        let wanted = self.pipeline.streams.get(stream).map(|stream| stream.source);
        let sources = self.pipeline.sources.iter().enumerate();
        let topics = sources.filter(|(index, _)| wanted.is_none_or(|wanted| wanted == *index));
        topics
            .filter_map(|(_, source)| self.log.topic(&source.topic))
            .flat_map(|topic| {
                let name: Arc<str> = Arc::from(topic.name());
                let partitions = 0..topic.partitions().len() as i32;
                partitions.map(move |partition| TopicPartition { topic: name.clone(), partition })
            })
            .collect()
    }

    fn compute(&self, epoch: &EpochRef, stream: usize) -> Result<Vec<RecordBatch>, ReplayError> {
        let source = self.pipeline.streams.get(stream).map(|stream| stream.source);
        let inputs = self.inputs(epoch, source)?;
        let rows = self.run(&inputs.batches, stream, epoch)?;
        let count: u64 = rows.iter().map(|batch| batch.num_rows() as u64).sum();
        if epoch.header.rows.get(stream) != Some(&count) {
            return Err(ReplayError::Rows(epoch.header.number));
        }
        Ok(rows)
    }

    fn run(&self, inputs: &[RecordBatch], stream: usize, epoch: &EpochRef) -> Result<Vec<RecordBatch>, ReplayError> {
        // Over the same rows nothing fails that did not fail then, but some may pass in smaller company only.
        let run = self.pipeline.run_around(inputs, Some(stream));
        let (rows, failed) = tokio::runtime::Handle::current().block_on(run)?;
        if !failed.is_empty() {
            return Err(ReplayError::Rows(epoch.header.number));
        }
        Ok(rows.streams.into_iter().nth(stream).unwrap_or_default())
    }

    /// What the plans saw of one source, and nothing of the others.
    fn inputs(&self, epoch: &EpochRef, wanted: Option<usize>) -> Result<Inputs, ReplayError> {
        let dropped = epoch.dropped()?;
        let mut inputs = Inputs { batches: Vec::with_capacity(self.pipeline.sources.len()), records: Vec::new() };
        for (index, source) in self.pipeline.sources.iter().enumerate() {
            let mut decoder = source.decoder();
            let mut records = Vec::new();
            if wanted == Some(index) {
                let ranges = epoch.header.ranges.iter().enumerate();
                for (number, range) in ranges.filter(|(_, range)| *range.partition.topic == *source.topic) {
                    let failed = |reason| ReplayError::Read { partition: range.partition.clone(), reason };
                    let partition = self.partition(&range.partition).ok_or_else(|| failed("it is gone".to_owned()))?;
                    let mut next = range.from;
                    while next < range.to {
                        // What did not decode was kept as a bad event, and does not decode now.
                        let read = read_records(&partition, next..range.to, |record| {
                            let decoded = decoder.push(range.partition.partition, record, record.timestamp_ms);
                            if decoded.is_ok() {
                                records.push((number, record.offset));
                            }
                            true
                        });
                        match read.map_err(|failure: ReadFailure| failed(failure.to_string()))? {
                            moved if moved > next => next = moved,
                            _ => return Err(ReplayError::Rows(epoch.header.number)),
                        }
                    }
                }
            }
            let dropped = dropped.get(index).map_or(&[][..], Vec::as_slice);
            inputs.batches.push(without(decoder.finish(), dropped, epoch.header.number)?);
            if wanted == Some(index) {
                let mut dropped = dropped.iter().peekable();
                let mut row = 0;
                records.retain(|_| {
                    row += 1;
                    dropped.next_if_eq(&&(row - 1)).is_none()
                });
                inputs.records = records;
            }
        }
        Ok(inputs)
    }

    fn partition(&self, name: &TopicPartition) -> Option<Arc<Partition>> {
        let topic = self.log.topic(&name.topic)?;
        topic.partitions().get(usize::try_from(name.partition).ok()?).cloned()
    }
}

fn without(batch: RecordBatch, dropped: &[u32], epoch: u64) -> Result<RecordBatch, ReplayError> {
    if dropped.is_empty() || batch.num_rows() == 0 {
        return Ok(batch);
    }
    let mut keep = vec![true; batch.num_rows()];
    for row in dropped {
        *keep.get_mut(*row as usize).ok_or(ReplayError::Rows(epoch))? = false;
    }
    filter_record_batch(&batch, &BooleanArray::from(keep)).map_err(|_| ReplayError::Rows(epoch))
}
