//! The data directory: one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const LOCK_FILE: &str = "LOCK";
const MAGIC: &str = "playhouse lock 1";

/// Held until dropped; the kernel lets go of it when the process ends in whatever way.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if need be, and locks it.
    pub fn open(path: &Path) -> Result<DataDirectory> {
        std::fs::create_dir_all(path).with_context(|| {
            format!("cannot create the data directory {}: choose another with --data DIR", path.display())
        })?;
        let file = path.join(LOCK_FILE);
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file).with_context(|| {
                format!("cannot write to the data directory {}: choose another with --data DIR", path.display())
            })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "the data directory {} is in use by {}: stop that process, or choose another with --data DIR",
                path.display(),
                holder_name(pid(&mut lock))
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", file.display()));
            }
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(format!("{MAGIC}\npid {}\n", std::process::id()).as_bytes()))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(DataDirectory { path: path.to_path_buf(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Who has the directory now, without taking it.
#[derive(Debug, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    Process(Option<u32>),
}

impl Holder {
    pub fn of(path: &Path) -> std::io::Result<Holder> {
        let mut lock = match File::open(path.join(LOCK_FILE)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Holder::Nobody),
            Err(error) => return Err(error),
        };
        // Shared, so that two who only look do not see each other.
        match lock.try_lock_shared() {
            Ok(()) => Ok(Holder::Nobody),
            Err(TryLockError::WouldBlock) => Ok(Holder::Process(pid(&mut lock))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

pub fn holder_name(pid: Option<u32>) -> String {
    pid.map_or("another process".to_string(), |pid| format!("process {pid}"))
}

fn pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(100).read_to_string(&mut text).ok()?;
    text.strip_prefix(MAGIC)?.trim().strip_prefix("pid ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        assert_eq!(Holder::of(&path).unwrap(), Holder::Nobody);
        let held = DataDirectory::open(&path).unwrap();
        assert_eq!(Holder::of(&path).unwrap(), Holder::Process(Some(std::process::id())));
        let refused = DataDirectory::open(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())) && refused.contains("--data"),
            "{refused}"
        );
        drop(held);
        assert_eq!(Holder::of(&path).unwrap(), Holder::Nobody);
        DataDirectory::open(&path).unwrap();
    }
}
