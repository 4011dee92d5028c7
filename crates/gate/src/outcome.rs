//! What a caller is told: one result per event, or one error for the request as a whole.

use std::net::IpAddr;
use std::time::Duration;

/// Where a request came from: becomes record headers (`source_address`, `user_agent`) on records the gate frames.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// `rest`, `kafka`, `grpc`.
    pub protocol: &'static str,
    pub address: Option<IpAddr>,
    pub user_agent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// JSON pointer (RFC 6901) to the offending value; empty for the whole event.
    pub path: String,
    pub message: String,
    /// The schema keyword that failed (`required`, `type`, …), or `json`, `encoding`, `depth`, `size`.
    pub keyword: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    Accepted { partition: i32, offset: i64 },
    Rejected { reasons: Vec<Reason> },
}

#[derive(Debug, Clone, PartialEq)]
pub struct EventResult {
    /// The event's `id` where it could be read.
    pub id: Option<String>,
    pub status: Status,
}

/// Results in the order of the events of the request.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub topic: String,
    pub accepted: usize,
    pub rejected: usize,
    pub results: Vec<EventResult>,
}

/// The request as a whole failed; nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("unknown topic {0:?}")]
    UnknownTopic(String),
    #[error("the request holds no event")]
    Empty,
    #[error("the request holds more than {0} events: send it in parts")]
    TooManyEvents(usize),
    #[error("{reason}: retry after {} s", retry_after.as_secs().max(1))]
    Busy { reason: String, retry_after: Duration },
    #[error("the log does not accept events: {0}")]
    Log(String),
}
