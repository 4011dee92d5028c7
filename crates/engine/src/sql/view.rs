//! Materialized views: their plan with the aggregate taken out of the middle.
//!
//! Below the aggregate stays a stateless plan that gives one partial row per input row; above it stay expressions that
//! turn groups and their aggregates into the view's rows. What lies between, the state, is the engine's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, filter, filter_record_batch, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::cast::{as_boolean_array, as_uint32_array};
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::rewrite::{WINDOW_END_COLUMN, WINDOW_START_COLUMN};
use super::{ROW, RunError, WINDOW_END};

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
    pub(super) above: Arc<Above>,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    pub kind: AggregateKind,
    /// Column of the partial batch (it may be a group column); `None` for `count(*)`.
    pub input: Option<usize>,
    /// Type of the input column (Int64 for `count(*)`). Sum and avg: Int64, UInt64 or Float64 only.
    pub input_type: DataType,
    pub output_type: DataType,
}

/// What stands above the aggregate, from the lowest.
#[derive(Debug)]
pub(super) struct Above(Vec<Step>);

#[derive(Debug)]
enum Step {
    Keep(Arc<dyn PhysicalExpr>),
    Project(SchemaRef, Vec<Arc<dyn PhysicalExpr>>),
}

/// A materialized view's plan, taken apart.
pub(super) struct Parts {
    /// Gives the partial rows.
    pub below: LogicalPlan,
    pub group_count: usize,
    pub aggregates: Vec<Aggregate>,
    pub above: Above,
    pub output_schema: SchemaRef,
}

fn refused<T>(message: impl fmt::Display) -> Result<T> {
    Err(DataFusionError::Plan(message.to_string()))
}

/// `plan` is analysed (types coerced) but not optimised, so that the aggregate still stands as it was written.
pub(super) fn take_apart(plan: &LogicalPlan, windowed: bool, state: &SessionState) -> Result<Parts> {
    let mut steps = Vec::new();
    let mut node = plan;
    let physical = |expression: &Expr, schema: &DFSchema| {
        create_physical_expr(expression, schema, state.execution_props(), &PhysicalPlanningContext::default())
    };
    let aggregate = loop {
        node = match node {
            LogicalPlan::Aggregate(aggregate) => break aggregate,
            LogicalPlan::Projection(projection) => {
                let below = projection.input.schema();
                let expressions = projection.expr.iter().map(|expression| physical(expression, below));
                let schema = nullable(projection.schema.as_arrow());
                steps.push(Step::Project(schema, expressions.collect::<Result<_>>()?));
                &projection.input
            }
            LogicalPlan::Filter(filter) => {
                steps.push(Step::Keep(physical(&filter.predicate, filter.input.schema())?));
                &filter.input
            }
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            _ => {
                return refused(
                    "a materialized view aggregates: GROUP BY is missing (for rows as they are, insert them)",
                );
            }
        };
    };
    steps.reverse();
    let mut below = Below { input: aggregate.input.clone(), columns: Vec::new() };
    for group in &aggregate.group_expr {
        if matches!(group, Expr::GroupingSet(_)) {
            return refused("GROUPING SETS, ROLLUP and CUBE are not known: write one view for each");
        }
        below.columns.push(group.clone());
    }
    let aggregates = aggregate
        .aggr_expr
        .iter()
        .enumerate()
        .map(|(index, expression)| {
            let position = aggregate.group_expr.len() + index;
            below.aggregate(expression, aggregate.schema.field(position).data_type())
        })
        .collect::<Result<Vec<_>>>()?;
    if windowed && !aggregate.group_expr.iter().any(is_window) {
        return refused("GROUP BY must name window_start, window_end: the view reads TUMBLE(…)");
    }
    Ok(Parts {
        below: below.build(windowed)?,
        group_count: aggregate.group_expr.len(),
        aggregates,
        above: Above(steps),
        output_schema: nullable(plan.schema().as_arrow()),
    })
}

fn is_window(expression: &Expr) -> bool {
    matches!(expression, Expr::Column(column)
        if column.name == WINDOW_START_COLUMN || column.name == WINDOW_END_COLUMN)
}

/// Names only: whether a value is null is only known when the state gives it.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

/// The projection below the aggregate.
struct Below {
    input: Arc<LogicalPlan>,
    columns: Vec<Expr>,
}

impl Below {
    fn aggregate(&mut self, expression: &Expr, output_type: &DataType) -> Result<Aggregate> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expression.clone().unalias() else {
            return refused(format!("{expression} is no aggregate"));
        };
        let name = func.name();
        let kind = match (name, params.distinct) {
            ("count", true) => AggregateKind::CountDistinct,
            ("count", false) => AggregateKind::Count,
            ("sum", false) => AggregateKind::Sum,
            ("avg", false) => AggregateKind::Avg,
            ("min", _) => AggregateKind::Min,
            ("max", _) => AggregateKind::Max,
            ("sum" | "avg", true) => return refused(format!("{name}(DISTINCT …) is not known")),
            _ => {
                return refused(format!(
                    "aggregate {name} is not known (known: count, count distinct, sum, min, max, avg)"
                ));
            }
        };
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return refused(format!("{name}: ORDER BY and IGNORE NULLS have no meaning here"));
        }
        let argument = match params.args.as_slice() {
            [] => None,
            [Expr::Literal(value, _)] if kind == AggregateKind::Count && !value.is_null() => None,
            [argument] => Some(argument.clone()),
            _ => return refused(format!("{name} takes one argument here")),
        };
        // Rows outside FILTER (WHERE …) have no argument, which every aggregate passes over.
        let argument = match (params.filter, argument) {
            (None, argument) => argument,
            (Some(condition), None) => Some(when(*condition, lit(1i64)).end()?),
            (Some(condition), Some(argument)) => Some(when(*condition, argument).end()?),
        };
        let Some(argument) = argument else {
            return Ok(Aggregate { kind, input: None, input_type: DataType::Int64, output_type: output_type.clone() });
        };
        let input_type = argument.get_type(self.input.schema())?;
        if matches!(kind, AggregateKind::Sum | AggregateKind::Avg)
            && !matches!(input_type, DataType::Int64 | DataType::UInt64 | DataType::Float64)
        {
            return refused(format!("{name} of {input_type}: cast it to BIGINT or DOUBLE PRECISION"));
        }
        let input = match self.columns.iter().position(|column| *column == argument) {
            Some(index) => index,
            None => {
                self.columns.push(argument);
                self.columns.len() - 1
            }
        };
        Ok(Aggregate { kind, input: Some(input), input_type, output_type: output_type.clone() })
    }

    fn build(self, windowed: bool) -> Result<LogicalPlan> {
        let schema = self.input.schema().clone();
        let named = |name: &str| match schema.iter().find(|(_, field)| field.name() == name) {
            Some(found) => Ok(Expr::Column(Column::from(found))),
            None => refused(format!("{name} does not reach the aggregate: select it in the subquery")),
        };
        let mut projected = Vec::with_capacity(self.columns.len() + 2);
        for (index, column) in self.columns.into_iter().enumerate() {
            let data_type = column.get_type(&schema)?;
            let flat =
                data_type.is_primitive() || matches!(data_type, DataType::Utf8 | DataType::Boolean | DataType::Binary);
            if !flat {
                return refused(format!("{column} has type {data_type}: cast it to TEXT or another plain type"));
            }
            projected.push(column.alias(format!("column{index}")));
        }
        projected.push(named(ROW)?.alias(ROW));
        if windowed {
            projected.push(named(WINDOW_END_COLUMN)?.alias(WINDOW_END));
        }
        LogicalPlanBuilder::from(Arc::unwrap_or_clone(self.input)).project(projected)?.build()
    }
}

impl ViewDef {
    /// Group columns followed by one column per aggregate, to the view's rows.
    pub fn finish(&self, groups_and_aggregates: &RecordBatch) -> std::result::Result<Finished, RunError> {
        let (rows, mask) = match self.above.run(groups_and_aggregates, &self.output_schema) {
            Ok(done) => done,
            Err(error) => {
                let error = RunError::of_plan(&self.name, &error);
                return if error.is_passing { Err(error) } else { self.finish_around(groups_and_aggregates) };
            }
        };
        Ok(Finished { rows, mask, failure: None })
    }

    /// Group by group where it has to be, as plans run around rows that fail.
    fn finish_around(&self, input: &RecordBatch) -> std::result::Result<Finished, RunError> {
        let failed = |error| RunError::of_plan(&self.name, &error);
        // What fails over no groups fails over any.
        self.above.run(&input.slice(0, 0), &self.output_schema).map_err(failed)?;
        let (mut rows, mut mask) = (Vec::new(), Vec::with_capacity(input.num_rows()));
        let mut failure = None;
        let mut pieces = vec![(0, input.num_rows())];
        while let Some((from, count)) = pieces.pop() {
            match self.above.run(&input.slice(from, count), &self.output_schema).map_err(failed) {
                Ok((piece, kept)) => {
                    rows.push(piece);
                    mask.extend((0..count).map(|row| kept.as_ref().is_none_or(|kept| kept.value(row))));
                }
                Err(error) if error.is_passing => return Err(error),
                Err(error) if count == 1 => {
                    rows.push(no_row(&self.output_schema).map_err(failed)?);
                    mask.push(false);
                    failure = Some(error.to_string());
                }
                Err(_) => {
                    pieces.push((from + count / 2, count - count / 2));
                    pieces.push((from, count / 2));
                }
            }
        }
        let rows = concat_batches(&self.output_schema, &rows).map_err(|error| RunError::new(&self.name, error))?;
        Ok(Finished { rows, mask: Some(BooleanArray::from(mask)), failure })
    }
}

/// Rows of a view, aligned with its groups.
#[derive(Debug)]
pub struct Finished {
    pub rows: RecordBatch,
    /// Which groups have a row: those that `HAVING` selects and that can be computed. Never null; `None` is all of them.
    /// The others hold nulls.
    pub mask: Option<BooleanArray>,
    /// Why a group could not be computed, where one could not.
    pub failure: Option<String>,
}

impl Above {
    fn run(&self, input: &RecordBatch, schema: &SchemaRef) -> Result<(RecordBatch, Option<BooleanArray>)> {
        let mut current = input.clone();
        // Which input rows the current ones are, once some are gone: what is filtered out must not be computed with.
        let mut kept: Option<ArrayRef> = None;
        for step in &self.0 {
            match step {
                Step::Keep(condition) => {
                    let mask = condition.evaluate(&current)?.into_array(current.num_rows())?;
                    let mask = prep_null_mask_filter(as_boolean_array(&mask)?);
                    let rows = kept.unwrap_or_else(|| {
                        Arc::new(UInt32Array::from_iter_values(0..current.num_rows() as u32)) as ArrayRef
                    });
                    kept = Some(filter(&rows, &mask)?);
                    current = filter_record_batch(&current, &mask)?;
                }
                Step::Project(schema, expressions) => {
                    let rows = current.num_rows();
                    let columns = expressions
                        .iter()
                        .map(|expression| expression.evaluate(&current)?.into_array(rows))
                        .collect::<Result<Vec<_>>>()?;
                    current = batch(schema, columns, rows)?;
                }
            }
        }
        let Some(kept) = kept else {
            return Ok((batch(schema, current.columns().to_vec(), input.num_rows())?, None));
        };
        let mut back: Vec<Option<u32>> = vec![None; input.num_rows()];
        for (to, from) in as_uint32_array(&kept)?.values().iter().enumerate() {
            back[*from as usize] = Some(to as u32);
        }
        let mask: BooleanArray = back.iter().map(|row| Some(row.is_some())).collect();
        let back = UInt32Array::from(back);
        let columns =
            current.columns().iter().map(|column| Ok(take(column, &back, None)?)).collect::<Result<Vec<_>>>()?;
        Ok((batch(schema, columns, input.num_rows())?, Some(mask)))
    }
}

/// In the place of a group that has none.
fn no_row(schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
    batch(schema, columns, 1)
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
