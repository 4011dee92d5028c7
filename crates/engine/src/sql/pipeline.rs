//! A compiled pipeline, and running it over one epoch.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;

use super::decoder::Layout;
use super::plan::CachedPlan;
use super::slot::Slots;
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
    /// Slot numbers by source index.
    pub(super) inputs: Vec<usize>,
    /// How many slots a run needs.
    pub(super) slots: usize,
    pub(super) session: SessionConfig,
    pub(super) runtime: Arc<RuntimeEnv>,
}

/// One cached plan.
pub(super) struct Stage {
    pub name: String,
    pub plan: CachedPlan,
    /// Slot numbers.
    pub reads: Vec<usize>,
    pub output: Output,
}

pub(super) enum Output {
    /// A stateless view that later stages read.
    Slot(usize),
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

    /// Runs all cached plans over the decoded rows of one epoch, one batch per source.
    pub async fn run(&self, inputs: Vec<RecordBatch>) -> Result<EpochRows, RunError> {
        self.run_wanted(inputs, None).await
    }

    /// All plans, or those that lead to one stream.
    pub(super) async fn run_wanted(
        &self,
        inputs: Vec<RecordBatch>,
        stream: Option<usize>,
    ) -> Result<EpochRows, RunError> {
        let mut rows = self.no_rows();
        let mut run = self.begin(inputs)?;
        for stage in self.stages_of(stream) {
            let batches = run.stage(stage).await?;
            match &stage.output {
                Output::Slot(slot) => run.slots.fill(*slot, batches),
                Output::Stream(index) => rows.streams[*index] = batches,
                Output::Partial(index) => rows.partials[*index] = batches,
            }
        }
        Ok(rows)
    }

    pub(super) fn no_rows(&self) -> EpochRows {
        EpochRows { streams: vec![Vec::new(); self.streams.len()], partials: vec![Vec::new(); self.views.len()] }
    }

    fn stages_of(&self, stream: Option<usize>) -> Vec<&Stage> {
        let Some(stream) = stream else { return self.stages.iter().collect() };
        let mut wanted = vec![false; self.slots];
        let mut stages: Vec<&Stage> = Vec::new();
        for stage in self.stages.iter().rev() {
            let needed = match &stage.output {
                Output::Slot(slot) => wanted[*slot],
                Output::Stream(index) => *index == stream,
                Output::Partial(_) => false,
            };
            if needed {
                stage.reads.iter().for_each(|slot| wanted[*slot] = true);
                stages.push(stage);
            }
        }
        stages.reverse();
        stages
    }

    fn begin(&self, inputs: Vec<RecordBatch>) -> Result<Run, RunError> {
        if inputs.len() != self.inputs.len() {
            let message = format!("{} batches for {} sources", inputs.len(), self.inputs.len());
            return Err(RunError::new(&self.name, message));
        }
        let slots = Arc::new(Slots::new(self.slots));
        for (slot, batch) in self.inputs.iter().zip(inputs) {
            slots.fill(*slot, vec![batch]);
        }
        let session = self.session.clone().with_extension(slots.clone());
        // Physical plans carry their functions themselves.
        let context = TaskContext::default().with_session_config(session).with_runtime(self.runtime.clone());
        Ok(Run { slots, context: Arc::new(context) })
    }
}

/// One run of the plans: its rows so far.
struct Run {
    slots: Arc<Slots>,
    context: Arc<TaskContext>,
}

impl Run {
    async fn stage(&mut self, stage: &Stage) -> Result<Vec<RecordBatch>, RunError> {
        let ran = stage.plan.run(&self.slots, &self.context).await;
        ran.map_err(|error| RunError::of_plan(&stage.name, &error))
    }
}
