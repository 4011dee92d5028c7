//! A partition: a run of segments behind one writer lock, and a high watermark that readers wait on.

mod append;
mod batch_iter;
mod checkpoint;
mod compaction;
mod handles;
mod producers;
mod read;
mod recovery;
mod retention;
mod transactions;
mod transfer;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;

use crate::Durability;
use crate::disk::DiskFile;
use crate::segment::{self, ActiveSegment, Kind, Segment};
use crate::settings::LiveSettings;
use crate::shared::Shared;
use checkpoint::LastCheckpoint;
use producers::Producers;
use transactions::Ended;

pub use batch_iter::BatchIter;
pub use producers::ProducerState;
pub use read::CommittedRead;
pub use retention::{DeleteRecordsError, Trimmed};
pub use transactions::TransactionMarker;
pub use transfer::{Batches, FileRange, Isolation, Transfer};

/// Where a batch was put. The records are durable once the high watermark has passed `next_offset - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// One past the last offset of the batch.
    pub next_offset: i64,
    /// The log's clock at the append, in ms since the epoch; with `LogAppendTime` the time of every record in it.
    pub append_time_ms: i64,
    /// An idempotent producer sent this batch before: nothing was written, the offsets are those of the first time.
    pub duplicate: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Damaged on its way: sent again, it may be well.
    #[error("corrupt record batch: {0}")]
    Corrupt(String),
    /// It is as it was sent, and no producer may send such a one.
    #[error("invalid record batch: {0}")]
    Invalid(String),
    #[error("record batch format {0} is not supported: use version 2")]
    UnsupportedFormat(i8),
    #[error("record batch of {size} bytes is larger than the topic's limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("sequence {found} of producer {producer_id} is out of order: expected {expected}")]
    OutOfOrderSequence { producer_id: i64, expected: i32, found: i32 },
    #[error("producer {producer_id} is fenced: epoch {found} is older than {current}")]
    ProducerFenced { producer_id: i64, current: i16, found: i16 },
    #[error("producer {0} has an open transaction, and this batch is not part of it")]
    InTransaction(i64),
    /// Which records, counted from 0: the first thousand.
    #[error("a record without a key, which a compacted topic cannot keep")]
    KeysMissing(Vec<i32>),
    #[error("timestamp {timestamp_ms} is not between {earliest_ms} and {latest_ms}, as the topic wants it")]
    Timestamp { timestamp_ms: i64, earliest_ms: i64, latest_ms: i64 },
    #[error("the log has reached its disk budget of {0} bytes")]
    DiskBudget(u64),
    #[error("the partition stopped accepting writes after a disk error: {0}")]
    Failed(String),
    #[error("cannot write to the log: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside {start}..{end}")]
    OutOfRange { offset: i64, start: i64, end: i64 },
    #[error("corrupt record batch at offset {0}")]
    Corrupt(i64),
    #[error("cannot read the log: {0}")]
    Io(#[from] std::io::Error),
}

/// What a partition is opened with.
#[derive(Debug)]
pub(crate) struct PartitionIdentity {
    pub topic: String,
    pub index: i32,
    pub directory: PathBuf,
    pub settings: LiveSettings,
}

#[derive(Debug)]
pub struct Partition {
    me: Weak<Partition>,
    shared: Arc<Shared>,
    topic: String,
    index: i32,
    directory: PathBuf,
    settings: LiveSettings,
    state: Mutex<State>,
    high_watermark: watch::Sender<i64>,
    last_stable_offset: AtomicI64,
    log_start_offset: AtomicI64,
    size_bytes: AtomicU64,
    /// Set once, when the partition stops accepting appends for good.
    failure: OnceLock<String>,
    /// One checkpoint at a time.
    checkpointing: Mutex<()>,
    /// Held from a sync of the log's files until its outcome is known to all. Taken before `state`.
    syncing: Mutex<()>,
    /// Retention, compaction and deletion take turns.
    cleaning: Mutex<()>,
    /// Held to open a closed segment, exclusively while compaction puts one in the place of others. Taken before `state`.
    layout: RwLock<()>,
}

#[derive(Debug)]
struct State {
    /// Oldest first; each ends where the next begins.
    closed: VecDeque<Segment>,
    active: ActiveSegment,
    producers: Producers,
    /// Transactions whose markers are not durable yet: they are not over.
    ended: VecDeque<Ended>,
    /// Up to where records count as durable.
    durable: End,
    /// Up to which offset they are on disk: in the page cache ([`Durability::Os`]) that comes later.
    synced: i64,
    /// Files of closed segments that hold unsynced batches, where each sync is waited for.
    unsynced: Vec<Arc<dyn DiskFile>>,
    /// A segment was created whose directory entry is not durable.
    directory_dirty: bool,
    /// Waiting for a flusher, or in its hands.
    queued: bool,
    last_append_ms: i64,
    checkpoint: LastCheckpoint,
    holds: BTreeMap<String, i64>,
    /// Below this offset every key has been compacted.
    compacted_to: i64,
    /// When the active segment's file was last written or read.
    used_at: Instant,
}

/// An end of the log: an offset, and where it lies.
#[derive(Debug, Clone, Copy)]
struct End {
    offset: i64,
    segment: i64,
    position: u64,
}

impl State {
    fn end(&self) -> End {
        let Segment { base_offset, next_offset, bytes, .. } = self.active.summary;
        End { offset: next_offset, segment: base_offset, position: bytes }
    }
}

impl Partition {
    pub fn topic(&self) -> &str {
        &self.topic
    }
    pub fn index(&self) -> i32 {
        self.index
    }

    /// Waits until everything below `next_offset` is durable (per the log's [`crate::Durability`]).
    pub async fn durable(&self, next_offset: i64) -> Result<(), AppendError> {
        let mut moves = self.high_watermark.subscribe();
        loop {
            if *moves.borrow_and_update() >= next_offset {
                return Ok(());
            }
            if let Some(reason) = self.failure() {
                return Err(AppendError::Failed(reason.to_owned()));
            }
            if moves.changed().await.is_err() {
                return Err(AppendError::Failed("the log is closed".into()));
            }
        }
    }

    /// The first offset that is not yet durable; nothing at or above it may be read.
    pub fn high_watermark(&self) -> i64 {
        *self.high_watermark.borrow()
    }
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset.load(Ordering::Acquire)
    }
    /// Changes whenever the high watermark moves: for parked fetches and the engine.
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.high_watermark.subscribe()
    }
    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }
    /// Why the partition accepts no more appends, if it does not.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Makes everything appended so far durable and moves the high watermark there. Asks for another turn if more was
    /// appended meanwhile and waits for it, so no two threads ever sync the same partition.
    pub(crate) fn flush(&self) {
        let _turn = self.syncing.lock();
        let (end, closed, files, directory_dirty) = {
            let mut state = self.state.lock();
            let mut files = std::mem::take(&mut state.unsynced);
            if state.end().offset > state.synced {
                match self.active_file(&mut state) {
                    Ok(file) => files.push(file),
                    Err(error) => {
                        drop(state);
                        return self.fail_after_sync(&error);
                    }
                }
            }
            (state.end(), self.closed_unsynced(&state), files, std::mem::take(&mut state.directory_dirty))
        };
        if self.failure().is_some() {
            return;
        }
        let mut synced = self.sync_segments(&closed, Kind::Log);
        synced = synced.and_then(|()| files.iter().try_for_each(|file| file.sync()));
        if directory_dirty {
            synced = synced.and_then(|()| self.shared.disk.sync_dir(&self.directory));
        }
        if let Err(error) = synced {
            return self.fail_after_sync(&error);
        }
        let mut state = self.state.lock();
        self.advance_synced(&mut state, end);
        state.queued = state.end().offset > state.durable.offset;
        if state.queued {
            self.shared.flush_soon(self.me.upgrade());
        } else {
            self.release_surplus(&mut state);
        }
    }

    /// Closed segments that are not on disk and that nobody waits for: in the page cache they are not kept open until then.
    fn closed_unsynced(&self, state: &State) -> Vec<i64> {
        match self.shared.durability {
            Durability::Fsync => Vec::new(),
            Durability::Os => {
                let unsynced = state.closed.iter().rev().take_while(|closed| closed.next_offset > state.synced);
                unsynced.map(|closed| closed.base_offset).collect()
            }
        }
    }

    fn want_flush(&self, state: &mut State) {
        if !std::mem::replace(&mut state.queued, true) {
            self.shared.flush_soon(self.me.upgrade());
        }
    }

    fn advance_synced(&self, state: &mut State, end: End) {
        state.synced = state.synced.max(end.offset);
        self.advance(state, end);
    }

    fn advance(&self, state: &mut State, end: End) {
        if end.offset >= state.durable.offset {
            state.durable = end;
            // First, so that whoever the high watermark wakes sees both.
            self.move_last_stable_offset(state);
            self.high_watermark.send_if_modified(|offset| std::mem::replace(offset, end.offset) != end.offset);
        }
    }

    /// Stops the partition for good: waiting and later callers are told `reason`.
    pub(crate) fn fail(&self, reason: &str) {
        // Under the lock, so that no append is between its check and its write.
        let _state = self.state.lock();
        let _ = self.failure.set(reason.to_owned());
        self.high_watermark.send_modify(|_| {});
    }

    /// After a failed sync the kernel may have dropped what it could not write, and may say it is there: nothing past
    /// the high watermark is known to exist. It was never acknowledged nor read, so it is cut off, lest a restart find it in the cache.
    fn fail_after_sync(&self, error: &io::Error) {
        tracing::error!(topic = self.topic, partition = self.index, %error, "cannot sync the log: the partition stops");
        self.fail(&format!("sync failed: {error}"));
        let state = self.state.lock();
        let durable = state.durable;
        let disk = &*self.shared.disk;
        let cut = || -> io::Result<()> {
            for segment in state.closed.iter().chain([&state.active.summary]).rev() {
                if segment.base_offset > durable.segment {
                    segment::remove(disk, &self.directory, segment.base_offset)?;
                } else if segment.base_offset == durable.segment {
                    let log = segment::path(&self.directory, segment.base_offset, Kind::Log);
                    disk.open(&log, false)?.set_len(durable.position)?;
                }
            }
            Ok(())
        };
        if self.shared.durability == Durability::Fsync
            && let Err(error) = cut()
        {
            tracing::error!(topic = self.topic, partition = self.index, %error, "cannot cut off what was not synced");
        }
    }

    /// Returns once nobody deletes or compacts segments. A partition that failed is not compacted further.
    pub(crate) fn wait_for_cleaning(&self) -> MutexGuard<'_, ()> {
        self.cleaning.lock()
    }

    /// The files are deleted with the topic: they count no more.
    pub(crate) fn forget_size(&self) {
        self.shared.used_bytes.fetch_sub(self.size_bytes.swap(0, Ordering::AcqRel), Ordering::AcqRel);
    }

    fn segment_path(&self, base_offset: i64) -> PathBuf {
        segment::path(&self.directory, base_offset, Kind::Log)
    }
}
