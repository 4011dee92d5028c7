//! The gate itself: budgets, topics, and the two ways through it (event requests, Kafka batches).

use std::sync::Arc;

use bytes::Bytes;
use playhouse_log::{AppendError, Appended, Log, TopicSettings};

use crate::{Origin, Outcome, Reason, RequestError};

#[derive(Debug, Clone)]
pub struct GateConfig {
    pub default_topic: String,
    /// Bytes of requests between arrival and durable append; beyond it callers get [`RequestError::Busy`].
    pub in_flight_bytes: usize,
    pub max_event_bytes: usize,
    pub max_depth: usize,
    pub max_events_per_request: usize,
    /// Whether a topic unknown to the log is created on first use by the Kafka door (never by REST).
    pub auto_create_topics: bool,
    pub new_topic: TopicSettings,
}

/// How one topic is treated.
#[derive(Debug, Clone)]
pub struct TopicRule {
    pub topic: String,
    /// JSON Schema text; `None` takes any bytes.
    pub schema: Option<String>,
    /// The registry's id of the schema, where it has one: becomes the record header `schema_id`.
    pub schema_id: Option<i32>,
    /// Top-level JSON field whose bytes are the record key (`user`), partitioned by murmur2.
    pub key_field: Option<String>,
    /// Top-level JSON field reported back as the event's id (`id`).
    pub id_field: Option<String>,
    /// Keep rejected events in `bad_events` (the default).
    pub keep_bad: bool,
}

/// Result of a Kafka produce of one partition's batches.
#[derive(Debug)]
pub struct Produced {
    pub appended: Appended,
    /// Records the gate took out (quarantine) and put into `bad_events`.
    pub quarantined: usize,
}

pub struct Gate {}

impl Gate {
    /// Opens the topics that the rules name (creating them with `LogAppendTime` where they have a schema) and `bad_events`.
    pub fn new(_log: Arc<Log>, _config: GateConfig, _rules: Vec<TopicRule>) -> Result<Arc<Gate>, GateError> {
        todo!()
    }
    pub fn log(&self) -> &Arc<Log> {
        todo!()
    }
    pub fn default_topic(&self) -> &str {
        todo!()
    }
    /// Validates and appends every event of a decoded body (one JSON object, a JSON array, or NDJSON: told apart by
    /// looking), and returns once all are durable.
    pub async fn ingest(&self, _topic: &str, _body: Bytes, _origin: &Origin) -> Result<Outcome, RequestError> {
        todo!()
    }
    /// Kafka batches for one partition: appended verbatim where the topic has no schema or all records are valid;
    /// otherwise the invalid records are quarantined. Does not wait for durability.
    pub async fn produce(
        &self,
        _topic: &str,
        _partition: i32,
        _batches: Bytes,
        _origin: &Origin,
    ) -> Result<Produced, ProduceError> {
        todo!()
    }
    /// Pushes back from outside, with the reason to tell callers: every request is [`RequestError::Busy`] until it is
    /// `None` again.
    pub fn set_overload(&self, _reason: Option<String>) {
        todo!()
    }
    /// Counters since start: accepted, rejected events and bytes.
    pub fn counters(&self) -> Counters {
        todo!()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("unknown topic or partition")]
    UnknownTopicOrPartition,
    #[error("busy: {0}")]
    Busy(String),
    #[error("invalid records: {0:?}")]
    Invalid(Vec<Reason>),
    #[error(transparent)]
    Append(#[from] AppendError),
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub accepted: u64,
    pub rejected: u64,
    pub accepted_bytes: u64,
    pub in_flight_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("schema of topic {topic:?}: {reason}")]
    Schema { topic: String, reason: String },
    #[error("topic {topic:?}: {source}")]
    Topic { topic: String, source: playhouse_log::CreateTopicError },
}
