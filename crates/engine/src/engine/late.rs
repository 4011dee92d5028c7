//! Rows too late for a view: routed to the stream `late_events`, never dropped.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::TimestampMicrosecondArray;
use arrow::array::{Array, AsArray, BooleanArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use arrow::error::ArrowError;

use super::input::Place;
use crate::TopicPartition;

/// Name of the stream and of its table.
pub const LATE_EVENTS: &str = "late_events";

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// `view, event_time, watermark, topic, partition, offset, date`.
pub fn late_events_schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("view", DataType::Utf8, true),
        Field::new("event_time", time.clone(), true),
        Field::new("watermark", time, true),
        Field::new("topic", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("date", DataType::Date32, true),
    ]))
}

#[derive(Debug, Default)]
pub(super) struct LateRows {
    view: Vec<Arc<str>>,
    event_time_us: Vec<Option<i64>>,
    watermark_us: Vec<i64>,
    topic: Vec<Arc<str>>,
    partition: Vec<i32>,
    offset: Vec<i64>,
}

/// A window that ends at or before this (microseconds, UTC) takes no more rows.
pub(super) fn horizon_us(watermark_ms: i64, lateness: Duration) -> i64 {
    let lateness_us = i64::try_from(lateness.as_micros()).unwrap_or(i64::MAX);
    watermark_ms.saturating_mul(1_000).saturating_sub(lateness_us)
}

/// What late rows are described by.
pub(super) struct LateContext<'a> {
    pub(super) view: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) watermark_us: i64,
    pub(super) horizon_us: i64,
    pub(super) places: &'a [Place],
    /// The source's watermark column over the decoded batch.
    pub(super) event_times: Option<&'a TimestampMicrosecondArray>,
}

impl LateRows {
    /// Takes the late rows out of a partial batch (whose last columns are `__row` and `__window_end`).
    pub(super) fn split(&mut self, partial: RecordBatch, context: &LateContext<'_>) -> Result<RecordBatch, ArrowError> {
        let columns = partial.num_columns();
        let ends = partial.column(columns - 1).as_primitive::<TimestampMicrosecondType>();
        let horizon = context.horizon_us;
        if ends.values().iter().all(|end| *end > horizon) {
            return Ok(partial);
        }
        let rows = partial.column(columns - 2).as_primitive::<UInt64Type>();
        let in_time: BooleanArray = ends.values().iter().map(|end| Some(*end > horizon)).collect();
        for index in (0..partial.num_rows()).filter(|index| !in_time.value(*index)) {
            let row = rows.value(index) as usize;
            let place = context.places[row];
            let time = context.event_times.and_then(|times| times.is_valid(row).then(|| times.value(row)));
            self.view.push(context.view.clone());
            self.event_time_us.push(time);
            self.watermark_us.push(context.watermark_us);
            self.topic.push(context.topic.clone());
            self.partition.push(place.partition);
            self.offset.push(place.offset);
        }
        filter_record_batch(&partial, &in_time)
    }

    pub(super) fn len(&self) -> usize {
        self.view.len()
    }

    pub(super) fn finish(self) -> Result<Vec<RecordBatch>, ArrowError> {
        if self.view.is_empty() {
            return Ok(Vec::new());
        }
        let dates: Date32Array =
            self.event_time_us.iter().map(|time| time.map(|time| time.div_euclid(DAY_US) as i32)).collect();
        let text = |values: Vec<Arc<str>>| values.into_iter().map(Some).collect::<StringArray>();
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(text(self.view)),
            Arc::new(TimestampMicrosecondArray::from(self.event_time_us).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(self.watermark_us).with_timezone("UTC")),
            Arc::new(text(self.topic)),
            Arc::new(Int32Array::from(self.partition)),
            Arc::new(Int64Array::from(self.offset)),
            Arc::new(dates),
        ];
        Ok(vec![RecordBatch::try_new(late_events_schema(), columns)?])
    }
}

/// The records that late rows were made of; `rows` are numbers over all batches. `None` where there is no such row.
pub(super) fn records(batches: &[RecordBatch], rows: &[u64]) -> Option<Vec<(TopicPartition, i64)>> {
    let record = |row: &u64| {
        let mut row = usize::try_from(*row).ok()?;
        let batch = batches.iter().find(|batch| match row.checked_sub(batch.num_rows()) {
            Some(left) => {
                row = left;
                false
            }
            None => true,
        })?;
        let topic = batch.column_by_name("topic")?.as_string::<i32>().value(row).into();
        let partition = batch.column_by_name("partition")?.as_primitive::<Int32Type>().value(row);
        let offset = batch.column_by_name("offset")?.as_primitive::<Int64Type>().value(row);
        Some((TopicPartition { topic, partition }, offset))
    };
    rows.iter().map(record).collect()
}
