//! A lake table: its committed part and its tail as one table, each row once.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, cast, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::scalar::ScalarValue;

use crate::catalog::{LakeSource, Pin, relaxed};
use crate::rows::Rows;

pub(crate) struct LakeTable {
    index: usize,
    source: Arc<dyn LakeSource>,
    schema: SchemaRef,
}

impl LakeTable {
    /// `index` is the place of `source` in the catalog, and so in each statement's pin.
    pub(crate) fn new(index: usize, source: Arc<dyn LakeSource>) -> LakeTable {
        let schema = relaxed(&source.schema());
        LakeTable { index, source, schema }
    }
}

impl fmt::Debug for LakeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeTable").field("name", &self.source.name()).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// The committed part prunes files with them; the plan above filters again, the tail's rows included.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pin = Pin::of(session)?;
        let pinned = pin.lake(self.index, self.source.as_ref()).await?;
        let tail = pinned.tail.clone();
        let tail = Rows::scan(&self.schema, projection, limit, move || tail.open())?;
        match &pinned.committed {
            None => Ok(tail),
            Some(committed) => {
                let committed = scan_as(committed.as_ref(), session, &self.schema, projection, filters, limit).await?;
                UnionExec::try_new(vec![committed, tail])
            }
        }
    }
}

/// Scans `provider` so that it yields the columns of `schema`: found by name, cast where the type differs, null where the
/// provider does not have them (yet).
async fn scan_as(
    provider: &dyn TableProvider,
    session: &dyn Session,
    schema: &SchemaRef,
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let have = provider.schema();
    let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
    let found: Vec<usize> = wanted.iter().filter_map(|index| have.index_of(schema.field(*index).name()).ok()).collect();
    // A filter is written for this table's types, so the provider gets it only where it has the same.
    let same = |name: &str| match (schema.field_with_name(name), have.field_with_name(name)) {
        (Ok(ours), Ok(theirs)) => ours.data_type() == theirs.data_type(),
        _ => false,
    };
    let filters: Vec<Expr> =
        filters.iter().filter(|filter| filter.column_refs().iter().all(|column| same(&column.name))).cloned().collect();

    let plan = provider.scan(session, Some(&found), &filters, limit).await?;
    let scanned = plan.schema();
    let matches = |(wanted, field): (&usize, &Arc<arrow::datatypes::Field>)| {
        let ours = schema.field(*wanted);
        ours.name() == field.name() && ours.data_type() == field.data_type()
    };
    if wanted.len() == scanned.fields().len() && wanted.iter().zip(scanned.fields()).all(matches) {
        return Ok(plan);
    }
    let columns = wanted.iter().map(|index| {
        let field = schema.field(*index);
        let value: Arc<dyn PhysicalExpr> = match scanned.index_of(field.name()) {
            Err(_) => lit(ScalarValue::try_from(field.data_type())?),
            Ok(place) => cast(Arc::new(Column::new(field.name(), place)), &scanned, field.data_type().clone())?,
        };
        Ok((value, field.name().clone()))
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Result<Vec<_>>>()?, plan)?))
}
