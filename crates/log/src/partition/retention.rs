//! Deleting what is old enough, by whole segments, and never what a reader holds.

use super::*;

#[derive(Debug, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("offset {offset} is outside 0..={end}")]
    OutOfRange { offset: i64, end: i64 },
    #[error("{reader} has not read the records from offset {offset} on")]
    Held { reader: String, offset: i64 },
    #[error("the partition stopped after a disk error: {0}")]
    Failed(String),
    #[error("cannot write the log's new start: {0}")]
    Io(#[from] std::io::Error),
}

/// What [`Partition::trim`] took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    pub bytes: u64,
    /// As many records, where every offset has one.
    pub offsets: i64,
}

impl Partition {
    /// Below this offset retention may delete. Readers that must not lose records (the engine) hold it back by name.
    /// Holds live in memory: a reader renews its own when it starts, before retention first runs.
    pub fn hold(&self, reader: &str, offset: i64) {
        let mut state = self.state.lock();
        match state.holds.get_mut(reader) {
            Some(held) => *held = offset,
            None => drop(state.holds.insert(reader.to_owned(), offset)),
        }
    }

    /// Makes what was appended durable, where the log itself does not wait for that ([`crate::Durability::Os`]): for a
    /// reader that is about to make durable what it made of it.
    pub fn sync(&self) -> Result<(), AppendError> {
        if self.shared.durability == Durability::Os {
            self.flush();
        }
        self.failure().map_or(Ok(()), |reason| Err(AppendError::Failed(reason.to_owned())))
    }

    /// The reader needs nothing of this partition any more.
    pub fn release(&self, reader: &str) {
        self.state.lock().holds.remove(reader);
    }

    /// Deletes the segments that the topic's settings no longer keep, and those below the log's start; returns how many
    /// bytes that freed.
    pub(crate) fn retain(&self) -> io::Result<u64> {
        // While compaction is at it, the next turn will do.
        let Some(_turn) = self.cleaning.try_lock() else { return Ok(0) };
        let settings = self.settings.get();
        let now_ms = self.shared.clock.now_ms();
        let expired = |segment: &Segment| {
            let (Some(newest), Some(keep)) = (segment.max_timestamp_ms, settings.retention_ms) else {
                return false;
            };
            settings.cleanup.deletes() && newest < now_ms.saturating_sub(keep)
        };
        let mut deleted = Vec::new();
        {
            let mut state = self.state.lock();
            if self.failure().is_some() {
                return Ok(0);
            }
            let held = state.held().min(state.durable.offset);
            let active = state.active.summary;
            let start = self.log_start_offset();
            let cut = start >= active.next_offset;
            if (expired(&active) || cut) && active.bytes > 0 && active.next_offset <= held {
                self.roll(&mut state)?;
                self.want_flush(&mut state);
            }
            let mut bytes = self.size_bytes();
            let limit = settings.retention_bytes.filter(|_| settings.cleanup.deletes());
            while let Some(&oldest) = state.closed.front() {
                let too_many = limit.is_some_and(|keep| bytes - oldest.bytes >= keep);
                let cut = oldest.next_offset <= start;
                if oldest.next_offset > held || !(too_many || cut || expired(&oldest)) {
                    break;
                }
                bytes -= oldest.bytes;
                state.closed.pop_front();
                deleted.push(oldest);
            }
            if let Some(last) = deleted.last() {
                self.log_start_offset.fetch_max(last.next_offset, Ordering::AcqRel);
            }
        }
        self.delete(deleted)
    }

    /// Deletes the oldest segments while the partition takes more than `bytes`, at once and whatever its settings keep; never
    /// the active one, nor what a reader holds.
    pub fn trim(&self, bytes: u64) -> io::Result<Trimmed> {
        let Some(_turn) = self.cleaning.try_lock() else { return Ok(Trimmed::default()) };
        let (mut deleted, mut offsets) = (Vec::new(), 0);
        {
            let mut state = self.state.lock();
            let held = state.held().min(state.durable.offset);
            let mut size = self.size_bytes();
            while let Some(&oldest) = state.closed.front()
                && size > bytes
                && oldest.next_offset <= held
                && self.failure().is_none()
            {
                size -= oldest.bytes;
                state.closed.pop_front();
                deleted.push(oldest);
                let start = self.log_start_offset.fetch_max(oldest.next_offset, Ordering::AcqRel);
                offsets += (oldest.next_offset - start).max(0);
            }
        }
        Ok(Trimmed { bytes: self.delete(deleted)?, offsets })
    }

    /// Deletes the files of segments that are not the log's any more; returns how many bytes that freed.
    fn delete(&self, segments: Vec<Segment>) -> io::Result<u64> {
        let mut freed = 0;
        for segment in segments {
            segment::remove(&*self.shared.disk, &self.directory, segment.base_offset)?;
            freed += segment.bytes;
            self.size_bytes.fetch_sub(segment.bytes, Ordering::AcqRel);
            self.shared.used_bytes.fetch_sub(segment.bytes, Ordering::AcqRel);
        }
        Ok(freed)
    }

    /// Deletes the records below `before` and returns the log's new start, once that is durable. The space comes back
    /// when retention next runs.
    pub fn delete_records(&self, before: i64) -> Result<i64, DeleteRecordsError> {
        {
            let state = self.state.lock();
            if let Some(reason) = self.failure() {
                return Err(DeleteRecordsError::Failed(reason.to_owned()));
            }
            let end = state.durable.offset;
            if !(0..=end).contains(&before) {
                return Err(DeleteRecordsError::OutOfRange { offset: before, end });
            }
            if let Some((reader, offset)) = state.holds.iter().min_by_key(|(_, offset)| **offset)
                && *offset < before
            {
                return Err(DeleteRecordsError::Held { reader: reader.clone(), offset: *offset });
            }
            self.log_start_offset.fetch_max(before, Ordering::AcqRel);
        }
        self.checkpoint(true)?;
        Ok(self.log_start_offset())
    }
}

impl State {
    /// The lowest offset that some reader still needs.
    pub(super) fn held(&self) -> i64 {
        self.holds.values().copied().min().unwrap_or(i64::MAX)
    }
}
