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
use crate::TopicPartition;
use crate::epoch::{EpochLogError, EpochRef};
use crate::sql::{Pipeline, RunError};

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

    fn compute(&self, epoch: &EpochRef, stream: usize) -> Result<Vec<RecordBatch>, ReplayError> {
        let dropped = epoch.dropped()?;
        let wanted = self.pipeline.streams.get(stream).map(|stream| stream.source);
        let mut inputs = Vec::with_capacity(self.pipeline.sources.len());
        for (index, source) in self.pipeline.sources.iter().enumerate() {
            let mut decoder = source.decoder();
            if wanted == Some(index) {
                for range in epoch.header.ranges.iter().filter(|range| *range.partition.topic == *source.topic) {
                    let failed = |reason| ReplayError::Read { partition: range.partition.clone(), reason };
                    let partition = self.partition(&range.partition).ok_or_else(|| failed("it is gone".to_owned()))?;
                    let mut next = range.from;
                    while next < range.to {
                        // What did not decode was kept as a bad event, and does not decode now.
                        let read = read_records(&partition, next..range.to, |record| {
                            let _bad = decoder.push(range.partition.partition, record, record.timestamp_ms);
                            true
                        });
                        match read.map_err(|failure: ReadFailure| failed(failure.to_string()))? {
                            moved if moved > next => next = moved,
                            _ => return Err(ReplayError::Rows(epoch.header.number)),
                        }
                    }
                }
            }
            let batch = decoder.finish();
            inputs.push(without(batch, dropped.get(index).map_or(&[], Vec::as_slice), epoch.header.number)?);
        }
        // Over the same rows nothing fails that did not fail then, but some may pass in smaller company only.
        let run = self.pipeline.run_around(&inputs, Some(stream));
        let (rows, failed) = tokio::runtime::Handle::current().block_on(run)?;
        if !failed.is_empty() {
            return Err(ReplayError::Rows(epoch.header.number));
        }
        let rows = rows.streams.into_iter().nth(stream).unwrap_or_default();
        let count: u64 = rows.iter().map(|batch| batch.num_rows() as u64).sum();
        if epoch.header.rows.get(stream) != Some(&count) {
            return Err(ReplayError::Rows(epoch.header.number));
        }
        Ok(rows)
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
