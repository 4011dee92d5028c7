//! `checkpoint.json`: up to where a partition is known to be whole on disk, and its producers at that point. Recovery
//! begins there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Partition;
use super::producers::Producers;
use crate::disk::{Disk, read_file, write_atomically};
use crate::segment::{self, Kind};

const FILE: &str = "checkpoint.json";
const MAGIC: &str = "playhouse-partition-checkpoint";
/// Version 1 knew neither transactions nor compaction.
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=2;
/// How much a crash may leave to be read again.
const INTERVAL_BYTES: u64 = 64 << 20;
const INTERVAL_MS: i64 = 10_000;

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    magic: String,
    version: u32,
    /// Every batch below this offset, and the index entries for it, are durable.
    pub recovery_point: i64,
    /// Records below it were deleted by request, though their segment may still hold them.
    #[serde(default)]
    pub log_start_offset: i64,
    #[serde(default)]
    pub compacted_to: i64,
    /// Entries of the transaction indexes of the segments that have any, by base offset.
    #[serde(default)]
    aborted: BTreeMap<i64, usize>,
    pub producers: Producers,
}

impl Checkpoint {
    /// `None` when there is none that this version understands: then all of the partition is read again.
    pub fn load(disk: &dyn Disk, directory: &Path) -> io::Result<Option<Checkpoint>> {
        let path = directory.join(FILE);
        let Some(contents) = read_file(disk, &path)? else { return Ok(None) };
        let (json, whole) = unsealed(&contents);
        let checkpoint = serde_json::from_slice::<Checkpoint>(json).ok();
        let known = checkpoint.filter(|checkpoint| {
            // Version 1 bore no checksum.
            checkpoint.magic == MAGIC && VERSIONS.contains(&checkpoint.version) && (whole || checkpoint.version == 1)
        });
        if known.is_none() {
            tracing::warn!(path = %path.display(), "checkpoint is not readable: recovering from the whole partition");
        }
        Ok(known)
    }

    /// Whether the transaction indexes are as long as they were: if not, they are made anew from the whole partition.
    pub fn has_transaction_indexes(&self, disk: &dyn Disk, directory: &Path, bases: &[i64]) -> bool {
        let whole = |(&base, &entries): (&i64, &usize)| {
            let path = segment::path(directory, base, Kind::TxnIndex);
            !bases.contains(&base)
                || disk
                    .open(&path, false)
                    .and_then(|file| file.len())
                    .is_ok_and(|bytes| bytes >= (entries * segment::ABORTED_ENTRY_BYTES) as u64)
        };
        let whole = self.aborted.iter().all(whole);
        if !whole {
            tracing::warn!(directory = %directory.display(), "a transaction index is damaged: recovering from the whole partition");
        }
        whole
    }
}

/// The contents with a line after them that tells their checksum.
fn sealed(mut contents: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&contents);
    contents.extend_from_slice(format!("\n{sum:08x}\n").as_bytes());
    contents
}

/// The contents, and whether their checksum is there and right.
fn unsealed(file: &[u8]) -> (&[u8], bool) {
    let Some((contents, seal)) = file.split_last_chunk::<10>() else { return (file, false) };
    let whole = format!("\n{:08x}\n", crc32c::crc32c(contents)).as_bytes() == seal;
    if whole { (contents, true) } else { (file, false) }
}

/// What a partition remembers of its last checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastCheckpoint {
    pub offset: i64,
    /// What it tells of the log's start and of compaction.
    pub told: (i64, i64),
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
            if due {
                state.producers.expire(now_ms);
            }
            let (log_start_offset, compacted_to) = (self.log_start_offset(), state.compacted_to);
            let told = (log_start_offset, compacted_to);
            let same = end.offset == last.offset && told == last.told;
            if self.failure().is_some() || same || !(now || due) {
                return Ok(());
            }
            state.active.flush_indexes(disk)?;
            let all = state.closed.iter().chain([&state.active.summary]);
            let aborted = all.filter(|segment| segment.aborted_count() > 0);
            let aborted = aborted.map(|segment| (segment.base_offset, segment.aborted_count())).collect();
            let closed = state.closed.iter().map(|closed| closed.base_offset).filter(|base| *base >= last.segment);
            let segments: Vec<i64> = closed.chain([end.segment]).collect();
            state.checkpoint.bytes_since = 0;
            state.checkpoint.at_ms = now_ms;
            let producers = state.producers.clone();
            let checkpoint = Checkpoint {
                magic: MAGIC.into(),
                version: *VERSIONS.end(),
                recovery_point: end.offset,
                log_start_offset,
                compacted_to,
                aborted,
                producers,
            };
            (checkpoint, segments, end)
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
            self.advance_synced(&mut self.state.lock(), end);
        }
        for kind in [Kind::Index, Kind::TimeIndex, Kind::TxnIndex] {
            self.sync_segments(&segments, kind)?;
        }
        if !checkpoint.aborted.is_empty() {
            // A transaction index may have been created by this checkpoint.
            disk.sync_dir(&self.directory)?;
        }
        write_atomically(disk, &self.directory.join(FILE), &sealed(serde_json::to_vec(&checkpoint)?))?;
        let mut state = self.state.lock();
        state.checkpoint.offset = checkpoint.recovery_point;
        state.checkpoint.told = (checkpoint.log_start_offset, checkpoint.compacted_to);
        state.checkpoint.segment = end.segment;
        Ok(())
    }

    pub(super) fn sync_segments(&self, bases: &[i64], kind: Kind) -> io::Result<()> {
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
