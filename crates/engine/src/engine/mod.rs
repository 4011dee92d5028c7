//! The engine: one thread that turns the log into epochs.
//!
//! Each turn: [`input`] cuts an epoch (which offsets it covers) and decodes it, [`ahead`] of time where there is a backlog; the dedup set drops ids already seen; the
//! pipeline's cached plans run; [`views`](crate::views) take the partial rows; one record goes to the epoch log; the
//! views are published. Everything that decides the outcome (offsets, clock, watermark) is in that record, so recovery
//! merges deltas instead of computing again. [`checkpoint`] bounds how many.

mod ahead;
mod checkpoint;
mod input;
mod late;
mod pace;
mod replay;
mod run;
mod status;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use playhouse_log::Log;
use playhouse_log::disk::Disk;
use tokio_util::sync::CancellationToken;

pub use self::late::{LATE_EVENTS, late_events_schema};
pub use self::replay::{Replay, ReplayError};
pub use self::status::{EngineStatus, Freshness, InputStatus, ViewStatus};
use crate::TopicPartition;
use crate::epoch::{EpochLog, EpochLogConfig, EpochLogError};
use crate::sink::{DriverHandle, Sink, SinkProgress};
use crate::sql::{Pipeline, RunError};
use crate::state::aggregate::StateError;
use crate::state::dedup::{DedupConfig, DedupError};
use crate::views::Views;

/// How long the sinks may take for their last commits.
const SINKS_STOP: Duration = Duration::from_millis(1_500);

/// Milliseconds since the Unix epoch; injected so that tests can turn it.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A record that passed the gate and fails behind it: a bad event, not an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub stage: FailedStage,
    pub path: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailedStage {
    /// It is no row of its source.
    Decode,
    /// A plan fails on its row.
    Enrich,
    /// The target of the sink of that name refuses its row.
    Sink(String),
}

/// Keeps records as bad events, and answers once they are on disk. With `true` it may have been called for some of them
/// before, by a process that crashed, say: those are not kept again. An error is tried again.
pub type KeepBad = Arc<dyn Fn(Vec<BadRecord>, bool) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The records at or beyond these offsets that are kept as refused by the sink of that name.
pub type Refused = Arc<dyn Fn(String, Vec<(TopicPartition, i64)>) -> BoxFuture<'static, RefusedRecords> + Send + Sync>;
pub type RefusedRecords = Result<Vec<(TopicPartition, i64)>, String>;

/// Where bad events are kept.
#[derive(Clone)]
pub struct BadEvents {
    /// Called before the epoch, or the sink's commit, that passes the records over.
    pub keep: KeepBad,
    pub refused: Refused,
}

#[derive(Clone)]
pub struct EngineConfig {
    /// Epoch log, checkpoints and dedup runs live here.
    pub directory: PathBuf,
    pub disk: Arc<dyn Disk>,
    pub clock: Clock,
    /// Rows in an epoch at most, roughly: an epoch ends with the record batch that reaches it, and has fewer where they
    /// would take too long.
    pub epoch_rows: usize,
    /// Pause between two cuts while there is little to do: spares the disk and the processor.
    pub epoch_interval: Duration,
    /// Bytes of the epoch log at which the engine waits for its sinks.
    pub epoch_log_budget_bytes: u64,
    pub epoch_log: EpochLogConfig,
    pub checkpoint_bytes: u64,
    pub checkpoint_interval: Duration,
    pub dedup: DedupConfig,
    /// Of each view's state.
    pub view_budget_bytes: usize,
    pub bad_events: BadEvents,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("topic {0:?} does not exist")]
    UnknownTopic(String),
    #[error(transparent)]
    EpochLog(#[from] EpochLogError),
    #[error(transparent)]
    Dedup(#[from] DedupError),
    #[error("view state: {0}")]
    State(#[from] StateError),
    #[error("pipeline: {0}")]
    Run(#[from] RunError),
    #[error("rows: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("log of topic {topic}, partition {partition}: {reason}")]
    Read { topic: Arc<str>, partition: i32, reason: String },
    #[error("checkpoint {path}: {reason}")]
    Checkpoint { path: PathBuf, reason: String },
    #[error("cannot keep records that fail: {0}")]
    BadRecord(String),
    #[error("the engine's thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// A sink and the stream it takes.
pub struct AttachedSink {
    pub name: String,
    /// Index into the pipeline's streams; [`Engine::late_stream`] for late events.
    pub stream: usize,
    pub sink: Box<dyn Sink>,
}

/// A running engine. Dropping it without [`Engine::stop`] is a crash, as far as the state is concerned: safe, but the
/// next start has deltas to merge.
pub struct Engine {
    epochs: Arc<EpochLog>,
    replay: Replay,
    views: Arc<Views>,
    shared: Arc<Mutex<status::Shared>>,
    log: Arc<Log>,
    sinks: Vec<DriverHandle>,
    drivers: Vec<tokio::task::JoinHandle<()>>,
    stop_engine: CancellationToken,
    stop_sinks: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Engine {
    /// Stream index of late events, for [`AttachedSink::stream`].
    pub fn late_stream(pipeline: &Pipeline) -> usize {
        pipeline.streams.len()
    }

    /// Recovers the state, then starts the engine's thread and one task per sink on the current tokio runtime.
    pub fn start(
        log: Arc<Log>,
        pipeline: Pipeline,
        sinks: Vec<AttachedSink>,
        config: EngineConfig,
    ) -> Result<Engine, EngineError> {
        let bad_events = config.bad_events.clone();
        let (mut runner, rebuild) = run::Runner::recover(log.clone(), Arc::new(pipeline), config)?;
        let stop_engine = CancellationToken::new();
        let stop_sinks = CancellationToken::new();
        let replay = Replay::new(log.clone(), runner.pipeline.clone());
        let mut handles = Vec::new();
        let mut drivers = Vec::new();
        for attached in sinks {
            let mark = runner.marks.get(&attached.name).cloned();
            let name = attached.name.clone();
            let (driver, handle) = crate::sink::Driver::new(
                attached.name,
                attached.sink,
                attached.stream,
                runner.scope(),
                mark,
                runner.epochs.clone(),
                replay.clone(),
                bad_events.clone(),
                stop_sinks.clone(),
            );
            runner.sinks.push((name, handle.clone()));
            handles.push(handle);
            drivers.push(tokio::spawn(driver.run()));
        }
        let epochs = runner.epochs.clone();
        let views = runner.views.clone();
        let shared = runner.shared.clone();
        let stop = stop_engine.clone();
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || runner.run(rebuild, &stop))
            .map_err(EngineError::Thread)?;
        Ok(Engine {
            epochs,
            replay,
            views,
            shared,
            log,
            sinks: handles,
            drivers,
            stop_engine,
            stop_sinks,
            thread: Some(thread),
        })
    }

    pub fn views(&self) -> &Arc<Views> {
        &self.views
    }

    pub fn epochs(&self) -> &Arc<EpochLog> {
        &self.epochs
    }

    /// For reading the rows of what [`Engine::epochs`] has.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Of the sink of that name.
    pub fn sink_progress(&self, name: &str) -> SinkProgress {
        SinkProgress::of(self.sinks.iter().find(|sink| sink.status().name == name))
    }

    pub fn status(&self) -> EngineStatus {
        status::collect(&self.shared.lock(), &self.log, &self.epochs, &self.sinks)
    }

    /// Finishes the epoch under way, writes a checkpoint, lets every sink commit what it holds, within about two
    /// seconds; what is left is done after the next start.
    pub async fn stop(mut self) {
        self.stop_engine.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.stop_sinks.cancel();
        let until = tokio::time::Instant::now() + SINKS_STOP;
        for mut driver in self.drivers.drain(..) {
            // A commit is whole or not at all, so one that takes longer may be left alone.
            if tokio::time::timeout_at(until, &mut driver).await.is_err() {
                driver.abort();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop_engine.cancel();
        self.stop_sinks.cancel();
    }
}
