//! The sink of a lake table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::table::state::DeltaTableState;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use playhouse_engine::Position;
use playhouse_engine::sink::{CommitPolicy, Scope, Sink, SinkError};

use super::LakeTable;
use super::encode::{EncodeError, Encoder, Output};
use super::log::CHECKPOINT_INTERVAL;
use super::recorded::transactions;
use super::schema::PARTITION_COLUMN;
use crate::progress::{self, Progress};
use crate::rows::row_bytes;

pub struct LakeSink {
    table: Arc<LakeTable>,
    open: Option<Open>,
}

struct Open {
    scope: Scope,
    state: DeltaTableState,
    position: Position,
    stage: Stage,
}

/// Files on their way into the table.
struct Stage {
    store: Arc<dyn ObjectStore>,
    /// Away while a thread works with it; a thread that died took it along, and the sink must open again.
    encoder: Option<Encoder>,
    uploads: HashMap<String, Box<dyn MultipartUpload>>,
    added: Vec<Add>,
    /// Of the rows since the last commit, as they came: queries read them from elsewhere until then, so it is these that
    /// a commit must bound, not what is left of them on disk.
    bytes: usize,
}

impl LakeSink {
    pub(super) fn new(table: Arc<LakeTable>) -> Self {
        Self { table, open: None }
    }
}

#[async_trait]
impl Sink for LakeSink {
    async fn open(&mut self, scope: &Scope) -> Result<Option<Position>, SinkError> {
        self.close().await;
        let table = &self.table;
        let _turn = table.turn.lock().await;
        let state = table.load_or_create().await?;
        let recorded = table.recorded(&state).await?;
        let position = recorded.position(scope);
        if position == Position::default() {
            for other in recorded.other_logs(scope) {
                tracing::warn!(
                    sink = table.name,
                    table = %table.url,
                    own_log = %scope.log_id,
                    other_log = other,
                    "this lake table has rows of another data directory's log; they stay, and this log's rows are added to them"
                );
            }
        }
        let prefix = format!("part-{:016x}-", progress::scope_hash(scope, &table.name));
        table.remove_leftovers(&state, &prefix).await?;
        let encoder = Encoder::new(&table.schema, prefix).map_err(|error| encode_error(&table.name, error))?;
        let store = table.log_store.object_store(None);
        table.publish(&state, position.clone()).await?;
        let known = (!position.0.is_empty()).then(|| position.clone());
        let stage = Stage { store, encoder: Some(encoder), uploads: HashMap::new(), added: Vec::new(), bytes: 0 };
        self.open = Some(Open { scope: scope.clone(), state, position, stage });
        Ok(known)
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let Some(open) = &mut self.open else { return Err(progress::not_open(&self.table.name)) };
        if rows.schema_ref().fields().len() != self.table.schema.fields().len() {
            return Err(SinkError::Fatal(format!(
                "{}: rows with other columns than the sink was made for",
                self.table.name
            )));
        }
        open.stage.bytes += row_bytes(rows);
        let rows = rows.clone();
        open.stage.encode(&self.table.name, move |encoder, out| encoder.write(&rows, out)).await
    }

    fn staged_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.stage.bytes)
    }

    fn commit_policy(&self) -> CommitPolicy {
        self.table.policy
    }

    async fn commit(&mut self, position: &Position) -> Result<(), SinkError> {
        let Some(mut open) = self.open.take() else { return Err(progress::not_open(&self.table.name)) };
        let (table, position) = (self.table.clone(), position.clone());
        let turn = table.turn.clone().lock_owned().await;
        // A commit that its caller stopped waiting for goes on, and the next open waits for it: it would otherwise take
        // the files of an entry about to be written for leftovers.
        let committing = tokio::spawn(async move {
            let result = open.commit(&table, &position).await;
            drop(turn);
            result.map(|()| open)
        });
        let committed =
            committing.await.map_err(|error| SinkError::Unavailable(format!("{}: {error}", self.table.name)))?;
        self.open = Some(committed?);
        Ok(())
    }

    fn guarantee(&self) -> &'static str {
        "exactly once: files and position in one entry of the Delta log, on disk before it is reported"
    }

    async fn close(&mut self) {
        if let Some(open) = &mut self.open.take() {
            open.stage.abandon().await;
        }
    }
}

impl Open {
    async fn commit(&mut self, table: &LakeTable, next: &Position) -> Result<(), SinkError> {
        let explain = |error| table.error(&error);
        let added = self.stage.finish(&table.name).await?;
        let mut stored = self.position.clone();
        let latest = table.log_store.get_latest_version(self.state.version()).await.map_err(explain)?;
        if latest > self.state.version() {
            self.state.update(table.log_store.as_ref(), Some(latest)).await.map_err(explain)?;
            stored = table.recorded(&self.state).await?.position(&self.scope);
        }
        if progress::check(&self.position, &stored, next)? == Progress::AlreadyCommitted {
            for add in &added {
                let removed = self.stage.store.delete(&Path::from(add.path.as_str())).await;
                removed.map_err(|error| SinkError::Unavailable(format!("{}: {error}", table.name)))?;
            }
            self.position = stored;
            return Ok(());
        }
        let actions = added.into_iter().map(Action::Add).collect();
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![PARTITION_COLUMN.into()]),
            predicate: None,
        };
        let properties = CommitProperties::default()
            .with_application_transactions(transactions(&self.scope, next))
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(&self.state), table.log_store.clone(), operation)
            .await
            .map_err(explain)?;
        self.state = committed.snapshot();
        self.position = next.clone();
        table.publish(&self.state, next.clone()).await?;
        if (committed.version() + 1).is_multiple_of(CHECKPOINT_INTERVAL) {
            table.keep_log_short(&self.state).await;
        }
        Ok(())
    }
}

impl Stage {
    /// Runs a step of the encoder on a thread of its own and stores what it hands out.
    async fn encode(
        &mut self,
        name: &str,
        step: impl FnOnce(&mut Encoder, &mut Vec<Output>) -> Result<(), EncodeError> + Send + 'static,
    ) -> Result<(), SinkError> {
        let mut encoder = self.encoder.take().ok_or_else(|| progress::not_open(name))?;
        let run = move || {
            let mut out = Vec::new();
            let result = step(&mut encoder, &mut out);
            (encoder, out, result)
        };
        let (encoder, out, result) = tokio::task::spawn_blocking(run)
            .await
            .map_err(|error| SinkError::Unavailable(format!("{name}: {error}")))?;
        self.encoder = Some(encoder);
        result.map_err(|error| encode_error(name, error))?;
        for output in out {
            self.store_output(output).await.map_err(|error| SinkError::Unavailable(format!("{name}: {error}")))?;
        }
        Ok(())
    }

    async fn store_output(&mut self, output: Output) -> object_store::Result<()> {
        match output {
            Output::Part { path, bytes } => {
                let upload = match self.uploads.entry(path) {
                    std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::hash_map::Entry::Vacant(entry) => {
                        let location = Path::from(entry.key().as_str());
                        entry.insert(self.store.put_multipart(&location).await?)
                    }
                };
                upload.put_part(bytes.into()).await
            }
            Output::End { bytes, add } => {
                match self.uploads.remove(&add.path) {
                    Some(mut upload) => {
                        upload.put_part(bytes.into()).await?;
                        upload.complete().await?;
                    }
                    None => {
                        self.store.put(&Path::from(add.path.as_str()), bytes.into()).await?;
                    }
                }
                self.added.push(*add);
                Ok(())
            }
        }
    }

    /// All files of this commit, durable.
    async fn finish(&mut self, name: &str) -> Result<Vec<Add>, SinkError> {
        self.encode(name, |encoder, out| encoder.finish(out)).await?;
        self.bytes = 0;
        Ok(std::mem::take(&mut self.added))
    }

    /// Removes what it stored; what cannot be removed now is a leftover that the next open removes.
    async fn abandon(&mut self) {
        for (_, mut upload) in self.uploads.drain() {
            let _ = upload.abort().await;
        }
        for add in self.added.drain(..) {
            let _ = self.store.delete(&Path::from(add.path.as_str())).await;
        }
    }
}

fn encode_error(name: &str, error: EncodeError) -> SinkError {
    SinkError::Fatal(format!("{name}: rows do not fit the table: {error}"))
}
