//! Rows that come from an iterator on this machine (memory or disk), as a partition that DataFusion can scan.
//!
//! The iterator runs on a blocking thread and hands over few batches at a time, so a slow client holds it back.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::catalog::BoxError;

/// Batches in order, until the end or the first error.
pub type RowIter = Box<dyn Iterator<Item = Result<RecordBatch, BoxError>> + Send>;

/// Batches read ahead of the consumer.
const READ_AHEAD: usize = 2;

pub(crate) struct Rows {
    schema: SchemaRef,
    open: Arc<dyn Fn() -> RowIter + Send + Sync>,
}

impl Rows {
    /// A plan over the iterator that `open` starts; every execution starts its own.
    pub(crate) fn scan(
        schema: &SchemaRef,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        open: impl Fn() -> RowIter + Send + Sync + 'static,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = Arc::new(Rows { schema: schema.clone(), open: Arc::new(open) });
        let plan = StreamingTableExec::try_new(schema.clone(), vec![rows], projection, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), READ_AHEAD);
        let (sender, open, schema) = (builder.tx(), self.open.clone(), self.schema.clone());
        builder.spawn_blocking(move || {
            for batch in open() {
                let batch = batch.map_err(DataFusionError::External).and_then(|batch| conform(batch, &schema));
                let failed = batch.is_err();
                if sender.blocking_send(batch).is_err() || failed {
                    break;
                }
            }
            Ok(())
        });
        builder.build()
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The same columns under the table's schema, which may differ in nullability and metadata.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}
