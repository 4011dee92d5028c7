//! What all partitions of a log share: the disk, the clock, the budget, and the queue of those waiting for a sync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::disk::Disk;
use crate::{Clock, Durability, Partition};

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

    pub fn flush_soon(&self, partition: Option<Arc<Partition>>) {
        let mut queue = self.queue.lock();
        if !queue.stopped {
            queue.dirty.extend(partition);
        }
        drop(queue);
        self.dirty.notify_one();
    }

    /// Blocks until a partition wants a sync; `None` once stopped.
    pub fn next_dirty(&self) -> Option<Arc<Partition>> {
        let mut queue = self.queue.lock();
        while queue.dirty.is_empty() && !queue.stopped {
            self.dirty.wait(&mut queue);
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

    pub fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.stopped = true;
        queue.dirty.clear();
        drop(queue);
        self.dirty.notify_all();
        self.upkeep.notify_all();
        self.stopping.notify_all();
    }
}
