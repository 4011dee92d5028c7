//! The file operations that everything on disk goes through, so that a test can put a faulty disk underneath.

mod real;
mod simulated;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use real::RealDisk;
pub use simulated::SimulatedDisk;

/// One open file. Offsets are absolute: there is no cursor to share.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Send + Sync + std::fmt::Debug {
    /// Reads until `buffer` is full or the file ends; returns how many bytes were read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes the whole buffer.
    fn write_all_at(&self, buffer: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The file as the operating system knows it, so that it can send parts of it by itself; `None` where it knows none.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
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

/// Replaces a small file so that a crash leaves either the old contents or the new, and makes it durable. Callers that
/// replace the same file at the same time must take turns.
pub fn write_atomically(disk: &dyn Disk, path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let temporary = directory.join(".new");
    let file = disk.open(&temporary, true)?;
    file.set_len(0)?;
    file.write_all_at(contents, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(directory)
}

/// The contents of a small file, `None` when it does not exist.
pub fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if !disk.exists(path) {
        return Ok(None);
    }
    let file = disk.open(path, false)?;
    let mut contents = vec![0; file.len()? as usize];
    let read = file.read_at(&mut contents, 0)?;
    contents.truncate(read);
    Ok(Some(contents))
}

/// Creates a directory and its missing ancestors, and makes their entries durable.
pub fn create_dir_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !disk.exists(ancestor)).collect();
    disk.create_dir_all(path)?;
    for created in missing.into_iter().rev() {
        if let Some(parent) = created.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent)?;
        }
    }
    Ok(())
}
