//! Live views: per epoch one immutable snapshot of every materialized view, swapped atomically.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

/// One view at one epoch.
pub trait ViewTable: Send + Sync {
    fn schema(&self) -> SchemaRef;
    fn row_count(&self) -> usize;
    /// All rows, in batches of at most `max_rows`.
    fn batches(&self, max_rows: usize) -> Vec<RecordBatch>;
}

/// All views at one epoch.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub epoch: u64,
    pub watermark_ms: Option<i64>,
    pub views: BTreeMap<String, Arc<dyn ViewTable>>,
}
