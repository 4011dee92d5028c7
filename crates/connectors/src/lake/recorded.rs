//! The positions that a table's log records: its `txn` actions, all of them at once.
//!
//! A position has one `txn` per partition, with application id `<log id>/<pipeline>/<topic>-<partition>` and the next
//! offset as its version. Which partitions there are is what must be found out, and the library only looks up
//! single ids: so this reads the newest checkpoint's `txn` column and the commits after it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use deltalake::kernel::Transaction;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use playhouse_engine::sink::Scope;
use playhouse_engine::{Position, TopicPartition};

#[derive(Debug, thiserror::Error)]
pub(super) enum RecordedError {
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error("checkpoint {0}: {1}")]
    Checkpoint(Path, ParquetError),
    #[error("commit {0}: not a line of JSON: {1}")]
    Commit(Path, serde_json::Error),
    #[error("the log lacks commit {0}, and no checkpoint stands in for it")]
    Gap(u64),
}

/// Versions by application id.
#[derive(Debug, Default)]
pub(super) struct Recorded(BTreeMap<String, i64>);

impl Recorded {
    /// As of `version`. The store's root is the table's directory.
    pub(super) async fn read(store: &Arc<dyn ObjectStore>, version: u64) -> Result<Self, RecordedError> {
        let log = Log::list(store, version).await?;
        let mut recorded = Self::default();
        for (path, size) in &log.checkpoint {
            recorded
                .read_checkpoint(store, path, *size)
                .await
                .map_err(|error| RecordedError::Checkpoint(path.clone(), error))?;
        }
        for (at, path) in &log.commits {
            let bytes = store.get(path).await?.bytes().await?;
            recorded.read_commit(&bytes).map_err(|error| RecordedError::Commit(path.clone(), error))?;
            debug_assert!(*at <= version);
        }
        Ok(recorded)
    }

    async fn read_checkpoint(
        &mut self,
        store: &Arc<dyn ObjectStore>,
        path: &Path,
        size: u64,
    ) -> Result<(), ParquetError> {
        let reader = StoredFile { store: store.clone(), path: path.clone(), size };
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["txn.appId", "txn.version"]);
        let mut batches = builder.with_projection(mask).build()?;
        while let Some(batch) = batches.try_next().await? {
            let Some(txn) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else { continue };
            let ids = txn.column_by_name("appId").and_then(|column| column.as_any().downcast_ref::<StringArray>());
            let versions = txn.column_by_name("version").and_then(|column| column.as_primitive_opt::<Int64Type>());
            let Some((ids, versions)) = ids.zip(versions) else { continue };
            for row in (0..batch.num_rows()).filter(|row| txn.is_valid(*row) && ids.is_valid(*row)) {
                self.0.insert(ids.value(row).to_owned(), versions.value(row));
            }
        }
        Ok(())
    }

    fn read_commit(&mut self, bytes: &[u8]) -> Result<(), serde_json::Error> {
        #[derive(serde::Deserialize)]
        struct Line {
            txn: Option<Transaction>,
        }
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"txn\"")) {
            if let Some(txn) = serde_json::from_slice::<Line>(line)?.txn {
                self.0.insert(txn.app_id, txn.version);
            }
        }
        Ok(())
    }

    /// The position of a scope; empty where the table has none of it.
    pub(super) fn position(&self, scope: &Scope) -> Position {
        let prefix = prefix(scope);
        let mut position = Position::default();
        for (id, version) in self.0.range(prefix.clone()..) {
            let Some(partition) = id.strip_prefix(&prefix) else { break };
            // A topic has no slash in its name: with one, the id is of a pipeline whose name starts like this one's.
            if let Some((topic, number)) = partition.rsplit_once('-')
                && !topic.contains('/')
                && let Ok(partition) = number.parse()
            {
                position.set(TopicPartition { topic: topic.into(), partition }, *version);
            }
        }
        position
    }

    /// Other log ids that wrote as the same pipeline: this data directory has a past.
    pub(super) fn other_logs(&self, scope: &Scope) -> Vec<&str> {
        let own = scope.log_id.to_string();
        let pipeline = format!("{}/", scope.pipeline);
        let mut others: Vec<&str> = self
            .0
            .keys()
            .filter_map(|id| id.split_once('/'))
            .filter(|(log, rest)| *log != own && rest.starts_with(&pipeline))
            .map(|(log, _)| log)
            .collect();
        others.dedup();
        others
    }
}

/// The `txn` actions that record a position.
pub(super) fn transactions(scope: &Scope, position: &Position) -> Vec<Transaction> {
    let prefix = prefix(scope);
    let id = |at: &TopicPartition| format!("{prefix}{}-{}", at.topic, at.partition);
    let now = chrono::Utc::now().timestamp_millis();
    position.0.iter().map(|(at, next)| Transaction::new_with_last_update(id(at), *next, Some(now))).collect()
}

fn prefix(scope: &Scope) -> String {
    format!("{}/{}/", scope.log_id, scope.pipeline)
}

struct Log {
    /// Files of the newest whole checkpoint, with their sizes.
    checkpoint: Vec<(Path, u64)>,
    /// Commits after it.
    commits: BTreeMap<u64, Path>,
}

impl Log {
    async fn list(store: &Arc<dyn ObjectStore>, version: u64) -> Result<Self, RecordedError> {
        let mut commits = BTreeMap::new();
        let mut checkpoints: BTreeMap<u64, Vec<(Path, u64, usize)>> = BTreeMap::new();
        let listed = store.list_with_delimiter(Some(&Path::from("_delta_log"))).await?;
        for meta in listed.objects {
            let parts: Vec<&str> = meta.location.filename().unwrap_or_default().split('.').collect();
            let Some(at) = parts.first().filter(|part| part.len() == 20).and_then(|part| part.parse::<u64>().ok())
            else {
                continue;
            };
            if at > version {
                continue;
            }
            let files = match parts[1..] {
                ["json"] => {
                    commits.insert(at, meta.location);
                    continue;
                }
                ["checkpoint", "parquet"] | ["checkpoint", _, "parquet"] => 1,
                ["checkpoint", _, of, "parquet"] => of.parse().unwrap_or(usize::MAX),
                _ => continue,
            };
            checkpoints.entry(at).or_default().push((meta.location.clone(), meta.size, files));
        }
        let whole = |mut files: Vec<(Path, u64, usize)>| {
            if let Some(single) = files.iter().position(|(_, _, of)| *of == 1) {
                return Some(vec![files.swap_remove(single)]);
            }
            let of = files.first()?.2;
            (files.len() == of).then_some(files)
        };
        let newest = checkpoints.into_iter().rev().find_map(|(at, files)| Some((at, whole(files)?)));
        let next = newest.as_ref().map_or(0, |(at, _)| at + 1);
        let commits: BTreeMap<u64, Path> = commits.into_iter().filter(|(at, _)| *at >= next).collect();
        if let Some(gap) = (next..=version).find(|at| !commits.contains_key(at)) {
            return Err(RecordedError::Gap(gap));
        }
        let checkpoint = newest.map(|(_, files)| files.into_iter().map(|(path, size, _)| (path, size)).collect());
        Ok(Self { checkpoint: checkpoint.unwrap_or_default(), commits })
    }
}

/// A Parquet file of which only the wanted columns are fetched: a checkpoint is large, its `txn` column small.
struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store.get_range(&self.path, range).map_err(|error| ParquetError::External(Box::new(error))).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let size = self.size;
        ParquetMetaDataReader::new().load_and_finish(self, size).map_ok(Arc::new).boxed()
    }
}
