//! What a topic is made with, and what of it can be changed while it lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

/// Who stamps a record's time. Topics with a schema use [`TimestampType::LogAppendTime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// What becomes of old records (Kafka's `cleanup.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum CleanupPolicy {
    /// Whole segments go by age and size.
    #[default]
    Delete,
    /// The newest record of every key stays; age and size delete nothing.
    Compact,
    /// Compacted, and deleted by age and size.
    CompactAndDelete,
}

impl CleanupPolicy {
    pub fn compacts(self) -> bool {
        self != CleanupPolicy::Delete
    }
    pub fn deletes(self) -> bool {
        self != CleanupPolicy::Compact
    }
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct TopicSettings {
    pub partitions: i32,
    pub timestamp_type: TimestampType,
    /// How far records may be behind and ahead of the clock where they keep their own time (KIP-937), by the first and the
    /// newest time in a batch's header; `None` sets no limit.
    pub timestamp_before_max_ms: Option<i64>,
    pub timestamp_after_max_ms: Option<i64>,
    /// How long records are kept after their segment's newest timestamp; `None` keeps them for ever.
    pub retention_ms: Option<i64>,
    /// How many bytes a partition keeps; `None` sets no limit.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    /// A segment is closed this long after its first record.
    pub segment_ms: i64,
    /// The largest record batch accepted, in bytes (Kafka's `max.message.bytes`).
    pub max_batch_bytes: usize,
    pub cleanup: CleanupPolicy,
    /// How long a tombstone stays after compaction first saw it.
    pub delete_retention_ms: i64,
    /// Compaction begins when so much of what can be compacted is new: between 0 and 1.
    pub min_cleanable_dirty_ratio: f64,
    /// A record is not compacted away before this age.
    pub min_compaction_lag_ms: i64,
    /// A record is open to compaction at this age at the latest, whatever the ratio; `None` sets no limit.
    pub max_compaction_lag_ms: Option<i64>,
    /// What a door wants remembered with the topic. The log knows nothing of it.
    pub notes: BTreeMap<String, String>,
}

impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings {
            partitions: 4,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: None,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            segment_bytes: 256 << 20,
            segment_ms: 7 * 24 * 3600 * 1000,
            max_batch_bytes: 16 << 20,
            cleanup: CleanupPolicy::Delete,
            delete_retention_ms: 24 * 3600 * 1000,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: None,
            notes: BTreeMap::new(),
        }
    }
}

impl TopicSettings {
    /// Of a topic that somebody keeps a state in: one partition, of which the newest record of each key stays.
    pub fn store(segment_bytes: u64, max_batch_bytes: usize) -> TopicSettings {
        TopicSettings {
            partitions: 1,
            cleanup: CleanupPolicy::Compact,
            segment_bytes,
            max_batch_bytes,
            ..TopicSettings::default()
        }
    }
}

/// The settings in force, shared by a topic and its partitions: a change holds from the next append on.
#[derive(Debug, Clone)]
pub(crate) struct LiveSettings(Arc<RwLock<Arc<TopicSettings>>>);

impl LiveSettings {
    pub fn new(settings: TopicSettings) -> LiveSettings {
        LiveSettings(Arc::new(RwLock::new(Arc::new(settings))))
    }
    pub fn get(&self) -> Arc<TopicSettings> {
        Arc::clone(&self.0.read())
    }
    pub fn set(&self, settings: TopicSettings) {
        *self.0.write() = Arc::new(settings);
    }
}
