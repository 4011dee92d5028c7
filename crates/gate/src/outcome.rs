//! What a caller is told: one result per event, or one error for the request as a whole.

use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use playhouse_schema::Reason;

use crate::budget::Charge;

/// Where a request came from: becomes record headers (`source_address`, `user_agent`) on records the gate frames.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// `rest`, `kafka`, `grpc`.
    pub protocol: &'static str,
    pub address: Option<IpAddr>,
    pub user_agent: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    Accepted { partition: i32, offset: i64 },
    Rejected { reasons: Vec<Reason> },
}

#[derive(Debug, Clone, PartialEq)]
pub struct EventResult {
    /// The bytes of the request body that hold the event's id; see [`Outcome::id`].
    pub(crate) id: Option<Range<u32>>,
    pub status: Status,
}

/// Results in the order of the events of the request. It keeps the body, so that ids are not copied event by event.
/// Dropping it gives back its share of the in-flight budget.
#[derive(Debug)]
pub struct Outcome {
    pub topic: Arc<str>,
    pub accepted: usize,
    pub rejected: usize,
    pub results: Vec<EventResult>,
    pub(crate) body: Bytes,
    pub(crate) charge: Charge,
}

/// What an outcome holds of the in-flight budget, without the outcome: for as long as an answer is made of it.
#[derive(Debug)]
pub struct Share(#[expect(dead_code, reason = "held for its drop")] Charge);

impl Outcome {
    pub fn into_share(self) -> Share {
        Share(self.charge)
    }

    /// The id of one event as it was sent: a JSON string in its quotes, or a JSON number. `None` where the event has no
    /// readable id (or one of more than 1,024 bytes).
    pub fn id(&self, index: usize) -> Option<&[u8]> {
        let range = self.results.get(index)?.id.as_ref()?;
        self.body.get(range.start as usize..range.end as usize)
    }

    /// Appends the reply body of the ingest door:
    /// `{"accepted","rejected","results":[{"index","id","status","topic","partition","offset"|"reasons"}]}`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.reserve(64 + self.results.len() * (144 + self.topic.len()));
        let topic = serde_json::Value::from(&*self.topic).to_string();
        put(out, format_args!("{{\"accepted\":{},\"rejected\":{},\"results\":[", self.accepted, self.rejected));
        for (index, result) in self.results.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"index\":");
            put_integer(out, index as u64);
            out.extend_from_slice(b",\"id\":");
            out.extend_from_slice(self.id(index).unwrap_or(b"null"));
            match &result.status {
                Status::Accepted { partition, offset } => {
                    out.extend_from_slice(b",\"status\":\"accepted\",\"topic\":");
                    out.extend_from_slice(topic.as_bytes());
                    out.extend_from_slice(b",\"partition\":");
                    put_integer(out, u64::from(partition.unsigned_abs()));
                    out.extend_from_slice(b",\"offset\":");
                    put_integer(out, offset.unsigned_abs());
                }
                Status::Rejected { reasons } => {
                    out.extend_from_slice(b",\"status\":\"rejected\",\"topic\":");
                    out.extend_from_slice(topic.as_bytes());
                    out.extend_from_slice(b",\"reasons\":");
                    // Strings only: serialising them into memory cannot fail.
                    let _ = serde_json::to_writer(&mut *out, reasons);
                }
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(arguments);
}

/// `fmt` costs more than everything else in a reply of a thousand accepted events.
fn put_integer(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The request as a whole failed. Except for [`RequestError::Log`], nothing of it was kept; after that one, some of its
/// events may be in the log: send it again, the dedup key of the topic makes that safe.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("unknown topic {0:?}")]
    UnknownTopic(String),
    #[error("the request holds no event")]
    Empty,
    #[error("the request holds more than {0} events: send it in parts")]
    TooManyEvents(usize),
    #[error("the request of {size} bytes is larger than the limit of {limit}: send it in parts")]
    TooLarge { size: usize, limit: usize },
    #[error("{reason}: retry after {} s", retry_after.as_secs().max(1))]
    Busy { reason: String, retry_after: Duration },
    #[error("the log does not accept events: {0}")]
    Log(String),
}
