//! Events per second, held.

use std::time::Duration;

use tokio::time::Instant;

/// Spreads batches over time so that no more than `rate` events a second leave.
#[derive(Debug)]
pub struct Pace {
    rate: Option<u32>,
    due: Instant,
}

/// A sender that fell behind catches up at most this much.
const BEHIND_MAX: Duration = Duration::from_secs(1);

impl Pace {
    pub fn new(rate: Option<u32>) -> Self {
        Self { rate: rate.filter(|&rate| rate > 0), due: Instant::now() }
    }

    /// A batch size that keeps a slow stream smooth: a tenth of a second's events.
    pub fn batch_events(&self, most: usize) -> usize {
        self.rate.map_or(most, |rate| (rate as usize / 10).clamp(1, most.max(1)))
    }

    /// Waits until `events` more may leave.
    pub async fn wait(&mut self, events: usize) {
        let Some(rate) = self.rate else { return };
        tokio::time::sleep_until(self.due).await;
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(BEHIND_MAX).unwrap_or(now));
        self.due += Duration::from_secs(1).mul_f64(events as f64 / f64::from(rate));
    }
}
