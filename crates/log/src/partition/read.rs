//! The way out: whole batches by offset, offsets by time, all below the high watermark.

use super::*;
use crate::AbortedTransaction;
use crate::batch::{BatchError, BatchHeader, Record, Records, emptied, split_first};
use crate::segment::{Hint, find_batch};

/// Records larger than this when decompressed are found by their batch's time only.
const DECOMPRESS_LIMIT: usize = 128 << 20;

/// A place to begin looking in one segment, and where to stop.
pub(super) struct Start {
    pub file: Arc<dyn DiskFile>,
    pub hint: Hint,
    pub limit: u64,
    /// The offset at the limit.
    pub end_offset: i64,
    is_closed: bool,
}

/// The batch that holds the offset asked for.
pub(super) struct Found {
    pub start: Start,
    pub position: u64,
    pub first: BatchHeader,
}

impl Start {
    /// The first batch that is wanted. An index that leads astray is not believed: then the segment is searched from its
    /// beginning, lest records be passed over.
    fn find(
        &self,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> io::Result<Result<Option<(u64, BatchHeader)>, BatchError>> {
        let mut first = None;
        let found = find_batch(&*self.file, self.hint.position, self.limit, |header| {
            first.get_or_insert(header.last_offset());
            wanted(header)
        })?;
        if self.hint.indexed == first || self.hint.indexed.is_none() {
            return Ok(found);
        }
        tracing::warn!(position = self.hint.position, "a segment's index is damaged: searching without it");
        find_batch(&*self.file, 0, self.limit, wanted)
    }
}

/// What a reader of committed records gets.
#[derive(Debug, Clone, Default)]
pub struct CommittedRead {
    /// Whole batches below the last stable offset, those of aborted transactions among them.
    pub batches: Bytes,
    /// The aborted transactions that these batches may belong to.
    pub aborted: Vec<AbortedTransaction>,
    pub last_stable_offset: i64,
}

impl Found {
    /// Whole batches from the one found on that begin below `upper`, and the offset they end before.
    pub(super) fn copy(&self, offset: i64, upper: i64, max_bytes: usize) -> Result<(Bytes, i64), ReadError> {
        if self.first.base_offset >= upper {
            return Ok((Bytes::new(), offset));
        }
        let available = (self.start.limit - self.position) as usize;
        let mut bytes = vec![0; max_bytes.clamp(self.first.total_bytes, available)];
        if self.start.file.read_at(&mut bytes, self.position)? < bytes.len() {
            return Err(ReadError::Corrupt(offset));
        }
        let (mut whole, mut end) = (self.first.total_bytes, self.first.next_offset());
        while let Ok(header) = BatchHeader::parse(&bytes[whole..])
            && bytes.len() - whole >= header.total_bytes
            && header.base_offset < upper
        {
            whole += header.total_bytes;
            end = header.next_offset();
        }
        bytes.truncate(whole);
        Ok((Bytes::from(bytes), end))
    }
}

impl Partition {
    /// Whole batches from the one that contains `offset`, up to `max_bytes` but at least one batch, all below the high
    /// watermark. Empty at the high watermark. Batches may begin below `offset`: readers skip.
    pub fn read(&self, offset: i64, max_bytes: usize) -> Result<Bytes, ReadError> {
        match self.find(offset, 0)? {
            Some(found) => found.copy(offset, i64::MAX, max_bytes).map(|(bytes, _)| bytes),
            None => Ok(Bytes::new()),
        }
    }

    /// As [`Self::read`], below the last stable offset.
    pub fn read_committed(&self, offset: i64, max_bytes: usize) -> Result<CommittedRead, ReadError> {
        let last_stable_offset = self.last_stable_offset();
        if (last_stable_offset..=self.high_watermark()).contains(&offset) {
            return Ok(CommittedRead { last_stable_offset, ..CommittedRead::default() });
        }
        let (batches, end) = match self.find(offset, 0)? {
            Some(found) => found.copy(offset, last_stable_offset, max_bytes)?,
            None => (Bytes::new(), offset),
        };
        let aborted = if end > offset { self.aborted_between(offset, end)? } else { Vec::new() };
        Ok(CommittedRead { batches, aborted, last_stable_offset })
    }

    /// As [`Self::read_committed`], for a reader that knows nothing of transactions: batches of aborted ones and markers
    /// come without their records.
    pub fn read_stable(&self, offset: i64, max_bytes: usize) -> Result<Bytes, ReadError> {
        let CommittedRead { batches, aborted, .. } = self.read_committed(offset, max_bytes)?;
        let dropped = |header: &BatchHeader| {
            header.is_control()
                || header.is_transactional()
                    && aborted.iter().any(|it| {
                        it.producer_id == header.producer_id
                            && (it.first_offset..=it.last_offset).contains(&header.base_offset)
                    })
        };
        let mut kept = Vec::new();
        let mut rest = batches.clone();
        let mut changed = false;
        while let Ok((header, size)) = split_first(&rest) {
            let batch = rest.split_to(size);
            if dropped(&header) {
                changed = true;
                kept.push(Bytes::from(emptied(&header)));
            } else {
                kept.push(batch);
            }
        }
        if changed { Ok(Bytes::from(kept.concat())) } else { Ok(batches) }
    }

    /// The first batch with records at or above `offset`, for a reader that reaches so far; `None` at the high watermark.
    pub(super) fn find(&self, mut offset: i64, reach: usize) -> Result<Option<Found>, ReadError> {
        loop {
            let Some(start) = self.locate(offset, reach)? else { return Ok(None) };
            let found = start.find(|header| header.last_offset() >= offset)?;
            match found.map_err(|_| ReadError::Corrupt(offset))? {
                Some((position, first)) if first.total_bytes as u64 > start.limit - position => {
                    return Err(ReadError::Corrupt(offset));
                }
                Some((position, first)) => return Ok(Some(Found { start, position, first })),
                // Compaction may have taken the rest of a segment out.
                None if start.is_closed && start.end_offset > offset => offset = start.end_offset,
                None => return Err(ReadError::Corrupt(offset)),
            }
        }
    }

    /// The aborted transactions with records in `from..to`.
    pub(super) fn aborted_between(&self, from: i64, to: i64) -> Result<Vec<AbortedTransaction>, ReadError> {
        let disk = &*self.shared.disk;
        let _layout = self.layout.read();
        let (closed, mut active) = {
            let state = self.state.lock();
            let marked = state.closed.iter().filter(|it| it.next_offset > from && it.aborted_count() > 0);
            (marked.copied().collect::<Vec<Segment>>(), state.active.aborted_since(disk, from)?)
        };
        let mut aborted = Vec::new();
        for segment in closed {
            aborted.extend(segment.aborted_since(disk, &self.directory, from)?);
            if aborted.last().is_some_and(|last| last.last_stable_offset >= to) {
                active.clear();
                break;
            }
        }
        aborted.append(&mut active);
        let decided = aborted.iter().position(|it| it.last_stable_offset >= to);
        aborted.truncate(decided.map_or(aborted.len(), |last| last + 1));
        aborted.retain(|it| it.first_offset < to);
        Ok(aborted)
    }

    /// Where the segment that holds `offset` must be searched, for a reader that reaches so far; `None` at the high watermark.
    fn locate(&self, offset: i64, reach: usize) -> Result<Option<Start>, ReadError> {
        let disk = &*self.shared.disk;
        let _layout = self.layout.read();
        let mut state = self.state.lock();
        let (start, end) = (self.log_start_offset(), state.durable.offset);
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange { offset, start, end });
        }
        if offset == end {
            return Ok(None);
        }
        let active = &state.active;
        if offset >= active.summary.base_offset {
            let hint = active.hint(disk, offset, reach)?;
            let (file, limit) = (self.active_file_to_read(&mut state)?, state.durable.position);
            return Ok(Some(Start { file, hint, limit, end_offset: end, is_closed: false }));
        }
        let index = state.closed.partition_point(|segment| segment.next_offset <= offset);
        let Some(segment) = state.closed.get(index).copied() else { return Err(ReadError::Corrupt(offset)) };
        let (limit, end_offset) = if segment.base_offset == state.durable.segment {
            (state.durable.position, end)
        } else {
            (segment.bytes, segment.next_offset)
        };
        drop(state);
        let open = || -> io::Result<Start> {
            let file = disk.open(&self.segment_path(segment.base_offset), false)?;
            let hint = segment.hint(disk, &self.directory, offset, reach)?;
            Ok(Start { file, hint, limit, end_offset, is_closed: true })
        };
        match open() {
            Ok(start) => Ok(Some(start)),
            Err(_) if self.log_start_offset() > offset => {
                Err(ReadError::OutOfRange { offset, start: self.log_start_offset(), end })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The first offset (and its timestamp, ms) whose record time is at or after `timestamp_ms`.
    pub fn offset_at(&self, timestamp_ms: i64) -> Result<Option<(i64, i64)>, ReadError> {
        let disk = &*self.shared.disk;
        let mut from = self.log_start_offset();
        // Segment by segment, as some may hold none: each turn ends at a segment's end.
        loop {
            let (hint, end) = {
                let _layout = self.layout.read();
                let state = self.state.lock();
                let late = |segment: &&Segment| {
                    segment.next_offset > from && segment.max_timestamp_ms.is_some_and(|max| max >= timestamp_ms)
                };
                let active = Some(&state.active.summary).filter(late);
                let closed = state.closed.iter().find(late).copied();
                let Some(segment) = closed.or(active.copied()) else { return Ok(None) };
                let hint = if closed.is_none() {
                    state.active.offset_before_time(disk, timestamp_ms)?
                } else {
                    drop(state);
                    segment.offset_before_time(disk, &self.directory, timestamp_ms)?
                };
                (hint.max(segment.base_offset).max(from), segment.next_offset)
            };
            if hint >= self.high_watermark() {
                return Ok(None);
            }
            if let Some(start) = self.locate(hint, 0)? {
                let late =
                    |header: &BatchHeader| header.last_offset() >= hint && header.max_timestamp_ms >= timestamp_ms;
                match start.find(late)? {
                    Ok(Some((position, header))) => {
                        let from = self.log_start_offset();
                        return self.record_at(&*start.file, position, header, timestamp_ms, from).map(Some);
                    }
                    Ok(None) => {}
                    Err(_) => return Err(ReadError::Corrupt(hint)),
                }
            }
            from = end;
        }
    }

    /// The first record of the batch at `position` that is late enough. One that cannot be opened counts as a whole.
    fn record_at(
        &self,
        file: &dyn DiskFile,
        position: u64,
        header: BatchHeader,
        timestamp_ms: i64,
        from: i64,
    ) -> Result<(i64, i64), ReadError> {
        let mut batch = vec![0; header.total_bytes];
        if file.read_at(&mut batch, position)? < batch.len() {
            return Err(ReadError::Corrupt(header.base_offset));
        }
        let found = Records::decompress(&Bytes::from(batch), DECOMPRESS_LIMIT).ok().and_then(|records| {
            let late = |record: &Record<'_>| record.timestamp_ms >= timestamp_ms && record.offset >= from;
            let late = records.iter().flatten().find(late);
            late.map(|record| (record.offset, record.timestamp_ms))
        });
        Ok(found.unwrap_or((header.base_offset.max(from), header.max_timestamp_ms)))
    }
}
