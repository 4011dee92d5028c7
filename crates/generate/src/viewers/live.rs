//! The audience, now: for demonstrations.

use super::config::{Config, ConfigError};
use super::generator::{Arrivals, EVENTS_PER_SESSION, Generator};

/// Long enough for most sessions of the start to have ended, so that the rate is steady.
const WARM_UP_MS: i64 = 45 * 60_000;
/// A caller that was away longer than this gets what is due now, not all that it missed.
const BEHIND_MS_MAX: i64 = 5_000;

/// Viewers whose events happen at the wall clock's time, which the caller hands in.
pub struct LiveViewers {
    viewers: Generator,
}

impl LiveViewers {
    /// About `events_per_second`, from a warmed-up audience. `events`, `start_ms` and `span_ms` of the configuration do
    /// not matter; `seed` should differ between processes, as event ids follow from it and from `now_ms`.
    pub fn new(config: Config, events_per_second: u32, now_ms: i64) -> Result<Self, ConfigError> {
        let config = Config { events: u64::MAX, start_ms: now_ms - WARM_UP_MS, span_ms: 86_400_000, ..config };
        let gap_us = EVENTS_PER_SESSION * 1_000_000 / u64::from(events_per_second.max(1));
        let mut viewers = Generator::with_arrivals(config, Arrivals::Steady, gap_us)?;
        while viewers.next_due_ms() < now_ms {
            viewers.skip();
        }
        Ok(Self { viewers })
    }

    /// Appends the events due by `now_ms`, at most `lines_max`, and returns how many; what is left comes with the next
    /// call.
    pub fn due(&mut self, now_ms: i64, out: &mut Vec<u8>, lines_max: usize) -> usize {
        while self.viewers.next_due_ms() < now_ms - BEHIND_MS_MAX {
            self.viewers.skip();
        }
        let mut lines = 0;
        while lines < lines_max && self.viewers.next_due_ms() <= now_ms && self.viewers.next_line(out) {
            lines += 1;
        }
        lines
    }

    /// When the next event is due, in ms since 1970 UTC.
    pub fn next_due_ms(&mut self) -> i64 {
        self.viewers.next_due_ms()
    }

    /// How many viewers are in a session now.
    pub fn viewers(&self) -> usize {
        self.viewers.viewers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_from_the_first_second() {
        let start = 1_756_641_600_000;
        let mut live = LiveViewers::new(Config::default(), 200, start).unwrap();
        let mut out = Vec::new();
        let lines: usize = (0..60).map(|second| live.due(start + second * 1000, &mut out, 10_000)).sum();
        assert!((60 * 150..60 * 250).contains(&lines), "{lines} events in a minute");
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.contains("\"timestamp\":\"2025-08-31T12:0")));
    }

    #[test]
    fn a_caller_that_was_away_is_not_flooded() {
        let start = 1_756_641_600_000;
        let mut live = LiveViewers::new(Config::default(), 200, start).unwrap();
        let lines = live.due(start + 3_600_000, &mut Vec::new(), usize::MAX);
        assert!(lines < 2_500, "{lines}");
    }
}
