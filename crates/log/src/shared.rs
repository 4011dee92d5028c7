//! What all partitions of a log share: the disk, the clock, the budget, the queue of those waiting for a sync, and the
//! threads that sync.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::disk::Disk;
use crate::{Clock, Durability, Partition};

/// Syncs at the same time. A file system commits those that come together as one, and a disk flushes them as one: partitions
/// wait together rather than one after the other, and each sync takes with it all that was appended since the last.
pub(crate) const FLUSHERS_MAX: usize = 32;

#[derive(Debug)]
pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub clock: Clock,
    pub durability: Durability,
    pub disk_budget_bytes: u64,
    /// By all partitions together.
    pub used_bytes: AtomicU64,
    /// Log files of active segments that are kept open.
    pub open_files: AtomicUsize,
    queue: Mutex<Queue>,
    /// Wakes a flusher.
    dirty: Condvar,
    /// Wakes the maintainer.
    upkeep: Condvar,
    /// Wakes the compactor when it is to end.
    stopping: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Each at most once, as its `queued` flag says.
    dirty: VecDeque<Arc<Partition>>,
    /// Begun when more partitions wait than threads are idle, and kept.
    flushers: Vec<JoinHandle<()>>,
    idle_flushers: usize,
    over_budget: bool,
    stopped: bool,
}

/// Why the maintainer was woken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Tick,
    OverBudget,
    Stop,
}

impl Shared {
    pub fn new(disk: Arc<dyn Disk>, clock: Clock, durability: Durability, disk_budget_bytes: u64) -> Shared {
        Shared {
            disk,
            clock,
            durability,
            disk_budget_bytes,
            used_bytes: AtomicU64::new(0),
            open_files: AtomicUsize::new(0),
            queue: Mutex::default(),
            dirty: Condvar::new(),
            upkeep: Condvar::new(),
            stopping: Condvar::new(),
        }
    }

    /// Whether `bytes` more fit the budget; if not, retention is asked to look now.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        if self.used_bytes.load(Ordering::Acquire).saturating_add(bytes) <= self.disk_budget_bytes {
            return true;
        }
        self.queue.lock().over_budget = true;
        self.upkeep.notify_one();
        false
    }

    pub fn flush_soon(self: &Arc<Self>, partition: Option<Arc<Partition>>) {
        let mut queue = self.queue.lock();
        if queue.stopped {
            return;
        }
        queue.dirty.extend(partition);
        let is_short = queue.dirty.len() > queue.idle_flushers && queue.flushers.len() < FLUSHERS_MAX;
        if is_short && let Err(error) = self.add_flusher(&mut queue) {
            // There is one at least.
            tracing::warn!(%error, "cannot start another thread that syncs the log");
        }
        drop(queue);
        self.dirty.notify_one();
    }

    /// Before anything is appended, so that there is always one.
    pub fn start_flusher(self: &Arc<Self>) -> io::Result<()> {
        self.add_flusher(&mut self.queue.lock())
    }

    fn add_flusher(self: &Arc<Self>, queue: &mut Queue) -> io::Result<()> {
        let shared = Arc::clone(self);
        let flusher = std::thread::Builder::new().name("log-flush".into()).spawn(move || {
            while let Some(partition) = shared.next_dirty() {
                partition.flush();
            }
        })?;
        queue.flushers.push(flusher);
        Ok(())
    }

    /// Blocks until a partition wants a sync; `None` once stopped.
    fn next_dirty(&self) -> Option<Arc<Partition>> {
        let mut queue = self.queue.lock();
        while queue.dirty.is_empty() && !queue.stopped {
            queue.idle_flushers += 1;
            self.dirty.wait(&mut queue);
            queue.idle_flushers -= 1;
        }
        if queue.stopped { None } else { queue.dirty.pop_front() }
    }

    /// Blocks until the next turn of maintenance.
    pub fn next_upkeep(&self, tick: Duration) -> Wake {
        let deadline = Instant::now() + tick;
        let mut queue = self.queue.lock();
        loop {
            if queue.stopped {
                return Wake::Stop;
            }
            if std::mem::take(&mut queue.over_budget) {
                return Wake::OverBudget;
            }
            if self.upkeep.wait_until(&mut queue, deadline).timed_out() {
                return if queue.stopped { Wake::Stop } else { Wake::Tick };
            }
        }
    }

    /// Blocks for so long; whether the log goes on after that.
    pub fn pause(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut queue = self.queue.lock();
        while !queue.stopped && !self.stopping.wait_until(&mut queue, deadline).timed_out() {}
        !queue.stopped
    }

    pub fn is_stopped(&self) -> bool {
        self.queue.lock().stopped
    }

    /// Ends the threads that wait here; returns those that sync.
    pub fn stop(&self) -> Vec<JoinHandle<()>> {
        let mut queue = self.queue.lock();
        queue.stopped = true;
        let (dirty, flushers) = (std::mem::take(&mut queue.dirty), std::mem::take(&mut queue.flushers));
        drop(queue);
        drop(dirty);
        self.dirty.notify_all();
        self.upkeep.notify_all();
        self.stopping.notify_all();
        flushers
    }
}
