//! Byte rates per client (KIP-13, KIP-219): who exceeds its rate is told so, and its connection is not read for a while.
//!
//! A client is its client id, as in Kafka without users. Its bucket holds a second's worth of bytes and may go into debt:
//! the request that exceeds the rate is served, and the debt is the time the client has to wait.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Clients remembered; beyond it those that owe nothing are forgotten, and if all do, new ones are not held back.
const CLIENTS_MAX: usize = 10_000;
/// One request cannot silence a client for longer (Kafka's quota window, about).
const WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Produce,
    Fetch,
}

#[derive(Debug)]
pub(crate) struct Quotas {
    produce: Option<u64>,
    fetch: Option<u64>,
    buckets: Mutex<HashMap<(Kind, String), Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// Below zero: owed.
    bytes: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, rate: u64, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * rate as f64;
        (self.bytes, self.at) = ((self.bytes + earned).min(rate as f64), now);
    }
}

impl Quotas {
    /// Bytes per second; `None` sets no limit.
    pub(crate) fn new(produce: Option<u64>, fetch: Option<u64>) -> Quotas {
        Quotas { produce, fetch, buckets: Mutex::default() }
    }

    /// Takes these bytes off the client's share; how long it has to wait.
    pub(crate) fn charge(&self, kind: Kind, client_id: &str, bytes: usize, now: Instant) -> Duration {
        let rate = match kind {
            Kind::Produce => self.produce,
            Kind::Fetch => self.fetch,
        };
        let Some(rate) = rate else { return Duration::ZERO };
        let mut buckets = self.buckets.lock();
        let key = (kind, client_id.to_owned());
        if !buckets.contains_key(&key) && buckets.len() >= CLIENTS_MAX {
            buckets.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.bytes < rate as f64
            });
            if buckets.len() >= CLIENTS_MAX {
                return Duration::ZERO;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { bytes: rate as f64, at: now });
        bucket.refill(rate, now);
        bucket.bytes -= bytes as f64;
        let owed = (-bucket.bytes).max(0.0) / rate as f64;
        Duration::from_secs_f64(owed.min(WAIT_MAX.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_for_what_it_owes_and_others_do_not() {
        let quotas = Quotas::new(Some(1000), None);
        let start = Instant::now();
        let charge = |client, bytes, after_ms| {
            quotas.charge(Kind::Produce, client, bytes, start + Duration::from_millis(after_ms)).as_millis()
        };
        assert_eq!(charge("a", 1000, 0), 0, "a second's worth at once");
        assert_eq!(charge("a", 500, 0), 500);
        assert_eq!(charge("b", 500, 0), 0);
        assert_eq!(charge("a", 100, 1000), 0, "the debt is paid");
        assert_eq!(charge("a", 1_000_000_000, 1000), WAIT_MAX.as_millis());
        assert_eq!(quotas.charge(Kind::Fetch, "a", 1_000_000, start), Duration::ZERO);
    }

    #[test]
    fn clients_without_end_take_bounded_memory() {
        let quotas = Quotas::new(Some(1000), None);
        let now = Instant::now();
        for client in 0..CLIENTS_MAX + 100 {
            quotas.charge(Kind::Produce, &client.to_string(), 1, now);
        }
        assert!(quotas.buckets.lock().len() <= CLIENTS_MAX);
        quotas.charge(Kind::Produce, "later", 1, now + Duration::from_secs(2));
        assert_eq!(quotas.buckets.lock().len(), 1);
    }
}
