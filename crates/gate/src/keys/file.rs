//! `keys/keys.json` in the data directory. The command line changes it whether or not a server runs; readers see the old
//! file or the new one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use playhouse_log::disk::{Disk, create_dir_durably, read_file, write_atomically};
use serde::{Deserialize, Serialize};

use super::grant::{Grant, GrantError};
use super::token::{Key, NewKey};

const MAGIC: &str = "playhouse-keys";
const VERSION: u32 = 1;
const KEYS_MAX: usize = 10_000;
const NAME_CHARACTERS_MAX: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot read or write {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is no file of API keys that this version can read: {reason}")]
    Format { path: PathBuf, reason: String },
    #[error("{0:?} is no name for a key: use 1 to {NAME_CHARACTERS_MAX} printable characters")]
    Name(String),
    #[error("a key named {0:?} is there already: revoke it, or choose another name")]
    NameTaken(String),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error("there are {KEYS_MAX} keys already: revoke some")]
    Full,
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

#[derive(Serialize, Deserialize)]
struct Contents {
    magic: String,
    version: u32,
    keys: Vec<Key>,
}

#[derive(Debug)]
pub struct KeyFile {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    path: PathBuf,
}

impl KeyFile {
    /// Of a data directory. Nothing is made before the first key.
    pub fn new(disk: Arc<dyn Disk>, data: &Path) -> KeyFile {
        let directory = data.join("keys");
        KeyFile { disk, path: directory.join("keys.json"), directory }
    }

    /// Where the file lies, or will.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn list(&self) -> Result<Vec<Key>, KeysError> {
        self.contents()?.map_or(Ok(Vec::new()), |contents| self.parse(&contents))
    }

    /// Makes a key and stores it durably. Processes that change keys have to take turns.
    pub fn create(&self, name: &str, grant: Grant, now_ms: i64) -> Result<NewKey, KeysError> {
        check(name)?;
        grant.check()?;
        let mut keys = self.list()?;
        if keys.iter().any(|key| key.name == name) {
            return Err(KeysError::NameTaken(name.to_owned()));
        }
        if keys.len() >= KEYS_MAX {
            return Err(KeysError::Full);
        }
        let made = NewKey::make(name, grant, now_ms)?;
        keys.push(made.key.clone());
        self.write(keys)?;
        Ok(made)
    }

    /// Removes the key with this id; whether there was one. Processes have to take turns here too.
    pub fn revoke(&self, id: &str) -> Result<bool, KeysError> {
        let mut keys = self.list()?;
        let before = keys.len();
        keys.retain(|key| key.id != id);
        if keys.len() == before {
            return Ok(false);
        }
        self.write(keys)?;
        Ok(true)
    }

    pub(super) fn contents(&self) -> Result<Option<Vec<u8>>, KeysError> {
        read_file(&*self.disk, &self.path).map_err(|source| self.failed(source))
    }

    pub(super) fn parse(&self, contents: &[u8]) -> Result<Vec<Key>, KeysError> {
        let refused = |reason: String| KeysError::Format { path: self.path.clone(), reason };
        let contents: Contents = serde_json::from_slice(contents).map_err(|error| refused(error.to_string()))?;
        if contents.magic != MAGIC || contents.version != VERSION {
            return Err(refused(format!("it is {:?}, version {}", contents.magic, contents.version)));
        }
        Ok(contents.keys)
    }

    fn write(&self, keys: Vec<Key>) -> Result<(), KeysError> {
        let contents = Contents { magic: MAGIC.to_owned(), version: VERSION, keys };
        let json = serde_json::to_vec_pretty(&contents).map_err(|error| self.failed(error.into()))?;
        create_dir_durably(&*self.disk, &self.directory)
            .and_then(|()| write_atomically(&*self.disk, &self.path, &json))
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> KeysError {
        KeysError::Io { path: self.path.clone(), source }
    }
}

fn check(name: &str) -> Result<(), KeysError> {
    let characters = name.chars().count();
    if !(1..=NAME_CHARACTERS_MAX).contains(&characters) || name.chars().any(char::is_control) {
        return Err(KeysError::Name(name.to_owned()));
    }
    Ok(())
}
