//! The log: partitioned, append-only, durable, in order.
//!
//! It stores Kafka record batches (format v2) byte for byte, in files laid out as Apache Kafka lays them out, and
//! hands them back by offset. Its pieces, from the bottom up:
//!
//! - [`disk`]: the few file operations everything on disk goes through, so that tests can inject faults;
//! - [`batch`]: the record batch codec (header, records, compression), bytes in, values out;
//! - `segment`: one `.log` file with its sparse `.index` and `.timeindex`;
//! - [`Partition`]: a run of segments, its producers' sequences, its high watermark;
//! - [`Log`]: the topics of one data directory, group fsync, retention, recovery.
//!
//! The high watermark is the durable offset: nothing at or above it is ever read. The log knows nothing of sockets,
//! HTTP, JSON, SQL or the Kafka API.

pub mod batch;
mod clock;
pub mod disk;
mod log;
mod murmur2;
mod partition;
mod segment;
mod settings;
mod shared;
mod topic;

pub use clock::Clock;
pub use log::{Durability, Log, LogConfig, OpenError};
pub use murmur2::partition_of;
pub use partition::{
    AppendError, Appended, BatchIter, Batches, CommittedRead, DeleteRecordsError, FileRange, Isolation, Partition,
    ProducerState, ReadError, TransactionMarker, Transfer, Trimmed,
};
pub use segment::AbortedTransaction;
pub use settings::{CleanupPolicy, TimestampType, TopicSettings};
pub use topic::{AlterTopicError, CreateTopicError, Topic};
