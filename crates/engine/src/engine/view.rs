//! One materialized view inside the engine: its groups, and the table published from them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};

use super::{EngineError, late};
use crate::sql::{AggregateKind, Finished, ViewDef};
use crate::state::aggregate::{Aggregate, Groups, Kind, Shape, StateError};
use crate::views::ViewTable;

#[derive(Debug)]
pub(super) struct View {
    pub(super) name: Arc<str>,
    pub(super) definition: ViewDef,
    pub(super) groups: Groups,
    pub(super) table: ViewTable,
    /// Why a group could not be computed, the last time that one could not.
    pub(super) failure: Option<String>,
}

impl View {
    pub(super) fn new(definition: ViewDef, hash_key: [u8; 16]) -> Result<View, EngineError> {
        let groups = Groups::new(shape(&definition), hash_key)?;
        let table = ViewTable::new(definition.output_schema.clone())?;
        Ok(View { name: Arc::from(definition.name.as_str()), definition, groups, table, failure: None })
    }

    pub(super) fn apply(
        &mut self,
        partials: &[RecordBatch],
        clock_ms: i64,
        delta: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        self.groups.apply(partials, clock_ms, delta)
    }

    /// Drops what is past its retention, or beyond the budget. Decided by recorded clocks, so recovery does the same.
    pub(super) fn expire(&mut self, clock_ms: i64, budget_bytes: usize) {
        let retention_ms = i64::try_from(self.definition.retention.as_millis()).unwrap_or(i64::MAX);
        let removed = self.groups.expire(clock_ms, retention_ms, budget_bytes);
        self.table.remove(&removed);
    }

    /// Seals the windows that are too old for another row, given its source's watermark.
    pub(super) fn seal(&mut self, watermark_ms: i64) {
        if let Some(lateness) = self.definition.allowed_lateness.filter(|_| self.definition.windowed) {
            self.groups.seal(late::horizon_us(watermark_ms, lateness));
        }
    }

    /// Takes the groups changed since the last time into the table.
    pub(super) fn publish(&mut self) -> Result<(), EngineError> {
        let (slots, rows) = self.groups.take_changes()?;
        if slots.is_empty() {
            return Ok(());
        }
        self.upsert(&slots, &rows)
    }

    pub(super) fn publish_all(&mut self) -> Result<(), EngineError> {
        let (slots, rows) = self.groups.evaluate_all()?;
        if slots.is_empty() {
            return Ok(());
        }
        self.upsert(&slots, &rows)
    }

    fn upsert(&mut self, slots: &[u32], groups: &RecordBatch) -> Result<(), EngineError> {
        let Finished { rows, mask, failure } = self.definition.finish(groups)?;
        if let Some(reason) = failure {
            if self.failure.is_none() {
                tracing::warn!("a group of a view cannot be computed, and is left out until it can: {reason}");
            }
            self.failure = Some(reason);
        }
        Ok(self.table.upsert(slots, &rows, mask.as_ref())?)
    }
}

fn shape(view: &ViewDef) -> Shape {
    let mut fields: Vec<Field> =
        view.partial_schema.fields()[..view.group_count].iter().map(|field| field.as_ref().clone()).collect();
    let mut aggregates = Vec::new();
    for (index, aggregate) in view.aggregates.iter().enumerate() {
        fields.push(Field::new(format!("aggregate_{index}"), aggregate.output_type.clone(), true));
        aggregates.push(Aggregate {
            kind: kind(aggregate.kind, &aggregate.input_type),
            input: aggregate.input,
            output_type: aggregate.output_type.clone(),
        });
    }
    let seals = view.windowed && view.allowed_lateness.is_some();
    Shape { schema: Arc::new(Schema::new(fields)), group_count: view.group_count, aggregates, seals }
}

fn kind(kind: AggregateKind, input: &DataType) -> Kind {
    let float = input.is_floating();
    let text = matches!(input, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match kind {
        AggregateKind::Count => Kind::Count,
        AggregateKind::CountDistinct => Kind::CountDistinct,
        AggregateKind::Sum if float => Kind::SumFloat,
        AggregateKind::Sum => Kind::SumInteger,
        AggregateKind::Min if text => Kind::MinText,
        AggregateKind::Min if float => Kind::MinFloat,
        AggregateKind::Min => Kind::MinInteger,
        AggregateKind::Max if text => Kind::MaxText,
        AggregateKind::Max if float => Kind::MaxFloat,
        AggregateKind::Max => Kind::MaxInteger,
        AggregateKind::Avg => Kind::Average,
    }
}
