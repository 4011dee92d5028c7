//! What a door counts: connections, their bytes, and requests by method and outcome. For every door that stands on hyper;
//! counters only grow, and nothing here waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Upper bounds of the latency buckets; one more takes what is slower.
pub const LATENCY_BOUNDS: [Duration; 9] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

#[derive(Debug, Default)]
pub struct Traffic {
    connections_open: AtomicU64,
    connections: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    requests_open: AtomicU64,
    /// By method and status: both from sets that callers cannot widen.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    latency_us: AtomicU64,
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
}

/// A door since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrafficSnapshot {
    pub connections_open: u64,
    pub connections: u64,
    /// Of connections, heads and framing included.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Not yet answered; calls with a stream for as long as it is open.
    pub requests_open: u64,
    /// Method, status, how many.
    pub requests: Vec<(&'static str, u16, u64)>,
    /// From the head of a request to its outcome, all together.
    pub latency: Duration,
    /// Requests within each of [`LATENCY_BOUNDS`], then all.
    pub within: Vec<u64>,
}

impl Traffic {
    pub(crate) fn connected(&self) {
        add(&self.connections, 1);
        add(&self.connections_open, 1);
    }

    pub(crate) fn disconnected(&self) {
        self.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        add(&self.bytes_in, bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.bytes_out, bytes as u64);
    }

    /// A request has begun.
    pub fn begin(self: &Arc<Traffic>, method: &'static str) -> Begun {
        add(&self.requests_open, 1);
        Begun { traffic: self.clone(), method, since: Instant::now(), status: None }
    }

    pub fn snapshot(&self) -> TrafficSnapshot {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let within = self.buckets.iter().map(|bucket| {
            total += get(bucket);
            total
        });
        TrafficSnapshot {
            within: within.collect(),
            connections_open: get(&self.connections_open),
            connections: get(&self.connections),
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            requests_open: get(&self.requests_open),
            requests: requests.iter().map(|((method, status), count)| (*method, *status, *count)).collect(),
            latency: Duration::from_micros(get(&self.latency_us)),
        }
    }

    fn count(&self, method: &'static str, status: u16, took: Duration) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((method, status)).or_default() += 1;
        add(&self.latency_us, took.as_micros() as u64);
        let bucket = LATENCY_BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(LATENCY_BOUNDS.len());
        add(&self.buckets[bucket], 1);
    }
}

/// A request under way, counted once its outcome is known. One that is dropped without (its caller has hung up) is not.
#[derive(Debug)]
pub struct Begun {
    traffic: Arc<Traffic>,
    method: &'static str,
    since: Instant,
    status: Option<u16>,
}

impl Begun {
    /// The first outcome counts.
    pub fn ended(&mut self, status: u16) {
        if self.status.is_none() {
            self.status = Some(status);
            self.traffic.count(self.method, status, self.since.elapsed());
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.traffic.requests_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The methods that a door has; another one is not told apart from the rest.
pub(crate) fn method(method: &axum::http::Method) -> &'static str {
    match *method {
        axum::http::Method::GET => "GET",
        axum::http::Method::HEAD => "HEAD",
        axum::http::Method::POST => "POST",
        axum::http::Method::PUT => "PUT",
        axum::http::Method::PATCH => "PATCH",
        axum::http::Method::DELETE => "DELETE",
        axum::http::Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_their_first_outcome() {
        let traffic = Arc::new(Traffic::default());
        let mut first = traffic.begin("GET");
        let mut second = traffic.begin("GET");
        drop(traffic.begin("POST"));
        assert_eq!(traffic.snapshot().requests_open, 2);
        first.ended(200);
        first.ended(500);
        drop(first);
        second.ended(404);
        drop(second);
        let snapshot = traffic.snapshot();
        assert_eq!(snapshot.requests, [("GET", 200, 1), ("GET", 404, 1)]);
        assert_eq!((snapshot.requests_open, snapshot.within.last()), (0, Some(&2)));
    }
}
