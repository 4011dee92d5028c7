//! A compiled pipeline.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::{CompileOptions, Decoder, RunError, SqlError, ViewDef};
use crate::sink::Target;

/// A compiled pipeline: sources in, streams and partial rows out.
pub struct Pipeline {
    pub name: String,
    /// Of the normalised SQL, the engine's version and the look-up data: state made under another one is rebuilt.
    pub fingerprint: u64,
    pub sources: Vec<Source>,
    pub streams: Vec<StreamDef>,
    pub views: Vec<ViewDef>,
    pub sinks: Vec<SinkDef>,
}

/// A log topic as a table.
#[derive(Debug, Clone)]
pub struct Source {
    pub table: String,
    pub topic: String,
    /// The columns that some plan, the dedup or the watermark needs, and always `__row` (UInt64, the row's index in
    /// the decoded batch, which survives filtering): what the decoder builds and [`Pipeline::run`] takes.
    pub schema: SchemaRef,
    pub dedup: Option<Dedup>,
    pub watermark: Option<Watermark>,
}

impl Source {
    pub fn decoder(&self) -> Decoder {
        todo!()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedup {
    /// Index into [`Source::schema`]; a text column.
    pub column: usize,
    pub window: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Index into [`Source::schema`]; a timestamp column (microseconds, UTC).
    pub column: usize,
    pub delay: Duration,
    pub idle_timeout: Duration,
}

/// The rows of one distinct `SELECT` that is inserted somewhere.
#[derive(Debug, Clone)]
pub struct StreamDef {
    /// Name of the first sink that takes it.
    pub name: String,
    pub schema: SchemaRef,
    pub source: usize,
}

#[derive(Debug, Clone)]
pub struct SinkDef {
    pub target: Target,
    /// Index into [`Pipeline::streams`].
    pub stream: usize,
}

/// What one epoch gives.
#[derive(Debug, Default)]
pub struct EpochRows {
    /// By stream index.
    pub streams: Vec<Vec<RecordBatch>>,
    /// By view index, laid out as [`ViewDef`] says.
    pub partials: Vec<Vec<RecordBatch>>,
}

impl Pipeline {
    pub async fn compile(_sql: &str, _options: CompileOptions) -> Result<Pipeline, SqlError> {
        todo!()
    }
    /// Runs all cached plans over the decoded rows of one epoch, one batch per source.
    pub async fn run(&self, _inputs: Vec<RecordBatch>) -> Result<EpochRows, RunError> {
        todo!()
    }
}
