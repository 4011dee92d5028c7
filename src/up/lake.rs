//! Lake tables as the SQL door sees them: what is committed, and the rows of the epoch log beyond it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use playhouse_connectors::lake::LakeTable;
use playhouse_engine::epoch::{Cursor, EpochLog};
use playhouse_engine::{Engine, Replay, SinkProgress};
use playhouse_query::{BoxError, LakeSource, PinnedLake, RowIter, TailRows};

use super::stores::LakeStream;

/// How long a statement waits for a lake table that has not been opened since the start, or whose commit and truncation
/// came between the two halves of a pin.
const PIN_DEADLINE: Duration = Duration::from_secs(10);
const PIN_RETRY: Duration = Duration::from_millis(5);

pub struct LakeWithTail {
    table: Arc<LakeTable>,
    stream: usize,
    epochs: Arc<EpochLog>,
    replay: Replay,
    progress: SinkProgress,
}

impl LakeWithTail {
    pub fn new(lake: LakeStream, engine: &Engine) -> LakeWithTail {
        let LakeStream { table, stream, sink } = lake;
        let (epochs, replay) = (engine.epochs().clone(), engine.replay().clone());
        LakeWithTail { table, stream, epochs, replay, progress: engine.sink_progress(&sink) }
    }
}

#[async_trait]
impl LakeSource for LakeWithTail {
    fn name(&self) -> &str {
        self.table.name()
    }

    fn schema(&self) -> SchemaRef {
        self.table.schema().clone()
    }

    async fn pin(&self, epoch: u64) -> Result<PinnedLake, BoxError> {
        let began = Instant::now();
        while began.elapsed() < PIN_DEADLINE {
            let committed = self.table.pinned();
            // Epochs without rows for the table are not worth a commit, and may be gone.
            let position = self.progress.reached(&committed.position);
            let cursor = self.epochs.cursor(&position).hold();
            // Others are only truncated once the lake has them: if these are gone, there is a newer version to pin.
            if position.covers(&self.epochs.start()) {
                let tail = Tail { cursor, replay: self.replay.clone(), stream: self.stream, epoch };
                return Ok(PinnedLake { committed: committed.provider.clone(), tail: Arc::new(tail) });
            }
            tokio::time::sleep(PIN_RETRY).await;
        }
        Err(format!("the lake table {} is not open yet: /api/status tells why", self.table.name()).into())
    }
}

struct Tail {
    cursor: Cursor,
    replay: Replay,
    stream: usize,
    epoch: u64,
}

impl TailRows for Tail {
    fn open(&self) -> RowIter {
        Box::new(TailIter {
            cursor: self.cursor.clone(),
            replay: self.replay.clone(),
            stream: self.stream,
            epoch: self.epoch,
            rows: Vec::new(),
            ended: false,
        })
    }
}

struct TailIter {
    cursor: Cursor,
    replay: Replay,
    stream: usize,
    epoch: u64,
    /// Of the current epoch, last first.
    rows: Vec<RecordBatch>,
    ended: bool,
}

impl Iterator for TailIter {
    type Item = Result<RecordBatch, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.rows.pop() {
                return Some(Ok(batch));
            }
            if self.ended {
                return None;
            }
            match self.cursor.next_epoch() {
                Ok(Some(epoch)) if epoch.header.number <= self.epoch => {
                    // What follows the last one may be gone already.
                    self.ended = epoch.header.number == self.epoch;
                    match self.replay.rows(&epoch, self.stream) {
                        Ok(mut rows) => {
                            rows.reverse();
                            self.rows = rows;
                        }
                        Err(error) => return self.fail(error.into()),
                    }
                }
                Ok(_) => self.ended = true,
                Err(error) => return self.fail(error.into()),
            }
        }
    }
}

impl TailIter {
    fn fail(&mut self, error: BoxError) -> Option<Result<RecordBatch, BoxError>> {
        self.ended = true;
        Some(Err(error))
    }
}
