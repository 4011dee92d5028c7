//! A budget of bytes shared by all requests of a door, so that memory stays bounded however many upload at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub struct ByteBudget {
    limit: usize,
    used: AtomicUsize,
}

/// The request has to be refused for now: its next bytes do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverBudget;

impl ByteBudget {
    pub fn new(limit_bytes: usize) -> Arc<ByteBudget> {
        Arc::new(ByteBudget { limit: limit_bytes, used: AtomicUsize::new(0) })
    }

    pub fn limit_bytes(&self) -> usize {
        self.limit
    }

    pub fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn fits(&self, bytes: usize) -> bool {
        bytes <= self.limit.saturating_sub(self.used_bytes())
    }

    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { budget: self.clone(), held: 0 }
    }
}

/// What one request holds of the budget; given back on drop.
#[derive(Debug)]
pub struct Lease {
    budget: Arc<ByteBudget>,
    held: usize,
}

impl Lease {
    /// Holds `bytes` in all. Never waits: two half-read requests waiting for each other would wait for ever.
    pub fn hold(&mut self, bytes: usize) -> Result<(), OverBudget> {
        if bytes > self.held {
            let more = bytes - self.held;
            let limit = self.budget.limit;
            self.budget
                .used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                    used.checked_add(more).filter(|sum| *sum <= limit)
                })
                .map_err(|_| OverBudget)?;
        } else {
            self.budget.used.fetch_sub(self.held - bytes, Ordering::Relaxed);
        }
        self.held = bytes;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_share_the_limit_and_give_back() {
        let budget = ByteBudget::new(100);
        let mut first = budget.lease();
        let mut second = budget.lease();
        assert_eq!(first.hold(60), Ok(()));
        assert_eq!(second.hold(41), Err(OverBudget));
        assert_eq!(second.hold(40), Ok(()));
        assert!(!budget.fits(1));
        assert_eq!(first.hold(10), Ok(()));
        assert!(budget.fits(50));
        drop(first);
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
    }
}
