//! A batch seen row by row, with every column's array already known.

use std::borrow::Cow;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;

use super::Counters;
use super::jsonb::storable;
use super::shape::{Kind, Shape};
use crate::rows::without_nul;

/// One column of canonical rows.
pub(super) enum Cells<'a> {
    Text(&'a StringArray),
    Json(&'a StringArray),
    BigInt(&'a Int64Array),
    Double(&'a Float64Array),
    Boolean(&'a BooleanArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Date(&'a Date32Array),
    Bytes(&'a BinaryArray),
}

/// A value that every store can hold.
pub(super) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Json(Cow<'a, str>),
    BigInt(i64),
    Double(f64),
    Boolean(bool),
    /// Microseconds since 1970.
    Timestamp(i64),
    /// Days since 1970.
    Date(i32),
    Bytes(&'a [u8]),
}

impl<'a> Cells<'a> {
    /// The columns of rows that [`Shape::canonical`] made.
    pub(super) fn of(shape: &Shape, rows: &'a RecordBatch) -> Vec<Self> {
        shape
            .columns
            .iter()
            .zip(rows.columns())
            .map(|(column, array)| match column.kind {
                Kind::Text => Self::Text(array.as_string()),
                Kind::Json => Self::Json(array.as_string()),
                Kind::BigInt => Self::BigInt(array.as_primitive()),
                Kind::Double => Self::Double(array.as_primitive()),
                Kind::Boolean => Self::Boolean(array.as_boolean()),
                Kind::Timestamp => Self::Timestamp(array.as_primitive()),
                Kind::Date => Self::Date(array.as_primitive()),
                Kind::Bytes => Self::Bytes(array.as_binary()),
            })
            .collect()
    }

    pub(super) fn get(&self, row: usize, counters: &Counters) -> Cell<'a> {
        let changed = |text: Cow<'a, str>| {
            if matches!(text, Cow::Owned(_)) {
                counters.count_replaced();
            }
            text
        };
        match self {
            Self::Text(array) if array.is_valid(row) => Cell::Text(changed(without_nul(array.value(row)))),
            Self::Json(array) if array.is_valid(row) => Cell::Json(changed(storable(array.value(row)))),
            Self::BigInt(array) if array.is_valid(row) => Cell::BigInt(array.value(row)),
            Self::Double(array) if array.is_valid(row) => Cell::Double(array.value(row)),
            Self::Boolean(array) if array.is_valid(row) => Cell::Boolean(array.value(row)),
            Self::Timestamp(array) if array.is_valid(row) => Cell::Timestamp(array.value(row)),
            Self::Date(array) if array.is_valid(row) => Cell::Date(array.value(row)),
            Self::Bytes(array) if array.is_valid(row) => Cell::Bytes(array.value(row)),
            _ => Cell::Null,
        }
    }
}
