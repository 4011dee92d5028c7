//! The embedded cache: the batches themselves, oldest dropped first, with an index from key hash to row.
//!
//! A commit appends one generation (a batch with the hashes of its keys) and points the index at its rows; nothing is
//! copied by row, and JSON is rendered when somebody asks. Past the byte budget, or past its time, the oldest generation
//! is dropped whole. It holds nothing across a restart: a new process opens at no position and refills from what the
//! epoch log still has.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::Mutex;
use playhouse_engine::Position;
use playhouse_engine::sink::{CommitPolicy, Scope, Sink, SinkError, Target};

use super::{Cache, Layout};
use crate::options;
use crate::progress::{self, Progress};
use crate::rows::{retained_bytes, row_bytes};

/// Where the cache takes its time from.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Hash and index entry of one row, at the index's usual load.
const INDEX_BYTES_PER_ROW: usize = 40;

pub struct MemoryCache {
    budget_bytes: usize,
    clock: Clock,
    hasher: foldhash::quality::RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Key hash to the generation's number and the row in it.
    index: HashMap<u64, (u32, u32), foldhash::fast::RandomState>,
    generations: VecDeque<Arc<Generation>>,
    /// Number of the oldest generation; numbers wrap.
    first: u32,
    bytes: usize,
    positions: Vec<(Scope, String, Position)>,
}

struct Generation {
    rows: RecordBatch,
    /// By row; a row without a key has 0 and is not in the index.
    hashes: Vec<u64>,
    layout: Arc<Layout>,
    expires: Option<Instant>,
    bytes: usize,
}

impl MemoryCache {
    pub fn new(budget_bytes: usize) -> Self {
        Self::with_clock(budget_bytes, Arc::new(Instant::now))
    }

    pub fn with_clock(budget_bytes: usize, clock: Clock) -> Self {
        Self { budget_bytes, clock, hasher: foldhash::quality::RandomState::default(), state: Mutex::default() }
    }

    /// Bytes held, by the cache's own count.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// The row under `key` as a JSON object.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        let (generation, row) = self.find(key)?;
        let mut json = Vec::with_capacity(256);
        generation.layout.value.write(&mut json, &generation.rows, row);
        Some(json)
    }

    /// How long the value has left; `None` where there is no such key, `Some(None)` where it stays until evicted.
    pub fn time_left(&self, key: &str) -> Option<Option<Duration>> {
        let now = (self.clock)();
        let (generation, _) = self.find(key)?;
        Some(generation.expires.map(|expires| expires.saturating_duration_since(now)))
    }

    pub fn keys(&self) -> usize {
        let mut state = self.state.lock();
        state.evict(self.budget_bytes, (self.clock)());
        state.index.len()
    }

    /// The newest row whose key hashes like `key`, while it lives.
    fn find(&self, key: &str) -> Option<(Arc<Generation>, usize)> {
        let hash = self.hasher.hash_one(key.as_bytes());
        let (generation, row) = {
            let state = self.state.lock();
            let (number, row) = *state.index.get(&hash)?;
            (state.generations.get(number.wrapping_sub(state.first) as usize)?.clone(), row as usize)
        };
        if generation.expires.is_some_and(|expires| expires <= (self.clock)()) {
            return None;
        }
        let mut found = Vec::with_capacity(key.len());
        let same = generation.layout.key.write(&mut found, &generation.rows, row) && found == key.as_bytes();
        same.then_some((generation, row))
    }

    fn generation(&self, rows: RecordBatch, layout: &Arc<Layout>) -> Generation {
        let mut key = Vec::new();
        let hashes: Vec<u64> = (0..rows.num_rows())
            .map(|row| {
                key.clear();
                if layout.key.write(&mut key, &rows, row) { self.hasher.hash_one(key.as_slice()) } else { 0 }
            })
            .collect();
        let bytes = retained_bytes(&rows) + hashes.len() * INDEX_BYTES_PER_ROW;
        let expires = layout.ttl.and_then(|ttl| (self.clock)().checked_add(ttl));
        Generation { rows, hashes, layout: layout.clone(), expires, bytes }
    }
}

impl State {
    fn position(&mut self, scope: &Scope, sink: &str) -> Option<&mut Position> {
        self.positions.iter_mut().find(|(s, name, _)| s == scope && name == sink).map(|(_, _, position)| position)
    }

    fn push(&mut self, generation: Generation) {
        let number = self.first.wrapping_add(self.generations.len() as u32);
        for (row, hash) in generation.hashes.iter().enumerate().filter(|(_, hash)| **hash != 0) {
            self.index.insert(*hash, (number, row as u32));
        }
        self.bytes += generation.bytes;
        self.generations.push_back(Arc::new(generation));
    }

    fn evict(&mut self, budget_bytes: usize, now: Instant) {
        while let Some(oldest) = self.generations.front()
            && (self.bytes > budget_bytes || oldest.expires.is_some_and(|expires| expires <= now))
        {
            for (row, hash) in oldest.hashes.iter().enumerate() {
                if self.index.get(hash) == Some(&(self.first, row as u32)) {
                    self.index.remove(hash);
                }
            }
            self.bytes -= oldest.bytes;
            self.generations.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        if self.index.len() < self.index.capacity() / 8 {
            self.index.shrink_to(self.index.len() * 2);
        }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, SinkError> {
        Ok(self.value(key))
    }

    async fn ttl(&self, key: &str) -> Result<Option<Option<Duration>>, SinkError> {
        Ok(self.time_left(key))
    }

    async fn len(&self) -> Result<usize, SinkError> {
        Ok(self.keys())
    }
}

pub(super) struct MemorySink {
    cache: Arc<MemoryCache>,
    name: String,
    layout: Arc<Layout>,
    policy: CommitPolicy,
    opened: Option<(Scope, Position)>,
    staged: Vec<RecordBatch>,
    staged_bytes: usize,
}

impl MemorySink {
    pub(super) fn new(cache: Arc<MemoryCache>, target: &Target) -> Result<Self, SinkError> {
        let default = CommitPolicy {
            bytes: (cache.budget_bytes / 16).clamp(64 << 10, 2 << 20),
            interval: Duration::from_millis(100),
        };
        Ok(Self {
            name: target.name.clone(),
            layout: Arc::new(Layout::new(target)?),
            policy: options::commit_policy(target, default)?,
            cache,
            opened: None,
            staged: Vec::new(),
            staged_bytes: 0,
        })
    }

    fn drop_staged(&mut self) {
        self.staged.clear();
        self.staged_bytes = 0;
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn open(&mut self, scope: &Scope) -> Result<Option<Position>, SinkError> {
        self.drop_staged();
        let stored = self.cache.state.lock().position(scope, &self.name).cloned();
        self.opened = Some((scope.clone(), stored.clone().unwrap_or_default()));
        Ok(stored)
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        if self.opened.is_none() {
            return Err(progress::not_open(&self.name));
        }
        self.staged_bytes += row_bytes(rows);
        self.staged.push(rows.clone());
        Ok(())
    }

    fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    fn commit_policy(&self) -> CommitPolicy {
        self.policy
    }

    async fn commit(&mut self, position: &Position) -> Result<(), SinkError> {
        let Some((scope, opened)) = &mut self.opened else { return Err(progress::not_open(&self.name)) };
        let staged = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        let generation =
            match staged.as_slice() {
                [] => None,
                // One small slice must not keep a large batch alive.
                [rows] if retained_bytes(rows) < 2 * row_bytes(rows) + 4096 => Some(rows.clone()),
                [first, ..] => {
                    let together = concat_batches(&first.schema(), &staged);
                    Some(together.map_err(|error| {
                        SinkError::Fatal(format!("{}: rows of different shapes: {error}", self.name))
                    })?)
                }
            };
        let generation = generation.map(|rows| self.cache.generation(rows, &self.layout));
        let mut state = self.cache.state.lock();
        let stored = state.position(scope, &self.name).cloned().unwrap_or_default();
        if progress::check(opened, &stored, position)? == Progress::New {
            if let Some(generation) = generation {
                state.push(generation);
            }
            match state.position(scope, &self.name) {
                Some(stored) => *stored = position.clone(),
                None => state.positions.push((scope.clone(), self.name.clone(), position.clone())),
            }
            *opened = position.clone();
        } else {
            *opened = stored;
        }
        state.evict(self.cache.budget_bytes, (self.cache.clock)());
        Ok(())
    }

    fn guarantee(&self) -> &'static str {
        "newest value by key, exactly once while the process runs; empty after a restart, then refilled from the epoch log"
    }

    async fn close(&mut self) {
        self.drop_staged();
        self.opened = None;
    }
}
