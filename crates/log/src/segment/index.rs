//! A sparse index file: fixed-size entries in ascending order, as Kafka's `.index` and `.timeindex`.
//!
//! Entries are collected in memory and written in runs, so that an append rarely touches the index file; the newest
//! stay in memory, where readers near the end of the log find them. The file is opened only to be written or searched:
//! a log of many segments holds no descriptors for them.

use std::io;
use std::path::PathBuf;

use crate::disk::{Disk, read_file};

/// Entries kept in memory before they are written, and that many again after.
const TAIL_ENTRIES: usize = 4096;

#[derive(Debug, Clone)]
pub struct SparseIndex<const N: usize> {
    path: PathBuf,
    /// The newest entries; those before `unwritten` are in the file, too.
    tail: Vec<[u8; N]>,
    unwritten: usize,
    /// Entries in the file.
    written: usize,
}

impl<const N: usize> SparseIndex<N> {
    /// An index whose file holds `entries`.
    pub fn on_disk(path: PathBuf, entries: usize) -> Self {
        SparseIndex { path, tail: Vec::new(), unwritten: 0, written: entries }
    }

    /// The index with `entries`; what else its file holds is cut off.
    pub fn resume(disk: &dyn Disk, path: PathBuf, entries: &[[u8; N]]) -> io::Result<Self> {
        if disk.exists(&path) && disk.open(&path, false)?.len()? == (entries.len() * N) as u64 {
            return Ok(Self::on_disk(path, entries.len()));
        }
        Self::rewrite(disk, path, entries)
    }

    /// Replaces the file by `entries`.
    fn rewrite(disk: &dyn Disk, path: PathBuf, entries: &[[u8; N]]) -> io::Result<Self> {
        let file = disk.open(&path, true)?;
        file.set_len(0)?;
        file.write_all_at(entries.as_flattened(), 0)?;
        Ok(Self::on_disk(path, entries.len()))
    }

    /// All entries of an index file; what is not a whole entry is left out.
    pub fn load(disk: &dyn Disk, path: &std::path::Path) -> io::Result<Vec<[u8; N]>> {
        let bytes = read_file(disk, path)?.unwrap_or_default();
        Ok(bytes.as_chunks::<N>().0.to_vec())
    }

    pub fn push(&mut self, disk: &dyn Disk, entry: [u8; N]) -> io::Result<()> {
        self.tail.push(entry);
        if self.tail.len() - self.unwritten >= TAIL_ENTRIES {
            self.flush(disk)?;
            self.tail.drain(..self.tail.len() - TAIL_ENTRIES);
            self.unwritten = self.tail.len();
        }
        Ok(())
    }

    /// Writes what is not in the file yet. Does not sync.
    pub fn flush(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let entries = &self.tail[self.unwritten..];
        if !entries.is_empty() {
            let file = disk.open(&self.path, true)?;
            file.write_all_at(entries.as_flattened(), (self.written * N) as u64)?;
            self.written += entries.len();
            self.unwritten = self.tail.len();
        }
        Ok(())
    }

    /// Entries in all.
    pub fn len(&self) -> usize {
        self.written + self.tail.len() - self.unwritten
    }

    /// Entries from the first on for which `before` does not hold; it holds for a prefix of the entries.
    pub fn after_where(&self, disk: &dyn Disk, before: impl Fn(&[u8; N]) -> bool) -> io::Result<Vec<[u8; N]>> {
        let mut found = Vec::new();
        let only_in_file = self.written - self.unwritten;
        if only_in_file > 0 && self.tail.first().is_none_or(|first| !before(first)) {
            let file = disk.open(&self.path, false)?;
            let (mut low, mut high) = (0, only_in_file);
            while low < high {
                let middle = (low + high) / 2;
                let mut entry = [0; N];
                if file.read_at(&mut entry, (middle * N) as u64)? == N && before(&entry) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            found.resize(only_in_file - low, [0; N]);
            let bytes = found.as_flattened_mut();
            if file.read_at(bytes, (low * N) as u64)? < bytes.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let in_tail = self.tail.partition_point(before);
        found.extend_from_slice(&self.tail[in_tail..]);
        Ok(found)
    }

    /// The last entry for which `at_or_before` holds; it holds for a prefix of the entries.
    pub fn last_where(&self, disk: &dyn Disk, at_or_before: impl Fn(&[u8; N]) -> bool) -> io::Result<Option<[u8; N]>> {
        let in_tail = self.tail.partition_point(&at_or_before);
        if in_tail > 0 {
            return Ok(Some(self.tail[in_tail - 1]));
        }
        let only_in_file = self.written - self.unwritten;
        if only_in_file == 0 {
            return Ok(None);
        }
        let file = disk.open(&self.path, false)?;
        let (mut low, mut high, mut found) = (0, only_in_file, None);
        while low < high {
            let middle = (low + high) / 2;
            let mut entry = [0; N];
            if file.read_at(&mut entry, (middle * N) as u64)? == N && at_or_before(&entry) {
                (low, found) = (middle + 1, Some(entry));
            } else {
                high = middle;
            }
        }
        Ok(found)
    }
}
