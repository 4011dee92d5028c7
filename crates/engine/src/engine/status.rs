//! What the engine shows of itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use playhouse_log::{Log, Partition};
use serde::Serialize;

use crate::epoch::EpochLog;
use crate::sink::{DriverHandle, SinkState, SinkStatus};
use crate::{Position, TopicPartition};

/// Epochs over which freshness is measured.
const FRESHNESS_EPOCHS: usize = 1_024;

/// Kept by the engine's thread, read by [`collect`].
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) epoch: u64,
    pub(super) position: Position,
    pub(super) watermarks_ms: Vec<Option<i64>>,
    pub(super) rows: u64,
    pub(super) duplicates: u64,
    pub(super) late: u64,
    pub(super) undecodable: u64,
    pub(super) failed: u64,
    pub(super) dedup_ids: u64,
    pub(super) dedup_window_ms: i64,
    pub(super) views: Vec<ViewStatus>,
    /// Why the engine is not moving, if it is not.
    pub(super) stalled: Option<String>,
    freshness_ms: VecDeque<i64>,
}

impl Shared {
    pub(super) fn observe_freshness(&mut self, ms: i64) {
        if self.freshness_ms.len() >= FRESHNESS_EPOCHS {
            self.freshness_ms.pop_front();
        }
        self.freshness_ms.push_back(ms);
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct ViewStatus {
    pub name: String,
    pub groups: usize,
    pub state_bytes: usize,
    /// Why a group could not be computed, the last time that one could not: such groups are left out.
    pub failure: Option<String>,
}

/// From a record's append to its being visible in the views, over the last epochs (the oldest record of each).
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Freshness {
    pub p50_ms: i64,
    pub p99_ms: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct InputStatus {
    #[serde(flatten)]
    pub partition: TopicPartition,
    pub next_offset: i64,
    /// Records durable in the log and not yet in an epoch.
    pub lag: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct SinkReport {
    #[serde(flatten)]
    pub status: SinkStatus,
    /// Records durable in the log that the sink has not yet committed or passed over.
    pub lag: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct EngineStatus {
    pub epoch: u64,
    pub watermarks_ms: Vec<Option<i64>>,
    /// Rows taken into epochs since the start, duplicates not counted.
    pub rows: u64,
    pub duplicates: u64,
    pub late: u64,
    pub undecodable: u64,
    /// Rows that a plan failed on.
    pub failed: u64,
    pub dedup_ids: u64,
    /// Shorter than declared once the dedup budget was reached.
    pub dedup_window_ms: i64,
    pub views: Vec<ViewStatus>,
    pub inputs: Vec<InputStatus>,
    pub lag: i64,
    pub sinks: Vec<SinkReport>,
    pub epoch_log_bytes: u64,
    pub freshness: Freshness,
    pub stalled: Option<String>,
}

impl EngineStatus {
    /// Whether everything in the log is in every sink and view.
    pub fn is_caught_up(&self) -> bool {
        self.lag == 0 && self.sinks.iter().all(|sink| sink.lag == 0 && sink.status.state == SinkState::Running)
    }
}

pub(super) fn collect(shared: &Shared, log: &Log, epochs: &EpochLog, sinks: &[DriverHandle]) -> EngineStatus {
    // As many partitions as the topics have now: of one added just now the engine has no position yet.
    let topics: BTreeSet<&Arc<str>> = shared.position.0.keys().map(|partition| &partition.topic).collect();
    let high_watermarks: BTreeMap<TopicPartition, i64> = topics
        .into_iter()
        .filter_map(|name| Some((name, log.topic(name)?)))
        .flat_map(|(name, topic)| {
            let of = |it: &Arc<Partition>| {
                (TopicPartition { topic: name.clone(), partition: it.index() }, it.high_watermark())
            };
            topic.partitions().iter().map(of).collect::<Vec<_>>()
        })
        .collect();
    let lag_of = |position: &Position| -> i64 {
        high_watermarks.iter().map(|(partition, end)| (end - position.get(partition)).max(0)).sum()
    };
    let inputs: Vec<InputStatus> = high_watermarks
        .iter()
        .map(|(partition, end)| {
            let next_offset = shared.position.get(partition);
            InputStatus { partition: partition.clone(), next_offset, lag: (end - next_offset).max(0) }
        })
        .collect();
    let mut sorted: Vec<i64> = shared.freshness_ms.iter().copied().collect();
    sorted.sort_unstable();
    let quantile = |share: f64| {
        let index = (sorted.len() as f64 * share) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    EngineStatus {
        epoch: shared.epoch,
        watermarks_ms: shared.watermarks_ms.clone(),
        rows: shared.rows,
        duplicates: shared.duplicates,
        late: shared.late,
        undecodable: shared.undecodable,
        failed: shared.failed,
        dedup_ids: shared.dedup_ids,
        dedup_window_ms: shared.dedup_window_ms,
        views: shared.views.clone(),
        lag: inputs.iter().map(|input| input.lag).sum(),
        inputs,
        sinks: sinks
            .iter()
            .map(|sink| {
                let status = sink.status();
                SinkReport { lag: lag_of(&status.reached), status }
            })
            .collect(),
        epoch_log_bytes: epochs.size_bytes(),
        freshness: Freshness { p50_ms: quantile(0.5), p99_ms: quantile(0.99) },
        stalled: shared.stalled.clone(),
    }
}
