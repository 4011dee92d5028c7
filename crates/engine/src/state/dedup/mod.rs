//! The dedup set: which ids have been seen within the window. The first wins.
//!
//! An id is kept as a 128-bit keyed hash (SipHash; the key is secret to the data directory, so nobody can craft an id
//! that drops another's event). New hashes gather in memory; every [`DedupConfig::run_ids`] of them become a sorted,
//! immutable [`run::Run`] on disk. Runs are grouped into generations with one [`filter::Filter`] each: a look-up costs a cache
//! line per generation, and touches the disk only where a filter says "maybe". The truth is on disk, so an answer is
//! exact.
//!
//! Ids leave by generation, once the newest id in it is older than the window (so the window in force is at least the one
//! declared), or when the budget is reached: then the oldest generation goes early, and [`DedupSet::window_ms`] tells.

mod filter;
mod run;

use std::collections::VecDeque;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashSet;
use playhouse_log::disk::{Disk, create_dir_durably};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};

use self::filter::Filter;
use self::run::Run;
use super::bytes::{Corrupt, Reader};

#[derive(Debug, Clone)]
pub struct DedupConfig {
    /// How long an id is remembered, in ms of ingest time.
    pub window_ms: i64,
    /// Ids kept at most; 16 bytes of disk and 1.6 bytes of memory each.
    pub budget_ids: usize,
    /// Ids in memory before they become a run.
    pub run_ids: usize,
    /// Runs that share a filter.
    pub generation_runs: usize,
}

impl Default for DedupConfig {
    fn default() -> Self {
        // With the largest epoch on top the memory's table is exactly as full as it may be before it doubles.
        DedupConfig { window_ms: 24 * 3600 * 1000, budget_ids: 32 << 20, run_ids: 384 << 10, generation_runs: 16 }
    }
}

/// What a checkpoint records of the runs; the ids in memory follow as bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Manifest {
    next_run: u64,
    generations: Vec<Vec<RunEntry>>,
    memory_oldest_ms: Option<i64>,
    memory_newest_ms: Option<i64>,
    shortened_to_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RunEntry {
    number: u64,
    ids: u64,
    oldest_ms: i64,
    newest_ms: i64,
}

const FILTER_EXTENSION: &str = "filter";

#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    #[error("dedup state {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("dedup state {0} is corrupt")]
    Corrupt(PathBuf),
    #[error(transparent)]
    Encoding(#[from] Corrupt),
}

#[derive(Debug)]
struct Generation {
    filter: Filter,
    runs: Vec<(RunEntry, Run)>,
}

impl Generation {
    fn newest_ms(&self) -> i64 {
        self.runs.iter().map(|(entry, _)| entry.newest_ms).max().unwrap_or(i64::MIN)
    }

    fn ids(&self) -> u64 {
        self.runs.iter().map(|(entry, _)| entry.ids).sum()
    }
}

#[derive(Debug)]
pub struct DedupSet {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    key: [u8; 16],
    config: DedupConfig,
    memory: HashSet<u128, foldhash::fast::FixedState>,
    memory_oldest_ms: Option<i64>,
    memory_newest_ms: Option<i64>,
    /// Oldest first; the last one takes new runs.
    generations: VecDeque<Generation>,
    next_run: u64,
    /// Hashes added since the last [`DedupSet::take_delta`].
    added: Vec<u128>,
    added_ms: i64,
    shortened_to_ms: Option<i64>,
    /// Runs that no later checkpoint needs: removed once one is durable.
    retired: Vec<PathBuf>,
}

impl DedupSet {
    /// An empty set; files of an earlier one in `directory` are removed.
    pub fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        key: [u8; 16],
        config: DedupConfig,
    ) -> Result<DedupSet, DedupError> {
        Self::open(disk, directory, key, config, &Manifest::default(), &[])
    }

    /// The set as of a checkpoint; merge the deltas after it with [`DedupSet::merge`].
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        key: [u8; 16],
        config: DedupConfig,
        manifest: &Manifest,
        memory: &[u8],
    ) -> Result<DedupSet, DedupError> {
        let io = |source| DedupError::Io { path: directory.to_owned(), source };
        create_dir_durably(&*disk, directory).map_err(io)?;
        let runs = manifest.generations.iter().flatten();
        let kept: Vec<PathBuf> = runs
            .map(|entry| run::path(directory, entry.number))
            .flat_map(|path| [path.with_extension(FILTER_EXTENSION), path])
            .collect();
        for path in disk.list(directory).map_err(io)? {
            if !kept.contains(&path) {
                disk.remove_file(&path).map_err(io)?;
            }
        }
        let mut set = DedupSet {
            memory: HashSet::with_capacity_and_hasher(config.run_ids, foldhash::fast::FixedState::default()),
            memory_oldest_ms: manifest.memory_oldest_ms,
            memory_newest_ms: manifest.memory_newest_ms,
            generations: VecDeque::new(),
            next_run: manifest.next_run,
            added: Vec::new(),
            added_ms: 0,
            shortened_to_ms: manifest.shortened_to_ms,
            retired: Vec::new(),
            disk,
            directory: directory.to_owned(),
            key,
            config,
        };
        for (index, entries) in manifest.generations.iter().enumerate() {
            let mut generation = set.new_generation();
            for entry in entries {
                let path = run::path(directory, entry.number);
                generation.runs.push((*entry, Run::open(&*set.disk, &path, entry.ids)?));
            }
            let sealed = index + 1 < manifest.generations.len();
            let loaded = sealed && generation.filter.read(&*set.disk, &set.filter_path(&generation));
            if !loaded {
                let filter = &mut generation.filter;
                generation.runs.iter().try_for_each(|(_, run)| run.for_each(|hash| filter.insert(hash)))?;
            }
            set.generations.push_back(generation);
        }
        let mut reader = Reader(memory);
        while !reader.is_empty() {
            set.memory.insert(reader.u128()?);
        }
        Ok(set)
    }

    pub fn hash(&self, id: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(id);
        hasher.finish128().as_u128()
    }

    /// Remembers an id; `false` if it was there already.
    pub fn insert(&mut self, id: &[u8], ingested_ms: i64) -> Result<bool, DedupError> {
        self.insert_hash(self.hash(id), ingested_ms)
    }

    /// [`DedupSet::insert`], given [`DedupSet::hash`]: many ids are hashed first, so that the look-ups in a table far larger
    /// than the processor's caches overlap.
    pub fn insert_hash(&mut self, hash: u128, ingested_ms: i64) -> Result<bool, DedupError> {
        // Most ids are new: one look-up decides and inserts.
        if !self.memory.insert(hash) {
            return Ok(false);
        }
        if self.is_on_disk(hash)? {
            self.memory.remove(&hash);
            return Ok(false);
        }
        self.saw_at(ingested_ms);
        self.added.push(hash);
        self.added_ms = self.added_ms.max(ingested_ms);
        Ok(true)
    }

    /// Whether it is there.
    pub fn contains_hash(&self, hash: u128) -> Result<bool, DedupError> {
        Ok(self.memory.contains(&hash) || self.is_on_disk(hash)?)
    }

    /// Forgets what was inserted since the last [`DedupSet::take_delta`], which must not have been maintained since. (The
    /// times stay: ids in memory may count as a little older than they are.)
    pub fn take_back(&mut self) {
        for hash in self.added.drain(..) {
            self.memory.remove(&hash);
        }
        self.added_ms = 0;
    }

    fn is_on_disk(&self, hash: u128) -> Result<bool, DedupError> {
        // The newest first: repeats are mostly recent.
        for generation in self.generations.iter().rev() {
            if generation.filter.may_contain(hash) {
                for (_, run) in generation.runs.iter().rev() {
                    if run.contains(hash)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Appends to `out` what [`DedupSet::insert`] added since the last call.
    pub fn take_delta(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.added_ms.to_le_bytes());
        out.reserve(self.added.len() * 16);
        for hash in self.added.drain(..) {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        self.added_ms = 0;
    }

    /// Merges the delta of an epoch, in recovery.
    pub fn merge(&mut self, delta: &[u8]) -> Result<(), DedupError> {
        let mut reader = Reader(delta);
        let ingested_ms = reader.i64()?;
        while !reader.is_empty() {
            self.memory.insert(reader.u128()?);
            self.saw_at(ingested_ms);
        }
        Ok(())
    }

    /// An id that is now in memory came at this time.
    fn saw_at(&mut self, ingested_ms: i64) {
        self.memory_oldest_ms = Some(self.memory_oldest_ms.map_or(ingested_ms, |oldest| oldest.min(ingested_ms)));
        self.memory_newest_ms = Some(self.memory_newest_ms.map_or(ingested_ms, |newest| newest.max(ingested_ms)));
    }

    /// Between epochs: turns a full memory into a run, forgets what has left the window. Returns whether the files
    /// changed, so that a checkpoint is due.
    pub fn maintain(&mut self, clock_ms: i64) -> Result<bool, DedupError> {
        let mut changed = false;
        let aged = self.memory_oldest_ms.is_some_and(|oldest| oldest < clock_ms - self.config.window_ms / 8);
        if self.memory.len() >= self.config.run_ids || (aged && !self.memory.is_empty()) {
            self.spill()?;
            changed = true;
        }
        while let Some(oldest) = self.generations.front() {
            let expired = oldest.newest_ms() < clock_ms - self.config.window_ms;
            let over = self.len() > self.config.budget_ids as u64 && self.generations.len() > 1;
            if !expired && !over {
                break;
            }
            let window = clock_ms - oldest.newest_ms();
            if over && !expired && self.shortened_to_ms.is_none_or(|shortened| window < shortened) {
                self.shortened_to_ms = Some(window);
                tracing::warn!(window_ms = window, "the dedup set is at its budget: its window is shortened");
            }
            if let Some(generation) = self.generations.pop_front() {
                let filter = self.filter_path(&generation);
                if self.disk.exists(&filter) {
                    self.retired.push(filter);
                }
                self.retired.extend(generation.runs.iter().map(|(entry, _)| run::path(&self.directory, entry.number)));
            }
            changed = true;
        }
        Ok(changed)
    }

    fn spill(&mut self) -> Result<(), DedupError> {
        let mut hashes: Vec<u128> = self.memory.drain().collect();
        hashes.sort_unstable();
        let number = self.next_run;
        self.next_run += 1;
        let path = run::path(&self.directory, number);
        let run = Run::write(&*self.disk, &self.directory, &path, &hashes)?;
        let entry = RunEntry {
            number,
            ids: hashes.len() as u64,
            oldest_ms: self.memory_oldest_ms.take().unwrap_or_default(),
            newest_ms: self.memory_newest_ms.take().unwrap_or_default(),
        };
        let full = self.generations.back().is_none_or(|generation| {
            generation.runs.len() >= self.config.generation_runs
                || generation.ids() + entry.ids > self.capacity() as u64
        });
        if full {
            if let Some(sealed) = self.generations.back() {
                sealed.filter.write(&*self.disk, &self.filter_path(sealed))?;
            }
            let generation = self.new_generation();
            self.generations.push_back(generation);
        }
        if let Some(generation) = self.generations.back_mut() {
            hashes.iter().for_each(|hash| generation.filter.insert(*hash));
            generation.runs.push((entry, run));
        }
        Ok(())
    }

    /// A sealed generation's filter lies beside its first run. It is only a shortcut: without it the runs are read.
    fn filter_path(&self, generation: &Generation) -> PathBuf {
        let first = generation.runs.first().map_or(0, |(entry, _)| entry.number);
        run::path(&self.directory, first).with_extension(FILTER_EXTENSION)
    }

    /// Ids of a generation. Runs are a little larger than they have to be: by the epoch that fills them.
    fn capacity(&self) -> usize {
        let ids = self.config.run_ids * self.config.generation_runs;
        ids + ids / 16
    }

    fn new_generation(&self) -> Generation {
        Generation { filter: Filter::with_capacity(self.capacity()), runs: Vec::new() }
    }

    /// For a checkpoint: the manifest, and the ids in memory appended to `out`.
    pub fn checkpoint(&self, out: &mut Vec<u8>) -> Manifest {
        out.reserve(self.memory.len() * 16);
        for hash in &self.memory {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        Manifest {
            next_run: self.next_run,
            generations: self
                .generations
                .iter()
                .map(|generation| generation.runs.iter().map(|(entry, _)| *entry).collect())
                .collect(),
            memory_oldest_ms: self.memory_oldest_ms,
            memory_newest_ms: self.memory_newest_ms,
            shortened_to_ms: self.shortened_to_ms,
        }
    }

    /// Removes the files that only older checkpoints name. Call it once a newer checkpoint is durable.
    pub fn remove_retired(&mut self) -> Result<(), DedupError> {
        for path in self.retired.drain(..) {
            self.disk.remove_file(&path).map_err(|source| DedupError::Io { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// Ids remembered.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64 + self.generations.iter().map(Generation::ids).sum::<u64>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The window in force: shorter than declared once the budget was reached.
    pub fn window_ms(&self) -> i64 {
        self.shortened_to_ms.map_or(self.config.window_ms, |shortened| shortened.min(self.config.window_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use playhouse_log::disk::RealDisk;

    fn small() -> DedupConfig {
        DedupConfig { window_ms: 1_000, budget_ids: 400, run_ids: 50, generation_runs: 2 }
    }

    fn create(directory: &Path, config: DedupConfig) -> DedupSet {
        DedupSet::create(Arc::new(RealDisk), directory, [7; 16], config).unwrap()
    }

    #[test]
    fn the_first_wins_in_memory_and_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let mut set = create(directory.path(), small());
        for number in 0..300u32 {
            assert!(set.insert(&number.to_le_bytes(), 10).unwrap());
            set.maintain(10).unwrap();
        }
        for number in 0..300u32 {
            assert!(!set.insert(&number.to_le_bytes(), 11).unwrap(), "{number} was seen");
        }
        assert_eq!(set.len(), 300);
    }

    #[test]
    fn ids_leave_after_the_window_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut set = create(directory.path(), small());
        set.insert(b"a", 0).unwrap();
        set.maintain(999).unwrap();
        assert!(!set.insert(b"a", 1_000).unwrap());
        set.maintain(2_001).unwrap();
        assert!(set.insert(b"a", 2_001).unwrap());
    }

    #[test]
    fn past_the_budget_the_window_shortens_visibly() {
        let directory = tempfile::tempdir().unwrap();
        let mut set = create(directory.path(), small());
        for number in 0..1_000u32 {
            set.insert(&number.to_le_bytes(), i64::from(number) / 10).unwrap();
            set.maintain(i64::from(number) / 10).unwrap();
        }
        assert!(set.len() <= 500, "{} ids are kept", set.len());
        assert!(set.window_ms() < 1_000, "window {}", set.window_ms());
        assert!(!set.insert(&999u32.to_le_bytes(), 100).unwrap());
    }

    #[test]
    fn checkpoint_and_deltas_rebuild_the_set() {
        let directory = tempfile::tempdir().unwrap();
        let mut set = create(directory.path(), small());
        let mut delta = Vec::new();
        for number in 0..120u32 {
            set.insert(&number.to_le_bytes(), 5).unwrap();
            set.maintain(5).unwrap();
        }
        set.take_delta(&mut delta);
        let mut memory = Vec::new();
        let manifest = set.checkpoint(&mut memory);
        delta.clear();
        for number in 120..140u32 {
            set.insert(&number.to_le_bytes(), 5).unwrap();
        }
        set.take_delta(&mut delta);
        // A run written after the checkpoint is not named by it: recovery must do without.
        for number in 140..260u32 {
            set.insert(&number.to_le_bytes(), 5).unwrap();
            set.maintain(5).unwrap();
        }
        drop(set);

        let mut set =
            DedupSet::open(Arc::new(RealDisk), directory.path(), [7; 16], small(), &manifest, &memory).unwrap();
        set.merge(&delta).unwrap();
        assert_eq!(set.len(), 140);
        for number in 0..140u32 {
            assert!(!set.insert(&number.to_le_bytes(), 6).unwrap(), "{number} was seen");
        }
        assert!(set.insert(&140u32.to_le_bytes(), 6).unwrap());
    }

    #[test]
    fn what_is_taken_back_is_new_again_and_the_rest_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut set = create(directory.path(), small());
        for number in 0..60u32 {
            set.insert(&number.to_le_bytes(), 5).unwrap();
        }
        set.take_delta(&mut Vec::new());
        set.maintain(5).unwrap();
        for number in 50..70u32 {
            set.insert(&number.to_le_bytes(), 6).unwrap();
        }
        set.take_back();
        assert_eq!(set.len(), 60);
        for number in 0..70u32 {
            assert_eq!(set.contains_hash(set.hash(&number.to_le_bytes())).unwrap(), number < 60, "{number}");
        }
        let mut delta = Vec::new();
        set.take_delta(&mut delta);
        assert_eq!(delta, 0i64.to_le_bytes());
        assert!(set.insert(&60u32.to_le_bytes(), 7).unwrap());
    }

    #[test]
    fn a_corrupt_delta_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut set = create(directory.path(), small());
        assert!(set.merge(&[1, 2, 3]).is_err());
    }
}
