//! Transactions as a partition sees them: batches of a producer from a first one on, up to a marker that says how it ended.
//!
//! What is at or above the last stable offset may still be aborted. A transaction is over once its marker is durable, and
//! not before: a power cut that takes the marker leaves it open, to be ended again.

use super::*;
use crate::AbortedTransaction;
use crate::batch::{BatchHeader, control_batch, read_marker};

/// How a producer's transaction ended: written by the transaction coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionMarker {
    pub producer_id: i64,
    /// A newer one than the transaction's own fences the producer off.
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub commit: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    first_offset: i64,
    marker_offset: i64,
}

impl Partition {
    /// Everything below is decided: no open transaction begins below it. At most the high watermark, and it moves only
    /// when the high watermark does.
    pub fn last_stable_offset(&self) -> i64 {
        self.last_stable_offset.load(Ordering::Acquire)
    }

    /// Ends the producer's transaction here, and writes the marker also where it had none, so that an epoch is fenced.
    /// It does not wait for the disk: await [`Partition::durable`].
    pub fn end_transaction(&self, marker: &TransactionMarker) -> Result<Appended, AppendError> {
        let batch = control_batch(marker, self.shared.clock.now_ms());
        let header = BatchHeader::parse(&batch)?;
        let settings = self.settings.get();
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(reason) = self.failure() {
            return Err(AppendError::Failed(reason.to_owned()));
        }
        state.producers.check_epoch(marker.producer_id, marker.producer_epoch)?;
        // Not refused for the disk budget: what is open holds more than its marker.
        let (appended, headers) = self.place(state, &settings, vec![header], batch)?;
        for header in &headers {
            state.end_transaction(&*self.shared.disk, header, marker, appended.append_time_ms);
        }
        self.settle(state);
        Ok(appended)
    }

    /// All producers with an id that wrote here lately.
    pub fn producers(&self) -> Vec<ProducerState> {
        self.state.lock().producers.states()
    }

    pub(super) fn move_last_stable_offset(&self, state: &mut State) {
        let durable = state.durable.offset;
        state.ended.retain(|ended| ended.marker_offset >= durable);
        self.last_stable_offset.store(state.first_undecided().min(durable), Ordering::Release);
    }
}

impl State {
    fn end_transaction(
        &mut self,
        disk: &dyn crate::disk::Disk,
        header: &BatchHeader,
        marker: &TransactionMarker,
        now_ms: i64,
    ) {
        let Some(first_offset) = self.producers.end(header, marker.coordinator_epoch, now_ms) else { return };
        let marker_offset = header.last_offset();
        if !marker.commit {
            let last_stable_offset = self.first_undecided().min(marker_offset + 1);
            let producer_id = header.producer_id;
            let aborted =
                AbortedTransaction { producer_id, first_offset, last_offset: marker_offset, last_stable_offset };
            self.active.note_aborted(disk, &aborted);
        }
        self.ended.push_back(Ended { first_offset, marker_offset });
    }

    fn first_undecided(&self) -> i64 {
        let ended = self.ended.iter().map(|ended| ended.first_offset).min();
        self.producers.first_open().unwrap_or(i64::MAX).min(ended.unwrap_or(i64::MAX))
    }
}

/// Takes note of a batch that recovery found, and tells the transaction that it aborts.
pub(super) fn found(
    producers: &mut Producers,
    header: &BatchHeader,
    batch: &[u8],
    append_time_ms: i64,
) -> Option<AbortedTransaction> {
    let Some(marker) = read_marker(header, batch) else {
        producers.record(header, append_time_ms);
        return None;
    };
    let first_offset = producers.end(header, marker.coordinator_epoch, append_time_ms)?;
    let last_offset = header.last_offset();
    let last_stable_offset = producers.first_open().unwrap_or(i64::MAX).min(last_offset + 1);
    let producer_id = header.producer_id;
    (!marker.commit).then_some(AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset })
}
