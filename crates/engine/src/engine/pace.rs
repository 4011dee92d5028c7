//! How many rows an epoch may have: as many as are done in a fraction of a second, however slow machine or disk are.
//!
//! What an epoch takes is what a reader of the views waits at most under load, and what a stop waits for.

use std::time::Duration;

/// What an epoch should take at most.
const EPOCH_TIME: Duration = Duration::from_millis(250);
/// Fewer rows would be spent on what an epoch costs by itself.
const ROWS_MIN: usize = 256;
/// Of the first epoch, before anything is known.
const ROWS_FIRST: usize = 4_096;

#[derive(Debug)]
pub(super) struct Pace {
    rows: usize,
    rows_max: usize,
}

impl Pace {
    pub(super) fn new(rows_max: usize) -> Pace {
        let rows_max = rows_max.max(1);
        Pace { rows: ROWS_FIRST.min(rows_max), rows_max }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Learns from an epoch that had so many rows and took so long.
    pub(super) fn observe(&mut self, rows: usize, took: Duration) {
        if took > EPOCH_TIME {
            let share = EPOCH_TIME.as_secs_f64() / took.as_secs_f64();
            // One slow fsync is no reason to crawl: at most halved at a time.
            let fitting = ((rows as f64 * share) as usize).max(self.rows / 2);
            self.rows = fitting.max(ROWS_MIN).min(self.rows);
        } else if rows >= self.rows && took < EPOCH_TIME / 2 {
            self.rows = self.rows.saturating_mul(2).min(self.rows_max);
        }
        self.rows = self.rows.min(self.rows_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pace: &mut Pace, rows_per_second: f64) -> usize {
        for _ in 0..20 {
            let rows = pace.rows();
            pace.observe(rows, Duration::from_secs_f64(rows as f64 / rows_per_second));
        }
        pace.rows()
    }

    #[test]
    fn a_fast_machine_gets_the_largest_epochs_and_a_slow_one_short_ones() {
        let mut pace = Pace::new(65_536);
        assert_eq!(run(&mut pace, 1e6), 65_536);
        let slow = run(&mut pace, 8_000.0);
        assert!((1_000..=2_000).contains(&slow), "{slow}");
        assert_eq!(run(&mut pace, 1e6), 65_536);
    }

    #[test]
    fn never_beyond_its_limits() {
        assert_eq!(run(&mut Pace::new(65_536), 1.0), ROWS_MIN);
        assert_eq!(run(&mut Pace::new(10), 1e9), 10);
        assert_eq!(run(&mut Pace::new(10), 1.0), 10);
    }

    #[test]
    fn small_epochs_teach_nothing_about_large_ones() {
        let mut pace = Pace::new(65_536);
        pace.observe(3, Duration::from_millis(1));
        assert_eq!(pace.rows(), ROWS_FIRST);
    }
}
