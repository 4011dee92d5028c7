//! The SQL functions beyond DataFusion's own: pure, vectorised, with bounded value caches, since addresses and user
//! agents repeat.

mod families;
mod geoip;
mod patterns;
mod tumble;
mod user_agent;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::cast::as_string_array;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::scalar::ScalarValue;

use super::options::Functions;

pub use tumble::{TUMBLE_END, TUMBLE_START};

/// All functions that have their data.
pub fn functions(data: &Functions) -> Result<Vec<ScalarUDF>, String> {
    let mut all = tumble::functions();
    if let Some(database) = &data.geoip {
        let countries = Arc::new(geoip::Countries::open(database.clone())?);
        all.push(text_function("geoip_country", move |addresses| Ok(Arc::new(countries.look_up(addresses)))));
    }
    if let Some(patterns) = &data.user_agents {
        let agents = Arc::new(user_agent::UserAgents::start(patterns.clone())?);
        for (name, part) in
            [("ua_device", user_agent::DEVICE), ("ua_os", user_agent::OS), ("ua_browser", user_agent::BROWSER)]
        {
            let agents = agents.clone();
            all.push(text_function(name, move |input| agents.part(input, part)));
        }
    }
    Ok(all)
}

/// A function from text to text.
fn text_function(name: &str, function: impl Fn(&StringArray) -> Result<ArrayRef> + Send + Sync + 'static) -> ScalarUDF {
    create_udf(
        name,
        vec![DataType::Utf8],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let result = function(as_string_array(&arrays[0])?)?;
            shaped(result, arguments)
        }),
    )
}

/// Constants in, a constant out.
fn shaped(result: ArrayRef, arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    if arguments.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_))) && result.len() == 1 {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
    }
    Ok(ColumnarValue::Array(result))
}
