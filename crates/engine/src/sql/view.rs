//! Materialized views: the aggregate of their plan taken apart.

use std::time::Duration;

use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::RunError;

/// One materialized view. Its partial batches (one row per input row) hold: `group_count` group columns, then the
/// aggregates' argument columns, then `__row` (UInt64, the row in the decoded batch) and, if `windowed`, `__window_end`
/// (Timestamp, microseconds, UTC; never null).
#[derive(Debug, Clone)]
pub struct ViewDef {
    pub name: String,
    /// Of the partial batches.
    pub partial_schema: SchemaRef,
    pub group_count: usize,
    pub aggregates: Vec<Aggregate>,
    pub windowed: bool,
    /// Index into `Pipeline::sources`.
    pub source: usize,
    /// How long after its end a window still takes rows; `None` is without limit.
    pub allowed_lateness: Option<Duration>,
    /// A group is dropped this long (ingest time) after its last row.
    pub retention: Duration,
    /// Columns of the view; all nullable.
    pub output_schema: SchemaRef,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateKind {
    Count,
    CountDistinct,
    Sum,
    Min,
    Max,
    Avg,
}

#[derive(Debug, Clone)]
pub struct Aggregate {
    pub kind: AggregateKind,
    /// Column of the partial batch (it may be a group column); `None` for `count(*)`.
    pub input: Option<usize>,
    /// Type of the input column (Int64 for `count(*)`). Sum and avg: Int64, UInt64 or Float64 only.
    pub input_type: DataType,
    pub output_type: DataType,
}

impl ViewDef {
    /// Group columns followed by one column per aggregate, to the view's rows: output columns, aligned row by row with
    /// the input, and the `HAVING` mask (null counts as false). Rows outside the mask hold nulls.
    pub fn finish(
        &self,
        _groups_and_aggregates: &RecordBatch,
    ) -> Result<(RecordBatch, Option<BooleanArray>), RunError> {
        todo!()
    }
}
