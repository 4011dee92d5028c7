//! Bad events: the typed rows of the log topic `bad_events`.

use crate::Reason;

pub const BAD_EVENTS_TOPIC: &str = "bad_events";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Validate,
    Enrich,
    Sink(String),
}

/// One bad event, as stored (JSON, `raw` in base64) and as shown. `bad_id` is its place: `<partition>-<offset>`.
#[derive(Debug, Clone, PartialEq)]
pub struct BadEvent {
    pub bad_id: String,
    pub received_at_ms: i64,
    pub topic: String,
    pub source_protocol: String,
    pub source_address: Option<String>,
    pub schema_id: Option<i32>,
    pub stage: Stage,
    pub reasons: Vec<Reason>,
    pub raw: Vec<u8>,
    pub attempts: i32,
    pub fixed_as: Option<String>,
}

/// Reads the topic `bad_events` of a log.
pub struct BadEvents {}

impl BadEvents {
    pub fn new(_log: std::sync::Arc<playhouse_log::Log>) -> BadEvents {
        todo!()
    }
    /// A page of bad events from `position` (next offset per partition, empty for the start); returns the rows and the
    /// position after them. No rows means the end was reached.
    pub fn read(&self, _position: &mut Vec<i64>, _max_rows: usize) -> Result<Vec<BadEvent>, playhouse_log::ReadError> {
        todo!()
    }
}
