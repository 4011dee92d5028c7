//! The engine's thread: epoch after epoch. How it comes to its state is in [`recover`], how rows come through the
//! plans in [`rows`].

mod recover;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use futures::future::select_all;
use parking_lot::Mutex;
use playhouse_log::Log;
use tokio_util::sync::CancellationToken;

use super::ahead::Ahead;
use super::checkpoint::{self, Meta};
use super::input::{Cut, SourceReader};
use super::late::{self, LateContext, LateRows};
use super::pace::Pace;
use super::status::{Shared, ViewStatus};
use super::view::View;
use super::{BadRecord, EngineConfig, EngineError};
use crate::Position;
use crate::epoch::{Epoch, EpochLog, Header, Identity};
use crate::sink::{DriverHandle, Scope, SinkMark};
use crate::sql::Pipeline;
use crate::state::dedup::DedupSet;
use crate::views::{Snapshot, Views};

/// State expires when the recorded clock enters a new period of this length.
const EXPIRY_PERIOD_MS: i64 = 10_000;
/// Views are published at least this often while there is a backlog, and after every epoch otherwise.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);
/// Pause after a failure before the engine tries again.
const RETRY: Duration = Duration::from_secs(1);
/// How long an epoch waits for a sink to take rows that are about to leave memory. One that takes longer is not waited for
/// again before it has caught up: computing its rows once more costs it time, and nobody else.
const SINK_WAIT: Duration = Duration::from_millis(200);
/// Pause between looks at the epoch log's size while it is at its budget.
const BUDGET_WAIT: Duration = Duration::from_millis(100);

pub(super) use recover::Start;
use rows::Ran;

pub(super) struct Runner {
    log: Arc<Log>,
    config: EngineConfig,
    identity: Identity,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) epochs: Arc<EpochLog>,
    pub(super) views: Arc<Views>,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) sinks: Vec<(String, DriverHandle)>,
    /// Sinks that were too slow to be waited for.
    behind: BTreeSet<String>,
    /// As the last checkpoint has them.
    pub(super) marks: BTreeMap<String, SinkMark>,
    sources: Vec<SourceReader>,
    ahead: Ahead,
    dedup: Vec<Option<DedupSet>>,
    view_states: Vec<View>,
    position: Position,
    /// Bad records before this may have been kept already.
    unsure_until: Position,
    epoch: u64,
    clock_ms: i64,
    bytes_at_checkpoint: u64,
    checkpoint_at: Instant,
    epoch_at_checkpoint: u64,
    published_at: Instant,
    /// Ingest time of the oldest row that is in an epoch and not yet in the published views.
    unpublished_ms: Option<i64>,
    /// Positions of sinks, ahead of the engine in a rebuild, nearest first.
    fences: Vec<Position>,
    pace: Pace,
}

impl Runner {
    pub(super) fn scope(&self) -> Scope {
        Scope { log_id: self.identity.log_id, pipeline: self.identity.pipeline.clone() }
    }

    /// What follows every epoch, in life as in recovery: the position moves, state expires by the recorded clock.
    fn finish_epoch(&mut self, header: &Header) -> Result<(), EngineError> {
        header.advance(&mut self.position);
        let tick = self.clock_ms != 0 && self.clock_ms / EXPIRY_PERIOD_MS != header.clock_ms / EXPIRY_PERIOD_MS;
        for view in &mut self.view_states {
            if let Some(watermark_ms) = header.watermarks_ms.get(view.definition.source).copied().flatten() {
                view.seal(watermark_ms);
            }
            if tick || view.groups.size_bytes() > self.config.view_budget_bytes {
                view.expire(header.clock_ms, self.config.view_budget_bytes);
            }
        }
        for dedup in self.dedup.iter_mut().flatten() {
            dedup.maintain(header.clock_ms)?;
        }
        for (source, watermark) in self.sources.iter_mut().zip(&header.watermarks_ms) {
            source.watermark_ms = *watermark;
            header.times.iter().for_each(|time| source.restore_time(time));
        }
        self.epoch = header.number;
        self.clock_ms = header.clock_ms;
        Ok(())
    }

    pub(super) fn run(mut self, start: Start, stop: &CancellationToken) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                self.stall(&format!("cannot start its runtime: {error}"));
                return;
            }
        };
        runtime.block_on(async {
            if start == Start::Rebuild {
                self.shared.lock().stalled = Some("waiting for every sink before the rebuild".to_owned());
                tokio::select! {
                    () = self.find_fences() => {}
                    () = stop.cancelled() => return,
                }
                self.shared.lock().stalled = None;
            }
            while !stop.is_cancelled() {
                if let Err(error) = self.turns(stop).await {
                    // State may be half changed: only the epoch log says what happened.
                    self.stall(&error.to_string());
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = stop.cancelled() => return,
                    }
                    if let Err(error) = self.reload() {
                        self.stall(&error.to_string());
                    } else {
                        self.shared.lock().stalled = None;
                    }
                }
            }
            if let Err(error) = self.checkpoint() {
                tracing::error!("the last checkpoint failed; the next start merges more: {error}");
            }
        });
    }

    fn stall(&self, reason: &str) {
        tracing::error!("the engine stands still: {reason}");
        self.shared.lock().stalled = Some(reason.to_owned());
    }

    async fn find_fences(&mut self) {
        for (_, sink) in &mut self.sinks {
            if let Some(position) = sink.first_position().await {
                self.fences.push(position);
            }
        }
        self.fences.sort_by_key(|position| position.0.values().sum::<i64>());
    }

    async fn turns(&mut self, stop: &CancellationToken) -> Result<(), EngineError> {
        let mut last_cut = Instant::now();
        let mut growth = self.log.subscribe_growth();
        while !stop.is_cancelled() {
            self.maybe_checkpoint()?;
            if self.epochs.size_bytes() > self.config.epoch_log_budget_bytes {
                self.wait_for_room(stop).await?;
                continue;
            }
            let now_ms = (self.config.clock)();
            if !self.ahead.is_pending() {
                let adopted = |source: &mut SourceReader| source.adopt(&self.log, now_ms);
                if self.sources.iter_mut().map(adopted).fold(false, |some, more| some | more) {
                    self.hold();
                }
            }
            let tick_in = millis_until_tick(self.clock_ms, now_ms);
            let has_data = self.ahead.is_pending() || self.sources.iter().any(SourceReader::has_data);
            let tick = tick_in == 0 && self.view_states.iter().any(|view| !view.groups.is_empty());
            if !has_data && !tick {
                if self.unpublished_ms.is_some() {
                    self.publish_views()?;
                }
                let wait = Duration::from_millis(if tick_in == 0 { EXPIRY_PERIOD_MS as u64 } else { tick_in });
                let changes = self.sources.iter_mut().map(|source| Box::pin(source.changed()));
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = select_all(changes) => {}
                    _ = growth.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
                // Gather a little, unless there has been nothing for a while.
                let since = last_cut.elapsed();
                if since < self.config.epoch_interval {
                    tokio::time::sleep(self.config.epoch_interval - since).await;
                }
                continue;
            }
            last_cut = Instant::now();
            self.wait_for_sinks(stop).await;
            self.turn().await?;
        }
        Ok(())
    }

    /// Lets the sinks that keep up take the rows that the next epoch would push out of memory.
    async fn wait_for_sinks(&mut self, stop: &CancellationToken) {
        let newest = self.epochs.newest();
        self.behind.retain(|name| self.sinks.iter().any(|(sink, handle)| sink == name && handle.taken() < newest));
        let Some(leaving) = self.epochs.leaving() else { return };
        let deadline = tokio::time::Instant::now() + SINK_WAIT;
        for (name, sink) in &mut self.sinks {
            if self.behind.contains(name) {
                continue;
            }
            tokio::select! {
                biased;
                () = sink.has_taken(leaving) => {}
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(deadline) => drop(self.behind.insert(name.clone())),
            }
        }
    }

    async fn wait_for_room(&mut self, stop: &CancellationToken) -> Result<(), EngineError> {
        self.shared.lock().stalled = Some("the epoch log is at its budget: waiting for the slowest sink".to_owned());
        self.publish_views()?;
        self.checkpoint()?;
        while self.epochs.size_bytes() > self.config.epoch_log_budget_bytes && !stop.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(BUDGET_WAIT) => {}
                () = stop.cancelled() => {}
            }
            self.truncate()?;
        }
        self.shared.lock().stalled = None;
        Ok(())
    }

    /// One epoch.
    async fn turn(&mut self) -> Result<(), EngineError> {
        let clock_ms = (self.config.clock)().max(self.clock_ms);
        while self.fences.first().is_some_and(|fence| self.position.covers(fence)) {
            self.fences.remove(0);
        }
        let began = Instant::now();
        let rows_max = (self.pace.rows() / self.sources.len().max(1)).max(1);
        let readers = || self.sources.iter().map(SourceReader::reader);
        let mut cuts: Vec<Cut> = match self.ahead.take() {
            Some(cuts) => cuts?,
            None => {
                readers().map(|reader| reader.lock().cut(rows_max, self.fences.first())).collect::<Result<_, _>>()?
            }
        };
        let behind = cuts.iter().any(Cut::is_behind);
        if behind && self.fences.is_empty() {
            self.ahead.begin(readers().collect(), rows_max);
        }
        let mut bad: Vec<BadRecord> = cuts.iter_mut().flat_map(|cut| cut.bad.drain(..)).collect();
        let watermarks_before: Vec<Option<i64>> = self.sources.iter().map(|source| source.watermark_ms).collect();
        let mut times = Vec::new();
        for (source, cut) in self.sources.iter_mut().zip(&cuts) {
            times.extend(source.advance_watermark(cut, clock_ms));
        }

        let Ran { mut delta, dropped, duplicates, rows, output, failed } = self.run_plans(&cuts).await?;
        let (undecodable, failed_rows) = (bad.len() as u64, failed.len() as u64);
        bad.extend(failed);
        self.keep_bad_records(bad).await?;

        let mut late = LateRows::default();
        for (view, partials) in self.view_states.iter_mut().zip(output.partials) {
            let partials = in_time(view, partials, &self.sources, &cuts, &watermarks_before, &mut late)?;
            let mut applied = Ok(());
            put_part(&mut delta, |out| applied = view.apply(&partials, clock_ms, out));
            applied?;
        }
        let late_rows = late.len() as u64;
        let mut streams = output.streams;
        let derived = streams.len();
        streams.push(late.finish()?);

        let epoch = Epoch {
            number: self.epoch + 1,
            clock_ms,
            watermarks_ms: self.sources.iter().map(|source| source.watermark_ms).collect(),
            ranges: cuts.iter().flat_map(|cut| cut.ranges.iter().cloned()).collect(),
            times,
            delta,
            dropped,
            streams,
            derived,
        };
        for (source, cut) in self.sources.iter().zip(&cuts) {
            source.sync(&cut.ranges)?;
        }
        let header = self.epochs.append(epoch, &self.position)?;
        self.finish_epoch(&header)?;
        let oldest = cuts.iter().flat_map(|cut| cut.places.iter().map(|place| place.ingested_ms)).min();
        self.unpublished_ms = [self.unpublished_ms, oldest].into_iter().flatten().min();
        {
            let mut shared = self.shared.lock();
            shared.rows += rows;
            shared.duplicates += duplicates;
            shared.late += late_rows;
            shared.undecodable += undecodable;
            shared.failed += failed_rows;
        }
        // While there is a backlog, readers gain nothing from every single epoch.
        if !behind || self.published_at.elapsed() >= PUBLISH_INTERVAL {
            self.publish_views()?;
        }
        self.pace.observe(cuts.iter().map(|cut| cut.places.len()).sum(), began.elapsed());
        Ok(())
    }

    async fn keep_bad_records(&self, records: Vec<BadRecord>) -> Result<(), EngineError> {
        if records.is_empty() {
            return Ok(());
        }
        // What was read before the last start, or the last failure, may have been kept then.
        let maybe_kept = !self.position.covers(&self.unsure_until);
        (self.config.bad_events.keep)(records, maybe_kept).await.map_err(EngineError::BadRecord)
    }

    fn publish_views(&mut self) -> Result<(), EngineError> {
        for view in &mut self.view_states {
            view.publish()?;
        }
        self.publish();
        self.published_at = Instant::now();
        if let Some(oldest) = self.unpublished_ms.take() {
            self.shared.lock().observe_freshness((self.config.clock)() - oldest);
        }
        Ok(())
    }

    fn publish(&self) {
        let views = self.view_states.iter().map(|view| (view.name.to_string(), view.table.clone())).collect();
        let watermarks_ms: Vec<Option<i64>> = self.sources.iter().map(|source| source.watermark_ms).collect();
        let watermark_ms = watermarks_ms.iter().flatten().min().copied();
        self.views.publish(Snapshot { epoch: self.epoch, watermark_ms, views });
        let mut shared = self.shared.lock();
        shared.epoch = self.epoch;
        shared.position = self.position.clone();
        shared.watermarks_ms = watermarks_ms;
        shared.dedup_ids = self.dedup.iter().flatten().map(|set| set.len()).sum();
        shared.dedup_window_ms = self.dedup.iter().flatten().map(|set| set.window_ms()).min().unwrap_or(0);
        shared.views = self
            .view_states
            .iter()
            .map(|view| ViewStatus {
                name: view.name.to_string(),
                groups: view.groups.len(),
                state_bytes: view.groups.size_bytes(),
                failure: view.failure.clone(),
            })
            .collect();
    }

    fn maybe_checkpoint(&mut self) -> Result<(), EngineError> {
        let grown = self.epochs.written_bytes() - self.bytes_at_checkpoint;
        let old = self.checkpoint_at.elapsed() >= self.config.checkpoint_interval;
        if grown >= self.config.checkpoint_bytes || (old && self.epoch > self.epoch_at_checkpoint) {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), EngineError> {
        if self.epoch > self.epoch_at_checkpoint {
            let mut sections: Vec<checkpoint::Parts<'_>> = Vec::new();
            let mut manifests = Vec::new();
            for dedup in &self.dedup {
                let mut memory = Vec::new();
                manifests.push(dedup.as_ref().map(|set| set.checkpoint(&mut memory)));
                sections.push(Box::new(std::iter::once(memory)));
            }
            for view in &self.view_states {
                sections.push(Box::new(view.groups.checkpoint(checkpoint::PART_BYTES)));
            }
            let marks: BTreeMap<String, SinkMark> =
                self.sinks.iter().filter_map(|(name, sink)| Some((name.clone(), sink.mark()?))).collect();
            let meta = Meta {
                sinks: marks.clone(),
                identity: self.identity.clone(),
                epoch: self.epoch,
                clock_ms: self.clock_ms,
                position: self.position.clone(),
                watermarks_ms: self.sources.iter().map(|source| source.watermark_ms).collect(),
                times: self.sources.iter().flat_map(SourceReader::times).collect(),
                dedup: manifests,
            };
            let directory = self.config.directory.join("checkpoints");
            checkpoint::write(&*self.config.disk, &directory, &meta, sections)?;
            for dedup in self.dedup.iter_mut().flatten() {
                dedup.remove_retired()?;
            }
            self.epoch_at_checkpoint = self.epoch;
            self.marks = marks;
        }
        self.bytes_at_checkpoint = self.epochs.written_bytes();
        self.checkpoint_at = Instant::now();
        self.truncate()
    }

    /// Removes epochs that are in the checkpoint and in every sink.
    fn truncate(&self) -> Result<(), EngineError> {
        let needed = self.sinks.iter().map(|(name, sink)| sink.needs_from(self.marks.get(name)));
        let positions: Option<Vec<Position>> = needed.collect();
        if let Some(positions) = positions {
            self.epochs.truncate(self.epoch_at_checkpoint, &positions, &self.position)?;
        }
        self.hold();
        Ok(())
    }

    /// Tells retention that the rows of every epoch still kept are made of these records.
    fn hold(&self) {
        let reader = format!("engine/{}", self.pipeline.name);
        let start = self.epochs.start();
        self.sources.iter().for_each(|source| source.hold(&reader, &start));
    }
}

/// The partial rows of a view that are in time; the others go to `late`. Lateness is judged by the watermark before this
/// epoch.
fn in_time(
    view: &View,
    partials: Vec<RecordBatch>,
    sources: &[SourceReader],
    cuts: &[Cut],
    watermarks_ms: &[Option<i64>],
    late: &mut LateRows,
) -> Result<Vec<RecordBatch>, EngineError> {
    let index = view.definition.source;
    let (Some(lateness), Some(watermark_ms), true) =
        (view.definition.allowed_lateness, watermarks_ms[index], view.definition.windowed)
    else {
        return Ok(partials);
    };
    let (source, cut) = (&sources[index], &cuts[index]);
    let times = source.definition.watermark.as_ref().map(|watermark| cut.batch.column(watermark.column));
    let context = LateContext {
        view: view.name.clone(),
        topic: source.topic.clone(),
        watermark_us: watermark_ms.saturating_mul(1_000),
        horizon_us: late::horizon_us(watermark_ms, lateness),
        places: &cut.places,
        event_times: times.map(|times| times.as_primitive::<TimestampMicrosecondType>()),
    };
    Ok(partials.into_iter().map(|partial| late.split(partial, &context)).collect::<Result<_, _>>()?)
}

/// Milliseconds until the next expiry; 0 if it is due.
fn millis_until_tick(last_ms: i64, now_ms: i64) -> u64 {
    if last_ms / EXPIRY_PERIOD_MS != now_ms / EXPIRY_PERIOD_MS {
        return 0;
    }
    (EXPIRY_PERIOD_MS - now_ms.rem_euclid(EXPIRY_PERIOD_MS)) as u64
}

fn put_part(delta: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = delta.len();
    delta.extend_from_slice(&[0; 8]);
    write(delta);
    let length = (delta.len() - at - 8) as u64;
    delta[at..at + 8].copy_from_slice(&length.to_le_bytes());
}
