//! Where a reader is: the next offset of each partition.

use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

/// Next offset per partition; a partition that is absent starts at 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position(pub BTreeMap<TopicPartition, i64>);

impl Position {
    pub fn get(&self, partition: &TopicPartition) -> i64 {
        self.0.get(partition).copied().unwrap_or(0)
    }
    pub fn set(&mut self, partition: TopicPartition, next_offset: i64) {
        self.0.insert(partition, next_offset);
    }
    /// Whether every partition of `other` is at or behind this position.
    pub fn covers(&self, other: &Position) -> bool {
        other.0.iter().all(|(partition, offset)| self.get(partition) >= *offset)
    }
}
