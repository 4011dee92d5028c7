//! Deleting what is old enough, by whole segments, and never what a reader holds.

use super::*;

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

    /// Deletes the segments that the topic's settings no longer keep; returns how many bytes that freed.
    pub(crate) fn retain(&self) -> io::Result<u64> {
        let now_ms = self.shared.clock.now_ms();
        let expired = |segment: &Segment| {
            let (Some(newest), Some(keep)) = (segment.max_timestamp_ms, self.settings.retention_ms) else {
                return false;
            };
            newest < now_ms.saturating_sub(keep)
        };
        let mut deleted = Vec::new();
        {
            let mut state = self.state.lock();
            if self.failure().is_some() {
                return Ok(0);
            }
            let held = state.holds.values().copied().min().unwrap_or(i64::MAX).min(state.durable.offset);
            let active = state.active.summary;
            if expired(&active) && active.bytes > 0 && active.next_offset <= held {
                self.roll(&mut state)?;
                self.want_flush(&mut state);
            }
            let mut bytes = self.size_bytes();
            while let Some(&oldest) = state.closed.front() {
                let too_many = self.settings.retention_bytes.is_some_and(|keep| bytes - oldest.bytes >= keep);
                if oldest.next_offset > held || !(too_many || expired(&oldest)) {
                    break;
                }
                bytes -= oldest.bytes;
                state.closed.pop_front();
                deleted.push(oldest);
            }
            if let Some(last) = deleted.last() {
                self.log_start_offset.store(last.next_offset, Ordering::Release);
            }
        }
        let mut freed = 0;
        for segment in deleted {
            for kind in KINDS {
                self.shared.disk.remove_file(&segment::path(&self.directory, segment.base_offset, kind))?;
            }
            freed += segment.bytes;
            self.size_bytes.fetch_sub(segment.bytes, Ordering::AcqRel);
            self.shared.used_bytes.fetch_sub(segment.bytes, Ordering::AcqRel);
        }
        Ok(freed)
    }
}
