//! How many bytes a batch is.

use std::collections::HashSet;

use arrow::array::{Array, ArrayData};
use arrow::record_batch::RecordBatch;

/// Bytes of the rows themselves: a slice of a large batch counts only its part.
pub fn row_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// Bytes that dropping the batch would free, were it the last to hold them: columns that share an allocation (rows
/// decoded from one IPC message do) count it once, and a slice counts all of what it keeps alive.
pub fn retained_bytes(rows: &RecordBatch) -> usize {
    let mut seen = HashSet::new();
    let structure: usize =
        rows.columns().iter().map(|column| size_of::<ArrayData>() + column.to_data().buffers().len() * 64).sum();
    structure + rows.columns().iter().map(|column| buffers_of(&column.to_data(), &mut seen)).sum::<usize>()
}

fn buffers_of(data: &ArrayData, seen: &mut HashSet<usize>) -> usize {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    let own: usize = data
        .buffers()
        .iter()
        .chain(nulls)
        .filter(|buffer| seen.insert(buffer.data_ptr().as_ptr() as usize))
        .map(|buffer| buffer.capacity())
        .sum();
    own + data.child_data().iter().map(|child| buffers_of(child, seen)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn a_slice_has_its_rows_but_retains_all() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
        let rows = RecordBatch::try_from_iter([("a", column.clone()), ("b", column)]).expect("two equal columns");
        assert!(retained_bytes(&rows) >= 80_000 && retained_bytes(&rows) < 90_000, "one buffer, twice used");
        let slice = rows.slice(0, 10);
        assert_eq!(row_bytes(&slice), 160);
        assert!(retained_bytes(&slice) >= 80_000);
    }
}
