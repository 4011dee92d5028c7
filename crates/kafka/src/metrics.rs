//! What the door counts: requests by API, connections, throttling. Counters only grow; nothing here waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use crate::api::SUPPORTED;

/// Upper bounds of the latency buckets; one more takes what is slower.
pub const LATENCY_BOUNDS: [Duration; 10] = [
    Duration::from_micros(100),
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
struct PerApi {
    requests: AtomicU64,
    errors: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    latency_us: AtomicU64,
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
}

#[derive(Debug)]
pub struct Metrics {
    /// As in [`SUPPORTED`].
    apis: Vec<PerApi>,
    pub(crate) connections_open: AtomicU64,
    pub(crate) connections_accepted: AtomicU64,
    /// Closed at once because of a limit.
    pub(crate) connections_refused: AtomicU64,
    /// Requests outside the protocol, whose connection was closed.
    pub(crate) malformed: AtomicU64,
    pub(crate) throttled_ms: AtomicU64,
    pub(crate) authentications_failed: AtomicU64,
}

/// One API since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiSnapshot {
    pub api: String,
    pub requests: u64,
    /// Answers that told an error, of topics and partitions each.
    pub errors: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// From the whole request having been read to its answer being ready, waits for disk and records included.
    pub latency: Duration,
    /// Answers within each of [`LATENCY_BOUNDS`], then all.
    pub within: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorSnapshot {
    pub connections_open: u64,
    pub connections_accepted: u64,
    pub connections_refused: u64,
    pub malformed: u64,
    pub throttled: Duration,
    pub authentications_failed: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            apis: SUPPORTED.iter().map(|_| PerApi::default()).collect(),
            connections_open: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            throttled_ms: AtomicU64::new(0),
            authentications_failed: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    fn of(&self, api: ApiKey) -> Option<&PerApi> {
        let index = SUPPORTED.iter().position(|(known, ..)| *known == api)?;
        self.apis.get(index)
    }

    pub(crate) fn request(&self, api: ApiKey, bytes: usize) {
        if let Some(counters) = self.of(api) {
            add(&counters.requests, 1);
            add(&counters.request_bytes, bytes as u64);
        }
    }

    pub(crate) fn response(&self, api: ApiKey, bytes: usize, errors: usize, took: Duration) {
        if let Some(counters) = self.of(api) {
            add(&counters.response_bytes, bytes as u64);
            add(&counters.errors, errors as u64);
            add(&counters.latency_us, took.as_micros() as u64);
            let bucket = LATENCY_BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(LATENCY_BOUNDS.len());
            add(&counters.buckets[bucket], 1);
        }
    }

    /// The APIs that were asked for, by name.
    pub fn apis(&self) -> Vec<ApiSnapshot> {
        let asked = SUPPORTED.iter().zip(&self.apis).filter(|(_, counters)| get(&counters.requests) > 0);
        let snapshot = |((api, ..), counters): (&(ApiKey, i16, i16), &PerApi)| {
            let mut total = 0;
            let within = counters.buckets.iter().map(|bucket| {
                total += get(bucket);
                total
            });
            ApiSnapshot {
                api: format!("{api:?}"),
                requests: get(&counters.requests),
                errors: get(&counters.errors),
                request_bytes: get(&counters.request_bytes),
                response_bytes: get(&counters.response_bytes),
                latency: Duration::from_micros(get(&counters.latency_us)),
                within: within.collect(),
            }
        };
        let mut apis: Vec<ApiSnapshot> = asked.map(snapshot).collect();
        apis.sort_by(|one, other| one.api.cmp(&other.api));
        apis
    }

    pub fn door(&self) -> DoorSnapshot {
        DoorSnapshot {
            connections_open: get(&self.connections_open),
            connections_accepted: get(&self.connections_accepted),
            connections_refused: get(&self.connections_refused),
            malformed: get(&self.malformed),
            throttled: Duration::from_millis(get(&self.throttled_ms)),
            authentications_failed: get(&self.authentications_failed),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
