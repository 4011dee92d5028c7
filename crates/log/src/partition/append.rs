//! The way in: check the batches, give them their offsets, write them at the end.

use super::*;
use crate::TimestampType;
use crate::batch::{BatchError, BatchHeader, patch_append_time, patch_place, split_first, verify_crc};

/// Without replicas there is never another leader.
const LEADER_EPOCH: i32 = 0;
const MAX_HELD_BACK_MS: i64 = 60_000;

impl Partition {
    /// Appends one or more whole record batches as they are, patching base offset and leader epoch (and with
    /// `LogAppendTime` the timestamps, which renews the CRC). Verifies length, magic and CRC first. It does not wait for
    /// the disk: await [`Partition::durable`] with `next_offset` before acknowledging. Blocking but short: no fsync
    /// under the lock. A batch of an idempotent producer comes alone.
    pub fn append(&self, batches: &[u8]) -> Result<Appended, AppendError> {
        let headers = self.check(batches)?;
        let mut bytes = batches.to_vec();
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(reason) = self.failure() {
            return Err(AppendError::Failed(reason.to_owned()));
        }
        if headers[0].is_idempotent()
            && let Some(first_time) = state.producers.check(&headers[0])?
        {
            let producers::Remembered { base_offset, next_offset, append_time_ms, .. } = first_time;
            return Ok(Appended { base_offset, next_offset, append_time_ms, duplicate: true });
        }
        if !self.shared.has_room_for(bytes.len() as u64) {
            return Err(AppendError::DiskBudget(self.shared.disk_budget_bytes));
        }
        self.make_room(state, &headers, bytes.len() as u64)?;

        let append_time_ms = self.append_time(state);
        let End { offset: base_offset, position, .. } = state.end();
        let (mut next_offset, mut at) = (base_offset, 0);
        for header in &headers {
            let batch = &mut bytes[at..at + header.total_bytes];
            patch_place(batch, next_offset, LEADER_EPOCH);
            if self.settings.timestamp_type == TimestampType::LogAppendTime {
                patch_append_time(batch, append_time_ms);
            }
            next_offset += i64::from(header.last_offset_delta) + 1;
            at += header.total_bytes;
        }
        self.write(state, &bytes, position)?;

        state.last_append_ms = append_time_ms;
        let (mut offset, mut at) = (base_offset, position);
        for mut header in headers {
            header.base_offset = offset;
            if self.settings.timestamp_type == TimestampType::LogAppendTime {
                header.max_timestamp_ms = append_time_ms;
            }
            state.active.note(&*self.shared.disk, &header, at);
            state.producers.record(&header, append_time_ms);
            offset = header.next_offset();
            at += header.total_bytes as u64;
        }
        let written = bytes.len() as u64;
        state.checkpoint.bytes_since += written;
        self.size_bytes.fetch_add(written, Ordering::AcqRel);
        self.shared.used_bytes.fetch_add(written, Ordering::AcqRel);
        match self.shared.durability {
            Durability::Os => self.advance(state, state.end()),
            Durability::Fsync => self.want_flush(state),
        }
        Ok(Appended { base_offset, next_offset, append_time_ms, duplicate: false })
    }

    fn check(&self, batches: &[u8]) -> Result<Vec<BatchHeader>, AppendError> {
        let limit = self.settings.max_batch_bytes;
        let mut headers = Vec::with_capacity(1);
        let mut rest = batches;
        while !rest.is_empty() {
            // An announced length beyond the limit is told as such even where the bytes are not all there.
            if let Ok(BatchHeader { total_bytes: size, .. }) = BatchHeader::parse(rest)
                && size > limit
            {
                return Err(AppendError::TooLarge { size, limit });
            }
            let (header, size) = split_first(rest)?;
            let (batch, after) = rest.split_at(size);
            verify_crc(batch)?;
            header.compression()?;
            // Fewer than the offsets count is well: records may have been taken out of the batch.
            if i64::from(header.record_count) > i64::from(header.last_offset_delta) + 1 {
                return Err(AppendError::Corrupt(format!(
                    "{} records where the offsets count {}",
                    header.record_count,
                    i64::from(header.last_offset_delta) + 1
                )));
            }
            headers.push(header);
            rest = after;
        }
        match headers.as_slice() {
            [] => Err(AppendError::Corrupt("no record batch".into())),
            [first, _, ..] if headers.iter().any(BatchHeader::is_idempotent) => Err(AppendError::Corrupt(format!(
                "{} batches at once from producer {}: an idempotent producer sends one",
                headers.len(),
                first.producer_id
            ))),
            [first]
                if first.is_idempotent()
                    && (first.producer_epoch < 0 || first.base_sequence < 0)
                    && !first.is_control() =>
            {
                Err(AppendError::Corrupt(format!("producer {} sent no epoch or sequence", first.producer_id)))
            }
            _ => Ok(headers),
        }
    }

    /// The clock, held back where it was set back a little. One that is wrong by more is followed: it may have been
    /// wrong before.
    fn append_time(&self, state: &State) -> i64 {
        let (now, last) = (self.shared.clock.now_ms(), state.last_append_ms);
        if now < last && last - now <= MAX_HELD_BACK_MS { last } else { now }
    }

    /// Rolls to a new segment where the batches would take the active one past its size.
    fn make_room(&self, state: &mut State, headers: &[BatchHeader], bytes: u64) -> io::Result<()> {
        let active = &state.active;
        let last_offset = headers
            .iter()
            .fold(active.summary.next_offset, |next, header| next + i64::from(header.last_offset_delta) + 1);
        let full =
            active.summary.bytes + bytes > self.settings.segment_bytes || !active.has_room_for(bytes, last_offset);
        if full && active.summary.bytes > 0 { self.roll(state) } else { Ok(()) }
    }

    pub(super) fn roll(&self, state: &mut State) -> io::Result<()> {
        let disk = &*self.shared.disk;
        let new = ActiveSegment::create(disk, &self.directory, state.active.summary.next_offset)?;
        let closed = match state.active.close(disk) {
            Ok(closed) => closed,
            Err(error) => {
                // Nobody has seen the new one: try again at the next append.
                for kind in KINDS {
                    disk.remove_file(&segment::path(&self.directory, new.summary.base_offset, kind))?;
                }
                return Err(error);
            }
        };
        let old = std::mem::replace(&mut state.active, new);
        state.closed.push_back(closed);
        if self.shared.durability == Durability::Fsync {
            state.unsynced.push(old.file);
            state.directory_dirty = true;
        }
        Ok(())
    }

    /// One write. What a failed one left behind is cut off, lest the rest of it be found behind a shorter write later.
    fn write(&self, state: &State, bytes: &[u8], position: u64) -> Result<(), AppendError> {
        let Err(error) = state.active.file.write_all_at(bytes, position) else { return Ok(()) };
        if let Err(second) = state.active.file.set_len(position) {
            let reason = format!("{error}, and then: {second}");
            tracing::error!(topic = self.topic, partition = self.index, reason, "the partition stops");
            let _ = self.failure.set(reason.clone());
            self.high_watermark.send_modify(|_| {});
            return Err(AppendError::Failed(reason));
        }
        Err(error.into())
    }
}

impl From<BatchError> for AppendError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Magic(magic) => AppendError::UnsupportedFormat(magic),
            other => AppendError::Corrupt(other.to_string()),
        }
    }
}
