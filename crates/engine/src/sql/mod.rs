//! The front half of the engine: pipeline text to a [`Pipeline`] that turns the decoded rows of one epoch into output
//! rows and into partial rows for the materialized views.
//!
//! Everything here is stateless and deterministic: the same input batches give the same output batches. It knows no
//! log segments, no epochs and no connector product; what a connector's options are called comes with
//! [`CompileOptions`].

mod decoder;
mod error;
mod options;
mod pipeline;
mod view;

pub use decoder::{DecodeFailure, Decoder};
pub use error::{RunError, SqlError};
pub use options::{CompileOptions, ConnectorOptions, Functions};
pub use pipeline::{Dedup, EpochRows, Pipeline, SinkDef, Source, StreamDef, Watermark};
pub use view::{Aggregate, AggregateKind, ViewDef};
