//! A topic: a name, an id, settings and its partitions.

use std::sync::Arc;

use crate::Partition;

/// Who stamps a record's time. Topics with a schema use [`TimestampType::LogAppendTime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TopicSettings {
    pub partitions: i32,
    pub timestamp_type: TimestampType,
    /// How long records are kept after their segment's newest timestamp; `None` keeps them for ever.
    pub retention_ms: Option<i64>,
    /// How many bytes a partition keeps; `None` sets no limit.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    /// The largest record batch accepted, in bytes (Kafka's `max.message.bytes`).
    pub max_batch_bytes: usize,
}
impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings {
            partitions: 4,
            timestamp_type: TimestampType::CreateTime,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            segment_bytes: 256 << 20,
            max_batch_bytes: 16 << 20,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CreateTopicError {
    #[error("topic {0:?} already exists")]
    Exists(String),
    #[error("topic name {0:?} is not valid: use 1 to 249 of a-z A-Z 0-9 . _ - and neither \".\" nor \"..\"")]
    InvalidName(String),
    #[error("{0} partitions are not between 1 and 10000")]
    InvalidPartitions(i32),
    #[error("cannot create topic files: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Debug)]
pub struct Topic {}

impl Topic {
    pub fn name(&self) -> &str {
        todo!()
    }
    pub fn id(&self) -> uuid::Uuid {
        todo!()
    }
    pub fn settings(&self) -> TopicSettings {
        todo!()
    }
    pub fn partitions(&self) -> &[Arc<Partition>] {
        todo!()
    }
    pub fn partition(&self, _index: i32) -> Option<&Arc<Partition>> {
        todo!()
    }
}
