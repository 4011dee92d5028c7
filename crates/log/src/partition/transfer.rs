//! The way out without a copy: where batches lie in a file that the operating system can send by itself, a reader gets the
//! file and the place instead of the bytes.
//!
//! Where a range of whole batches ends is told by the segment's index and a few headers: what lies between is not looked at. A
//! range holds its file open, so it outlives the deletion or compaction of its segment.

use std::os::fd::BorrowedFd;

use super::read::Found;
use super::*;
use crate::AbortedTransaction;
use crate::segment::find_batch;

/// What is smaller is copied: that is cheaper than one more call for each partition, and holds no file open.
const RANGE_BYTES_MIN: usize = 64 << 10;

/// Part of a file of the log, whole batches, all durable.
#[derive(Debug, Clone)]
pub struct FileRange {
    file: Arc<dyn DiskFile>,
    position: u64,
    len: usize,
}

impl FileRange {
    pub fn position(&self) -> u64 {
        self.position
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The file, where there is one that the operating system knows.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }
    /// Its bytes, copied. Blocks.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        if self.file.read_at(&mut bytes, self.position)? < self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Bytes::from(bytes))
    }
}

/// Whole batches as they lie in the log.
#[derive(Debug, Clone)]
pub enum Batches {
    Bytes(Bytes),
    Range(FileRange),
}

impl Batches {
    pub fn len(&self) -> usize {
        match self {
            Batches::Bytes(bytes) => bytes.len(),
            Batches::Range(range) => range.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Batches {
    fn default() -> Self {
        Batches::Bytes(Bytes::new())
    }
}

/// Which records a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All below the high watermark.
    Uncommitted,
    /// Those below the last stable offset.
    Committed,
}

/// What a reader gets that passes batches on.
#[derive(Debug, Clone, Default)]
pub struct Transfer {
    pub batches: Batches,
    /// For [`Isolation::Committed`]: the aborted transactions that these batches may belong to.
    pub aborted: Vec<AbortedTransaction>,
    pub last_stable_offset: i64,
}

impl Partition {
    /// As [`Self::read`] and [`Self::read_committed`], for a reader that passes the batches on as they are.
    pub fn transfer(&self, offset: i64, max_bytes: usize, isolation: Isolation) -> Result<Transfer, ReadError> {
        let last_stable_offset = self.last_stable_offset();
        let none = Transfer { last_stable_offset, ..Transfer::default() };
        let upper = match isolation {
            Isolation::Uncommitted => i64::MAX,
            Isolation::Committed if (last_stable_offset..=self.high_watermark()).contains(&offset) => return Ok(none),
            Isolation::Committed => last_stable_offset,
        };
        let Some(found) = self.find(offset, max_bytes)? else { return Ok(none) };
        let (batches, end) = match found.range(upper, max_bytes) {
            Some((range, end)) => (Batches::Range(range), end),
            None => {
                let (bytes, end) = found.copy(offset, upper, max_bytes)?;
                (Batches::Bytes(bytes), end)
            }
        };
        let aborted = match isolation {
            Isolation::Committed if end > offset => self.aborted_between(offset, end)?,
            _ => Vec::new(),
        };
        Ok(Transfer { batches, aborted, last_stable_offset })
    }
}

impl Found {
    /// The range of whole batches from the one found on, and the offset it ends before. `None` where it is to be copied: it
    /// is small, the file is none that can be sent, it may reach beyond `upper`, or the index is not right.
    fn range(&self, upper: i64, max_bytes: usize) -> Option<(FileRange, i64)> {
        let start = &self.start;
        let available = (start.limit - self.position).min(max_bytes.max(self.first.total_bytes) as u64);
        if (available as usize) < RANGE_BYTES_MIN || start.end_offset > upper || start.file.descriptor().is_none() {
            return None;
        }
        let reach = self.position + available;
        let ahead = start.hint.ahead.filter(|(position, _)| (self.position + 1..=reach).contains(position));
        let mut end = ahead.map_or(self.position, |(position, _)| position);
        let (mut end_offset, mut first_last) = (None, None);
        // From a place that is known to the first batch that is too much.
        let beyond = find_batch(&*start.file, end, start.limit, |header| {
            first_last.get_or_insert(header.last_offset());
            let fits = end + header.total_bytes as u64 <= reach;
            if fits {
                end += header.total_bytes as u64;
                end_offset = Some(header.next_offset());
            }
            !fits
        });
        let beyond = beyond.ok()?.ok()?;
        if ahead.is_some_and(|(_, last_offset)| first_last.is_some_and(|first| first != last_offset)) {
            return None;
        }
        let end_offset = end_offset.or(beyond.map(|(_, header)| header.base_offset)).unwrap_or(start.end_offset);
        let len = (end - self.position) as usize;
        let range = FileRange { file: Arc::clone(&start.file), position: self.position, len };
        (len >= RANGE_BYTES_MIN).then_some((range, end_offset))
    }
}
