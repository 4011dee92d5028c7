//! The Delta log of a table: creating it, checking it, reading what it records, keeping it short.

use std::collections::HashSet;

use chrono::{TimeDelta, Utc};
use deltalake::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake::kernel::transaction::CommitProperties;
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::SaveMode;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, TableProperty};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use playhouse_engine::sink::SinkError;

use super::LakeTable;
use super::recorded::Recorded;
use super::schema::{PARTITION_COLUMN, delta_fields, mismatch};

/// Commits between two checkpoints of the Delta log, so that opening reads few.
pub(super) const CHECKPOINT_INTERVAL: u64 = 50;

impl LakeTable {
    pub(super) async fn load_or_create(&self) -> Result<DeltaTableState, SinkError> {
        let log_store = &self.log_store;
        let explain = |error| self.error(&error);
        if !log_store.is_delta_table_location().await.map_err(explain)? {
            let fields = delta_fields(&self.schema).map_err(SinkError::Fatal)?;
            // The log's own checkpoints and cleaning are left to `keep_log_short`, whose failure fails no commit.
            let quiet =
                CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false));
            CreateBuilder::new()
                .with_log_store(log_store.clone())
                .with_table_name(&self.name)
                .with_columns(fields)
                .with_partition_columns([PARTITION_COLUMN])
                .with_configuration_property(TableProperty::CheckpointInterval, Some(CHECKPOINT_INTERVAL.to_string()))
                .with_commit_properties(quiet)
                .with_save_mode(SaveMode::Ignore)
                .await
                .map_err(explain)?;
        }
        let state = DeltaTableState::try_new(log_store.as_ref(), None).await.map_err(explain)?;
        let partitioned_by = state.metadata().partition_columns().to_vec();
        if partitioned_by != [PARTITION_COLUMN] {
            return Err(SinkError::Fatal(format!(
                "{}: the table at {} is partitioned by {partitioned_by:?}, expected \"{PARTITION_COLUMN}\"; name another with the option table",
                self.name, self.url
            )));
        }
        match mismatch(&state.snapshot().arrow_schema(), &self.schema) {
            None => Ok(state),
            Some(what) => Err(SinkError::Fatal(format!(
                "{}: the table at {} {what}; change it, or name another with the option table",
                self.name, self.url
            ))),
        }
    }

    pub(super) async fn recorded(&self, state: &DeltaTableState) -> Result<Recorded, SinkError> {
        let store = self.log_store.object_store(None);
        let read = Recorded::read(&store, state.version()).await;
        read.map_err(|error| SinkError::Unavailable(format!("{}: {}: {error}", self.name, self.url)))
    }

    /// Removes what this scope staged and never committed. Files that another writer took out of the table since are
    /// still some reader's: they stay for that writer's vacuum.
    pub(super) async fn remove_leftovers(&self, state: &DeltaTableState, prefix: &str) -> Result<(), SinkError> {
        let store = self.log_store.object_store(None);
        let unavailable =
            |error: object_store::Error| SinkError::Unavailable(format!("{}: {}: {error}", self.name, self.url));
        // A request to a remote store may still arrive after the process that sent it is gone.
        let grace = if self.url.scheme() == "file" { TimeDelta::zero() } else { TimeDelta::hours(1) };
        let before = Utc::now() - grace;
        let mut mine: HashSet<Path> = HashSet::new();
        let mut listed = store.list(None);
        while let Some(meta) = listed.try_next().await.map_err(unavailable)? {
            let old = grace.is_zero() || meta.last_modified < before;
            if old && meta.location.filename().is_some_and(|name| name.contains(prefix)) {
                mine.insert(meta.location);
            }
        }
        if mine.is_empty() {
            return Ok(());
        }
        for file in state.log_data().iter() {
            mine.remove(&Path::from(file.path().as_ref()));
        }
        let tombstones: Vec<_> =
            state.all_tombstones(self.log_store.as_ref()).try_collect().await.map_err(|error| self.error(&error))?;
        for tombstone in &tombstones {
            mine.remove(&Path::from(tombstone.path().as_ref()));
        }
        for location in &mine {
            store.delete(location).await.map_err(unavailable)?;
        }
        if !mine.is_empty() {
            tracing::info!(sink = self.name, files = mine.len(), "removed files of an unfinished commit");
        }
        Ok(())
    }

    /// Writes a checkpoint and removes commits past the table's log retention. What fails is tried again with the next
    /// checkpoint: only opening gets slower.
    pub(super) async fn keep_log_short(&self, state: &DeltaTableState) {
        let mut table = DeltaTable::new(self.log_store.clone());
        table.state = Some(state.clone());
        let kept = match create_checkpoint(&table, None).await {
            Ok(()) => cleanup_metadata(&table, None).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(sink = self.name, %error, "no checkpoint of the Delta log");
        }
    }
}
