//! How much each caller may send: a token bucket of requests and one of bytes.
//!
//! A request is known before it is read and waits for its token; its bytes are known only after, so they may take the
//! bucket into debt, and the debt is what the caller's next request waits for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Callers remembered, at about 100 bytes each.
const CALLERS_MAX: usize = 65_536;
/// One request cannot silence its caller for longer.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Looking for callers to forget takes time by their number.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
pub struct RateLimits {
    /// `None` sets no limit.
    pub requests_per_second: Option<u32>,
    pub bytes_per_second: Option<u64>,
    /// How much time's worth a caller that was silent may send at once.
    pub burst: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// By the id of its API key.
    Key(Arc<str>),
    Address(IpAddr),
    Unknown,
}

impl Caller {
    /// Whoever has one IPv6 address has 2^64 of them.
    pub fn address(address: Option<IpAddr>) -> Caller {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V6(address)) => {
                let network = address.to_bits() >> 64 << 64;
                Caller::Address(Ipv6Addr::from_bits(network).into())
            }
            Some(address) => Caller::Address(address),
            None => Caller::Unknown,
        }
    }
}

#[derive(Debug)]
pub struct Rates {
    requests: Option<Rate>,
    bytes: Option<Rate>,
    table: Mutex<Table>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    most: f64,
}

#[derive(Debug)]
struct Table {
    callers: HashMap<Caller, Buckets>,
    /// Shared by those that come while the table is full of others.
    rest: Option<Buckets>,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Buckets {
    requests: f64,
    /// Below zero: owed.
    bytes: f64,
    at: Instant,
}

impl Rate {
    fn new(per_second: f64, burst: Duration, least: f64) -> Rate {
        Rate { per_second, most: (per_second * burst.as_secs_f64()).max(least) }
    }
}

impl Default for Rates {
    fn default() -> Rates {
        Rates::new(&RateLimits::default())
    }
}

impl Rates {
    pub fn new(limits: &RateLimits) -> Rates {
        let requests = limits.requests_per_second.map(|rate| Rate::new(rate.into(), limits.burst, 1.0));
        let bytes = limits.bytes_per_second.map(|rate| Rate::new(rate as f64, limits.burst, 1.0));
        let table = Table { callers: HashMap::new(), rest: None, swept: None };
        Rates { requests, bytes, table: Mutex::new(table) }
    }

    /// Takes a request's token, or tells how long to wait for one.
    pub fn admit(&self, caller: &Caller, now: Instant) -> Result<(), Duration> {
        if self.requests.is_none() && self.bytes.is_none() {
            return Ok(());
        }
        let mut table = self.table();
        let buckets = self.buckets(&mut table, caller, now);
        let lacks = |missing: f64, rate: Option<Rate>| rate.map_or(0.0, |rate| missing.max(0.0) / rate.per_second);
        let wait = lacks(1.0 - buckets.requests, self.requests).max(lacks(-buckets.bytes, self.bytes));
        if wait > 0.0 {
            return Err(Duration::from_secs_f64(wait.min(WAIT_MAX.as_secs_f64())));
        }
        buckets.requests -= 1.0;
        Ok(())
    }

    /// Takes the bytes of a request that was admitted.
    pub fn charge(&self, caller: &Caller, bytes: usize, now: Instant) {
        let Some(rate) = self.bytes else { return };
        let mut table = self.table();
        let buckets = self.buckets(&mut table, caller, now);
        buckets.bytes = (buckets.bytes - bytes as f64).max(-rate.per_second * WAIT_MAX.as_secs_f64());
    }

    fn buckets<'a>(&self, table: &'a mut Table, caller: &Caller, now: Instant) -> &'a mut Buckets {
        if table.callers.len() >= CALLERS_MAX && !table.callers.contains_key(caller) {
            let is_due = table.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_INTERVAL);
            if is_due {
                table.swept = Some(now);
                table.callers.retain(|_, buckets| {
                    self.refill(buckets, now);
                    !self.is_full(buckets)
                });
            }
        }
        let full = self.full(now);
        let buckets = if table.callers.len() >= CALLERS_MAX && !table.callers.contains_key(caller) {
            table.rest.get_or_insert(full)
        } else {
            table.callers.entry(caller.clone()).or_insert(full)
        };
        self.refill(buckets, now);
        buckets
    }

    fn refill(&self, buckets: &mut Buckets, now: Instant) {
        let seconds = now.saturating_duration_since(buckets.at).as_secs_f64();
        let earned =
            |had: f64, rate: Option<Rate>| rate.map_or(had, |rate| (had + seconds * rate.per_second).min(rate.most));
        buckets.requests = earned(buckets.requests, self.requests);
        buckets.bytes = earned(buckets.bytes, self.bytes);
        buckets.at = buckets.at.max(now);
    }

    fn full(&self, now: Instant) -> Buckets {
        let most = |rate: Option<Rate>| rate.map_or(0.0, |rate| rate.most);
        Buckets { requests: most(self.requests), bytes: most(self.bytes), at: now }
    }

    /// Whoever has not sent for a while is as good as new.
    fn is_full(&self, buckets: &Buckets) -> bool {
        let full = self.full(buckets.at);
        buckets.requests >= full.requests && buckets.bytes >= full.bytes
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(requests: Option<u32>, bytes: Option<u64>) -> Rates {
        let burst = Duration::from_secs(2);
        Rates::new(&RateLimits { requests_per_second: requests, bytes_per_second: bytes, burst })
    }

    fn from(address: &str) -> Caller {
        Caller::address(Some(address.parse().unwrap()))
    }

    #[test]
    fn requests_come_at_their_rate_after_a_burst() {
        let rates = rates(Some(10), None);
        let start = Instant::now();
        let admit = |caller: &str, after_ms| {
            let wait = rates.admit(&from(caller), start + Duration::from_millis(after_ms));
            wait.map_err(|wait| wait.as_millis())
        };
        for _ in 0..20 {
            assert_eq!(admit("10.0.0.1", 0), Ok(()));
        }
        assert_eq!(admit("10.0.0.1", 0), Err(100));
        assert_eq!(admit("10.0.0.1", 60), Err(40), "and asking costs nothing");
        assert_eq!(admit("10.0.0.1", 100), Ok(()));
        assert_eq!(admit("10.0.0.1", 100), Err(100));
        assert_eq!(admit("10.0.0.2", 100), Ok(()), "others do not wait");
    }

    #[test]
    fn bytes_are_owed_and_no_longer_than_a_minute() {
        let rates = rates(None, Some(1000));
        let start = Instant::now();
        let at = |after_ms| start + Duration::from_millis(after_ms);
        let caller = Caller::Key("k".into());
        assert_eq!(rates.admit(&caller, start), Ok(()));
        rates.charge(&caller, 2_500, start);
        assert_eq!(rates.admit(&caller, start), Err(Duration::from_millis(500)));
        assert_eq!(rates.admit(&caller, at(500)), Ok(()));
        rates.charge(&caller, 1_000_000_000, at(500));
        assert_eq!(rates.admit(&caller, at(500)), Err(WAIT_MAX));
    }

    #[test]
    fn a_slow_rate_has_one_request_at_once_and_none_has_all() {
        let slow = Rates::new(&RateLimits { requests_per_second: Some(1), ..RateLimits::default() });
        let now = Instant::now();
        assert_eq!(slow.admit(&Caller::Unknown, now), Ok(()));
        assert!(slow.admit(&Caller::Unknown, now).is_err());
        let none = rates(None, None);
        assert!((0..1000).all(|_| none.admit(&Caller::Unknown, now).is_ok()));
        assert!(none.table().callers.is_empty());
    }

    #[test]
    fn callers_are_told_apart_by_key_or_network() {
        assert_eq!(from("2001:db8::1"), from("2001:db8::ffff:1"));
        assert_ne!(from("2001:db8::1"), from("2001:db8:0:1::1"));
        assert_eq!(from("::ffff:10.0.0.1"), from("10.0.0.1"));
        assert_ne!(from("10.0.0.1"), from("10.0.0.2"));
    }

    #[test]
    fn callers_without_end_take_bounded_memory_and_share_what_is_left() {
        let rates = rates(Some(1), None);
        let now = Instant::now();
        let caller = |number: usize| Caller::Key(number.to_string().into());
        for number in 0..CALLERS_MAX + 2 {
            assert_eq!(rates.admit(&caller(number), now), Ok(()));
        }
        assert!(rates.admit(&caller(CALLERS_MAX + 2), now).is_err(), "the rest shares one bucket");
        assert_eq!(rates.table().callers.len(), CALLERS_MAX);
        // Those that have been silent are forgotten.
        assert_eq!(rates.admit(&caller(CALLERS_MAX + 2), now + Duration::from_secs(3)), Ok(()));
        assert_eq!(rates.table().callers.len(), 1);
    }
}
