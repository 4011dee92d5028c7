//! All topics of one data directory: creation, recovery, group fsync, retention, disk budget.

use std::path::Path;
use std::sync::Arc;

use crate::disk::Disk;
use crate::{CreateTopicError, Topic, TopicSettings};

/// What "acknowledged" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk: group fsync before the high watermark moves.
    #[default]
    Fsync,
    /// In the page cache, as Apache Kafka's default.
    Os,
}

#[derive(Debug, Clone)]
pub struct LogConfig {
    pub durability: Durability,
    /// Appends are refused with [`crate::AppendError::DiskBudget`] once all partitions together hold this many bytes and retention cannot help.
    pub disk_budget_bytes: u64,
}
impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { durability: Durability::Fsync, disk_budget_bytes: 50 << 30 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} was written by a newer or foreign version: {found}")]
    Format { path: String, found: String },
    #[error("cannot open the log at {path}: {source}")]
    Io { path: String, source: std::io::Error },
}

#[derive(Debug)]
pub struct Log {}

impl Log {
    /// Opens or creates the log in `directory`: cuts torn tails, rebuilds indexes and producer state after a crash,
    /// starts the fsync and retention threads.
    pub fn open(_disk: Arc<dyn Disk>, _directory: &Path, _config: LogConfig) -> Result<Arc<Log>, OpenError> {
        todo!()
    }
    /// Made when the directory is: a wiped directory has a new one.
    pub fn id(&self) -> uuid::Uuid {
        todo!()
    }
    pub fn topic(&self, _name: &str) -> Option<Arc<Topic>> {
        todo!()
    }
    /// Sorted by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        todo!()
    }
    pub fn create_topic(&self, _name: &str, _settings: TopicSettings) -> Result<Arc<Topic>, CreateTopicError> {
        todo!()
    }
    /// The topic, created with `settings` if it is missing.
    pub fn ensure_topic(&self, _name: &str, _settings: TopicSettings) -> Result<Arc<Topic>, CreateTopicError> {
        todo!()
    }
    pub fn delete_topic(&self, _name: &str) -> std::io::Result<bool> {
        todo!()
    }
    /// A producer id never handed out before in this directory (durable before it returns), for idempotent producers.
    pub fn allocate_producer_id(&self) -> std::io::Result<i64> {
        todo!()
    }
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    /// Syncs everything, writes the clean-shutdown marker and producer snapshots, stops the threads. Further appends fail.
    pub fn close(&self) -> std::io::Result<()> {
        todo!()
    }
}
