//! The way out: whole batches by offset, offsets by time, all below the high watermark.

use super::*;
use crate::batch::{BatchHeader, Records};
use crate::segment::find_batch;

/// Records larger than this when decompressed are found by their batch's time only.
const DECOMPRESS_LIMIT: usize = 128 << 20;

/// A place to begin looking in one segment, and where to stop.
struct Start {
    file: Arc<dyn DiskFile>,
    position: u64,
    limit: u64,
}

impl Partition {
    /// Whole batches from the one that contains `offset`, up to `max_bytes` but at least one batch, all below the high
    /// watermark. Empty at the high watermark. Batches may begin below `offset`: readers skip.
    pub fn read(&self, offset: i64, max_bytes: usize) -> Result<Bytes, ReadError> {
        let Some(start) = self.locate(offset)? else { return Ok(Bytes::new()) };
        let Start { file, position, limit } = start;
        let found = find_batch(&*file, position, limit, |header| header.last_offset() >= offset)?;
        let (position, first) = found.ok().flatten().ok_or(ReadError::Corrupt(offset))?;
        let available = (limit - position) as usize;
        if first.total_bytes > available {
            return Err(ReadError::Corrupt(offset));
        }
        let mut bytes = vec![0; max_bytes.clamp(first.total_bytes, available)];
        if file.read_at(&mut bytes, position)? < bytes.len() {
            return Err(ReadError::Corrupt(offset));
        }
        let mut whole = first.total_bytes;
        while let Ok(header) = BatchHeader::parse(&bytes[whole..])
            && bytes.len() - whole >= header.total_bytes
        {
            whole += header.total_bytes;
        }
        bytes.truncate(whole);
        Ok(Bytes::from(bytes))
    }

    /// Where the segment that holds `offset` must be searched; `None` at the high watermark.
    fn locate(&self, offset: i64) -> Result<Option<Start>, ReadError> {
        let disk = &*self.shared.disk;
        let state = self.state.lock();
        let (start, end) = (self.log_start_offset(), state.durable.offset);
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange { offset, start, end });
        }
        if offset == end {
            return Ok(None);
        }
        let active = &state.active;
        if offset >= active.summary.base_offset {
            let position = active.position_before(disk, offset)?;
            return Ok(Some(Start { file: Arc::clone(&active.file), position, limit: state.durable.position }));
        }
        let index = state.closed.partition_point(|segment| segment.next_offset <= offset);
        let Some(segment) = state.closed.get(index).copied() else { return Err(ReadError::Corrupt(offset)) };
        let limit = if segment.base_offset == state.durable.segment { state.durable.position } else { segment.bytes };
        drop(state);
        let opened = disk
            .open(&self.segment_path(segment.base_offset), false)
            .and_then(|file| Ok((file, segment.position_before(disk, &self.directory, offset)?)));
        match opened {
            Ok((file, position)) => Ok(Some(Start { file, position, limit })),
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
            if let Some(Start { file, position, limit }) = self.locate(hint)? {
                let late =
                    |header: &BatchHeader| header.last_offset() >= hint && header.max_timestamp_ms >= timestamp_ms;
                match find_batch(&*file, position, limit, late)? {
                    Ok(Some((position, header))) => {
                        return self.record_at(&*file, position, header, timestamp_ms).map(Some);
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
    ) -> Result<(i64, i64), ReadError> {
        let mut batch = vec![0; header.total_bytes];
        if file.read_at(&mut batch, position)? < batch.len() {
            return Err(ReadError::Corrupt(header.base_offset));
        }
        let found = Records::decompress(&Bytes::from(batch), DECOMPRESS_LIMIT).ok().and_then(|records| {
            let late = records.iter().flatten().find(|record| record.timestamp_ms >= timestamp_ms);
            late.map(|record| (record.offset, record.timestamp_ms))
        });
        Ok(found.unwrap_or((header.base_offset, header.max_timestamp_ms)))
    }
}
