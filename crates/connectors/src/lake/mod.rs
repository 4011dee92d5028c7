//! The lake: all history as Delta tables, on any object store, partitioned by date.
//!
//! Rows are encoded to Parquet as they come, one open file by date, and the files stored as they grow. A commit ends
//! them and writes one entry of the Delta log that adds the files and records the position as `txn` actions: the table
//! has both or neither. Files that no entry names are nobody's rows, and the next open removes them.
//!
//! - [`Lake`]: the store, and its tables;
//! - [`LakeTable`]: one table: what readers pin, and where its sink comes from;
//! - `sink`, `encode`, `stats`: writing; `log`, `recorded`: the Delta log and the positions in it; `store`: files that
//!   survive a power cut.

mod encode;
mod log;
mod recorded;
mod schema;
mod sink;
mod stats;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::delta_datafusion::DeltaScanNext;
use deltalake::logstore::{LogStoreRef, StorageConfig, logstore_with};
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTableError, ObjectStore};
use playhouse_engine::Position;
use playhouse_engine::sink::{CommitPolicy, SinkError, Target};
use url::Url;

pub use self::sink::LakeSink;

use self::store::DurableLocal;
use crate::options;

const DEFAULT_POLICY: CommitPolicy = CommitPolicy { bytes: 128 << 20, interval: Duration::from_secs(60) };

/// The store that `lake = "…"` names.
#[derive(Clone)]
pub struct Lake {
    store: Arc<dyn ObjectStore>,
    /// Ends in a slash.
    root: Url,
}

impl Lake {
    /// `address` is `embedded` (`<data>/lake`) or `file:<directory>`, where a relative one is below `data`.
    pub fn open(address: &str, data: &Path) -> Result<Self, SinkError> {
        let directory = match (address, address.split_once(':')) {
            ("embedded", _) => data.join("lake"),
            (_, Some(("file", path))) => data.join(match path.strip_prefix("//") {
                Some(absolute) => PathBuf::from(absolute),
                None => PathBuf::from(path),
            }),
            (_, Some(("s3", _))) => {
                return Err(SinkError::Fatal("lake: S3 is not built in yet; use \"file:<directory>\"".into()));
            }
            _ => {
                return Err(SinkError::Fatal(format!(
                    "lake = \"{address}\" is neither \"embedded\" nor \"file:<directory>\""
                )));
            }
        };
        let bad = |why: &dyn std::fmt::Display| SinkError::Fatal(format!("lake: {}: {why}", directory.display()));
        let absolute = std::path::absolute(&directory).map_err(|error| bad(&error))?;
        let root = Url::from_directory_path(&absolute).map_err(|()| bad(&"not a directory that a URL can name"))?;
        Ok(Self { store: Arc::new(DurableLocal::new(absolute)), root })
    }

    /// On a store of the caller's, which must be atomic in `PutMode::Create`. `root` is where its paths start.
    pub fn on(store: Arc<dyn ObjectStore>, root: Url) -> Self {
        Self { store, root }
    }

    /// The table that a target names. Touches no storage: the sink creates what is missing when it opens.
    pub fn table(&self, target: &Target) -> Result<Arc<LakeTable>, SinkError> {
        let name = target.options.get("table").unwrap_or(&target.name);
        let fatal = |why: &dyn std::fmt::Display| SinkError::Fatal(format!("{}: {why}", target.name));
        if name.is_empty()
            || name.starts_with(['.', '_'])
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        {
            return Err(fatal(&format!(
                "\"{name}\" is no name for a lake table: letters, digits, '_', '-' and '.' only"
            )));
        }
        schema::delta_fields(&target.schema).map_err(|why| fatal(&why))?;
        let url = self.root.join(&format!("{name}/")).map_err(|error| fatal(&error))?;
        let log_store =
            logstore_with(self.store.clone(), &url, StorageConfig::default()).map_err(|error| fatal(&error))?;
        let mut reading = SessionConfig::new();
        reading.options_mut().execution.parquet.schema_force_view_types = false;
        Ok(Arc::new(LakeTable {
            name: name.clone(),
            schema: target.schema.clone(),
            policy: options::commit_policy(target, DEFAULT_POLICY)?,
            url,
            log_store,
            reading: Arc::new(SessionContext::new_with_config(reading).state()),
            pinned: ArcSwap::default(),
            turn: Arc::default(),
        }))
    }
}

/// One Delta table.
pub struct LakeTable {
    name: String,
    schema: SchemaRef,
    policy: CommitPolicy,
    url: Url,
    log_store: LogStoreRef,
    /// How its scans are configured, whatever the session that runs them says.
    reading: Arc<SessionState>,
    pinned: ArcSwap<Pinned>,
    /// Held while the log is being written to, or its leftovers removed.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// One version of a table. Holding it keeps that version readable: files are only ever added.
#[derive(Clone, Default)]
pub struct Pinned {
    /// `None` while the table has no commit, or its sink has not opened yet.
    pub provider: Option<Arc<dyn TableProvider>>,
    /// Up to where the rows of the sink's scope are in this version.
    pub position: Position,
    pub version: Option<u64>,
}

impl LakeTable {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The newest version that the sink has committed or found.
    pub fn pinned(&self) -> Arc<Pinned> {
        self.pinned.load_full()
    }

    /// A table has one sink: `txn` actions make a second one fail, not double.
    pub fn sink(self: &Arc<Self>) -> LakeSink {
        LakeSink::new(self.clone())
    }

    async fn publish(&self, state: &DeltaTableState, position: Position) -> Result<(), SinkError> {
        let scan = DeltaScanNext::builder()
            .with_log_store(self.log_store.clone())
            .with_eager_snapshot(state.snapshot().clone())
            .with_session(self.reading.clone())
            .build()
            .await
            .map_err(|error| SinkError::Fatal(format!("{}: {}: {error}", self.name, self.url)))?;
        let provider: Arc<dyn TableProvider> = Arc::new(scan);
        self.pinned.store(Arc::new(Pinned { provider: Some(provider), position, version: Some(state.version()) }));
        Ok(())
    }

    fn error(&self, error: &DeltaTableError) -> SinkError {
        let what = format!("{}: {}: {error}", self.name, self.url);
        match error {
            DeltaTableError::InvalidTableLocation(_)
            | DeltaTableError::SchemaMismatch { .. }
            | DeltaTableError::InvalidJsonLog { .. }
            | DeltaTableError::CommitValidation { .. } => SinkError::Fatal(what),
            _ => SinkError::Unavailable(what),
        }
    }
}
