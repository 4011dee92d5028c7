//! `checkpoint.json`: up to where a partition is known to be whole on disk, and its producers at that point. Recovery
//! begins there.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Partition;
use super::producers::Producers;
use crate::disk::{Disk, read_file, write_atomically};
use crate::segment::{self, Kind};

const FILE: &str = "checkpoint.json";
const MAGIC: &str = "playhouse-partition-checkpoint";
const VERSION: u32 = 1;
/// How much a crash may leave to be read again.
const INTERVAL_BYTES: u64 = 64 << 20;
const INTERVAL_MS: i64 = 10_000;

#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    magic: String,
    version: u32,
    /// Every batch below this offset, and the index entries for it, are durable.
    pub recovery_point: i64,
    pub producers: Producers,
}

impl Checkpoint {
    /// `None` when there is none that this version understands: then all of the partition is read again.
    pub fn load(disk: &dyn Disk, directory: &Path) -> io::Result<Option<Checkpoint>> {
        let path = directory.join(FILE);
        let Some(contents) = read_file(disk, &path)? else { return Ok(None) };
        let checkpoint = serde_json::from_slice::<Checkpoint>(&contents).ok();
        let known = checkpoint.filter(|checkpoint| checkpoint.magic == MAGIC && checkpoint.version == VERSION);
        if known.is_none() {
            tracing::warn!(path = %path.display(), "checkpoint is not readable: recovering from the whole partition");
        }
        Ok(known)
    }
}

/// What a partition remembers of its last checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastCheckpoint {
    pub offset: i64,
    /// Segments below this one are durable with their indexes.
    pub segment: i64,
    pub bytes_since: u64,
    pub at_ms: i64,
}

impl Partition {
    /// Writes a checkpoint if one is due, or has anything to tell and `now`.
    pub(crate) fn checkpoint(&self, now: bool) -> io::Result<()> {
        let _turn = self.checkpointing.lock();
        let now_ms = self.shared.clock.now_ms();
        let disk = &*self.shared.disk;
        let (checkpoint, segments, end) = {
            let mut state = self.state.lock();
            let last = state.checkpoint;
            let due = last.bytes_since >= INTERVAL_BYTES || (now_ms - last.at_ms).abs() >= INTERVAL_MS;
            let end = state.end();
            if self.failure().is_some() || end.offset == last.offset || !(now || due) {
                return Ok(());
            }
            state.active.flush_indexes(disk)?;
            state.producers.expire(now_ms);
            let closed = state.closed.iter().map(|closed| closed.base_offset).filter(|base| *base >= last.segment);
            let segments: Vec<i64> = closed.chain([end.segment]).collect();
            state.checkpoint.bytes_since = 0;
            state.checkpoint.at_ms = now_ms;
            let producers = state.producers.clone();
            let recovery_point = end.offset;
            (Checkpoint { magic: MAGIC.into(), version: VERSION, recovery_point, producers }, segments, end)
        };
        {
            let _turn = self.syncing.lock();
            if self.failure().is_some() {
                return Ok(());
            }
            self.sync_segments(&segments, Kind::Log)
                .and_then(|()| disk.sync_dir(&self.directory))
                .inspect_err(|error| self.fail_after_sync(error))?;
            // Before the checkpoint says so: nothing cuts the log below a recovery point.
            self.advance(&mut self.state.lock(), end);
        }
        self.sync_segments(&segments, Kind::Index)?;
        self.sync_segments(&segments, Kind::TimeIndex)?;
        write_atomically(disk, &self.directory.join(FILE), &serde_json::to_vec(&checkpoint)?)?;
        let mut state = self.state.lock();
        state.checkpoint.offset = checkpoint.recovery_point;
        state.checkpoint.segment = end.segment;
        Ok(())
    }

    fn sync_segments(&self, bases: &[i64], kind: Kind) -> io::Result<()> {
        for &base in bases {
            match self.shared.disk.open(&segment::path(&self.directory, base, kind), false) {
                Ok(file) => file.sync()?,
                // Retention was here meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
