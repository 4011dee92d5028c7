//! A compiled pipeline, and running it over one epoch.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::decoder::Layout;
use super::plan::CachedPlan;
use super::slot::Slot;
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
    /// In the order of their statements, so that what a stage reads has run before it.
    pub(super) stages: Vec<Stage>,
    /// By source index.
    pub(super) inputs: Vec<Arc<Slot>>,
    /// The slots belong to one epoch at a time.
    pub(super) running: tokio::sync::Mutex<()>,
}

/// One cached plan.
pub(super) struct Stage {
    pub name: String,
    pub plan: CachedPlan,
    pub output: Output,
}

pub(super) enum Output {
    /// A stateless view that later stages read.
    Slot(Arc<Slot>),
    /// By index into `Pipeline::streams`.
    Stream(usize),
    /// By index into `Pipeline::views`.
    Partial(usize),
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
    pub(super) layout: Arc<Layout>,
}

impl Source {
    pub fn decoder(&self) -> Decoder {
        Decoder::new(self.layout.clone())
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
    /// Index into [`Pipeline::sources`].
    pub source: usize,
}

#[derive(Debug, Clone)]
pub struct SinkDef {
    pub target: Target,
    /// Index into [`Pipeline::streams`].
    pub stream: usize,
}

/// What one epoch gives. Batches without rows are left out.
#[derive(Debug, Default)]
pub struct EpochRows {
    /// By stream index.
    pub streams: Vec<Vec<RecordBatch>>,
    /// By view index, laid out as [`ViewDef`] says.
    pub partials: Vec<Vec<RecordBatch>>,
}

impl Pipeline {
    pub async fn compile(sql: &str, options: CompileOptions) -> Result<Pipeline, SqlError> {
        super::compile::compile(sql, options).await
    }

    /// Runs all cached plans over the decoded rows of one epoch, one batch per source. Calls wait for each other.
    pub async fn run(&self, inputs: Vec<RecordBatch>) -> Result<EpochRows, RunError> {
        if inputs.len() != self.inputs.len() {
            let message = format!("{} batches for {} sources", inputs.len(), self.inputs.len());
            return Err(RunError::new(&self.name, message));
        }
        let _alone = self.running.lock().await;
        let _emptied = Emptied(self);
        for (slot, batch) in self.inputs.iter().zip(inputs) {
            slot.fill(vec![batch]);
        }
        let mut rows =
            EpochRows { streams: vec![Vec::new(); self.streams.len()], partials: vec![Vec::new(); self.views.len()] };
        for stage in &self.stages {
            let batches =
                stage.plan.run().await.map_err(|error| RunError::new(&stage.name, error.strip_backtrace()))?;
            match &stage.output {
                Output::Slot(slot) => slot.fill(batches),
                Output::Stream(index) => rows.streams[*index] = batches,
                Output::Partial(index) => rows.partials[*index] = batches,
            }
        }
        Ok(rows)
    }
}

/// Empties the slots however a run ends: an idle pipeline holds no rows.
struct Emptied<'a>(&'a Pipeline);

impl Drop for Emptied<'_> {
    fn drop(&mut self) {
        for slot in &self.0.inputs {
            slot.clear();
        }
        for stage in &self.0.stages {
            if let Output::Slot(slot) = &stage.output {
                slot.clear();
            }
        }
    }
}
