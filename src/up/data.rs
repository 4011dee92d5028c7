//! The data directory: made if missing, and locked by one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use playhouse_log::disk::{RealDisk, create_dir_durably};

pub struct DataDirectory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl DataDirectory {
    pub fn open(path: &Path) -> Result<DataDirectory> {
        let named = || format!("data directory {} (setting data, flag --data)", path.display());
        create_dir_durably(&RealDisk, &std::path::absolute(path)?).with_context(named)?;
        let path = path.canonicalize().with_context(named)?;
        let lock_path = path.join("playhouse.lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("{} is not writable", named()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = lock.read_to_string(&mut owner);
                bail!("{} is in use by process {}: stop it, or name another directory", named(), owner.trim());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock the {}", named()));
            }
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id()).with_context(|| format!("{} is not writable", named()))?;
        Ok(DataDirectory { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
