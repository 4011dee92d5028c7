//! Rows that a sink's target refuses, and the records that they were made of.
//!
//! That a row is left out is decided once, by its bad event: that is on disk before the commit which passes over the row, and
//! from then on the row is not shown to the sink again, whatever becomes of that commit or of this process. So a row is either
//! at the target or a bad event, and never both. After a start the bad events beyond the sink's position say which are left
//! out.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use parking_lot::Mutex;

use super::{RefusedRow, SinkError};
use crate::engine::{BadEvents, BadRecord, FailedStage, Replay};
use crate::epoch::EpochRef;
use crate::{Position, TopicPartition};

/// A record of the log.
type Place = (TopicPartition, i64);

pub(crate) struct RefusedRows {
    sink: String,
    stream: usize,
    replay: Replay,
    bad_events: BadEvents,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Shown to the sink since the last commit.
    staged: Vec<Staged>,
    staged_rows: u64,
    /// Not behind the sink's position yet. `None` until the bad events have been asked.
    left_out: Option<BTreeSet<Place>>,
    /// Some may be bad events already, though nobody answered that they are.
    unsure: bool,
    count: u64,
}

/// What of an epoch was shown to the sink.
struct Staged {
    epoch: EpochRef,
    /// Number of its first row among all that are staged.
    first: u64,
    /// By number in the epoch's stream; `None` is all of them.
    rows: Option<Vec<u64>>,
}

impl RefusedRows {
    pub(crate) fn new(sink: String, stream: usize, replay: Replay, bad_events: BadEvents) -> Arc<RefusedRows> {
        Arc::new(RefusedRows { sink, stream, replay, bad_events, state: Mutex::default() })
    }

    /// Since this process started.
    pub(super) fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// The sink was opened at `position`, and nothing is staged.
    pub(super) async fn open(&self, position: &Position) -> Result<(), SinkError> {
        self.forget_staged();
        if self.state.lock().left_out.is_none() {
            let from = self.replay.partitions(self.stream).into_iter().map(|name| {
                let next = position.get(&name);
                (name, next)
            });
            let kept = (self.bad_events.refused)(self.sink.clone(), from.collect()).await;
            self.state.lock().left_out = Some(kept.map_err(SinkError::Unavailable)?.into_iter().collect());
        }
        Ok(())
    }

    /// What of an epoch's rows the sink is to see; it is about to be staged.
    pub(super) async fn stage(
        self: &Arc<Self>,
        epoch: &EpochRef,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>, SinkError> {
        let left_out = self.left_out_of(epoch);
        let (batches, rows) = match left_out.is_empty() {
            true => (batches, None),
            false => {
                let count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
                let places = self.places(epoch.clone(), (0..count).collect()).await?;
                let kept: Vec<bool> = places.iter().map(|place| !left_out.contains(place)).collect();
                let rows = (0..count).zip(&kept).filter(|(_, kept)| **kept).map(|(row, _)| row).collect();
                (without(batches, &kept)?, Some(rows))
            }
        };
        let mut state = self.state.lock();
        let first = state.staged_rows;
        state.staged_rows += batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        if state.staged_rows > first {
            state.staged.push(Staged { epoch: epoch.clone(), first, rows });
        }
        Ok(batches)
    }

    pub(super) fn committed(&self, position: &Position) {
        self.forget_staged();
        if let Some(left_out) = &mut self.state.lock().left_out {
            left_out.retain(|(partition, offset)| *offset >= position.get(partition));
        }
    }

    /// Keeps rows that the target refuses as bad events.
    pub(super) async fn keep(self: Arc<Self>, mut refused: Vec<RefusedRow>) -> Result<(), SinkError> {
        refused.sort_by_key(|row| row.row);
        let mut records = Vec::with_capacity(refused.len());
        let mut places = Vec::with_capacity(refused.len());
        for (epoch, rows) in self.by_epoch(&refused) {
            places.extend(self.places(epoch, rows).await?);
        }
        for ((partition, offset), row) in places.iter().zip(&refused) {
            records.push(BadRecord {
                topic: partition.topic.clone(),
                partition: partition.partition,
                offset: *offset,
                stage: FailedStage::Sink(self.sink.clone()),
                path: String::new(),
                message: row.reason.clone(),
            });
        }
        if let Some(row) = refused.last() {
            tracing::warn!(
                sink = self.sink,
                rows = refused.len(),
                reason = row.reason,
                "rows refused by the target become bad events"
            );
        }
        let maybe_kept = std::mem::replace(&mut self.state.lock().unsure, true);
        (self.bad_events.keep)(records, maybe_kept).await.map_err(SinkError::Unavailable)?;
        let mut state = self.state.lock();
        state.unsure = false;
        state.count += places.len() as u64;
        state.left_out.get_or_insert_default().extend(places);
        Ok(())
    }

    fn forget_staged(&self) {
        let mut state = self.state.lock();
        state.staged.clear();
        state.staged_rows = 0;
    }

    /// Which of the records of an epoch are left out.
    fn left_out_of(&self, epoch: &EpochRef) -> BTreeSet<Place> {
        let state = self.state.lock();
        let Some(left_out) = state.left_out.as_ref().filter(|left_out| !left_out.is_empty()) else {
            return BTreeSet::new();
        };
        let ranges = epoch.header.ranges.iter();
        ranges
            .flat_map(|range| {
                left_out.range((range.partition.clone(), range.from)..(range.partition.clone(), range.to))
            })
            .cloned()
            .collect()
    }

    /// Refused rows, which are in order, by their epochs, numbered as in its stream.
    fn by_epoch(&self, refused: &[RefusedRow]) -> Vec<(EpochRef, Vec<u64>)> {
        let state = self.state.lock();
        let mut epochs: Vec<(EpochRef, Vec<u64>)> = Vec::new();
        for row in refused {
            let index = state.staged.partition_point(|staged| staged.first <= row.row);
            let Some(staged) = index.checked_sub(1).map(|index| &state.staged[index]) else { continue };
            let number = row.row - staged.first;
            let number = staged.rows.as_ref().map_or(Some(number), |rows| rows.get(number as usize).copied());
            let Some(number) = number else { continue };
            match epochs.last_mut().filter(|(epoch, _)| epoch.header.number == staged.epoch.header.number) {
                Some((_, rows)) => rows.push(number),
                None => epochs.push((staged.epoch.clone(), vec![number])),
            }
        }
        epochs
    }

    async fn places(&self, epoch: EpochRef, rows: Vec<u64>) -> Result<Vec<Place>, SinkError> {
        let unavailable = |error: &dyn std::fmt::Display| SinkError::Unavailable(error.to_string());
        let (replay, stream) = (self.replay.clone(), self.stream);
        let found = tokio::task::spawn_blocking(move || replay.records(&epoch, stream, &rows)).await;
        found.map_err(|error| unavailable(&error))?.map_err(|error| unavailable(&error))
    }
}

fn without(batches: Vec<RecordBatch>, kept: &[bool]) -> Result<Vec<RecordBatch>, SinkError> {
    let mut at = 0;
    let mut left = Vec::with_capacity(batches.len());
    for batch in batches {
        let mask = BooleanArray::from(kept[at..at + batch.num_rows()].to_vec());
        at += batch.num_rows();
        let batch = filter_record_batch(&batch, &mask).map_err(|error| SinkError::Fatal(error.to_string()))?;
        if batch.num_rows() > 0 {
            left.push(batch);
        }
    }
    Ok(left)
}
