//! A partition: a run of segments behind one writer lock, and a high watermark that readers wait on.

use bytes::Bytes;
use tokio::sync::watch;

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
    #[error("corrupt record batch: {0}")]
    Corrupt(String),
    #[error("record batch format {0} is not supported: use version 2")]
    UnsupportedFormat(i8),
    #[error("record batch of {size} bytes is larger than the topic's limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("sequence {found} of producer {producer_id} is out of order: expected {expected}")]
    OutOfOrderSequence { producer_id: i64, expected: i32, found: i32 },
    #[error("producer {producer_id} is fenced: epoch {found} is older than {current}")]
    ProducerFenced { producer_id: i64, current: i16, found: i16 },
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

#[derive(Debug)]
pub struct Partition {}

impl Partition {
    pub fn topic(&self) -> &str {
        todo!()
    }
    pub fn index(&self) -> i32 {
        todo!()
    }
    /// Appends one or more whole record batches as they are, patching base offset and leader epoch (and with
    /// `LogAppendTime` the timestamps, which renews the CRC). Verifies length, magic and CRC first. It does not wait for the disk: await
    /// [`Partition::durable`] with `next_offset` before acknowledging. Blocking but short: no fsync under the lock.
    pub fn append(&self, _batches: &[u8]) -> Result<Appended, AppendError> {
        todo!()
    }
    /// Waits until everything below `next_offset` is durable (per the log's [`crate::Durability`]).
    pub async fn durable(&self, _next_offset: i64) -> Result<(), AppendError> {
        todo!()
    }
    /// The first offset that is not yet durable; nothing at or above it may be read.
    pub fn high_watermark(&self) -> i64 {
        todo!()
    }
    pub fn log_start_offset(&self) -> i64 {
        todo!()
    }
    /// Changes whenever the high watermark moves: for parked fetches and the engine.
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        todo!()
    }
    /// Whole batches from the one that contains `offset`, up to `max_bytes` but at least one batch, all below the high
    /// watermark. Empty at the high watermark. Batches may begin below `offset`: readers skip.
    pub fn read(&self, _offset: i64, _max_bytes: usize) -> Result<Bytes, ReadError> {
        todo!()
    }
    /// The first offset (and its timestamp, ms) whose record time is at or after `timestamp_ms`.
    pub fn offset_at(&self, _timestamp_ms: i64) -> Result<Option<(i64, i64)>, ReadError> {
        todo!()
    }
    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    /// Below this offset retention may delete. Readers that must not lose records (the engine) hold it back by name.
    pub fn hold(&self, _reader: &str, _offset: i64) {
        todo!()
    }
}
