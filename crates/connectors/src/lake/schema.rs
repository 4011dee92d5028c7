//! The Delta schema of the rows of a target, and whether a table that exists has it.

use arrow::datatypes::{DataType as ArrowType, Schema, TimeUnit};
use deltalake::kernel::{DataType, StructField};

/// The last column of the rows, by which the table is partitioned.
pub(super) const PARTITION_COLUMN: &str = "date";

/// The fields of the table, or what about the rows' schema a lake cannot hold.
pub(super) fn delta_fields(schema: &Schema) -> Result<Vec<StructField>, String> {
    match schema.fields().last() {
        Some(last) if last.name() == PARTITION_COLUMN && *last.data_type() == ArrowType::Date32 => {}
        _ => {
            return Err(format!(
                "a lake table needs a last column \"{PARTITION_COLUMN}\" of type date, to partition by"
            ));
        }
    }
    let field = |field: &arrow::datatypes::Field| match delta_type(field.data_type()) {
        Some(kind) => Ok(StructField::new(field.name(), kind, field.is_nullable())),
        None => Err(format!(
            "column \"{}\" has type {}, which a lake table cannot hold; cast it",
            field.name(),
            field.data_type()
        )),
    };
    schema.fields().iter().map(|f| field(f)).collect()
}

/// Types that read back from Delta exactly as they were written.
fn delta_type(arrow: &ArrowType) -> Option<DataType> {
    Some(match arrow {
        ArrowType::Utf8 => DataType::STRING,
        ArrowType::Int64 => DataType::LONG,
        ArrowType::Int32 => DataType::INTEGER,
        ArrowType::Int16 => DataType::SHORT,
        ArrowType::Int8 => DataType::BYTE,
        ArrowType::Float64 => DataType::DOUBLE,
        ArrowType::Float32 => DataType::FLOAT,
        ArrowType::Boolean => DataType::BOOLEAN,
        ArrowType::Binary => DataType::BINARY,
        ArrowType::Date32 => DataType::DATE,
        ArrowType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => DataType::TIMESTAMP,
        _ => return None,
    })
}

/// What is wrong with the table that exists; `None` where the rows fit.
pub(super) fn mismatch(table: &Schema, rows: &Schema) -> Option<String> {
    if let Some(extra) = table.fields().iter().find(|field| rows.index_of(field.name()).is_err()) {
        return Some(format!("has a column \"{}\" that the rows do not have", extra.name()));
    }
    for (index, field) in rows.fields().iter().enumerate() {
        let Ok(found) = table.field_with_name(field.name()) else {
            return Some(format!("has no column \"{}\" ({})", field.name(), field.data_type()));
        };
        if found.data_type() != field.data_type() {
            return Some(format!(
                "has column \"{}\" of type {}, expected {}",
                field.name(),
                found.data_type(),
                field.data_type()
            ));
        }
        if !found.is_nullable() && field.is_nullable() {
            return Some(format!("has column \"{}\" that takes no nulls, but the rows have them", field.name()));
        }
        if table.fields().get(index).map(|f| f.name()) != Some(field.name()) {
            return Some(format!("has column \"{}\" at another place", field.name()));
        }
    }
    None
}
