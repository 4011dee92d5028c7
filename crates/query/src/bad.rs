//! Bad events as a table, read page by page from the log.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Int32Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use playhouse_gate::{BadEvent, Stage};

use crate::catalog::{BadPages, BoxError};
use crate::rows::Rows;

/// Small, since each row carries the event as it was sent.
const PAGE_ROWS: usize = 512;

pub(crate) struct BadTable {
    pages: BadPages,
    schema: SchemaRef,
}

impl BadTable {
    pub(crate) fn new(pages: BadPages) -> BadTable {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let schema = Schema::new(vec![
            text("bad_id"),
            Field::new("received_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            text("topic"),
            text("source_protocol"),
            text("source_address"),
            Field::new("schema_id", DataType::Int32, true),
            text("stage"),
            text("reasons"),
            Field::new("raw", DataType::Binary, true),
            Field::new("attempts", DataType::Int32, true),
            text("fixed_as"),
            Field::new("dropped", DataType::Boolean, true),
        ]);
        BadTable { pages, schema: Arc::new(schema) }
    }
}

impl fmt::Debug for BadTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BadTable")
    }
}

#[async_trait]
impl TableProvider for BadTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (pages, schema) = (self.pages.clone(), self.schema.clone());
        Rows::scan(&self.schema, projection, limit, move || {
            let (pages, schema) = (pages.clone(), schema.clone());
            let mut position = Vec::new();
            Box::new(std::iter::from_fn(move || match pages(&mut position, PAGE_ROWS) {
                Ok(rows) if rows.is_empty() => None,
                Ok(rows) => Some(batch(&rows, &schema)),
                Err(error) => Some(Err(error)),
            }))
        })
    }
}

fn batch(rows: &[BadEvent], schema: &SchemaRef) -> Result<RecordBatch, BoxError> {
    let text = |value: &dyn Fn(&BadEvent) -> Option<String>| {
        let mut column = StringBuilder::new();
        rows.iter().for_each(|row| column.append_option(value(row)));
        Arc::new(column.finish()) as ArrayRef
    };
    let mut received_at = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let mut schema_id = Int32Builder::new();
    let mut raw = BinaryBuilder::new();
    let mut attempts = Int32Builder::new();
    let mut dropped = BooleanBuilder::new();
    for row in rows {
        received_at.append_value(row.received_at_ms.saturating_mul(1000));
        schema_id.append_option(row.schema_id);
        raw.append_value(&row.raw);
        attempts.append_value(row.attempts);
        dropped.append_value(row.dropped);
    }
    let columns: Vec<ArrayRef> = vec![
        text(&|row| Some(row.bad_id.clone())),
        Arc::new(received_at.finish()),
        text(&|row| Some(row.topic.clone())),
        text(&|row| Some(row.source_protocol.clone())),
        text(&|row| row.source_address.clone()),
        Arc::new(schema_id.finish()),
        text(&|row| Some(stage(&row.stage))),
        text(&|row| serde_json::to_string(&row.reasons).ok()),
        Arc::new(raw.finish()),
        Arc::new(attempts.finish()),
        text(&|row| row.fixed_as.clone()),
        Arc::new(dropped.finish()),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

fn stage(stage: &Stage) -> String {
    match stage {
        Stage::Decode => "decode".to_owned(),
        Stage::Validate => "validate".to_owned(),
        Stage::Enrich => "enrich".to_owned(),
        Stage::Sink(name) => format!("sink:{name}"),
    }
}
