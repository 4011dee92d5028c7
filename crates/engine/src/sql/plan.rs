//! Logical plans to cached physical ones.
//!
//! What may stand in a plan is a list of what is known to be stateless and deterministic; everything else is refused by
//! name. A cached plan is a template that never runs itself: each epoch runs a copy with fresh metrics.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Extension, Join, LogicalPlan, LogicalPlanBuilder, Operator, Volatility, cast,
};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, common};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::error::{At, SqlError};
use super::lookup::{LookupNode, LookupPlanner, LookupTable};
use super::slot::Slots;
use super::timestamp_type;

/// Rows up to which an epoch stays one batch.
const BATCH_ROWS: usize = 65_536;

pub fn session() -> SessionContext {
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(BATCH_ROWS)
        .with_collect_statistics(false)
        .with_information_schema(false);
    let options = config.options_mut();
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_round_robin_repartition = false;
    options.optimizer.skip_failed_rules = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    // Nothing here needs a physical rule: one partition, no order, no join, no aggregate.
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rules(Vec::new())
        .build();
    SessionContext::new_with_state(state)
}

/// Puts look-up nodes in place of joins and checks that all the rest is allowed.
pub fn prepare(
    plan: LogicalPlan,
    lookups: &BTreeMap<String, Arc<LookupTable>>,
    aggregates: bool,
    at: &At,
) -> Result<LogicalPlan, SqlError> {
    let used = columns_outside_joins(&plan).map_err(|error| at.planner(error))?;
    let plan = plan
        .transform_up(|node| match node {
            LogicalPlan::Join(join) => Ok(Transformed::yes(lookup(join, lookups, &used)?)),
            other => Ok(Transformed::no(other)),
        })
        .map_err(|error| at.planner(error))?
        .data;
    plan.apply(|node| {
        refuse_node(node, aggregates)?;
        for expression in node.expressions() {
            expression.apply(|part| refuse_expression(part).map(|()| TreeNodeRecursion::Continue))?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|error| at.planner(error))?;
    Ok(plan)
}

fn refused<T>(message: impl Into<String>) -> Result<T> {
    Err(DataFusionError::Plan(message.into()))
}

/// All columns that are named anywhere but in a join's own condition.
fn columns_outside_joins(plan: &LogicalPlan) -> Result<HashSet<Column>> {
    let mut used = HashSet::new();
    plan.apply(|node| {
        if !matches!(node, LogicalPlan::Join(_)) {
            for expression in node.expressions() {
                used.extend(expression.column_refs().into_iter().cloned());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    // The key of one look-up may be a column of another.
    plan.apply(|node| {
        if let LogicalPlan::Join(join) = node {
            let left = join.left.schema();
            let named = join.on.iter().flat_map(|(a, b)| [a, b]).chain(&join.filter).flat_map(Expr::column_refs);
            used.extend(named.filter(|column| left.has_column(column)).cloned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(used)
}

fn lookup(join: Join, lookups: &BTreeMap<String, Arc<LookupTable>>, used: &HashSet<Column>) -> Result<LogicalPlan> {
    let mut right = join.right.as_ref();
    while let LogicalPlan::SubqueryAlias(alias) = right {
        right = alias.input.as_ref();
    }
    let table = match right {
        LogicalPlan::TableScan(scan) => lookups.get(scan.table_name.table()),
        _ => None,
    };
    let Some(table) = table else {
        return refused("only look-up tables (connector = 'file') can be joined");
    };
    let name = &table.name;
    let inner = match join.join_type {
        JoinType::Inner => true,
        JoinType::Left => false,
        other => {
            let kind = other.to_string().to_uppercase();
            return refused(format!("{kind} JOIN with {name}: a look-up table is joined by LEFT JOIN or JOIN"));
        }
    };
    let key_name = table.rows.schema_ref().field(table.key).name();
    let usage = || format!("a look-up table is joined on its primary key and nothing else: ON … = {name}.{key_name}");
    let (left_schema, right_schema) = (join.left.schema(), join.right.schema());
    let (a, b) = match (join.on.as_slice(), &join.filter) {
        ([(a, b)], None) => (a.clone(), b.clone()),
        ([], Some(Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }))) => {
            (left.as_ref().clone(), right.as_ref().clone())
        }
        _ => return refused(usage()),
    };
    let is_key = |expression: &Expr| match expression {
        Expr::Column(column) => right_schema.maybe_index_of_column(column) == Some(table.key),
        _ => false,
    };
    let key = match (is_key(&a), is_key(&b)) {
        (false, true) => a,
        (true, false) => b,
        _ => return refused(usage()),
    };
    if !key.column_refs().iter().all(|column| left_schema.has_column(column)) {
        return refused(usage());
    }
    let key_type = table.rows.schema_ref().field(table.key).data_type().clone();
    let key = if key.get_type(left_schema)? == key_type { key } else { cast(key, key_type) };
    let taken = right_schema.columns().into_iter().enumerate().filter(|(_, column)| used.contains(column)).collect();
    let input = Arc::unwrap_or_clone(join.left);
    let node = LookupNode::new(input, table.clone(), key, inner, taken)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn refuse_node(node: &LogicalPlan, aggregates: bool) -> Result<()> {
    let what = match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Extension(_) => return Ok(()),
        LogicalPlan::Aggregate(_) if aggregates => return Ok(()),
        LogicalPlan::Aggregate(_) => return refused("aggregates need state: write CREATE MATERIALIZED VIEW"),
        LogicalPlan::Distinct(_) => return refused("SELECT DISTINCT needs state: GROUP BY in a materialized view"),
        LogicalPlan::Window(_) => "a window function (OVER)",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Limit(_) => "LIMIT",
        LogicalPlan::Union(_) => "UNION",
        LogicalPlan::Unnest(_) => "UNNEST",
        LogicalPlan::Subquery(_) => "a subquery in an expression",
        other => return refused(format!("a pipeline cannot have {}", other.display())),
    };
    refused(format!("a pipeline cannot have {what}"))
}

fn refuse_expression(expression: &Expr) -> Result<()> {
    match expression {
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => refused(format!(
            "{}() gives another answer on every replay: pipelines take only functions of their columns",
            call.func.name()
        )),
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
            refused("a pipeline cannot have a subquery in an expression: join a look-up table instead")
        }
        Expr::Placeholder(placeholder) => refused(format!("parameter {} has no value here", placeholder.id)),
        _ => Ok(()),
    }
}

/// Outputs have few types: text as Utf8, bytes as Binary, times as microseconds UTC.
pub fn output_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(..) => timestamp_type(),
        DataType::Dictionary(_, value) => output_type(value),
        other => other.clone(),
    }
}

/// Casts what has another type than [`output_type`], and checks that names are there and unique.
pub fn normalise(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut names = BTreeSet::new();
    let mut expressions = Vec::new();
    let mut changed = false;
    for (qualifier, field) in plan.schema().iter() {
        if !names.insert(field.name().clone()) {
            return refused(format!("two columns are called {}: rename one with AS", field.name()));
        }
        let wanted = output_type(field.data_type());
        let column = Expr::Column(Column::from((qualifier, field)));
        if wanted == *field.data_type() {
            expressions.push(column);
        } else {
            changed = true;
            expressions.push(cast(column, wanted).alias(field.name()));
        }
    }
    if changed { LogicalPlanBuilder::from(plan).project(expressions)?.build() } else { Ok(plan) }
}

/// The columns that an optimised plan reads, by table.
pub fn scanned(plan: &LogicalPlan, into: &mut BTreeMap<String, BTreeSet<String>>) -> Result<()> {
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let columns = into.entry(scan.table_name.table().to_string()).or_default();
            columns.extend(scan.projected_schema.fields().iter().map(|field| field.name().clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// A plan made once and run every epoch.
#[derive(Debug)]
pub enum CachedPlan {
    /// Nothing but a choice of columns.
    Columns {
        slot: usize,
        schema: SchemaRef,
        columns: Vec<String>,
    },
    Template {
        template: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
    },
}

impl CachedPlan {
    pub async fn new(
        optimised: &LogicalPlan,
        state: &SessionState,
        slots: &BTreeMap<String, usize>,
    ) -> Result<CachedPlan> {
        let schema: SchemaRef = Arc::new(optimised.schema().as_arrow().clone());
        if let Some((table, columns)) = columns_only(optimised)
            && let Some(slot) = slots.get(&table)
        {
            return Ok(CachedPlan::Columns { slot: *slot, schema, columns });
        }
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(LookupPlanner)]);
        let template = planner.create_physical_plan(optimised, state).await?;
        let partitions = template.properties().partitioning.partition_count();
        if partitions != 1 {
            return Err(DataFusionError::Internal(format!("a plan has {partitions} partitions")));
        }
        Ok(CachedPlan::Template { template, schema })
    }

    pub fn schema(&self) -> &SchemaRef {
        match self {
            CachedPlan::Columns { schema, .. } | CachedPlan::Template { schema, .. } => schema,
        }
    }

    /// Over what `slots` hold, which `context` carries too; batches without rows are left out.
    pub async fn run(&self, slots: &Slots, context: &Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        match self {
            CachedPlan::Columns { slot, schema, columns } => slots.read_as(*slot, schema, columns),
            CachedPlan::Template { template, schema } => {
                let plan = reset_plan_states(template.clone())?;
                let batches = common::collect(plan.execute(0, context.clone())?).await?;
                let filled = batches.into_iter().filter(|batch| batch.num_rows() > 0);
                filled
                    .map(|batch| {
                        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                        let columns = batch.columns().to_vec();
                        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
                    })
                    .collect()
            }
        }
    }
}

/// The table and its columns, where a plan does nothing but choose them.
fn columns_only(plan: &LogicalPlan) -> Option<(String, Vec<String>)> {
    match plan {
        LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
            let columns = scan.projected_schema.fields().iter().map(|field| field.name().clone()).collect();
            Some((scan.table_name.table().to_string(), columns))
        }
        LogicalPlan::SubqueryAlias(alias) => columns_only(&alias.input),
        LogicalPlan::Projection(projection) => {
            let (table, below) = columns_only(&projection.input)?;
            let columns = projection.expr.iter().map(|expression| match expression.clone().unalias_nested().data {
                Expr::Column(column) => Some(below[projection.input.schema().maybe_index_of_column(&column)?].clone()),
                _ => None,
            });
            Some((table, columns.collect::<Option<_>>()?))
        }
        _ => None,
    }
}
