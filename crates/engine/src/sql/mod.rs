//! The front half of the engine: pipeline text to a [`Pipeline`] that turns the decoded rows of one epoch into output
//! rows and into partial rows for the materialized views.
//!
//! Everything here is stateless and deterministic: the same input batches give the same output batches. It knows no
//! log segments, no epochs and no connector product; what a connector's options are called comes with
//! [`CompileOptions`].

mod around;
mod compile;
mod decoder;
mod error;
mod functions;
mod json;
mod lookup;
mod options;
mod parse;
mod pipeline;
mod plan;
mod rewrite;
mod slot;
mod table;
mod timestamp;
mod view;

pub use around::FailedRow;
pub(crate) use around::only;
pub use decoder::{DecodeFailure, Decoder};
pub use error::{RunError, SqlError};
pub use options::{CompileOptions, ConnectorOptions, Functions};
pub use pipeline::{Dedup, EpochRows, Pipeline, SinkDef, Source, StreamDef, Watermark};
pub use view::{Aggregate, AggregateKind, Finished, ViewDef};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::ast::Ident;

/// The row's index in the decoded batch: carried through the plans, never seen by `*`.
const ROW: &str = "__row";
/// The end of the row's window, in partial batches.
const WINDOW_END: &str = "__window_end";

/// Every timestamp in the engine: microseconds, UTC.
fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// As PostgreSQL folds names: what is not quoted is lowercase.
fn identifier(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}
