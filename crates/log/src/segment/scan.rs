//! Reading through the batches of a segment, checking every byte, to find where what is whole ends.

use std::io;

use crate::batch::{BatchError, BatchHeader, HEADER_BYTES, verify_crc};
use crate::disk::DiskFile;

const CHUNK_BYTES: usize = 1 << 20;

/// How far a segment is whole.
#[derive(Debug)]
pub struct Scanned {
    pub end: u64,
    /// Why it is not whole to its end.
    pub damage: Option<String>,
}

/// Offsets run on from batch to batch, but for where compaction took batches out: below this offset.
#[derive(Debug, Clone, Copy)]
pub struct Gaps(pub i64);

/// Visits each whole batch from `position` on, with its bytes and its position. `expected_offset` is the first one's base
/// offset, when that is known.
pub fn scan(
    file: &dyn DiskFile,
    mut position: u64,
    mut expected_offset: Option<i64>,
    Gaps(gaps_below): Gaps,
    mut visit: impl FnMut(&BatchHeader, &[u8], u64),
) -> io::Result<Scanned> {
    let len = file.len()?;
    let mut chunk = vec![0; CHUNK_BYTES.min((len - position.min(len)) as usize)];
    let (mut start, mut filled) = (position, 0);
    let damage = loop {
        if position == len {
            break None;
        }
        let available = chunk.get((position - start) as usize..filled).unwrap_or_default();
        let (header, needed) = match BatchHeader::parse(available) {
            Ok(header) => (Some(header), header.total_bytes),
            Err(BatchError::Truncated { .. }) => (None, HEADER_BYTES),
            Err(error) => break Some(error.to_string()),
        };
        if position + needed as u64 > len {
            break Some(format!("the file ends inside a batch of {needed} bytes"));
        }
        let Some((header, batch)) = header.zip(available.get(..needed)) else {
            if chunk.len() < needed {
                chunk.resize(needed, 0);
            }
            filled = file.read_at(&mut chunk, position)?;
            start = position;
            if filled < needed {
                break Some("the file is shorter than it says".into());
            }
            continue;
        };
        if let Err(error) = verify_crc(batch) {
            break Some(error.to_string());
        }
        let follows = |expected: i64| {
            header.base_offset == expected || (expected < header.base_offset && header.base_offset < gaps_below)
        };
        if let Some(expected) = expected_offset.filter(|expected| !follows(*expected)) {
            break Some(format!("offset {} where {expected} should be", header.base_offset));
        }
        visit(&header, batch, position);
        expected_offset = Some(header.next_offset());
        position += needed as u64;
    };
    Ok(Scanned { end: position, damage })
}
