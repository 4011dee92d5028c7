//! The way in: check the batches, give them their offsets, write them at the end.

use super::*;
use crate::batch::{BatchError, BatchHeader, Records, patch_append_time, patch_place, split_first, verify_crc};
use crate::{TimestampType, TopicSettings};

/// Without replicas there is never another leader.
const LEADER_EPOCH: i32 = 0;
const MAX_HELD_BACK_MS: i64 = 60_000;
/// A batch for a compacted topic that decompresses to more is refused.
const DECOMPRESS_LIMIT: usize = 64 << 20;
const KEYS_MISSING_TOLD: usize = 1000;

impl Partition {
    /// Appends one or more whole record batches as they are, patching base offset and leader epoch (and with
    /// `LogAppendTime` the timestamps, which renews the CRC). Verifies length, magic and CRC first. It does not wait for
    /// the disk: await [`Partition::durable`] with `next_offset` before acknowledging. Blocking but short: no fsync
    /// under the lock. A batch of an idempotent producer comes alone.
    pub fn append(&self, batches: &[u8]) -> Result<Appended, AppendError> {
        let settings = self.settings.get();
        let headers = check(batches, settings.max_batch_bytes)?;
        if let [first] = &headers[..]
            && first.is_idempotent()
            && (first.producer_epoch < 0 || first.base_sequence < 0)
        {
            let message = format!("producer {} sent no epoch or sequence", first.producer_id);
            return Err(AppendError::Invalid(message));
        }
        self.append_checked(&settings, headers, batches)
    }

    /// As [`Self::append`], for one batch of a transaction that bears no sequence: those that a coordinator in this process
    /// writes in a producer's name. Nothing tells a repeated one.
    pub fn append_unsequenced(&self, batch: &[u8]) -> Result<Appended, AppendError> {
        let settings = self.settings.get();
        let headers = check(batch, settings.max_batch_bytes)?;
        self.append_checked(&settings, headers, batch)
    }

    fn append_checked(
        &self,
        settings: &TopicSettings,
        headers: Vec<BatchHeader>,
        batches: &[u8],
    ) -> Result<Appended, AppendError> {
        if settings.timestamp_type == TimestampType::CreateTime {
            check_times(settings, &headers, self.shared.clock.now_ms())?;
        }
        if settings.cleanup.compacts() {
            check_keys(batches)?;
        }
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
        if !self.shared.has_room_for(batches.len() as u64) {
            return Err(AppendError::DiskBudget(self.shared.disk_budget_bytes));
        }
        let (appended, headers) = self.place(state, settings, headers, batches.to_vec())?;
        headers.iter().for_each(|header| state.producers.record(header, appended.append_time_ms));
        self.settle(state);
        Ok(appended)
    }

    /// Puts checked batches at the end, with their offsets; returns their headers as they lie there. The caller takes
    /// note of their producers, and then [`Self::settle`]s.
    pub(super) fn place(
        &self,
        state: &mut State,
        settings: &TopicSettings,
        mut headers: Vec<BatchHeader>,
        mut bytes: Vec<u8>,
    ) -> Result<(Appended, Vec<BatchHeader>), AppendError> {
        self.make_room(state, settings, &headers, bytes.len() as u64)?;

        let append_time_ms = self.append_time(state);
        let End { offset: base_offset, position, .. } = state.end();
        let (mut next_offset, mut at) = (base_offset, 0);
        for header in &headers {
            let batch = &mut bytes[at..at + header.total_bytes];
            patch_place(batch, next_offset, LEADER_EPOCH);
            if settings.timestamp_type == TimestampType::LogAppendTime {
                patch_append_time(batch, append_time_ms);
            }
            next_offset += i64::from(header.last_offset_delta) + 1;
            at += header.total_bytes;
        }
        self.write(state, &bytes, position)?;

        state.last_append_ms = append_time_ms;
        let (mut offset, mut at) = (base_offset, position);
        for header in &mut headers {
            header.base_offset = offset;
            if settings.timestamp_type == TimestampType::LogAppendTime {
                header.max_timestamp_ms = append_time_ms;
            }
            state.active.note(&*self.shared.disk, header, at);
            offset = header.next_offset();
            at += header.total_bytes as u64;
        }
        let written = bytes.len() as u64;
        state.checkpoint.bytes_since += written;
        self.size_bytes.fetch_add(written, Ordering::AcqRel);
        self.shared.used_bytes.fetch_add(written, Ordering::AcqRel);
        Ok((Appended { base_offset, next_offset, append_time_ms, duplicate: false }, headers))
    }

    pub(super) fn settle(&self, state: &mut State) {
        match self.shared.durability {
            Durability::Os => self.advance(state, state.end()),
            Durability::Fsync => self.want_flush(state),
        }
    }

    /// The clock, held back where it was set back a little. One that is wrong by more is followed: it may have been
    /// wrong before.
    fn append_time(&self, state: &State) -> i64 {
        let (now, last) = (self.shared.clock.now_ms(), state.last_append_ms);
        if now < last && last - now <= MAX_HELD_BACK_MS { last } else { now }
    }

    /// Rolls to a new segment where the batches would take the active one past its size or age.
    fn make_room(
        &self,
        state: &mut State,
        settings: &TopicSettings,
        headers: &[BatchHeader],
        bytes: u64,
    ) -> io::Result<()> {
        let active = &state.active;
        let last_offset = headers
            .iter()
            .fold(active.summary.next_offset, |next, header| next + i64::from(header.last_offset_delta) + 1);
        // Old by the records' own times: an old history that is imported today does not roll at every batch.
        // Nor does a marker, whose time is the log's own.
        let records = headers.iter().filter(|header| !header.is_control());
        let newest_ms = records.map(|header| header.max_timestamp_ms).max().unwrap_or(i64::MIN);
        let full = active.summary.bytes + bytes > settings.segment_bytes
            || !active.has_room_for(bytes, last_offset)
            || active.is_older_than(settings.segment_ms, newest_ms);
        if full && active.summary.bytes > 0 { self.roll(state) } else { Ok(()) }
    }

    pub(super) fn roll(&self, state: &mut State) -> io::Result<()> {
        let disk = &*self.shared.disk;
        let new = ActiveSegment::create(disk, &self.directory, state.active.summary.next_offset)?;
        let closed = match state.active.close(disk) {
            Ok(closed) => closed,
            Err(error) => {
                // Nobody has seen the new one: try again at the next append.
                segment::remove(disk, &self.directory, new.summary.base_offset)?;
                return Err(error);
            }
        };
        let mut old = std::mem::replace(&mut state.active, new);
        state.closed.push_back(closed);
        let file = self.hand_over_file(&mut old);
        if self.shared.durability == Durability::Fsync {
            state.unsynced.extend(file);
        }
        state.directory_dirty = true;
        Ok(())
    }

    /// One write. What a failed one left behind is cut off, lest the rest of it be found behind a shorter write later.
    fn write(&self, state: &mut State, bytes: &[u8], position: u64) -> Result<(), AppendError> {
        let file = self.active_file(state)?;
        let Err(error) = file.write_all_at(bytes, position) else { return Ok(()) };
        if let Err(second) = file.set_len(position) {
            let reason = format!("{error}, and then: {second}");
            tracing::error!(topic = self.topic, partition = self.index, reason, "the partition stops");
            let _ = self.failure.set(reason.clone());
            self.high_watermark.send_modify(|_| {});
            return Err(AppendError::Failed(reason));
        }
        Err(error.into())
    }
}

fn check(batches: &[u8], limit: usize) -> Result<Vec<BatchHeader>, AppendError> {
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
            return Err(AppendError::Invalid(format!(
                "{} records where the offsets count {}",
                header.record_count,
                i64::from(header.last_offset_delta) + 1
            )));
        }
        if header.is_control() {
            return Err(AppendError::Invalid("a control batch, which only the log itself writes".into()));
        }
        headers.push(header);
        rest = after;
    }
    match headers.as_slice() {
        [] => Err(AppendError::Invalid("no record batch".into())),
        [first, _, ..] if headers.iter().any(BatchHeader::is_idempotent) => Err(AppendError::Invalid(format!(
            "{} batches at once from producer {}: an idempotent producer sends one",
            headers.len(),
            first.producer_id
        ))),
        [first] if first.is_transactional() && !first.is_idempotent() => {
            Err(AppendError::Invalid("a transactional batch without a producer".into()))
        }
        _ => Ok(headers),
    }
}

fn check_keys(batches: &[u8]) -> Result<(), AppendError> {
    let mut rest = Bytes::copy_from_slice(batches);
    let (mut number, mut missing) = (0, Vec::new());
    while !rest.is_empty() {
        let (_, size) = split_first(&rest)?;
        for record in Records::decompress(&rest.split_to(size), DECOMPRESS_LIMIT)?.iter() {
            if record?.key.is_none() && missing.len() < KEYS_MISSING_TOLD {
                missing.push(number);
            }
            number += 1;
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(AppendError::KeysMissing(missing)) }
}

fn check_times(settings: &TopicSettings, headers: &[BatchHeader], now_ms: i64) -> Result<(), AppendError> {
    let earliest_ms = settings.timestamp_before_max_ms.map_or(i64::MIN, |ms| now_ms.saturating_sub(ms));
    let latest_ms = settings.timestamp_after_max_ms.map_or(i64::MAX, |ms| now_ms.saturating_add(ms));
    let times = headers.iter().flat_map(|header| [header.base_timestamp_ms, header.max_timestamp_ms]);
    // Below zero stands for none.
    match times.filter(|ms| *ms >= 0).find(|ms| !(earliest_ms..=latest_ms).contains(ms)) {
        Some(timestamp_ms) => Err(AppendError::Timestamp { timestamp_ms, earliest_ms, latest_ms }),
        None => Ok(()),
    }
}

impl From<BatchError> for AppendError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Magic(magic) => AppendError::UnsupportedFormat(magic),
            BatchError::Crc => AppendError::Corrupt(error.to_string()),
            other => AppendError::Invalid(other.to_string()),
        }
    }
}
