//! Look-up tables: loaded once from a file, joined on their primary key by a prebuilt index.
//!
//! A general hash join would build its table anew each epoch. Here the planner's join becomes a node of our own
//! ([`LookupNode`]), executed as: key to row number by hash, then `take` of the columns asked for.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, StringArray, UInt32Array};
use arrow::compute::{filter_record_batch, is_not_null, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::cast::{as_int64_array, as_string_array};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use foldhash::fast::RandomState;
use futures::StreamExt;
use hashbrown::HashTable;

/// The rows of a look-up table and the index over its primary key.
pub struct LookupTable {
    pub name: String,
    pub rows: RecordBatch,
    /// Index of the primary key's column.
    pub key: usize,
    index: Index,
}

struct Index {
    hasher: RandomState,
    rows: HashTable<u32>,
}

impl fmt::Debug for LookupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LookupTable({}, {} rows)", self.name, self.rows.num_rows())
    }
}

/// The key column, by its type.
enum Keys<'a> {
    Text(&'a StringArray),
    Long(&'a Int64Array),
}

impl Keys<'_> {
    fn of(array: &ArrayRef) -> Result<Keys<'_>> {
        match array.data_type() {
            DataType::Utf8 => Ok(Keys::Text(as_string_array(array)?)),
            DataType::Int64 => Ok(Keys::Long(as_int64_array(array)?)),
            other => Err(DataFusionError::Internal(format!("look-up by {other}"))),
        }
    }
}

impl LookupTable {
    /// Fails with the text of the key that appears twice or is null.
    pub fn new(name: String, rows: RecordBatch, key: usize) -> Result<LookupTable, String> {
        let mut index = Index { hasher: RandomState::default(), rows: HashTable::with_capacity(rows.num_rows()) };
        let column = rows.column(key).clone();
        let keys = Keys::of(&column).map_err(|error| error.to_string())?;
        for row in 0..column.len() {
            let twice = match &keys {
                _ if column.is_null(row) => return Err(format!("record {} has no key", row + 1)),
                Keys::Text(keys) => index.insert(row, |row| keys.value(row)),
                Keys::Long(keys) => index.insert(row, |row| keys.value(row)),
            };
            if let Some(first) = twice {
                return Err(format!("records {} and {} have the same key", first + 1, row + 1));
            }
        }
        Ok(LookupTable { name, rows, key, index })
    }

    /// The row of each key; null where there is none.
    fn find(&self, wanted: &ArrayRef) -> Result<UInt32Array> {
        let column = self.rows.column(self.key);
        match (Keys::of(wanted)?, Keys::of(column)?) {
            (Keys::Text(wanted), Keys::Text(keys)) => {
                Ok(wanted.iter().map(|key| self.index.find(key?, |row| keys.value(row))).collect())
            }
            (Keys::Long(wanted), Keys::Long(keys)) => {
                Ok(wanted.iter().map(|key| self.index.find(key?, |row| keys.value(row))).collect())
            }
            _ => Err(DataFusionError::Internal(format!("look-up by {} in {}", wanted.data_type(), column.data_type()))),
        }
    }
}

impl Index {
    /// The row that has the key already, if one does.
    fn insert<K: Hash + Eq>(&mut self, row: usize, key: impl Fn(usize) -> K) -> Option<usize> {
        let hash = self.hasher.hash_one(key(row));
        if let Some(first) = self.rows.find(hash, |other| key(*other as usize) == key(row)) {
            return Some(*first as usize);
        }
        let hasher = &self.hasher;
        self.rows.insert_unique(hash, row as u32, |other| hasher.hash_one(key(*other as usize)));
        None
    }

    fn find<K: Hash + Eq>(&self, wanted: K, key: impl Fn(usize) -> K) -> Option<u32> {
        self.rows.find(self.hasher.hash_one(&wanted), |row| key(*row as usize) == wanted).copied()
    }
}

/// A join of rows with a look-up table: the input's columns, then `taken` of the table's.
#[derive(Debug, Clone)]
pub struct LookupNode {
    input: LogicalPlan,
    table: Arc<LookupTable>,
    /// Over the input, of the primary key's type.
    key: Expr,
    /// Inner join: rows without a match are left out.
    inner: bool,
    /// Columns of the table, by index, with their names in the plan.
    taken: Vec<(usize, Column)>,
    schema: DFSchemaRef,
}

impl LookupNode {
    pub fn new(
        input: LogicalPlan,
        table: Arc<LookupTable>,
        key: Expr,
        inner: bool,
        taken: Vec<(usize, Column)>,
    ) -> Result<LookupNode> {
        let mut fields: Vec<_> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        for (index, column) in &taken {
            let field = table.rows.schema_ref().field(*index).clone();
            let nullable = field.is_nullable() || !inner;
            fields.push((column.relation.clone(), Arc::new(field.with_nullable(nullable))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(LookupNode { input, table, key, inner, taken, schema })
    }

    fn parts(&self) -> (&LogicalPlan, &str, &Expr, bool, &[(usize, Column)]) {
        (&self.input, &self.table.name, &self.key, self.inner, &self.taken)
    }
}

impl PartialEq for LookupNode {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for LookupNode {}

impl PartialOrd for LookupNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for LookupNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for LookupNode {
    fn name(&self) -> &str {
        "Lookup"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }
    fn expressions(&self) -> Vec<Expr> {
        vec![self.key.clone()]
    }
    /// Filters over the input's own columns may go below; those over the table's may not.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.taken.iter().map(|(_, column)| column.name.clone()).collect()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookup: {} by {}", self.table.name, self.key)
    }
    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<LookupNode> {
        let (Some(key), Some(input)) = (exprs.pop(), inputs.pop()) else {
            return Err(DataFusionError::Internal("a look-up has one key and one input".to_string()));
        };
        LookupNode::new(input, self.table.clone(), key, self.inner, self.taken.clone())
    }
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let inputs = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < inputs).collect()])
    }
}

/// Plans [`LookupNode`] as [`LookupExec`].
pub struct LookupPlanner;

#[async_trait]
impl ExtensionPlanner for LookupPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<LookupNode>() else {
            return Ok(None);
        };
        let key = planner.create_physical_expr(&node.key, logical_inputs[0].schema(), session, context)?;
        let schema: SchemaRef = Arc::new(node.schema.as_arrow().clone());
        let taken = node.taken.iter().map(|(index, _)| *index).collect();
        let input = physical_inputs[0].clone();
        Ok(Some(Arc::new(LookupExec::new(input, node.table.clone(), key, node.inner, taken, schema))))
    }
}

#[derive(Debug, Clone)]
struct LookupExec {
    input: Arc<dyn ExecutionPlan>,
    table: Arc<LookupTable>,
    key: Arc<dyn PhysicalExpr>,
    inner: bool,
    taken: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl LookupExec {
    fn new(
        input: Arc<dyn ExecutionPlan>,
        table: Arc<LookupTable>,
        key: Arc<dyn PhysicalExpr>,
        inner: bool,
        taken: Vec<usize>,
        schema: SchemaRef,
    ) -> LookupExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        LookupExec { input, table, key, inner, taken, properties: Arc::new(properties) }
    }

    fn join(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let wanted = self.key.evaluate(&batch)?.into_array(batch.num_rows())?;
        let mut found = self.table.find(&wanted)?;
        let mut batch = batch;
        if self.inner && found.null_count() > 0 {
            let matched: BooleanArray = is_not_null(&found)?;
            batch = filter_record_batch(&batch, &matched)?;
            found = found.iter().flatten().map(Some).collect();
        }
        let mut columns = batch.columns().to_vec();
        for index in &self.taken {
            columns.push(take(self.table.rows.column(*index), &found, None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}

impl DisplayAs for LookupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LookupExec: {} by {}", self.table.name, self.key)
    }
}

impl ExecutionPlan for LookupExec {
    fn name(&self) -> &str {
        "LookupExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("a look-up has one input".to_string()))?;
        Ok(Arc::new(LookupExec { input, ..LookupExec::clone(&self) }))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute),
        )
    }
    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(&self.key)
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let lookup = self.clone();
        let joined = input.map(move |batch| lookup.join(batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), joined)))
    }
}
