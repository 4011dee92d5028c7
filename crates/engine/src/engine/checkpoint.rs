//! Checkpoints: the whole state after one epoch, in one checksummed file.
//!
//! ```text
//! "PLAYSTAT"    u32 version    u32 CRC-32C of all that follows    u32 length of the meta data
//! meta data (JSON)    for each section: its parts (u64 length, bytes), and a length of 0
//! ```
//! A checkpoint is written beside the last one and renamed into place; the last one goes once it is durable. It is written
//! part by part, so that it takes no second copy of the state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use playhouse_log::disk::Disk;
use serde::{Deserialize, Serialize};

use super::EngineError;
use crate::Position;
use crate::epoch::{Identity, PartitionTime};
use crate::sink::SinkMark;
use crate::state::dedup::Manifest;

const MAGIC: &[u8; 8] = b"PLAYSTAT";
const FORMAT_VERSION: u32 = 3;
const HEAD_BYTES: usize = 20;
/// Where what the checksum covers begins.
const CHECKED_AT: usize = 16;
/// How much of a section is made and written at a time, about.
pub(super) const PART_BYTES: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) identity: Identity,
    /// The newest epoch in the state.
    pub(super) epoch: u64,
    pub(super) clock_ms: i64,
    pub(super) position: Position,
    pub(super) watermarks_ms: Vec<Option<i64>>,
    pub(super) times: Vec<PartitionTime>,
    /// By sink.
    pub(super) sinks: BTreeMap<String, SinkMark>,
    /// By source; the ids in memory are the first sections.
    pub(super) dedup: Vec<Option<Manifest>>,
}

#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) meta: Meta,
    /// One per source, then one per view.
    pub(super) sections: Vec<Vec<u8>>,
}

/// A section while it is written.
pub(super) type Parts<'a> = Box<dyn Iterator<Item = Vec<u8>> + 'a>;

/// One section per source, then one per view.
pub(super) fn write(
    disk: &dyn Disk,
    directory: &Path,
    meta: &Meta,
    sections: Vec<Parts<'_>>,
) -> Result<(), EngineError> {
    let path = directory.join(format!("{:020}.state", meta.epoch));
    let failed = |reason: String| EngineError::Checkpoint { path: path.clone(), reason };
    let meta = serde_json::to_vec(meta).map_err(|error| failed(error.to_string()))?;
    let write = || {
        let staged = path.with_extension("staged");
        let file = disk.open(&staged, true)?;
        file.set_len(0)?;
        let (mut at, mut crc) = (CHECKED_AT as u64, 0);
        let mut put = |bytes: &[u8]| {
            crc = crc32c::crc32c_append(crc, bytes);
            file.write_all_at(bytes, at)?;
            at += bytes.len() as u64;
            Ok::<_, std::io::Error>(())
        };
        put(&(meta.len() as u32).to_le_bytes())?;
        put(&meta)?;
        for section in sections {
            for part in section.filter(|part| !part.is_empty()) {
                put(&(part.len() as u64).to_le_bytes())?;
                put(&part)?;
            }
            put(&0u64.to_le_bytes())?;
        }
        let mut head = [0; CHECKED_AT];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        head[12..].copy_from_slice(&crc.to_le_bytes());
        file.write_all_at(&head, 0)?;
        file.sync()?;
        disk.rename(&staged, &path)?;
        disk.sync_dir(directory)?;
        for other in disk.list(directory)? {
            if is_checkpoint(&other) && other < path {
                disk.remove_file(&other)?;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    write().map_err(|error| failed(error.to_string()))
}

/// Removes all checkpoints, durably: before epochs are counted from 1 again.
pub(super) fn remove_all(disk: &dyn Disk, directory: &Path) -> Result<(), EngineError> {
    if !disk.exists(directory) {
        return Ok(());
    }
    for path in disk.list(directory).map_err(|error| io(directory, &error))? {
        disk.remove_file(&path).map_err(|error| io(&path, &error))?;
    }
    disk.sync_dir(directory).map_err(|error| io(directory, &error))
}

/// The newest whole checkpoint of `identity`.
pub(super) fn load(disk: &dyn Disk, directory: &Path, identity: &Identity) -> Result<Option<Checkpoint>, EngineError> {
    let mut paths: Vec<PathBuf> = match disk.exists(directory) {
        true => disk.list(directory).map_err(|error| io(directory, &error))?,
        false => Vec::new(),
    };
    paths.retain(|path| is_checkpoint(path));
    for path in paths.iter().rev() {
        let file = disk.open(path, false).map_err(|error| io(path, &error))?;
        let mut bytes = vec![0; file.len().map_err(|error| io(path, &error))? as usize];
        file.read_at(&mut bytes, 0).map_err(|error| io(path, &error))?;
        match decode(&bytes) {
            Some(checkpoint) if checkpoint.meta.identity == *identity => return Ok(Some(checkpoint)),
            Some(_) => {}
            None => tracing::warn!(path = %path.display(), "passing over a torn checkpoint"),
        }
    }
    Ok(None)
}

fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let (head, mut body) = bytes.split_at_checked(HEAD_BYTES)?;
    let field = |at: usize| head[at..at + 4].try_into().ok().map(u32::from_le_bytes);
    if &head[..8] != MAGIC || field(8)? != FORMAT_VERSION || crc32c::crc32c(&bytes[CHECKED_AT..]) != field(12)? {
        return None;
    }
    let meta = serde_json::from_slice(take(&mut body, field(16)? as usize)?).ok()?;
    let mut sections = Vec::new();
    while !body.is_empty() {
        let mut section = Vec::new();
        loop {
            match u64::from_le_bytes(take(&mut body, 8)?.try_into().ok()?) {
                0 => break,
                length => section.extend_from_slice(take(&mut body, length as usize)?),
            }
        }
        sections.push(section);
    }
    Some(Checkpoint { meta, sections })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn is_checkpoint(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "state")
}

fn io(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::Checkpoint { path: path.to_owned(), reason: error.to_string() }
}
