//! The bounds of a tumbling window, aligned to 1970-01-01 UTC: what `TUMBLE(…)` is rewritten to.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::cast::as_primitive_array;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

use crate::sql::timestamp_type;

pub const TUMBLE_START: &str = "__tumble_start";
pub const TUMBLE_END: &str = "__tumble_end";

pub fn functions() -> Vec<ScalarUDF> {
    vec![bound(TUMBLE_START, 0), bound(TUMBLE_END, 1)]
}

/// `(time, width in microseconds)` to the window's start plus `widths` windows.
fn bound(name: &str, widths: i64) -> ScalarUDF {
    create_udf(
        name,
        vec![timestamp_type(), DataType::Int64],
        timestamp_type(),
        Volatility::Immutable,
        Arc::new(move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let times = as_primitive_array::<TimestampMicrosecondType>(&arrays[0])?;
            let width = as_primitive_array::<Int64Type>(&arrays[1])?.values().first().copied().unwrap_or(1).max(1);
            // Flooring, so that a time before 1970 falls into the window that holds it.
            let bounds: TimestampMicrosecondArray = times
                .unary(|time| time.saturating_sub(time.rem_euclid(width)).saturating_add(widths.saturating_mul(width)));
            super::shaped(Arc::new(bounds.with_timezone("UTC")) as ArrayRef, arguments)
        }),
    )
}
