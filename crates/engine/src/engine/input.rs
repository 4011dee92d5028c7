//! Cutting an epoch: which records it covers, decoded.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use futures::future::select_all;
use playhouse_log::batch::{self, BatchError, Record, Records};
use playhouse_log::{Log, Partition, ReadError};
use tokio::sync::watch;

use super::{BadRecord, EngineError};
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

/// One partition being read.
struct Input {
    partition: Arc<Partition>,
    name: TopicPartition,
    next: i64,
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
    decoder: Decoder,
    inputs: Vec<Input>,
    pub(super) watermark_ms: Option<i64>,
    started_ms: i64,
    /// Whose turn it is to be read: cuts go on where the last one ended, so that no partition's backlog keeps the others
    /// waiting.
    turn: usize,
}

/// What a cut took from one source.
pub(super) struct Cut {
    pub(super) batch: RecordBatch,
    /// By row of `batch`.
    pub(super) places: Vec<Place>,
    pub(super) ranges: Vec<OffsetRange>,
    pub(super) bad: Vec<BadRecord>,
}

impl SourceReader {
    pub(super) fn open(log: &Log, source: &Source, now_ms: i64) -> Result<SourceReader, EngineError> {
        let topic = log.topic(&source.topic).ok_or_else(|| EngineError::UnknownTopic(source.topic.clone()))?;
        let name: Arc<str> = Arc::from(source.topic.as_str());
        let inputs = topic.partitions().iter().map(|partition| Input {
            partition: partition.clone(),
            name: TopicPartition { topic: name.clone(), partition: partition.index() },
            next: 0,
            high_watermark: partition.subscribe(),
            max_event_ms: None,
            active_ms: now_ms,
            behind: false,
        });
        Ok(SourceReader {
            definition: source.clone(),
            topic: name.clone(),
            decoder: source.decoder(),
            inputs: inputs.collect(),
            watermark_ms: None,
            started_ms: now_ms,
            turn: 0,
        })
    }

    /// Forgets all times, before they are restored.
    pub(super) fn reset(&mut self) {
        self.decoder = self.definition.decoder();
        self.watermark_ms = None;
        for input in &mut self.inputs {
            input.max_event_ms = None;
        }
    }

    /// Moves to `position`; where retention has removed what lies there, to the first record left, and says so.
    pub(super) fn seek(&mut self, position: &Position) {
        for input in &mut self.inputs {
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
        for input in &self.inputs {
            position.set(input.name.clone(), input.next);
        }
    }

    pub(super) fn restore_time(&mut self, time: &PartitionTime) {
        if let Some(input) = self.inputs.iter_mut().find(|input| input.name == time.partition) {
            input.max_event_ms = time.max_event_ms;
            input.active_ms = time.active_ms;
        }
    }

    pub(super) fn times(&self) -> Vec<PartitionTime> {
        self.inputs.iter().map(Input::time).collect()
    }

    /// Tells retention that `reader` still needs everything from `position` on.
    pub(super) fn hold(&self, reader: &str, position: &Position) {
        for input in &self.inputs {
            input.partition.hold(reader, position.get(&input.name));
        }
    }

    pub(super) fn has_data(&self) -> bool {
        self.inputs.iter().any(|input| input.next < input.partition.last_stable_offset())
    }

    pub(super) fn has_history(&self) -> bool {
        self.inputs.iter().any(|input| input.partition.high_watermark() > input.partition.log_start_offset())
    }

    /// Returns once some partition's high watermark has moved.
    pub(super) async fn changed(&mut self) {
        let waits = self.inputs.iter_mut().map(|input| Box::pin(input.high_watermark.changed()));
        let (outcome, _, _) = select_all(waits).await;
        if outcome.is_err() {
            // The log is closed: nothing will come, and the caller is about to be stopped.
            std::future::pending::<()>().await;
        }
    }

    /// Takes up to `rows_max` rows, by whole record batches and in turn from all partitions, and not beyond `fence`.
    pub(super) fn cut(&mut self, rows_max: usize, clock_ms: i64, fence: Option<&Position>) -> Result<Cut, EngineError> {
        let mut places = Vec::new();
        let mut bad = Vec::new();
        let mut bytes = 0;
        let mut ranges: Vec<OffsetRange> = Vec::new();
        let mut idle = 0;
        let share = (rows_max / self.inputs.len().max(1)).max(1);
        while idle < self.inputs.len() && self.decoder.len() < rows_max && bytes < EPOCH_BYTES {
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
            input.active_ms = clock_ms;
            let rows = rows_max.min(self.decoder.len() + share);
            let from = input.next;
            input.take(index as u32, end, rows, &mut self.decoder, &mut places, &mut bad, &mut bytes)?;
            match ranges.last_mut().filter(|last| last.partition == input.name) {
                Some(last) => last.to = input.next,
                None => ranges.push(OffsetRange { partition: input.name.clone(), from, to: input.next }),
            }
        }
        for input in &mut self.inputs {
            input.behind = input.next < input.partition.last_stable_offset();
        }
        let batch = self.decoder.finish();
        Ok(Cut { batch, places, ranges, bad })
    }

    /// Advances the watermark by the rows of a cut, and returns the times that changed. A time ahead of its own ingest
    /// time moves nothing, and nothing moves past a partition of which no record has been read yet though it has some.
    pub(super) fn advance_watermark(&mut self, cut: &Cut, clock_ms: i64) -> Vec<PartitionTime> {
        let Some(watermark) = &self.definition.watermark else { return Vec::new() };
        let times = cut.batch.column(watermark.column).as_primitive::<TimestampMicrosecondType>();
        for (row, place) in cut.places.iter().enumerate() {
            if times.is_valid(row) {
                let event_ms = times.value(row).div_euclid(1_000);
                let input = &mut self.inputs[place.input as usize];
                if event_ms <= place.ingested_ms && input.max_event_ms.is_none_or(|max| event_ms > max) {
                    input.max_event_ms = Some(event_ms);
                }
            }
        }
        let idle_ms = millis(watermark.idle_timeout);
        let oldest = self
            .inputs
            .iter()
            .filter(|input| input.behind || clock_ms - input.active_ms.max(self.started_ms) < idle_ms)
            .filter_map(|input| input.max_event_ms)
            .min();
        let unknown = self.inputs.iter().any(|input| input.behind && input.max_event_ms.is_none());
        if let Some(oldest) = oldest.filter(|_| !unknown) {
            let next = oldest - millis(watermark.delay);
            self.watermark_ms = Some(self.watermark_ms.map_or(next, |current| current.max(next)));
        }
        let read = self.inputs.iter().filter(|input| cut.ranges.iter().any(|range| range.partition == input.name));
        read.map(Input::time).collect()
    }
}

impl Input {
    fn time(&self) -> PartitionTime {
        PartitionTime { partition: self.name.clone(), max_event_ms: self.max_event_ms, active_ms: self.active_ms }
    }

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
                    ingested_ms: record.timestamp_ms,
                    raw: record.value.unwrap_or_default().to_vec(),
                    path: failure.path,
                    message: failure.message,
                }),
            }
            decoder.len() < rows_max
        });
        self.next = read.map_err(|reason| self.read_error(reason))?;
        Ok(())
    }

    fn read_error(&self, reason: impl std::fmt::Display) -> EngineError {
        EngineError::Read { topic: self.name.topic.clone(), partition: self.name.partition, reason: reason.to_string() }
    }
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
