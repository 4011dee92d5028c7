//! A live view as a table: the rows of the statement's snapshot.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use crate::catalog::{Pin, relaxed};
use crate::rows::Rows;

const BATCH_ROWS: usize = 8192;

#[derive(Debug)]
pub(crate) struct View {
    name: String,
    schema: SchemaRef,
}

impl View {
    pub(crate) fn new(name: &str, schema: &SchemaRef) -> View {
        View { name: name.to_owned(), schema: relaxed(schema) }
    }
}

#[async_trait]
impl TableProvider for View {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pin = Pin::of(session)?;
        let view = pin.snapshot.views.get(&self.name).cloned().filter(|view| relaxed(&view.schema()) == self.schema);
        let Some(view) = view else {
            return Err(DataFusionError::Plan(format!(
                "view {:?} has changed: prepare the statement again",
                self.name
            )));
        };
        Rows::scan(&self.schema, projection, limit, move || match view.batches(BATCH_ROWS) {
            Ok(batches) => Box::new(batches.into_iter().map(Ok)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        })
    }
}
