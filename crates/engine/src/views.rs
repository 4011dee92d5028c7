//! Live views: per epoch one immutable snapshot of every materialized view, swapped atomically.
//!
//! A view's rows live in a persistent hash map (key -> row, both in Arrow's row format): publishing an epoch costs the
//! keys it changed, and a reader keeps the version it took for as long as it likes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use rpds::HashTrieMapSync;

/// All views at one epoch.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub epoch: u64,
    pub watermark_ms: Option<i64>,
    pub views: BTreeMap<String, ViewTable>,
}

/// One view at one epoch.
#[derive(Debug, Clone)]
pub struct ViewTable {
    schema: SchemaRef,
    converter: Arc<RowConverter>,
    rows: HashTrieMapSync<Arc<[u8]>, Arc<[u8]>>,
}

impl ViewTable {
    pub fn new(schema: SchemaRef) -> Result<ViewTable, ArrowError> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(ViewTable { schema, converter: Arc::new(RowConverter::new(fields)?), rows: HashTrieMapSync::default() })
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub fn row_count(&self) -> usize {
        self.rows.size()
    }

    /// All rows, in no order, in batches of at most `max_rows`.
    pub fn batches(&self, max_rows: usize) -> Result<Vec<RecordBatch>, ArrowError> {
        let parser = self.converter.parser();
        let rows: Vec<_> = self.rows.values().map(|row| parser.parse(row)).collect();
        rows.chunks(max_rows.max(1))
            .map(|chunk| {
                let columns = self.converter.convert_rows(chunk.iter().copied())?;
                RecordBatch::try_new(self.schema.clone(), columns)
            })
            .collect()
    }

    /// Puts one row per key; where `keep` (HAVING) says no, the key's row goes.
    pub(crate) fn upsert(
        &mut self,
        keys: &[Arc<[u8]>],
        rows: &RecordBatch,
        keep: Option<&BooleanArray>,
    ) -> Result<(), ArrowError> {
        let converted = self.converter.convert_columns(rows.columns())?;
        for (index, key) in keys.iter().enumerate() {
            if keep.is_none_or(|keep| arrow::array::Array::is_valid(keep, index) && keep.value(index)) {
                self.rows.insert_mut(key.clone(), Arc::from(converted.row(index).data()));
            } else {
                self.rows.remove_mut(key);
            }
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, keys: &[Arc<[u8]>]) {
        for key in keys {
            self.rows.remove_mut(key);
        }
    }
}

/// Where readers take the current snapshot from.
#[derive(Debug, Default)]
pub struct Views(ArcSwap<Snapshot>);

impl Views {
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}
