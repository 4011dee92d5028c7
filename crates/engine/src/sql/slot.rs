//! Slots: where a cached plan's leaf finds the rows of the run at hand.
//!
//! A plan only has a slot's number. The rows come with the run, in its task context, so a plan may run for the newest
//! epoch and for an old one at the same time.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

/// The rows of every source and stateless view in one run, by slot number.
#[derive(Debug)]
pub struct Slots(Vec<OnceLock<Vec<RecordBatch>>>);

impl Slots {
    pub fn new(count: usize) -> Slots {
        Slots((0..count).map(|_| OnceLock::new()).collect())
    }

    /// Each slot is filled once.
    pub fn fill(&self, slot: usize, batches: Vec<RecordBatch>) {
        let filled = self.0[slot].set(batches);
        debug_assert!(filled.is_ok(), "slot {slot} was filled before");
    }

    fn batches(&self, slot: usize) -> &[RecordBatch] {
        self.0[slot].get().map_or(&[], Vec::as_slice)
    }

    /// The slot's rows with the columns of `schema`, found by name: a slot holds the columns that its readers need, the
    /// table that was planned over had all.
    fn read(&self, slot: usize, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        self.batches(slot).iter().map(|batch| select(batch, schema, &names)).collect()
    }

    /// The slot's `columns` under the names of `schema`; batches without rows are left out.
    pub fn read_as(&self, slot: usize, schema: &SchemaRef, columns: &[String]) -> Result<Vec<RecordBatch>> {
        let filled = self.batches(slot).iter().filter(|batch| batch.num_rows() > 0);
        filled.map(|batch| select(batch, schema, columns)).collect()
    }
}

fn select(batch: &RecordBatch, schema: &SchemaRef, names: &[impl AsRef<str>]) -> Result<RecordBatch> {
    let columns = names
        .iter()
        .map(|name| Ok(Arc::clone(batch.column(batch.schema_ref().index_of(name.as_ref())?))))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// A slot as a table, for the planner.
#[derive(Debug)]
pub struct SlotTable {
    pub schema: SchemaRef,
    pub slot: usize,
}

#[async_trait]
impl TableProvider for SlotTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(indices) => Arc::new(self.schema.project(indices)?),
            None => self.schema.clone(),
        };
        Ok(Arc::new(SlotExec::new(schema, self.slot)))
    }
}

/// The leaf of a cached plan.
#[derive(Debug)]
struct SlotExec {
    slot: usize,
    properties: Arc<PlanProperties>,
}

impl SlotExec {
    fn new(schema: SchemaRef, slot: usize) -> SlotExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        SlotExec { slot, properties: Arc::new(properties) }
    }
}

impl DisplayAs for SlotExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlotExec")
    }
}

impl ExecutionPlan for SlotExec {
    fn name(&self) -> &str {
        "SlotExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }
    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!("a slot has one partition, asked for {partition}")));
        }
        let Some(slots) = context.session_config().get_extension::<Slots>() else {
            return Err(DataFusionError::Internal("a cached plan runs only with the slots of a run".to_string()));
        };
        let schema = self.schema();
        Ok(Box::pin(MemoryStream::try_new(slots.read(self.slot, &schema)?, schema, None)?))
    }
}
