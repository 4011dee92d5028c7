//! How long bad events are kept, and how much room they take at most: a flood of them displaces the oldest, which is counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use playhouse_log::{AlterTopicError, Partition, TopicSettings};

use super::{BAD_EVENTS_TOPIC, BadEvents, Displaced};

/// The quota is kept a segment at a time, so it has to have several.
const SEGMENTS: u64 = 8;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEventsLimits {
    /// `None` keeps them for ever.
    pub retention_ms: Option<i64>,
    /// On disk, but for what the request brings that is being stored.
    pub bytes_max: u64,
}

/// How much room bad events take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEventsUsage {
    pub bytes: u64,
    pub bytes_max: u64,
    pub displaced: Displaced,
}

impl BadEvents {
    /// Puts limits in force, now and for the next start.
    pub fn limit(&self, limits: BadEventsLimits) -> Result<(), AlterTopicError> {
        let topic = self.log.topic(BAD_EVENTS_TOPIC);
        let topic = topic.ok_or_else(|| AlterTopicError::Unknown(BAD_EVENTS_TOPIC.to_owned()))?;
        let now = topic.settings();
        let segment_bytes = (limits.bytes_max / SEGMENTS).max(SEGMENT_BYTES_MIN);
        let wanted = TopicSettings {
            retention_ms: limits.retention_ms,
            // Deleted by size would not be counted: the quota sees to it.
            retention_bytes: None,
            segment_bytes: segment_bytes.min(u64::from(u32::MAX / 4)),
            ..now.clone()
        };
        if wanted != now {
            self.log.alter_topic(BAD_EVENTS_TOPIC, wanted)?;
        }
        self.bytes_max.store(limits.bytes_max, Ordering::Relaxed);
        topic.partitions().iter().for_each(|partition| self.keep_quota(partition));
        Ok(())
    }

    pub fn usage(&self) -> BadEventsUsage {
        let topic = self.log.topic(BAD_EVENTS_TOPIC);
        let bytes = topic.map_or(0, |topic| topic.partitions().iter().map(|partition| partition.size_bytes()).sum());
        BadEventsUsage { bytes, bytes_max: self.bytes_max.load(Ordering::Relaxed), displaced: self.states.displaced() }
    }

    /// Makes room where the quota is used up. What fails is tried again with the next bad event.
    pub(super) fn keep_quota(&self, partition: &Arc<Partition>) {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        if partition.size_bytes() <= bytes_max {
            return;
        }
        // Room for a segment more, so that not every event displaces another.
        match partition.trim(bytes_max - bytes_max / SEGMENTS) {
            Ok(trimmed) if trimmed.offsets > 0 => {
                let events = trimmed.offsets.unsigned_abs();
                tracing::warn!(
                    events,
                    "the oldest bad events are displaced: their quota of {bytes_max} bytes is used up"
                );
                if let Err(error) = self.states.count_displaced(events, trimmed.bytes) {
                    tracing::warn!(events, %error, "displaced bad events are counted until the next start only");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot delete the oldest bad events, whose quota is used up"),
        }
    }
}
