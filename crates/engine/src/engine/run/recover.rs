//! Recovery: the state as of the last epoch, from a checkpoint and the epochs after it, or none of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use playhouse_log::Log;
use playhouse_log::disk::{Disk, create_dir_durably};

use super::Runner;
use crate::Position;
use crate::engine::ahead::Ahead;
use crate::engine::checkpoint::{self, Checkpoint};
use crate::engine::input::{self, SourceReader, millis};
use crate::engine::pace::Pace;
use crate::engine::view::View;
use crate::engine::{EngineConfig, EngineError};
use crate::epoch::{EpochLog, Identity};
use crate::sql::Pipeline;
use crate::state::dedup::{DedupConfig, DedupSet};

/// Whether the state has to be made anew from the start of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Start {
    Continue,
    /// Sinks already hold part of what will be computed again: epochs must not straddle their positions.
    Rebuild,
}

impl Runner {
    pub(in crate::engine) fn recover(
        log: Arc<Log>,
        pipeline: Arc<Pipeline>,
        config: EngineConfig,
    ) -> Result<(Runner, Start), EngineError> {
        let identity =
            Identity { log_id: log.id(), pipeline: pipeline.name.clone(), fingerprint: pipeline.fingerprint };
        let disk = config.disk.clone();
        let epochs_directory = config.directory.join("epochs");
        let checkpoints = config.directory.join("checkpoints");
        let hash_key = load_key(&*disk, &config.directory)?;
        let epochs = EpochLog::open(disk.clone(), &epochs_directory, &identity, config.epoch_log.clone())?;
        let checkpoint = checkpoint::load(&*disk, &checkpoints, &identity)?;
        let mut sources = input::open_all(&log, &pipeline, (config.clock)())?;

        // A checkpoint is only worth something with all epochs after it.
        let usable = epochs.filter(|epochs| {
            let newest = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.meta.epoch);
            newest <= epochs.newest() && epochs.first_epoch() <= newest + 1
        });
        let (epochs, checkpoint, start) = match usable {
            Some(epochs) => (epochs, checkpoint, Start::Continue),
            None => {
                let rebuild = sources.iter().any(SourceReader::has_history);
                if rebuild {
                    tracing::warn!("no usable state of this pipeline: rebuilding it from the start of the log");
                }
                let mut position = Position::default();
                sources.iter_mut().for_each(|source| {
                    source.seek(&Position::default());
                    source.position(&mut position);
                });
                let config = config.epoch_log.clone();
                checkpoint::remove_all(&*disk, &checkpoints)?;
                let epochs = EpochLog::create(disk.clone(), &epochs_directory, &identity, config, &position)?;
                (epochs, None, if rebuild { Start::Rebuild } else { Start::Continue })
            }
        };
        create_dir_durably(&*disk, &checkpoints).map_err(|error| failed(&checkpoints, &error))?;

        let mut view_states = Vec::new();
        for definition in &pipeline.views {
            view_states.push(View::new(definition.clone(), hash_key)?);
        }
        let mut runner = Runner {
            log,
            identity,
            epochs: Arc::new(epochs),
            views: Arc::default(),
            shared: Arc::default(),
            sinks: Vec::new(),
            behind: BTreeSet::new(),
            marks: BTreeMap::new(),
            dedup: Vec::new(),
            view_states,
            position: Position::default(),
            unsure_until: Position::default(),
            epoch: 0,
            clock_ms: 0,
            bytes_at_checkpoint: 0,
            checkpoint_at: Instant::now(),
            epoch_at_checkpoint: 0,
            published_at: Instant::now(),
            unpublished_ms: None,
            fences: Vec::new(),
            ahead: Ahead::start()?,
            pace: Pace::new(config.epoch_rows),
            sources,
            pipeline,
            config,
        };
        runner.hold();
        runner.unsure_until = runner.ends();
        runner.restore(checkpoint, hash_key)?;
        runner.merge_epochs()?;
        for source in &mut runner.sources {
            source.seek(&runner.position);
            source.position(&mut runner.position);
        }
        for view in &mut runner.view_states {
            view.publish_all()?;
        }
        runner.publish();
        Ok((runner, start))
    }

    /// Where the sources end now.
    fn ends(&self) -> Position {
        let mut ends = Position::default();
        self.sources.iter().for_each(|source| source.ends(&mut ends));
        ends
    }

    fn restore(&mut self, checkpoint: Option<Checkpoint>, key: [u8; 16]) -> Result<(), EngineError> {
        let (meta, sections) = match checkpoint {
            Some(Checkpoint { meta, sections }) => (Some(meta), sections),
            None => (None, Vec::new()),
        };
        let mut sections = sections.into_iter();
        for (index, source) in self.sources.iter().enumerate() {
            let memory = sections.next().unwrap_or_default();
            let Some(definition) = &source.definition.dedup else {
                self.dedup.push(None);
                continue;
            };
            let config = DedupConfig { window_ms: millis(definition.window), ..self.config.dedup.clone() };
            let directory = self.config.directory.join("dedup").join(&source.definition.table);
            let manifest = meta.as_ref().and_then(|meta| meta.dedup.get(index).cloned().flatten()).unwrap_or_default();
            let set = DedupSet::open(self.config.disk.clone(), &directory, key, config, &manifest, &memory)?;
            self.dedup.push(Some(set));
        }
        for view in &mut self.view_states {
            view.groups.restore(&sections.next().unwrap_or_default())?;
        }
        if let Some(meta) = meta {
            self.epoch = meta.epoch;
            self.epoch_at_checkpoint = meta.epoch;
            self.clock_ms = meta.clock_ms;
            self.position = meta.position;
            self.marks = meta.sinks;
            for (source, watermark) in self.sources.iter_mut().zip(&meta.watermarks_ms) {
                source.watermark_ms = *watermark;
                meta.times.iter().for_each(|time| source.restore_time(time));
            }
        }
        Ok(())
    }

    /// Merges the deltas of the epochs after the checkpoint.
    fn merge_epochs(&mut self) -> Result<(), EngineError> {
        let mut cursor = self.epochs.cursor_at(self.epoch + 1);
        let began = Instant::now();
        let mut merged = 0u64;
        while let Some(epoch) = cursor.next_epoch()? {
            let delta = epoch.delta()?;
            let mut parts = Parts(&delta);
            for dedup in self.dedup.iter_mut().flatten() {
                dedup.merge(parts.next())?;
            }
            for view in &mut self.view_states {
                view.groups.merge(parts.next())?;
            }
            self.finish_epoch(&epoch.header)?;
            merged += 1;
        }
        if merged > 0 {
            tracing::info!(epochs = merged, took = ?began.elapsed(), "merged the epochs after the last checkpoint");
        }
        Ok(())
    }

    /// After a failure inside an epoch: back to the checkpoint and the epoch log.
    pub(super) fn reload(&mut self) -> Result<(), EngineError> {
        // What was cut ahead follows what failed.
        self.ahead.take();
        self.unsure_until = self.ends();
        let checkpoints = self.config.directory.join("checkpoints");
        let checkpoint = checkpoint::load(&*self.config.disk, &checkpoints, &self.identity)?;
        let key = load_key(&*self.config.disk, &self.config.directory)?;
        self.dedup.clear();
        self.view_states.clear();
        for definition in &self.pipeline.views {
            self.view_states.push(View::new(definition.clone(), key)?);
        }
        for source in &mut self.sources {
            source.reset();
        }
        (self.epoch, self.clock_ms, self.position) = (0, 0, self.epochs.start());
        self.restore(checkpoint, key)?;
        self.merge_epochs()?;
        for source in &mut self.sources {
            source.seek(&self.position);
            source.position(&mut self.position);
        }
        for view in &mut self.view_states {
            view.publish_all()?;
        }
        self.publish();
        Ok(())
    }
}

/// An epoch's delta is a list of length-prefixed parts: one per dedup set, then one per view.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// Empty once the delta ends; the state that gets it says that it is corrupt.
    fn next(&mut self) -> &'a [u8] {
        let Some((length, rest)) = self.0.split_first_chunk::<8>() else { return &[] };
        let length = u64::from_le_bytes(*length) as usize;
        let (part, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        self.0 = rest;
        part
    }
}

/// The secret that keys the hashes of ids and distinct values, made with the directory.
fn load_key(disk: &dyn Disk, directory: &Path) -> Result<[u8; 16], EngineError> {
    let path = directory.join("hash.key");
    let read = || {
        create_dir_durably(disk, directory)?;
        let file = disk.open(&path, true)?;
        let mut key = [0; 16];
        if file.read_at(&mut key, 0)? < key.len() {
            key = uuid::Uuid::new_v4().into_bytes();
            file.write_all_at(&key, 0)?;
            file.sync()?;
            disk.sync_dir(directory)?;
        }
        Ok::<_, std::io::Error>(key)
    };
    read().map_err(|error| failed(&path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::Checkpoint { path: PathBuf::from(path), reason: error.to_string() }
}
