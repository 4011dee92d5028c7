//! The file operations that everything on disk goes through, so that a test can put a faulty disk underneath.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One open file. Offsets are absolute: there is no cursor to share.
pub trait DiskFile: Send + Sync + std::fmt::Debug {
    /// Reads until `buffer` is full or the file ends; returns how many bytes were read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes the whole buffer.
    fn write_all_at(&self, buffer: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A file system: [`RealDisk`] in production, a simulated one in tests (unsynced writes and directory entries are lost
/// in its power cut).
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Opens for reading and writing, creating an empty file when `create` and it is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable: creations, renames, removals.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Paths of the entries of a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    fn exists(&self, path: &Path) -> bool;
}
