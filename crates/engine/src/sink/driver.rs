//! Drives one sink: tails the epoch log at the sink's own pace, commits by size and time, and starts over from the
//! position the sink stored whenever something fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{RefusedRows, Scope, Sink, SinkError};
use crate::Position;
use crate::engine::{BadEvents, Replay};
use crate::epoch::{Cursor, EpochLog, EpochRef};

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long a sink may take for its last commit when the process stops.
const LAST_COMMIT: Duration = Duration::from_millis(1_200);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "error")]
pub enum SinkState {
    Opening,
    Running,
    /// Tried again with growing pauses.
    Unavailable(String),
    /// Needs a person; tried again at the longest pause.
    Failed(String),
    Stopped,
}

#[derive(Debug, Clone, Serialize)]
pub struct SinkStatus {
    pub name: String,
    pub guarantee: &'static str,
    #[serde(flatten)]
    pub state: SinkState,
    /// Committed at the target.
    pub position: Position,
    /// Before this, everything is committed or held no row for this sink.
    pub reached: Position,
    /// Newest epoch committed since this process started.
    pub epoch: u64,
    pub rows_committed: u64,
    /// Bad events, since the target refuses them.
    pub rows_refused: u64,
    pub commits: u64,
}

/// How far a sink is, as checkpoints record it: epochs without rows for a sink are not worth a commit, so what it stores
/// itself may lie behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SinkMark {
    committed: Position,
    reached: Position,
}

impl SinkMark {
    /// Where to go on, given what the sink has stored: beyond it only if nothing was taken back at the target.
    fn resume(&self, stored: Position) -> Position {
        if stored.covers(&self.committed) && self.reached.covers(&stored) { self.reached.clone() } else { stored }
    }
}

/// The engine's end of a driver.
#[derive(Debug, Clone)]
pub(crate) struct DriverHandle {
    status: Arc<Mutex<SinkStatus>>,
    /// Set by the first successful `open`.
    opened: watch::Receiver<Option<Position>>,
    /// The newest epoch whose rows it has.
    taken: watch::Receiver<u64>,
}

impl DriverHandle {
    pub(crate) fn status(&self) -> SinkStatus {
        self.status.lock().clone()
    }

    /// What the sink had stored when it was first reached; waits until it is.
    pub(crate) async fn first_position(&mut self) -> Option<Position> {
        self.opened.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Waits until the sink has the rows of `epoch`.
    pub(crate) async fn has_taken(&mut self, epoch: u64) {
        // An error means that the driver is gone: nobody waits for it.
        let _ = self.taken.wait_for(|taken| *taken >= epoch).await;
    }

    pub(crate) fn taken(&self) -> u64 {
        *self.taken.borrow()
    }

    /// For a checkpoint; `None` while the sink has not been reached.
    pub(crate) fn mark(&self) -> Option<SinkMark> {
        self.opened.borrow().is_some().then(|| {
            let status = self.status.lock();
            SinkMark { committed: status.position.clone(), reached: status.reached.clone() }
        })
    }

    /// Epochs before this position are not needed after a restart, given the mark in the last checkpoint.
    pub(crate) fn needs_from(&self, checkpointed: Option<&SinkMark>) -> Option<Position> {
        let now = self.mark()?.committed;
        Some(checkpointed.map_or(now.clone(), |mark| mark.resume(now)))
    }
}

/// How far a sink has come beyond what it committed.
#[derive(Debug, Clone)]
pub struct SinkProgress(Option<Arc<Mutex<SinkStatus>>>);

impl SinkProgress {
    pub(crate) fn of(handle: Option<&DriverHandle>) -> SinkProgress {
        SinkProgress(handle.map(|handle| handle.status.clone()))
    }

    /// The position before which everything is in `committed` or held no row for the sink, if `committed` is what the
    /// sink committed last; otherwise `committed`.
    pub fn reached(&self, committed: &Position) -> Position {
        let status = self.0.as_ref().map(|status| status.lock());
        let current = status.filter(|status| status.position == *committed);
        current.map_or_else(|| committed.clone(), |status| status.reached.clone())
    }
}

pub(crate) struct Driver {
    sink: Box<dyn Sink>,
    stream: usize,
    scope: Scope,
    mark: SinkMark,
    epochs: Arc<EpochLog>,
    replay: Replay,
    /// `None` where the target takes every row.
    refused: Option<Arc<RefusedRows>>,
    stop: CancellationToken,
    status: Arc<Mutex<SinkStatus>>,
    opened: watch::Sender<Option<Position>>,
    taken: watch::Sender<u64>,
}

/// Rows handed to the sink and not yet committed.
struct Staged {
    position: Position,
    epoch: u64,
    rows: u64,
    since: Option<Instant>,
}

impl Driver {
    #[expect(clippy::too_many_arguments)]
    pub(crate) fn new(
        name: String,
        mut sink: Box<dyn Sink>,
        stream: usize,
        scope: Scope,
        mark: Option<SinkMark>,
        epochs: Arc<EpochLog>,
        replay: Replay,
        bad_events: BadEvents,
        stop: CancellationToken,
    ) -> (Driver, DriverHandle) {
        let refused = RefusedRows::new(name.clone(), stream, replay.clone(), bad_events);
        let keep = refused.clone();
        let refuses = sink.refuse_to(Arc::new(move |rows| Box::pin(keep.clone().keep(rows))));
        let status = Arc::new(Mutex::new(SinkStatus {
            name,
            guarantee: sink.guarantee(),
            state: SinkState::Opening,
            position: Position::default(),
            reached: Position::default(),
            epoch: 0,
            rows_committed: 0,
            rows_refused: 0,
            commits: 0,
        }));
        let (opened, receiver) = watch::channel(None);
        let (taken, takes) = watch::channel(0);
        let handle = DriverHandle { status: status.clone(), opened: receiver, taken: takes };
        let mark = mark.unwrap_or_default();
        let refused = refuses.then_some(refused);
        (Driver { sink, stream, scope, mark, epochs, replay, refused, stop, status, opened, taken }, handle)
    }

    pub(crate) async fn run(mut self) {
        let mut pause = RETRY_MIN;
        while !self.stop.is_cancelled() {
            let commits = self.status.lock().commits;
            let Err(error) = self.session().await else { break };
            if self.status.lock().commits > commits {
                pause = RETRY_MIN;
            }
            let name = self.status.lock().name.clone();
            let state = match &error {
                SinkError::Unavailable(reason) => SinkState::Unavailable(reason.clone()),
                SinkError::Fatal(reason) => {
                    pause = RETRY_MAX;
                    SinkState::Failed(reason.clone())
                }
            };
            let changed = self.status.lock().state != state;
            if changed {
                tracing::warn!(sink = %name, retry_in = ?pause, "sink failed: {error}");
            }
            self.status.lock().state = state;
            self.sink.close().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
        self.sink.close().await;
        self.status.lock().state = SinkState::Stopped;
    }

    /// From `open` to the first error, or to the end.
    async fn session(&mut self) -> Result<(), SinkError> {
        let stop = self.stop.clone();
        let stored = tokio::select! {
            stored = self.sink.open(&self.scope) => stored?,
            () = stop.cancelled() => return Ok(()),
        };
        let kept_from = self.epochs.start();
        let stored = stored.unwrap_or_default();
        let position = self.mark.resume(stored.clone());
        if !position.covers(&kept_from) {
            tracing::info!(
                sink = %self.status.lock().name,
                "the sink begins with the oldest rows that the epoch log still has"
            );
        }
        if let Some(refused) = &self.refused {
            refused.open(&position).await?;
        }
        {
            let mut status = self.status.lock();
            status.position = stored;
            status.reached = position.clone();
            status.state = SinkState::Running;
        }
        self.opened.send_if_modified(|opened| {
            let first = opened.is_none();
            opened.get_or_insert(position.clone());
            first
        });
        let mut newest = self.epochs.subscribe();
        let mut cursor = self.epochs.cursor(&position);
        let mut staged = Staged { position: position.clone(), epoch: 0, rows: 0, since: None };
        loop {
            newest.borrow_and_update();
            while let Some(epoch) = self.next(&mut cursor)? {
                if epoch.header.straddles(&position) {
                    return Err(SinkError::Fatal(format!(
                        "its stored position lies inside epoch {}: the engine's state was made from another log",
                        epoch.header.number
                    )));
                }
                self.stage(&epoch, &mut staged).await?;
                if self.due(&staged) {
                    self.commit(&mut staged).await?;
                }
                if stop.is_cancelled() {
                    break;
                }
            }
            let deadline =
                staged.since.map(|since| tokio::time::Instant::from_std(since + self.sink.commit_policy().interval));
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    return match tokio::time::timeout(LAST_COMMIT, self.commit(&mut staged)).await {
                        Ok(outcome) => outcome,
                        Err(_) => Ok(()),
                    };
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                    self.commit(&mut staged).await?;
                }
                changed = newest.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn next(&self, cursor: &mut Cursor) -> Result<Option<EpochRef>, SinkError> {
        cursor.next_epoch().map_err(|error| SinkError::Unavailable(error.to_string()))
    }

    async fn stage(&mut self, epoch: &EpochRef, staged: &mut Staged) -> Result<(), SinkError> {
        let unavailable = |error: &dyn std::fmt::Display| SinkError::Unavailable(error.to_string());
        let batches = match epoch.rows(self.stream).map_err(|error| unavailable(&error))? {
            Some(batches) => batches,
            None => {
                let (replay, epoch, stream) = (self.replay.clone(), epoch.clone(), self.stream);
                let rows = tokio::task::spawn_blocking(move || replay.rows(&epoch, stream)).await;
                rows.map_err(|error| unavailable(&error))?.map_err(|error| unavailable(&error))?
            }
        };
        let batches = match &self.refused {
            Some(refused) => refused.stage(epoch, batches).await?,
            None => batches,
        };
        for batch in &batches {
            self.sink.write(batch).await?;
            staged.rows += batch.num_rows() as u64;
        }
        epoch.header.advance(&mut staged.position);
        staged.epoch = epoch.header.number;
        self.taken.send_replace(epoch.header.number);
        if staged.rows == 0 {
            self.status.lock().reached = staged.position.clone();
        } else {
            staged.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn due(&self, staged: &Staged) -> bool {
        let policy = self.sink.commit_policy();
        let waited = staged.since.map(|since| since.elapsed()).unwrap_or_default();
        staged.rows > 0 && (self.sink.staged_bytes() >= policy.bytes || waited >= policy.interval)
    }

    async fn commit(&mut self, staged: &mut Staged) -> Result<(), SinkError> {
        if staged.since.take().is_none() {
            return Ok(());
        }
        self.sink.commit(&staged.position).await?;
        if let Some(refused) = &self.refused {
            refused.committed(&staged.position);
        }
        let mut status = self.status.lock();
        status.rows_refused = self.refused.as_ref().map_or(0, |refused| refused.count());
        status.position = staged.position.clone();
        status.reached = staged.position.clone();
        status.epoch = staged.epoch;
        status.rows_committed += std::mem::take(&mut staged.rows);
        status.commits += 1;
        Ok(())
    }
}
