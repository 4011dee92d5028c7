//! The epoch log: segment files of epoch records, one writer, any number of readers.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::record_batch::RecordBatch;
use parking_lot::{Mutex, RwLock};
use playhouse_log::disk::{Disk, DiskFile, create_dir_durably};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::codec::{self, CodecError, Epoch, Header, PREFIX_BYTES};
use super::cursor::Cursor;
use crate::Position;

const MAGIC: &[u8; 8] = b"PLAYEPOC";
const FORMAT_VERSION: u32 = 2;

/// Whose epochs these are. Another identity on disk means that they cannot be continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub log_id: uuid::Uuid,
    pub pipeline: String,
    /// Of the plan and the engine's version.
    pub fingerprint: u64,
}

#[derive(Debug, Clone)]
pub struct EpochLogConfig {
    pub segment_bytes: u64,
    /// Rows of the newest epochs that stay in memory for the sinks that keep up.
    pub recent_bytes: usize,
}

impl Default for EpochLogConfig {
    fn default() -> Self {
        EpochLogConfig { segment_bytes: 8 << 20, recent_bytes: 24 << 20 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EpochLogError {
    #[error("epoch log {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("epoch log {path}: {source}")]
    Codec { path: PathBuf, source: CodecError },
    #[error("epoch log {path}: not a file of an epoch log")]
    Format { path: PathBuf },
    #[error("the epochs before {before} were truncated under a reader that had not read them")]
    Gap { before: u64 },
}

#[derive(Serialize, Deserialize)]
struct SegmentHead {
    identity: Identity,
    first_epoch: u64,
    position: Position,
}

/// One file of epochs. Readers hold it, so a removed segment can still be read to its end.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first_epoch: u64,
    /// Where its first epoch starts.
    pub(super) position: Position,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// Offset of the first record.
    pub(super) start: u64,
    /// Bytes that are durable: readers go no further.
    pub(super) end: AtomicU64,
}

#[derive(Debug)]
struct Recent {
    number: u64,
    streams: Arc<Vec<Vec<RecordBatch>>>,
    bytes: usize,
}

#[derive(Debug)]
pub struct EpochLog {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    identity: Identity,
    config: EpochLogConfig,
    segments: RwLock<VecDeque<Arc<Segment>>>,
    recent: Mutex<VecDeque<Recent>>,
    /// Number of the newest durable epoch.
    newest: watch::Sender<u64>,
    written: AtomicU64,
}

impl EpochLog {
    /// Opens the epoch log of `identity`, cutting a torn last record. `None` if there is none, or one of another
    /// identity or format: then [`EpochLog::create`] starts a new one.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        identity: &Identity,
        config: EpochLogConfig,
    ) -> Result<Option<EpochLog>, EpochLogError> {
        let mut segments = VecDeque::new();
        if !disk.exists(directory) {
            return Ok(None);
        }
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| EpochLogError::Io { path, source }
        };
        let paths: Vec<PathBuf> = disk
            .list(directory)
            .map_err(io(directory))?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "epochs"))
            .collect();
        let last = paths.len().saturating_sub(1);
        for (index, path) in paths.iter().enumerate() {
            match open_segment(&*disk, path, identity)? {
                OpenedSegment::Whole(segment) => segments.push_back(Arc::new(segment)),
                OpenedSegment::Foreign => return Ok(None),
                // Created, but the machine went down before its head was durable: no epoch can be in it.
                OpenedSegment::Torn if index == last => disk.remove_file(path).map_err(io(path))?,
                OpenedSegment::Torn => return Err(EpochLogError::Format { path: path.clone() }),
            }
        }
        let Some(tail) = segments.back() else { return Ok(None) };
        let newest = cut_torn_tail(tail)?;
        let log = EpochLog {
            disk,
            directory: directory.to_owned(),
            identity: identity.clone(),
            config,
            segments: RwLock::new(segments),
            recent: Mutex::default(),
            newest: watch::Sender::new(newest),
            written: AtomicU64::new(0),
        };
        Ok(Some(log))
    }

    /// Starts an empty epoch log at `position`, removing whatever is in the directory.
    pub fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        identity: &Identity,
        config: EpochLogConfig,
        position: &Position,
    ) -> Result<EpochLog, EpochLogError> {
        let io = |source| EpochLogError::Io { path: directory.to_owned(), source };
        if disk.exists(directory) {
            disk.remove_dir_all(directory).map_err(io)?;
        }
        create_dir_durably(&*disk, directory).map_err(io)?;
        let log = EpochLog {
            disk,
            directory: directory.to_owned(),
            identity: identity.clone(),
            config,
            segments: RwLock::default(),
            recent: Mutex::default(),
            newest: watch::Sender::new(0),
            written: AtomicU64::new(0),
        };
        log.roll(1, position)?;
        Ok(log)
    }

    /// Appends one epoch that starts at `position`, durably, then shows it to readers.
    pub fn append(&self, epoch: Epoch, position: &Position) -> Result<Arc<Header>, EpochLogError> {
        let mut segment = self.tail();
        if segment.end.load(Ordering::Acquire) >= self.config.segment_bytes {
            segment = self.roll(epoch.number, position)?;
        }
        let (header, head, tail) =
            epoch.encode().map_err(|source| EpochLogError::Codec { path: segment.path.clone(), source })?;
        let start = segment.end.load(Ordering::Acquire);
        let mut end = start;
        let io = |source| EpochLogError::Io { path: segment.path.clone(), source };
        for part in [&head, &epoch.delta, &tail] {
            segment.file.write_all_at(part, end).map_err(io)?;
            end += part.len() as u64;
        }
        segment.file.sync().map_err(io)?;
        let number = epoch.number;
        self.remember(epoch);
        segment.end.store(end, Ordering::Release);
        self.written.fetch_add(end - start, Ordering::Relaxed);
        self.newest.send_replace(number);
        Ok(Arc::new(header))
    }

    /// Number of the newest durable epoch; 0 before the first.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Changes with every epoch.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Number of the oldest epoch still kept (or the next one, if there is none).
    pub fn first_epoch(&self) -> u64 {
        self.segments.read().front().map_or(1, |segment| segment.first_epoch)
    }

    /// Bytes appended by this process, whether still kept or not.
    pub fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Where the oldest epoch still kept starts.
    pub fn start(&self) -> Position {
        self.segments.read().front().map(|segment| segment.position.clone()).unwrap_or_default()
    }

    pub fn size_bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.end.load(Ordering::Acquire)).sum()
    }

    /// A reader that starts with the first epoch holding a record at or beyond `position`.
    pub fn cursor(self: &Arc<Self>, position: &Position) -> Cursor {
        let segments = self.segments.read();
        let index = segments.iter().rposition(|segment| position.covers(&segment.position)).unwrap_or(0);
        Cursor::new(self.clone(), segments[index].clone(), position.clone())
    }

    /// A reader that starts with epoch `number`, or the oldest kept.
    pub fn cursor_at(self: &Arc<Self>, number: u64) -> Cursor {
        let segments = self.segments.read();
        let index = segments.iter().rposition(|segment| segment.first_epoch <= number).unwrap_or(0);
        Cursor::new(self.clone(), segments[index].clone(), Position::default()).skip_to(number)
    }

    /// Removes segments that hold only epochs up to `epoch` that lie before all of `positions`. `end` is where the newest
    /// epoch ends: a last segment of which nothing is needed gives way to a new one.
    pub fn truncate(&self, epoch: u64, positions: &[Position], end: &Position) -> Result<(), EpochLogError> {
        let tail = self.tail();
        let bytes = tail.end.load(Ordering::Acquire) - tail.start;
        if bytes >= self.config.segment_bytes / 64
            && epoch >= self.newest()
            && positions.iter().all(|at| at.covers(end))
        {
            self.roll(self.newest() + 1, end)?;
        }
        let mut removed = Vec::new();
        {
            let mut segments = self.segments.write();
            while segments.len() > 1 {
                let next = &segments[1];
                let needed = next.first_epoch > epoch + 1 || !positions.iter().all(|at| at.covers(&next.position));
                if needed {
                    break;
                }
                removed.extend(segments.pop_front());
            }
        }
        for segment in removed {
            self.disk
                .remove_file(&segment.path)
                .map_err(|source| EpochLogError::Io { path: segment.path.clone(), source })?;
        }
        Ok(())
    }

    pub(super) fn all_after(&self, segment: &Segment) -> VecDeque<Arc<Segment>> {
        self.segments.read().iter().filter(|other| other.first_epoch > segment.first_epoch).cloned().collect()
    }

    /// The rows of an epoch, if they are still in memory.
    pub(super) fn recent(&self, number: u64) -> Option<Arc<Vec<Vec<RecordBatch>>>> {
        let recent = self.recent.lock();
        let first = recent.front()?.number;
        let entry = recent.get(usize::try_from(number.checked_sub(first)?).ok()?)?;
        Some(entry.streams.clone())
    }

    /// The newest epoch whose rows leave memory when as many as the newest epoch had are added; `None` while there is room.
    pub(crate) fn leaving(&self) -> Option<u64> {
        let recent = self.recent.lock();
        let mut total: usize = recent.iter().map(|entry| entry.bytes).sum::<usize>() + recent.back()?.bytes;
        let mut leaving = None;
        for entry in recent.iter() {
            if total <= self.config.recent_bytes {
                break;
            }
            total -= entry.bytes;
            leaving = Some(entry.number);
        }
        leaving
    }

    fn remember(&self, epoch: Epoch) {
        let bytes = epoch.streams.iter().flatten().map(RecordBatch::get_array_memory_size).sum::<usize>();
        let mut recent = self.recent.lock();
        recent.push_back(Recent { number: epoch.number, streams: Arc::new(epoch.streams), bytes });
        let mut total: usize = recent.iter().map(|entry| entry.bytes).sum();
        while total > self.config.recent_bytes {
            let Some(oldest) = recent.pop_front() else { break };
            total -= oldest.bytes;
        }
    }

    fn tail(&self) -> Arc<Segment> {
        self.segments.read().back().cloned().expect("an epoch log has at least one segment")
    }

    fn roll(&self, first_epoch: u64, position: &Position) -> Result<Arc<Segment>, EpochLogError> {
        let path = self.directory.join(format!("{first_epoch:020}.epochs"));
        let io = |source| EpochLogError::Io { path: path.clone(), source };
        let head = SegmentHead { identity: self.identity.clone(), first_epoch, position: position.clone() };
        let json = serde_json::to_vec(&head)
            .map_err(|source| EpochLogError::Codec { path: path.clone(), source: source.into() })?;
        let mut bytes = Vec::with_capacity(20 + json.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
        bytes.extend_from_slice(&json);
        let file = self.disk.open(&path, true).map_err(io)?;
        file.set_len(0).map_err(io)?;
        file.write_all_at(&bytes, 0).map_err(io)?;
        file.sync().map_err(io)?;
        self.disk.sync_dir(&self.directory).map_err(io)?;
        let start = bytes.len() as u64;
        let segment = Arc::new(Segment {
            first_epoch,
            position: position.clone(),
            path: path.clone(),
            file,
            start,
            end: AtomicU64::new(start),
        });
        self.segments.write().push_back(segment.clone());
        Ok(segment)
    }
}

enum OpenedSegment {
    Whole(Segment),
    Foreign,
    Torn,
}

fn open_segment(disk: &dyn Disk, path: &Path, identity: &Identity) -> Result<OpenedSegment, EpochLogError> {
    let io = |source| EpochLogError::Io { path: path.to_owned(), source };
    let file = disk.open(path, false).map_err(io)?;
    let mut prefix = [0u8; 20];
    if file.read_at(&mut prefix, 0).map_err(io)? < prefix.len() {
        return Ok(OpenedSegment::Torn);
    }
    let field = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    if &prefix[..8] == MAGIC && field(8) != FORMAT_VERSION {
        return Ok(OpenedSegment::Foreign);
    }
    if &prefix[..8] != MAGIC {
        return if prefix == [0; 20] {
            Ok(OpenedSegment::Torn)
        } else {
            Err(EpochLogError::Format { path: path.to_owned() })
        };
    }
    let len = file.len().map_err(io)?;
    let head_bytes = field(12) as u64;
    if 20 + head_bytes > len {
        return Ok(OpenedSegment::Torn);
    }
    let mut json = vec![0; head_bytes as usize];
    if file.read_at(&mut json, 20).map_err(io)? < json.len() || crc32c::crc32c(&json) != field(16) {
        return Ok(OpenedSegment::Torn);
    }
    let head: SegmentHead = serde_json::from_slice(&json)
        .map_err(|source| EpochLogError::Codec { path: path.to_owned(), source: source.into() })?;
    if head.identity != *identity {
        return Ok(OpenedSegment::Foreign);
    }
    Ok(OpenedSegment::Whole(Segment {
        first_epoch: head.first_epoch,
        position: head.position,
        path: path.to_owned(),
        file,
        start: 20 + head_bytes,
        end: AtomicU64::new(len),
    }))
}

/// Checks every record of the last segment and cuts it after the last whole one; returns the newest epoch's number.
fn cut_torn_tail(segment: &Segment) -> Result<u64, EpochLogError> {
    let io = |source| EpochLogError::Io { path: segment.path.clone(), source };
    let len = segment.end.load(Ordering::Acquire);
    let mut at = segment.start;
    let mut newest = segment.first_epoch - 1;
    let mut record = Vec::new();
    while let Some(bytes) = read_whole(segment, at, len, &mut record).map_err(io)? {
        match check_whole(&record) {
            Ok(header) if header.number == newest + 1 => newest = header.number,
            _ => break,
        }
        at += bytes;
    }
    if at < len {
        tracing::warn!(segment = %segment.path.display(), bytes = len - at, "cutting a torn epoch record");
        segment.file.set_len(at).map_err(io)?;
        segment.file.sync().map_err(io)?;
    }
    segment.end.store(at, Ordering::Release);
    Ok(newest)
}

fn read_whole(segment: &Segment, at: u64, len: u64, record: &mut Vec<u8>) -> std::io::Result<Option<u64>> {
    let mut prefix = [0u8; PREFIX_BYTES];
    if at + PREFIX_BYTES as u64 > len || segment.file.read_at(&mut prefix, at)? < PREFIX_BYTES {
        return Ok(None);
    }
    let Ok((bytes, _, _)) = codec::decode_prefix(&prefix) else { return Ok(None) };
    if at + bytes > len {
        return Ok(None);
    }
    record.resize(bytes as usize, 0);
    let read = segment.file.read_at(record, at)?;
    Ok((read == record.len()).then_some(bytes))
}

fn check_whole(record: &[u8]) -> Result<Header, CodecError> {
    let prefix: &[u8; PREFIX_BYTES] =
        record.first_chunk().ok_or(CodecError::Corrupt("record shorter than its prefix"))?;
    let (bytes, crc, header_bytes) = codec::decode_prefix(prefix)?;
    let body_at = PREFIX_BYTES + header_bytes;
    let header = codec::decode_header(&record[PREFIX_BYTES..body_at], crc, bytes)?;
    let mut body = &record[body_at..];
    for section in header.sections() {
        let (bytes, rest) = body.split_at(section.bytes as usize);
        codec::check_section(bytes, section)?;
        body = rest;
    }
    Ok(header)
}
