//! What can be asked, and the snapshot that one statement sees of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session};
use datafusion::datasource::TableProvider;
use datafusion::error::{DataFusionError, Result};
use playhouse_engine::views::{Snapshot, ViewTable};
use playhouse_gate::BadEvent;
use tokio::sync::OnceCell;

use crate::bad::BadTable;
use crate::lake::LakeTable;
use crate::rows::RowIter;
use crate::view::View;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The newest snapshot of the live views.
pub type ViewSnapshots = Arc<dyn Fn() -> ViewSnapshot + Send + Sync>;
/// A page of bad events from a position, which it moves on; no rows means the end (`BadEvents::read`).
pub type BadPages = Arc<dyn Fn(&mut Vec<i64>, usize) -> Result<Vec<BadEvent>, BoxError> + Send + Sync>;

/// Everything that the SQL door shows, in the schema `public`.
pub struct Catalog {
    pub views: ViewSnapshots,
    pub lakes: Vec<Arc<dyn LakeSource>>,
    pub bad: BadPages,
}

/// All live views at one epoch.
#[derive(Clone, Default)]
pub struct ViewSnapshot {
    pub epoch: u64,
    pub views: BTreeMap<String, Arc<dyn ViewRows>>,
}

/// One view at one epoch.
pub trait ViewRows: Send + Sync {
    fn schema(&self) -> SchemaRef;
    /// All rows, in batches of at most `max_rows`.
    fn batches(&self, max_rows: usize) -> Result<Vec<RecordBatch>, BoxError>;
}

impl ViewRows for ViewTable {
    fn schema(&self) -> SchemaRef {
        ViewTable::schema(self)
    }
    fn batches(&self, max_rows: usize) -> Result<Vec<RecordBatch>, BoxError> {
        Ok(ViewTable::batches(self, max_rows)?)
    }
}

impl From<&Snapshot> for ViewSnapshot {
    /// Shares the rows.
    fn from(snapshot: &Snapshot) -> ViewSnapshot {
        let share = |(name, view): (&String, &ViewTable)| (name.clone(), Arc::new(view.clone()) as Arc<dyn ViewRows>);
        ViewSnapshot { epoch: snapshot.epoch, views: snapshot.views.iter().map(share).collect() }
    }
}

/// A lake table together with the rows not yet committed to it.
#[async_trait]
pub trait LakeSource: Send + Sync {
    fn name(&self) -> &str;
    /// Columns by name and type; the committed part may order and type them differently, or lack some.
    fn schema(&self) -> SchemaRef;
    /// One consistent pin: the committed part, and the tail beyond its position up to and including `epoch`.
    async fn pin(&self, epoch: u64) -> Result<PinnedLake, BoxError>;
}

#[derive(Clone)]
pub struct PinnedLake {
    pub committed: Option<Arc<dyn TableProvider>>,
    pub tail: Arc<dyn TailRows>,
}

/// The rows of a pin that are not committed yet, read from disk as they are asked for.
pub trait TailRows: Send + Sync {
    /// Starts at the first row; may be called several times.
    fn open(&self) -> RowIter;
}

/// What one statement sees: the views of one epoch, and each lake table pinned to it at its first scan.
pub(crate) struct Pin {
    pub snapshot: ViewSnapshot,
    lakes: Vec<OnceCell<PinnedLake>>,
}

impl Pin {
    pub(crate) fn new(catalog: &Catalog) -> Pin {
        Pin { snapshot: (catalog.views)(), lakes: catalog.lakes.iter().map(|_| OnceCell::new()).collect() }
    }

    /// The pin of the running statement, which its session carries.
    pub(crate) fn of(session: &dyn Session) -> Result<Arc<Pin>> {
        session
            .config()
            .get_extension::<Pin>()
            .ok_or_else(|| DataFusionError::Internal("the statement has no snapshot".into()))
    }

    pub(crate) async fn lake(&self, index: usize, source: &dyn LakeSource) -> Result<&PinnedLake> {
        let pin = || async { source.pin(self.snapshot.epoch).await };
        self.lakes[index].get_or_try_init(pin).await.map_err(DataFusionError::External)
    }
}

/// Schema `public`: names and columns as they are now; rows come from the statement's [`Pin`].
pub(crate) struct Public(pub Arc<Catalog>);

const BAD_EVENTS: &str = "bad_events";

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> = (self.0.views)().views.into_keys().collect();
        names.extend(self.0.lakes.iter().map(|lake| lake.name().to_owned()));
        names.push(BAD_EVENTS.to_owned());
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(view) = (self.0.views)().views.get(name) {
            return Ok(Some(Arc::new(View::new(name, &view.schema()))));
        }
        if let Some(index) = self.0.lakes.iter().position(|lake| lake.name() == name) {
            return Ok(Some(Arc::new(LakeTable::new(index, self.0.lakes[index].clone()))));
        }
        if name == BAD_EVENTS {
            return Ok(Some(Arc::new(BadTable::new(self.0.bad.clone()))));
        }
        Ok(None)
    }

    fn table_exist(&self, name: &str) -> bool {
        name == BAD_EVENTS
            || self.0.lakes.iter().any(|lake| lake.name() == name)
            || (self.0.views)().views.contains_key(name)
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Public")
    }
}

/// Every column nullable and without metadata: the parts of a table agree on names and types only.
pub(crate) fn relaxed(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}
