//! Per-file statistics for the Delta log, from what the Parquet writer already knows.

use arrow::datatypes::{DataType, Schema};
use chrono::{DateTime, SecondsFormat};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

/// Row count, nulls of every column, least and greatest value of integers and instants: what lets a reader skip a file.
pub(super) fn of(metadata: &ParquetMetaData, schema: &Schema) -> String {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (index, field) in schema.fields().iter().enumerate() {
        let chunks: Option<Vec<&Statistics>> = metadata
            .row_groups()
            .iter()
            .map(|group| group.columns().get(index).and_then(|column| column.statistics()))
            .collect();
        let Some(chunks) = chunks else { continue };
        if let Some(count) = chunks.iter().map(|chunk| chunk.null_count_opt()).sum::<Option<u64>>() {
            nulls.insert(field.name().clone(), count.into());
        }
        let Some((min, max)) = range(&chunks) else { continue };
        let pair = match field.data_type() {
            DataType::Int64 => Some((min.into(), max.into())),
            DataType::Timestamp(..) => instant(min, 0).zip(instant(max, 999)),
            _ => None,
        };
        if let Some((min, max)) = pair {
            least.insert(field.name().clone(), min);
            greatest.insert(field.name().clone(), max);
        }
    }
    let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
    json!({"numRecords": rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}).to_string()
}

/// Of the chunks that have values at all; one without has its nulls only.
fn range(chunks: &[&Statistics]) -> Option<(i64, i64)> {
    let mut range: Option<(i64, i64)> = None;
    for chunk in chunks {
        let Statistics::Int64(values) = chunk else { return None };
        if let (Some(min), Some(max)) = (values.min_opt(), values.max_opt()) {
            range = Some(range.map_or((*min, *max), |(least, greatest)| (least.min(*min), greatest.max(*max))));
        }
    }
    range
}

/// The log has milliseconds: the least is rounded down, the greatest up.
fn instant(micros: i64, up: i64) -> Option<Value> {
    let text = DateTime::from_timestamp_micros(micros.checked_add(up)?)?.to_rfc3339_opts(SecondsFormat::Millis, true);
    Some(text.into())
}
