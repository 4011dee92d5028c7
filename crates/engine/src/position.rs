//! Where a reader is: the next offset of each partition.

use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

/// Next offset per partition; a partition that is absent starts at 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Position(pub BTreeMap<TopicPartition, i64>);

/// JSON keys are strings, so a position is written as a list.
#[derive(serde::Serialize, serde::Deserialize)]
struct Entry {
    #[serde(flatten)]
    partition: TopicPartition,
    offset: i64,
}

impl From<Vec<Entry>> for Position {
    fn from(entries: Vec<Entry>) -> Self {
        Position(entries.into_iter().map(|entry| (entry.partition, entry.offset)).collect())
    }
}

impl From<Position> for Vec<Entry> {
    fn from(position: Position) -> Self {
        position.0.into_iter().map(|(partition, offset)| Entry { partition, offset }).collect()
    }
}

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
