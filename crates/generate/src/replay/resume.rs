//! How far an interrupted replay came, on disk.

use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::send::Summary;

/// What a replay must have in common with the one it continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeKey {
    /// The file's path, absolute.
    pub file: String,
    /// Where the events go.
    pub target: String,
    /// Whatever else changes what is sent: format, time shift.
    pub options: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    key: ResumeKey,
    /// The file's first bytes, as many as there were up to a limit: a file may grow, but not begin otherwise.
    head_bytes: u64,
    head_hash: String,
    /// Every line or element up to this one was acknowledged.
    acknowledged: u64,
    summary: Summary,
}

#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error("cannot read {path} to recognise it")]
    Head { path: String, source: io::Error },
    #[error("cannot keep the replay's progress in {path}")]
    Store { path: PathBuf, source: io::Error },
}

/// The progress of one replay. Dropping it leaves the state for the next; [`Resume::complete`] removes it.
#[derive(Debug)]
pub struct Resume {
    path: PathBuf,
    stored: Stored,
    saved: Option<Instant>,
}

const VERSION: u32 = 1;
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// Losing the last moments costs only sending them again: ids drop the repeats.
const SAVE_EVERY: Duration = Duration::from_secs(1);

impl Resume {
    /// Finds the state of an earlier replay with this key in `directory`, or begins anew. A state that cannot be read, or
    /// belongs to another content of the file, counts as none.
    pub fn find(directory: &Path, key: ResumeKey) -> Result<Self, ResumeError> {
        let path = directory.join(format!("{}.json", hash(format!("{key:?}").as_bytes())));
        let head = |limit| {
            head(Path::new(&key.file), limit).map_err(|source| ResumeError::Head { path: key.file.clone(), source })
        };
        if let Some(stored) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok())
            && stored.version == VERSION
            && stored.key == key
            && head(stored.head_bytes)? == (stored.head_bytes, stored.head_hash.clone())
        {
            return Ok(Self { path, stored, saved: None });
        }
        let (head_bytes, head_hash) = head(HEAD_BYTES_MAX)?;
        let summary = Summary::default();
        let stored = Stored { version: VERSION, key, head_bytes, head_hash, acknowledged: 0, summary };
        Ok(Self { path, stored, saved: None })
    }

    /// Forgets an earlier replay.
    pub fn restart(&mut self) {
        self.stored.acknowledged = 0;
        self.stored.summary = Summary::default();
    }

    /// The last line or element that was acknowledged, with all before it; 0 at the beginning.
    pub fn acknowledged(&self) -> u64 {
        self.stored.acknowledged
    }

    pub fn summary(&self) -> &Summary {
        &self.stored.summary
    }

    /// Notes progress; it reaches the disk about once a second.
    pub fn advance(&mut self, acknowledged: u64, summary: &Summary) -> Result<(), ResumeError> {
        if acknowledged != self.stored.acknowledged && self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY) {
            return self.save(acknowledged, summary);
        }
        Ok(())
    }

    /// Notes progress on disk, now.
    pub fn save(&mut self, acknowledged: u64, summary: &Summary) -> Result<(), ResumeError> {
        self.stored.acknowledged = acknowledged;
        self.stored.summary = summary.clone();
        let written = self.write();
        self.saved = Some(Instant::now());
        written.map_err(|source| ResumeError::Store { path: self.path.clone(), source })
    }

    /// Everything was acknowledged: nothing is left to resume.
    pub fn complete(self) -> Result<(), ResumeError> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ResumeError::Store { path: self.path, source })
            }
            _ => Ok(()),
        }
    }

    fn write(&self) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = File::create(&temporary)?;
        serde_json::to_writer(&mut file, &self.stored)?;
        file.flush()?;
        fs::rename(&temporary, &self.path)
    }
}

fn head(path: &Path, limit: u64) -> io::Result<(u64, String)> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64, hash(&bytes)))
}

fn hash(bytes: &[u8]) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    format!("{:032x}", hasher.finish128().as_u128())
}
