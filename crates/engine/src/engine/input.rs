//! Cutting an epoch: which records it covers, decoded.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use futures::future::select_all;
use parking_lot::Mutex;
use playhouse_log::batch::{self, BatchError, Record, Records};
use playhouse_log::{Log, Partition, ReadError};
use tokio::sync::watch;

use super::{BadRecord, EngineError, FailedStage};
use crate::epoch::{OffsetRange, PartitionTime};
use crate::sql::{Decoder, Pipeline, Source};
use crate::{Position, TopicPartition};

/// Read from a partition at a time, compressed.
const READ_BYTES: usize = 256 << 10;
/// A record batch that decompresses to more is corrupt: the gate and the Kafka door accept less.
const BATCH_BYTES_MAX: usize = 256 << 20;
/// Decoded payload in an epoch, whatever its number of rows: bounds the engine's memory.
const EPOCH_BYTES: usize = 24 << 20;

/// Where a decoded row came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Index into the source's inputs.
    input: u32,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) ingested_ms: i64,
}

/// Reads one source: shared with the thread that cuts ahead of the engine's.
pub(super) struct Reader {
    decoder: Decoder,
    inputs: Vec<Input>,
    /// Whose turn it is to be read: cuts go on where the last one ended, so that no partition's backlog keeps the others
    /// waiting.
    turn: usize,
}

/// One partition being read.
struct Input {
    partition: Arc<Partition>,
    name: TopicPartition,
    next: i64,
}

/// What the watermark needs to know of a partition.
struct Progress {
    partition: Arc<Partition>,
    name: TopicPartition,
    high_watermark: watch::Receiver<i64>,
    max_event_ms: Option<i64>,
    active_ms: i64,
    /// The last cut left records behind.
    behind: bool,
}

/// One source table: its partitions, its decoder, its watermark.
pub(super) struct SourceReader {
    pub(super) definition: Source,
    pub(super) topic: Arc<str>,
    reader: Arc<Mutex<Reader>>,
    /// In the order of the reader's inputs.
    progress: Vec<Progress>,
    pub(super) watermark_ms: Option<i64>,
    started_ms: i64,
}

/// What a cut took from one source.
pub(super) struct Cut {
    pub(super) batch: RecordBatch,
    /// By row of `batch`.
    pub(super) places: Vec<Place>,
    pub(super) ranges: Vec<OffsetRange>,
    pub(super) bad: Vec<BadRecord>,
    /// By partition: whether records were left behind.
    behind: Vec<bool>,
}

impl Cut {
    pub(super) fn is_behind(&self) -> bool {
        self.behind.contains(&true)
    }
}

impl SourceReader {
    pub(super) fn open(log: &Log, source: &Source, now_ms: i64) -> Result<SourceReader, EngineError> {
        if log.topic(&source.topic).is_none() {
            return Err(EngineError::UnknownTopic(source.topic.clone()));
        }
        let name: Arc<str> = Arc::from(source.topic.as_str());
        let reader = Reader { decoder: source.decoder(), inputs: Vec::new(), turn: 0 };
        let mut source = SourceReader {
            definition: source.clone(),
            topic: name,
            reader: Arc::new(Mutex::new(reader)),
            progress: Vec::new(),
            watermark_ms: None,
            started_ms: now_ms,
        };
        source.adopt(log, now_ms);
        Ok(source)
    }

    /// Takes in the partitions that were added to the topic since; whether there were any.
    pub(super) fn adopt(&mut self, log: &Log, now_ms: i64) -> bool {
        let Some(topic) = log.topic(&self.topic) else { return false };
        let known = self.progress.len();
        for partition in topic.partitions().iter().skip(known) {
            let name = TopicPartition { topic: self.topic.clone(), partition: partition.index() };
            let next = partition.log_start_offset();
            self.reader.lock().inputs.push(Input { partition: partition.clone(), name: name.clone(), next });
            self.progress.push(Progress {
                partition: partition.clone(),
                name,
                high_watermark: partition.subscribe(),
                max_event_ms: None,
                active_ms: now_ms,
                behind: false,
            });
        }
        self.progress.len() > known
    }

    /// For cutting on another thread.
    pub(super) fn reader(&self) -> Arc<Mutex<Reader>> {
        self.reader.clone()
    }

    /// Forgets all times, before they are restored.
    pub(super) fn reset(&mut self) {
        self.reader.lock().decoder = self.definition.decoder();
        self.watermark_ms = None;
        for progress in &mut self.progress {
            progress.max_event_ms = None;
        }
    }

    /// Moves to `position`; where retention has removed what lies there, to the first record left, and says so.
    pub(super) fn seek(&mut self, position: &Position) {
        for input in &mut self.reader.lock().inputs {
            let wanted = position.get(&input.name);
            let start = input.partition.log_start_offset();
            if start > wanted && wanted > 0 {
                tracing::error!(
                    topic = %input.name.topic, partition = input.name.partition, from = wanted, to = start,
                    "records were removed by retention before the engine read them"
                );
            }
            input.next = wanted.max(start);
        }
    }

    pub(super) fn position(&self, position: &mut Position) {
        for input in &self.reader.lock().inputs {
            position.set(input.name.clone(), input.next);
        }
    }

    pub(super) fn ends(&self, ends: &mut Position) {
        for progress in &self.progress {
            ends.set(progress.name.clone(), progress.partition.high_watermark());
        }
    }

    pub(super) fn restore_time(&mut self, time: &PartitionTime) {
        if let Some(progress) = self.progress.iter_mut().find(|progress| progress.name == time.partition) {
            progress.max_event_ms = time.max_event_ms;
            progress.active_ms = time.active_ms;
        }
    }

    pub(super) fn times(&self) -> Vec<PartitionTime> {
        self.progress.iter().map(Progress::time).collect()
    }

    /// Makes the records of `ranges` as durable as the epoch that is made of them.
    pub(super) fn sync(&self, ranges: &[OffsetRange]) -> Result<(), EngineError> {
        let read = |progress: &&Progress| ranges.iter().any(|range| range.partition == progress.name);
        for Progress { partition, name, .. } in self.progress.iter().filter(read) {
            partition.sync().map_err(|error| read_error(name, error))?;
        }
        Ok(())
    }

    /// Tells retention that `reader` still needs everything from `position` on.
    pub(super) fn hold(&self, reader: &str, position: &Position) {
        for progress in &self.progress {
            progress.partition.hold(reader, position.get(&progress.name));
        }
    }

    pub(super) fn has_data(&self) -> bool {
        self.reader.lock().inputs.iter().any(|input| input.next < input.partition.last_stable_offset())
    }

    pub(super) fn has_history(&self) -> bool {
        let partitions = || self.progress.iter().map(|progress| &progress.partition);
        partitions().any(|partition| partition.high_watermark() > partition.log_start_offset())
    }

    /// Returns once some partition's high watermark has moved.
    pub(super) async fn changed(&mut self) {
        let waits = self.progress.iter_mut().map(|progress| Box::pin(progress.high_watermark.changed()));
        let (outcome, _, _) = select_all(waits).await;
        if outcome.is_err() {
            // The log is closed: nothing will come, and the caller is about to be stopped.
            std::future::pending::<()>().await;
        }
    }

    /// Advances the watermark by the rows of a cut, and returns the times that changed. A time ahead of its own ingest
    /// time moves nothing, and nothing moves past a partition of which no record has been read yet though it has some.
    pub(super) fn advance_watermark(&mut self, cut: &Cut, clock_ms: i64) -> Vec<PartitionTime> {
        let Some(watermark) = &self.definition.watermark else { return Vec::new() };
        for (progress, behind) in self.progress.iter_mut().zip(&cut.behind) {
            progress.behind = *behind;
            if cut.ranges.iter().any(|range| range.partition == progress.name) {
                progress.active_ms = clock_ms;
            }
        }
        let times = cut.batch.column(watermark.column).as_primitive::<TimestampMicrosecondType>();
        for (row, place) in cut.places.iter().enumerate() {
            if times.is_valid(row) {
                let event_ms = times.value(row).div_euclid(1_000);
                let input = &mut self.progress[place.input as usize];
                if event_ms <= place.ingested_ms && input.max_event_ms.is_none_or(|max| event_ms > max) {
                    input.max_event_ms = Some(event_ms);
                }
            }
        }
        let idle_ms = millis(watermark.idle_timeout);
        let oldest = self
            .progress
            .iter()
            .filter(|input| input.behind || clock_ms - input.active_ms.max(self.started_ms) < idle_ms)
            .filter_map(|input| input.max_event_ms)
            .min();
        let unknown = self.progress.iter().any(|input| input.behind && input.max_event_ms.is_none());
        if let Some(oldest) = oldest.filter(|_| !unknown) {
            let next = oldest - millis(watermark.delay);
            self.watermark_ms = Some(self.watermark_ms.map_or(next, |current| current.max(next)));
        }
        let read = |input: &&Progress| cut.ranges.iter().any(|range| range.partition == input.name);
        self.progress.iter().filter(read).map(Progress::time).collect()
    }
}

impl Progress {
    fn time(&self) -> PartitionTime {
        PartitionTime { partition: self.name.clone(), max_event_ms: self.max_event_ms, active_ms: self.active_ms }
    }
}

impl Reader {
    /// Takes up to `rows_max` rows, by whole record batches and in turn from all partitions, and not beyond `fence`.
    pub(super) fn cut(&mut self, rows_max: usize, fence: Option<&Position>) -> Result<Cut, EngineError> {
        let mut places = Vec::new();
        let mut bad = Vec::new();
        let mut bytes = 0;
        let mut ranges: Vec<OffsetRange> = Vec::new();
        let mut idle = 0;
        let share = (rows_max / self.inputs.len().max(1)).max(1);
        while idle < self.inputs.len() && self.decoder.len() + bad.len() < rows_max && bytes < EPOCH_BYTES {
            let index = self.turn % self.inputs.len();
            self.turn = index + 1;
            let input = &mut self.inputs[index];
            // Not beyond what is decided: a record of a transaction counts when that is committed.
            let end = input.partition.last_stable_offset();
            let end = fence.map_or(end, |fence| end.min(fence.get(&input.name)));
            if input.next >= end {
                idle += 1;
                continue;
            }
            idle = 0;
            let rows = rows_max.min(self.decoder.len() + bad.len() + share);
            let from = input.next;
            input.take(index as u32, end, rows, &mut self.decoder, &mut places, &mut bad, &mut bytes)?;
            match ranges.last_mut().filter(|last| last.partition == input.name) {
                Some(last) => last.to = input.next,
                None => ranges.push(OffsetRange { partition: input.name.clone(), from, to: input.next }),
            }
        }
        let behind = self.inputs.iter().map(|input| input.next < input.partition.last_stable_offset()).collect();
        let batch = self.decoder.finish();
        Ok(Cut { batch, places, ranges, bad, behind })
    }
}

impl Input {
    #[expect(clippy::too_many_arguments)]
    fn take(
        &mut self,
        index: u32,
        end: i64,
        rows_max: usize,
        decoder: &mut Decoder,
        places: &mut Vec<Place>,
        bad: &mut Vec<BadRecord>,
        bytes: &mut usize,
    ) -> Result<(), EngineError> {
        let (name, next) = (&self.name, self.next);
        let read = read_records(&self.partition, next..end, |record| {
            *bytes += record.value.map_or(0, <[u8]>::len);
            match decoder.push(name.partition, record, record.timestamp_ms) {
                Ok(()) => places.push(Place {
                    input: index,
                    partition: name.partition,
                    offset: record.offset,
                    ingested_ms: record.timestamp_ms,
                }),
                Err(failure) => bad.push(BadRecord {
                    topic: name.topic.clone(),
                    partition: name.partition,
                    offset: record.offset,
                    stage: FailedStage::Decode,
                    path: failure.path,
                    message: failure.message,
                }),
            }
            decoder.len() + bad.len() < rows_max
        });
        self.next = read.map_err(|reason| read_error(&self.name, reason))?;
        Ok(())
    }
}

fn read_error(name: &TopicPartition, reason: impl std::fmt::Display) -> EngineError {
    EngineError::Read { topic: name.topic.clone(), partition: name.partition, reason: reason.to_string() }
}

/// Shows `each` the records of one read of the log that lie in `offsets`, until it says `false`: then the batch at hand is
/// the last. Returns the offset to go on from.
pub(super) fn read_records(
    partition: &Partition,
    offsets: Range<i64>,
    mut each: impl FnMut(&Record<'_>) -> bool,
) -> Result<i64, ReadFailure> {
    let mut next = offsets.start;
    // Batches of aborted transactions come without their records.
    let mut bytes = partition.read_stable(next, READ_BYTES)?;
    let mut wanted = true;
    while !bytes.is_empty() && next < offsets.end && wanted {
        let (header, length) = batch::split_first(&bytes)?;
        let whole = bytes.split_to(length);
        if !header.is_control() && header.record_count > 0 {
            let records = Records::decompress(&whole, BATCH_BYTES_MAX)?;
            for record in records.iter() {
                let record = record?;
                if record.offset >= offsets.end {
                    break;
                }
                if record.offset >= next {
                    wanted &= each(&record);
                }
            }
        }
        // Compaction and quarantine leave gaps, so a batch may end beyond its last record.
        next = next.max(header.next_offset().min(offsets.end));
    }
    Ok(next)
}

/// Why a range of a partition cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFailure {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

pub(super) fn open_all(log: &Log, pipeline: &Pipeline, now_ms: i64) -> Result<Vec<SourceReader>, EngineError> {
    pipeline.sources.iter().map(|source| SourceReader::open(log, source, now_ms)).collect()
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
