//! One segment: a `.log` file of batches with its sparse `.index` and `.timeindex`, named and laid out as Apache Kafka
//! does, so that its `DumpLogSegments` reads them. Knows batches' headers, not partitions.
//!
//! - `.index`: relative last offset of a batch (u32), position of the batch (u32);
//! - `.timeindex`: the largest timestamp so far (i64), relative last offset of the batch that brought it (u32);
//! - both big-endian, an entry for the first batch that begins more than 4096 bytes after the last entry's;
//! - `.txnindex`: the transactions whose abort marker lies in the segment; missing while there is none.

mod aborted;
mod index;
mod scan;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{BatchError, BatchHeader, HEADER_BYTES};
use crate::disk::{Disk, DiskFile};
use aborted::{AbortedEntry, ENTRY_BYTES};
pub use aborted::{AbortedTransaction, ENTRY_BYTES as ABORTED_ENTRY_BYTES};
use index::SparseIndex;
pub use scan::{Gaps, scan};

const INDEX_INTERVAL_BYTES: u64 = 4096;

type OffsetEntry = [u8; 8];
type TimeEntry = [u8; 12];

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Log,
    Index,
    TimeIndex,
    TxnIndex,
}

/// The file that a segment cannot be without comes first.
pub const KINDS: [Kind; 4] = [Kind::Log, Kind::Index, Kind::TimeIndex, Kind::TxnIndex];

pub fn path(directory: &Path, base_offset: i64, kind: Kind) -> PathBuf {
    let extension = match kind {
        Kind::Log => "log",
        Kind::Index => "index",
        Kind::TimeIndex => "timeindex",
        Kind::TxnIndex => "txnindex",
    };
    directory.join(format!("{base_offset:020}.{extension}"))
}

/// The base offset that a `.log` file is named after.
pub fn base_of(path: &Path) -> Option<i64> {
    if path.extension()? != "log" {
        return None;
    }
    let stem = path.file_stem()?.to_str()?;
    if stem.len() == 20 { stem.parse().ok() } else { None }
}

/// Deletes a segment's files, those that are there.
pub fn remove(disk: &dyn Disk, directory: &Path, base_offset: i64) -> io::Result<()> {
    for kind in KINDS {
        let path = path(directory, base_offset, kind);
        if disk.exists(&path) {
            disk.remove_file(&path)?;
        }
    }
    Ok(())
}

/// What is known of a segment without opening it.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub base_offset: i64,
    pub next_offset: i64,
    pub bytes: u64,
    /// `None` while the segment is empty.
    pub max_timestamp_ms: Option<i64>,
    /// Last offset of the batch that brought the largest timestamp.
    max_timestamp_offset: i64,
    /// Entries of the transaction index.
    aborted: usize,
}

impl Segment {
    /// How many transactions were aborted by markers in it.
    pub fn aborted_count(&self) -> usize {
        self.aborted
    }

    /// A closed segment, from its file sizes and the last entry of its time index; `None` when these do not add up.
    pub fn closed(
        disk: &dyn Disk,
        directory: &Path,
        base_offset: i64,
        next_offset: i64,
    ) -> io::Result<Option<Segment>> {
        let bytes = disk.open(&path(directory, base_offset, Kind::Log), false)?.len()?;
        let index = path(directory, base_offset, Kind::Index);
        let times = path(directory, base_offset, Kind::TimeIndex);
        if !disk.exists(&index) || !disk.exists(&times) {
            return Ok(None);
        }
        let times = disk.open(&times, false)?;
        let (index_bytes, time_bytes) = (disk.open(&index, false)?.len()?, times.len()?);
        let aborted = path(directory, base_offset, Kind::TxnIndex);
        let aborted_bytes = if disk.exists(&aborted) { disk.open(&aborted, false)?.len()? } else { 0 };
        if index_bytes % 8 != 0
            || time_bytes % 12 != 0
            || time_bytes == 0
            || bytes == 0
            || aborted_bytes % ENTRY_BYTES as u64 != 0
        {
            return Ok(None);
        }
        let mut last: TimeEntry = [0; 12];
        times.read_at(&mut last, time_bytes - 12)?;
        let (timestamp, relative) = parse_time(&last);
        let max_timestamp_offset = base_offset + i64::from(relative);
        Ok((max_timestamp_offset < next_offset).then_some(Segment {
            base_offset,
            next_offset,
            bytes,
            max_timestamp_ms: Some(timestamp),
            max_timestamp_offset,
            aborted: (aborted_bytes / ENTRY_BYTES as u64) as usize,
        }))
    }

    /// Where to look for `offset`, for a reader that reaches so far.
    pub fn hint(&self, disk: &dyn Disk, directory: &Path, offset: i64, reach: usize) -> io::Result<Hint> {
        hint(disk, &self.offset_index(disk, directory)?, self.base_offset, offset, reach)
    }

    /// An offset at or before the first whose time is at or after `timestamp_ms`.
    pub fn offset_before_time(&self, disk: &dyn Disk, directory: &Path, timestamp_ms: i64) -> io::Result<i64> {
        offset_before_time(disk, &self.time_index(disk, directory)?, self.base_offset, timestamp_ms)
    }

    /// The aborted transactions told here that end at or after `offset`, by their ends.
    pub fn aborted_since(&self, disk: &dyn Disk, directory: &Path, offset: i64) -> io::Result<Vec<AbortedTransaction>> {
        if self.aborted == 0 {
            return Ok(Vec::new());
        }
        let path = path(directory, self.base_offset, Kind::TxnIndex);
        aborted_since(disk, &SparseIndex::on_disk(path, self.aborted), offset)
    }

    fn offset_index(&self, disk: &dyn Disk, directory: &Path) -> io::Result<SparseIndex<8>> {
        let path = path(directory, self.base_offset, Kind::Index);
        let entries = disk.open(&path, false)?.len()? / 8;
        Ok(SparseIndex::on_disk(path, entries as usize))
    }

    fn time_index(&self, disk: &dyn Disk, directory: &Path) -> io::Result<SparseIndex<12>> {
        let path = path(directory, self.base_offset, Kind::TimeIndex);
        let entries = disk.open(&path, false)?.len()? / 12;
        Ok(SparseIndex::on_disk(path, entries as usize))
    }
}

/// What an index says of where an offset lies; it may be wrong.
#[derive(Debug, Clone, Copy)]
pub struct Hint {
    /// At or before the batch that holds the offset.
    pub position: u64,
    /// The last offset of the batch there.
    pub indexed: Option<i64>,
    /// The last batch known to begin within the reader's reach of there, and its last offset.
    pub ahead: Option<(u64, i64)>,
}

/// The segment that is written to. Its log file is open only while it is used.
#[derive(Debug)]
pub struct ActiveSegment {
    pub summary: Segment,
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    offsets: SparseIndex<8>,
    times: SparseIndex<12>,
    aborted: SparseIndex<ENTRY_BYTES>,
    last_indexed_time: Option<i64>,
    bytes_since_entry: u64,
    /// The newest time in the first batch: what the segment's age counts from.
    pub first_timestamp_ms: Option<i64>,
}

impl ActiveSegment {
    /// A new, empty segment. What an earlier attempt may have left under its name is cut off.
    pub fn create(disk: &dyn Disk, directory: &Path, base_offset: i64) -> io::Result<ActiveSegment> {
        let file = disk.open(&path(directory, base_offset, Kind::Log), true)?;
        if file.len()? > 0 {
            file.set_len(0)?;
        }
        Self::resume(disk, directory, base_offset, &[], &[], &[])
    }

    /// The segment as known from its indexes below `trusted`, and where to scan on from: its position, and the last
    /// offset of the batch there when the index says so. Aborted transactions are known below `recovery_point`.
    pub fn reopen(
        disk: &dyn Disk,
        directory: &Path,
        base_offset: i64,
        trusted: i64,
        recovery_point: i64,
    ) -> io::Result<(ActiveSegment, u64, Option<i64>)> {
        let file = disk.open(&path(directory, base_offset, Kind::Log), false)?;
        let bytes = file.len()?;
        let mut offsets = SparseIndex::<8>::load(disk, &path(directory, base_offset, Kind::Index))?;
        let mut times = SparseIndex::<12>::load(disk, &path(directory, base_offset, Kind::TimeIndex))?;
        let mut last = None;
        let whole = offsets.iter().take_while(|entry| {
            let (relative, position) = parse_offset(entry);
            let ascending = last.is_none_or(|(r, p)| r < relative && p < position);
            let known = base_offset + i64::from(relative) < trusted && u64::from(position) < bytes;
            if ascending && known {
                last = Some((relative, position));
            }
            ascending && known
        });
        let whole = whole.count();
        offsets.truncate(whole);
        let mut last_time = None;
        let whole = times.iter().take_while(|entry| {
            let (time, relative) = parse_time(entry);
            let known = last.is_some_and(|(r, _)| relative <= r) && last_time.is_none_or(|t| t < time);
            last_time = Some(time);
            known
        });
        let whole = whole.count();
        times.truncate(whole);
        let mut aborted = SparseIndex::<ENTRY_BYTES>::load(disk, &path(directory, base_offset, Kind::TxnIndex))?;
        let known = aborted.partition_point(|entry| AbortedTransaction::decode(entry).last_offset < recovery_point);
        aborted.truncate(known);
        let mut active = Self::resume(disk, directory, base_offset, &offsets, &times, &aborted)?;
        let position = last.map_or(0, |(_, position)| position.into());
        if position > 0 {
            let mut first = [0; HEADER_BYTES];
            file.read_at(&mut first, 0)?;
            active.first_timestamp_ms = BatchHeader::parse(&first).ok().map(|header| header.max_timestamp_ms);
        }
        Ok((active, position, last.map(|(relative, _)| base_offset + i64::from(relative))))
    }

    fn resume(
        disk: &dyn Disk,
        directory: &Path,
        base_offset: i64,
        offsets: &[OffsetEntry],
        times: &[TimeEntry],
        aborted: &[AbortedEntry],
    ) -> io::Result<ActiveSegment> {
        let aborted_path = path(directory, base_offset, Kind::TxnIndex);
        let aborted = if aborted.is_empty() && !disk.exists(&aborted_path) {
            SparseIndex::on_disk(aborted_path, 0)
        } else {
            SparseIndex::resume(disk, aborted_path, aborted)?
        };
        let last_time = times.last().map(parse_time);
        Ok(ActiveSegment {
            summary: Segment {
                base_offset,
                next_offset: base_offset,
                bytes: 0,
                max_timestamp_ms: last_time.map(|(time, _)| time),
                max_timestamp_offset: base_offset + last_time.map_or(0, |(_, relative)| i64::from(relative)),
                aborted: aborted.len(),
            },
            path: path(directory, base_offset, Kind::Log),
            file: None,
            offsets: SparseIndex::resume(disk, path(directory, base_offset, Kind::Index), offsets)?,
            times: SparseIndex::resume(disk, path(directory, base_offset, Kind::TimeIndex), times)?,
            aborted,
            last_indexed_time: last_time.map(|(time, _)| time),
            bytes_since_entry: 0,
            first_timestamp_ms: None,
        })
    }

    /// The log file, opened if it is not.
    pub fn file(&mut self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        match &self.file {
            Some(file) => Ok(Arc::clone(file)),
            None => Ok(Arc::clone(self.file.insert(disk.open(&self.path, false)?))),
        }
    }

    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Forgets the open file, for somebody who still needs it, or for nobody.
    pub fn release(&mut self) -> Option<Arc<dyn DiskFile>> {
        self.file.take()
    }

    /// Whether its first batch is so old.
    pub fn is_older_than(&self, age_ms: i64, now_ms: i64) -> bool {
        self.first_timestamp_ms.is_some_and(|first| now_ms.saturating_sub(first) >= age_ms)
    }

    /// Whether a batch of `bytes` that ends at `last_offset` can be told in the indexes' 32 bits.
    pub fn has_room_for(&self, bytes: u64, last_offset: i64) -> bool {
        self.summary.bytes + bytes <= i32::MAX as u64 && last_offset - self.summary.base_offset <= i32::MAX as i64
    }

    /// Takes note of a batch that has been written (or found) at `position`.
    pub fn note(&mut self, disk: &dyn Disk, header: &BatchHeader, position: u64) {
        if position == 0 {
            self.first_timestamp_ms = Some(header.max_timestamp_ms);
        }
        let summary = &mut self.summary;
        summary.next_offset = header.next_offset();
        summary.bytes = position + header.total_bytes as u64;
        if summary.max_timestamp_ms.is_none_or(|max| header.max_timestamp_ms > max) {
            summary.max_timestamp_ms = Some(header.max_timestamp_ms);
            summary.max_timestamp_offset = header.last_offset();
        }
        if self.bytes_since_entry > INDEX_INTERVAL_BYTES {
            let relative = (header.last_offset() - summary.base_offset) as u32;
            let mut entry: OffsetEntry = [0; 8];
            entry[..4].copy_from_slice(&relative.to_be_bytes());
            entry[4..].copy_from_slice(&(position as u32).to_be_bytes());
            self.bytes_since_entry = 0;
            // The batch is in the log all the same: entries stay in memory until the index can be written again.
            if let Err(error) = self.offsets.push(disk, entry).and(self.push_time(disk)) {
                tracing::warn!(%error, "cannot write a segment's index yet");
            }
        }
        self.bytes_since_entry += header.total_bytes as u64;
    }

    /// Takes note of a transaction whose abort marker was just noted.
    pub fn note_aborted(&mut self, disk: &dyn Disk, aborted: &AbortedTransaction) {
        if let Err(error) = self.aborted.push(disk, aborted.encode()) {
            tracing::warn!(%error, "cannot write a segment's transaction index yet");
        }
        self.summary.aborted = self.aborted.len();
    }

    /// As [`Segment::aborted_since`].
    pub fn aborted_since(&self, disk: &dyn Disk, offset: i64) -> io::Result<Vec<AbortedTransaction>> {
        aborted_since(disk, &self.aborted, offset)
    }

    fn push_time(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let Some(time) = self.summary.max_timestamp_ms else { return Ok(()) };
        if self.last_indexed_time.is_some_and(|last| time <= last) {
            return Ok(());
        }
        self.last_indexed_time = Some(time);
        let relative = (self.summary.max_timestamp_offset - self.summary.base_offset) as u32;
        let mut entry: TimeEntry = [0; 12];
        entry[..8].copy_from_slice(&time.to_be_bytes());
        entry[8..].copy_from_slice(&relative.to_be_bytes());
        self.times.push(disk, entry)
    }

    pub fn flush_indexes(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.offsets.flush(disk)?;
        self.times.flush(disk)?;
        self.aborted.flush(disk)
    }

    /// Completes the indexes of a segment that is written to no more.
    pub fn close(&mut self, disk: &dyn Disk) -> io::Result<Segment> {
        self.push_time(disk)?;
        self.flush_indexes(disk)?;
        Ok(self.summary)
    }

    /// As [`Segment::hint`].
    pub fn hint(&self, disk: &dyn Disk, offset: i64, reach: usize) -> io::Result<Hint> {
        hint(disk, &self.offsets, self.summary.base_offset, offset, reach)
    }

    /// As [`Segment::offset_before_time`].
    pub fn offset_before_time(&self, disk: &dyn Disk, timestamp_ms: i64) -> io::Result<i64> {
        offset_before_time(disk, &self.times, self.summary.base_offset, timestamp_ms)
    }
}

fn hint(disk: &dyn Disk, index: &SparseIndex<8>, base_offset: i64, offset: i64, reach: usize) -> io::Result<Hint> {
    let place = |entry: OffsetEntry| {
        let (relative, position) = parse_offset(&entry);
        (u64::from(position), base_offset + i64::from(relative))
    };
    let before = index.last_where(disk, |entry| place(*entry).1 <= offset)?.map(place);
    let (position, indexed) = before.map_or((0, None), |(position, last_offset)| (position, Some(last_offset)));
    let ahead = if reach > 0 {
        index.last_where(disk, |entry| place(*entry).0 <= position + reach as u64)?.map(place)
    } else {
        None
    };
    Ok(Hint { position, indexed, ahead })
}

fn offset_before_time(
    disk: &dyn Disk,
    index: &SparseIndex<12>,
    base_offset: i64,
    timestamp_ms: i64,
) -> io::Result<i64> {
    let found = index.last_where(disk, |entry| parse_time(entry).0 < timestamp_ms)?;
    Ok(found.map_or(base_offset, |entry| base_offset + i64::from(parse_time(&entry).1)))
}

fn aborted_since(
    disk: &dyn Disk,
    index: &SparseIndex<ENTRY_BYTES>,
    offset: i64,
) -> io::Result<Vec<AbortedTransaction>> {
    let entries = index.after_where(disk, |entry| AbortedTransaction::decode(entry).last_offset < offset)?;
    Ok(entries.iter().map(AbortedTransaction::decode).collect())
}

fn parse_offset(entry: &OffsetEntry) -> (u32, u32) {
    let (halves, _) = entry.as_chunks::<4>();
    (u32::from_be_bytes(halves[0]), u32::from_be_bytes(halves[1]))
}

fn parse_time(entry: &TimeEntry) -> (i64, u32) {
    let (words, _) = entry.as_chunks::<4>();
    let time = (u64::from(u32::from_be_bytes(words[0])) << 32) | u64::from(u32::from_be_bytes(words[1]));
    (time as i64, u32::from_be_bytes(words[2]))
}

/// Walks the headers from `position`, where a batch begins, to the first batch that is wanted; `None` at `limit`.
pub fn find_batch(
    file: &dyn DiskFile,
    mut position: u64,
    limit: u64,
    mut wanted: impl FnMut(&BatchHeader) -> bool,
) -> io::Result<Result<Option<(u64, BatchHeader)>, BatchError>> {
    let mut chunk = [0u8; 4096];
    let (mut start, mut filled) = (position, 0);
    while position < limit {
        let mut at = (position - start) as usize;
        if at + HEADER_BYTES > filled {
            filled = file.read_at(&mut chunk, position)?;
            (start, at) = (position, 0);
        }
        let header = match BatchHeader::parse(&chunk[at..filled]) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        if wanted(&header) {
            return Ok(Ok(Some((position, header))));
        }
        position += header.total_bytes as u64;
    }
    Ok(Ok(None))
}
