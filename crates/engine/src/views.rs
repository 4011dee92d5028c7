//! Live views: per epoch one immutable snapshot of every materialized view, swapped atomically.
//!
//! A view's rows (in Arrow's row format) lie in chunks, each row at the place of its group's slot. Publishing an epoch
//! writes the chunks anew in which a row changed, and shares all others with the snapshots before: groups of one window are
//! made together and change together, so these are few. A reader keeps the version it took for as long as it likes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arrow::array::{Array, BooleanArray};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};

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
    chunks: Arc<Vec<Arc<Chunk>>>,
    row_count: usize,
}

/// Rows in a chunk. More are copied when one changes; fewer are more chunks to share on every publication.
const CHUNK_ROWS: usize = if cfg!(test) { 4 } else { 64 };

/// The rows of [`CHUNK_ROWS`] slots, one behind the other; a slot without a row has no bytes.
#[derive(Debug, Clone)]
struct Chunk {
    ends: [u32; CHUNK_ROWS],
    bytes: Box<[u8]>,
}

impl Chunk {
    fn empty() -> Arc<Chunk> {
        Arc::new(Chunk { ends: [0; CHUNK_ROWS], bytes: Box::default() })
    }

    fn row(&self, place: usize) -> Option<&[u8]> {
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        Some(&self.bytes[start..self.ends[place] as usize]).filter(|row| !row.is_empty())
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        (0..CHUNK_ROWS).filter_map(|place| self.row(place))
    }
}

impl ViewTable {
    pub fn new(schema: SchemaRef) -> Result<ViewTable, ArrowError> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = Arc::new(RowConverter::new(fields)?);
        Ok(ViewTable { schema, converter, chunks: Arc::default(), row_count: 0 })
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// All rows, in no order, in batches of at most `max_rows`.
    pub fn batches(&self, max_rows: usize) -> Result<Vec<RecordBatch>, ArrowError> {
        let parser = self.converter.parser();
        let rows: Vec<_> = self.chunks.iter().flat_map(|chunk| chunk.rows()).map(|row| parser.parse(row)).collect();
        rows.chunks(max_rows.max(1))
            .map(|chunk| {
                let columns = self.converter.convert_rows(chunk.iter().copied())?;
                RecordBatch::try_new(self.schema.clone(), columns)
            })
            .collect()
    }

    /// Puts one row per slot, each slot once; where `keep` (HAVING) says no, the slot's row goes.
    pub(crate) fn upsert(
        &mut self,
        slots: &[u32],
        rows: &RecordBatch,
        keep: Option<&BooleanArray>,
    ) -> Result<(), ArrowError> {
        let converted = self.converter.convert_columns(rows.columns())?;
        let kept = |index: usize| keep.is_none_or(|keep| keep.is_valid(index) && keep.value(index));
        let mut changes: Vec<(u32, Option<&[u8]>)> = Vec::with_capacity(slots.len());
        for (index, slot) in slots.iter().enumerate() {
            changes.push((*slot, kept(index).then(|| converted.row(index).data())));
        }
        self.change(changes);
        Ok(())
    }

    pub(crate) fn remove(&mut self, slots: &[u32]) {
        self.change(slots.iter().map(|slot| (*slot, None)).collect());
    }

    fn change(&mut self, mut changes: Vec<(u32, Option<&[u8]>)>) {
        let Some(last) = changes.iter().map(|(slot, _)| *slot as usize / CHUNK_ROWS).max() else { return };
        changes.sort_unstable_by_key(|(slot, _)| *slot);
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.len() <= last {
            chunks.resize_with(last + 1, Chunk::empty);
        }
        for changed in changes.chunk_by(|one, other| one.0 as usize / CHUNK_ROWS == other.0 as usize / CHUNK_ROWS) {
            let chunk = &mut chunks[changed[0].0 as usize / CHUNK_ROWS];
            let (next, more) = chunk.with(changed);
            *chunk = Arc::new(next);
            self.row_count = self.row_count.saturating_add_signed(more);
        }
    }
}

impl Chunk {
    /// The chunk with these rows changed (in the order of their slots), and by how many rows it grew.
    fn with(&self, changes: &[(u32, Option<&[u8]>)]) -> (Chunk, isize) {
        let coming: usize = changes.iter().filter_map(|(_, row)| row.map(<[u8]>::len)).sum();
        let mut bytes = Vec::with_capacity(self.bytes.len() + coming);
        let mut ends = [0; CHUNK_ROWS];
        let mut more = 0;
        let mut changes = changes.iter().map(|(slot, row)| (*slot as usize % CHUNK_ROWS, *row)).peekable();
        for (place, end) in ends.iter_mut().enumerate() {
            let held = self.row(place);
            let row = match changes.next_if(|(changed, _)| *changed == place) {
                Some((_, row)) => row,
                None => held,
            };
            more += isize::from(row.is_some()) - isize::from(held.is_some());
            bytes.extend_from_slice(row.unwrap_or_default());
            *end = bytes.len() as u32;
        }
        (Chunk { ends, bytes: bytes.into_boxed_slice() }, more)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]))
    }

    fn values(table: &ViewTable) -> Vec<i64> {
        let batches = table.batches(3).unwrap();
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    proptest! {
        #[test]
        fn a_table_is_the_rows_by_slot_and_a_snapshot_stays_as_it_was(
            epochs in prop::collection::vec(prop::collection::btree_map(0u32..40, prop::option::of(0i64..1_000), 0..12), 1..12)
        ) {
            let mut table = ViewTable::new(schema()).unwrap();
            let mut model: BTreeMap<u32, i64> = BTreeMap::new();
            let mut taken = Vec::new();
            for epoch in epochs {
                let gone: Vec<u32> = epoch.iter().filter(|(slot, value)| value.is_none() && **slot % 2 == 0).map(|(slot, _)| *slot).collect();
                table.remove(&gone);
                model.retain(|slot, _| !gone.contains(slot));
                let put: Vec<(u32, Option<i64>)> = epoch.into_iter().filter(|(slot, value)| value.is_some() || slot % 2 == 1).collect();
                let slots: Vec<u32> = put.iter().map(|(slot, _)| *slot).rev().collect();
                let rows = Int64Array::from_iter_values(put.iter().rev().map(|(_, value)| value.unwrap_or(0)));
                let keep = BooleanArray::from_iter(put.iter().rev().map(|(_, value)| Some(value.is_some())));
                let rows = RecordBatch::try_new(schema(), vec![Arc::new(rows)]).unwrap();
                table.upsert(&slots, &rows, Some(&keep)).unwrap();
                for (slot, value) in put {
                    match value {
                        Some(value) => _ = model.insert(slot, value),
                        None => _ = model.remove(&slot),
                    }
                }
                taken.push((table.clone(), model.values().copied().collect::<Vec<i64>>()));
            }
            for (table, expected) in taken {
                prop_assert_eq!(table.row_count(), expected.len());
                prop_assert_eq!(values(&table), expected);
            }
        }
    }
}
