//! A run: sorted 128-bit hashes in a file, never changed.
//!
//! Hashes are uniform, so a hash's place follows from its value: one guess and one read of [`PAGE_IDS`] hashes around it
//! nearly always decides.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use playhouse_log::disk::{Disk, DiskFile};

use super::DedupError;

const MAGIC: &[u8; 8] = b"PLAYDDUP";
const FORMAT_VERSION: u32 = 1;
/// Magic, version, CRC-32C of the hashes.
const HEAD_BYTES: u64 = 16;
const ID_BYTES: u64 = 16;
const PAGE_IDS: u64 = 256;
/// Hashes per read of a whole run.
const CHUNK_IDS: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    ids: u64,
}

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}.ids"))
}

impl Run {
    pub(super) fn write(disk: &dyn Disk, directory: &Path, path: &Path, hashes: &[u128]) -> Result<Run, DedupError> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES as usize + hashes.len() * ID_BYTES as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for hash in hashes {
            bytes.extend_from_slice(&hash.to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes[HEAD_BYTES as usize..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let write = || {
            let file = disk.open(path, true)?;
            file.set_len(0)?;
            file.write_all_at(&bytes, 0)?;
            file.sync()?;
            disk.sync_dir(directory)?;
            Ok(file)
        };
        let file = write().map_err(|source| DedupError::Io { path: path.to_owned(), source })?;
        Ok(Run { path: path.to_owned(), file, ids: hashes.len() as u64 })
    }

    pub(super) fn open(disk: &dyn Disk, path: &Path, ids: u64) -> Result<Run, DedupError> {
        let io = |source| DedupError::Io { path: path.to_owned(), source };
        let file = disk.open(path, false).map_err(io)?;
        let mut head = [0u8; HEAD_BYTES as usize];
        let read = file.read_at(&mut head, 0).map_err(io)?;
        let whole = file.len().map_err(io)? == HEAD_BYTES + ids * ID_BYTES;
        if read < head.len() || &head[..8] != MAGIC || head[8..12] != FORMAT_VERSION.to_le_bytes() || !whole {
            return Err(DedupError::Corrupt(path.to_owned()));
        }
        Ok(Run { path: path.to_owned(), file, ids })
    }

    /// Calls `visit` with every hash, and verifies the checksum.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u128)) -> Result<(), DedupError> {
        let mut head = [0u8; HEAD_BYTES as usize];
        self.file.read_at(&mut head, 0).map_err(|source| self.io(source))?;
        let expected = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        let mut crc = 0;
        let mut at = 0;
        while at < self.ids {
            let page = self.page(at, CHUNK_IDS)?;
            crc = crc32c::crc32c_append(crc, &page);
            hashes(&page).for_each(&mut visit);
            at += CHUNK_IDS;
        }
        if crc != expected {
            return Err(DedupError::Corrupt(self.path.clone()));
        }
        Ok(())
    }

    pub(super) fn contains(&self, hash: u128) -> Result<bool, DedupError> {
        if self.ids == 0 {
            return Ok(false);
        }
        let guess = ((u128::from((hash >> 64) as u64) * u128::from(self.ids)) >> 64) as u64;
        let mut start = guess.saturating_sub(PAGE_IDS / 2);
        let (mut went_left, mut went_right) = (false, false);
        loop {
            let page = self.page(start, PAGE_IDS)?;
            let (Some(first), Some(last)) = (hashes(&page).next(), hashes(&page).next_back()) else { return Ok(false) };
            if hash < first {
                // Having come from the left, it would stand between the two pages.
                if start == 0 || went_right {
                    return Ok(false);
                }
                went_left = true;
                start = start.saturating_sub(PAGE_IDS);
            } else if hash > last {
                start += PAGE_IDS;
                if start >= self.ids || went_left {
                    return Ok(false);
                }
                went_right = true;
            } else {
                return Ok(hashes(&page).any(|other| other == hash));
            }
        }
    }

    fn page(&self, start: u64, ids: u64) -> Result<Vec<u8>, DedupError> {
        let count = ids.min(self.ids.saturating_sub(start));
        let mut page = vec![0; (count * ID_BYTES) as usize];
        let read = self.file.read_at(&mut page, HEAD_BYTES + start * ID_BYTES).map_err(|source| self.io(source))?;
        if read < page.len() {
            return Err(DedupError::Corrupt(self.path.clone()));
        }
        Ok(page)
    }

    fn io(&self, source: std::io::Error) -> DedupError {
        DedupError::Io { path: self.path.clone(), source }
    }
}

fn hashes(page: &[u8]) -> impl DoubleEndedIterator<Item = u128> {
    page.as_chunks::<{ ID_BYTES as usize }>().0.iter().map(|bytes| u128::from_be_bytes(*bytes))
}
