//! How many bytes may be on their way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// A share of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Others hold the budget: later.
    Busy,
    /// More than the whole budget: never.
    Never { size: usize, limit: usize },
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit, used: AtomicUsize::new(0) })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn charge(self: &Arc<Budget>, bytes: usize) -> Result<Charge, Refused> {
        let mut charge = Charge { budget: self.clone(), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }
}

impl Charge {
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        let limit = self.budget.limit;
        let size = self.bytes.saturating_add(bytes);
        if size > limit {
            return Err(Refused::Never { size, limit });
        }
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= limit);
        match self.budget.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take) {
            Ok(_) => {
                self.bytes = size;
                Ok(())
            }
            Err(_) => Err(Refused::Busy),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_given_back() {
        let budget = Budget::new(100);
        let mut first = budget.charge(60).unwrap();
        assert_eq!(budget.charge(50).unwrap_err(), Refused::Busy);
        assert_eq!(budget.charge(101).unwrap_err(), Refused::Never { size: 101, limit: 100 });
        assert_eq!(first.grow(41).unwrap_err(), Refused::Never { size: 101, limit: 100 });
        first.grow(40).unwrap();
        assert_eq!(budget.used(), 100);
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}
