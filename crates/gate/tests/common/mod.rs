//! A gate over a log in a temporary directory.
#![allow(dead_code)]

use std::sync::Arc;

use bytes::Bytes;
use playhouse_gate::{BadEvent, Gate, GateConfig, Origin, SchemaSource, TopicRule};
use playhouse_log::batch::{Records, split_first};
use playhouse_log::{Durability, Log, LogConfig, Partition, TopicSettings, disk::RealDisk};

pub const TOPIC: &str = "multimedia_events";
pub const SCHEMA: &str = include_str!("../../../../config/multimedia_events.schema.json");

pub struct House {
    pub gate: Arc<Gate>,
    pub log: Arc<Log>,
    _directory: tempfile::TempDir,
}

/// One stored record: offset, key, value, headers.
#[derive(Debug, PartialEq)]
pub struct Stored {
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, String)>,
}

pub fn config() -> GateConfig {
    GateConfig {
        default_topic: TOPIC.into(),
        in_flight_bytes: 8 << 20,
        max_event_bytes: 64 << 10,
        max_depth: 16,
        max_events_per_request: 5_000,
        auto_create_topics: true,
        new_topic: TopicSettings::default(),
    }
}

pub fn rule(topic: &str, schema: Option<&str>) -> TopicRule {
    TopicRule {
        topic: topic.into(),
        schema: schema.map(str::to_owned),
        schema_id: schema.map(|_| 7),
        key_field: Some("user".into()),
        id_field: Some("id".into()),
        keep_bad: true,
    }
}

pub fn rules() -> Vec<TopicRule> {
    let quiet = TopicRule { keep_bad: false, ..rule("quiet", Some(SCHEMA)) };
    vec![rule(TOPIC, Some(SCHEMA)), rule("anything", None), quiet]
}

impl House {
    pub fn new() -> House {
        House::with(config(), LogConfig { durability: Durability::Os, ..LogConfig::default() })
    }

    pub fn with(config: GateConfig, log: LogConfig) -> House {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(Arc::new(RealDisk), directory.path(), log).unwrap();
        House { gate: Gate::new(log.clone(), config, rules()).unwrap(), log, _directory: directory }
    }

    pub fn with_registry(registry: impl FnOnce(&Log) -> Arc<dyn SchemaSource>) -> House {
        let directory = tempfile::tempdir().unwrap();
        let log = LogConfig { durability: Durability::Os, ..LogConfig::default() };
        let log = Log::open(Arc::new(RealDisk), directory.path(), log).unwrap();
        let registry = registry(&log);
        let gate = Gate::with_registry(log.clone(), config(), rules(), registry).unwrap();
        House { gate, log, _directory: directory }
    }

    pub async fn ingest(&self, body: impl Into<Bytes>) -> serde_json::Value {
        self.ingest_to(TOPIC, body).await
    }

    pub async fn ingest_to(&self, topic: &str, body: impl Into<Bytes>) -> serde_json::Value {
        let outcome = self.gate.ingest(topic, body.into(), &origin()).await.unwrap();
        let mut reply = Vec::new();
        outcome.write_json(&mut reply);
        serde_json::from_slice(&reply).unwrap()
    }

    pub fn stored(&self, topic: &str, partition: i32) -> Vec<Stored> {
        let topic = self.log.topic(topic).unwrap();
        stored_in(topic.partition(partition).unwrap())
    }

    pub fn everything(&self, topic: &str) -> Vec<Stored> {
        let partitions = self.log.topic(topic).unwrap().partitions().len() as i32;
        (0..partitions).flat_map(|partition| self.stored(topic, partition)).collect()
    }

    pub fn bad(&self) -> Vec<BadEvent> {
        self.gate.bad_events().read(&mut Vec::new(), 100_000).unwrap()
    }
}

pub fn stored_in(partition: &Partition) -> Vec<Stored> {
    let mut next = partition.log_start_offset();
    let mut stored = Vec::new();
    while next < partition.high_watermark() {
        let mut bytes = partition.read(next, 1 << 20).unwrap();
        while !bytes.is_empty() {
            let (header, size) = split_first(&bytes).unwrap();
            let records = Records::decompress(&bytes.split_to(size), 64 << 20).unwrap();
            stored.extend(records.iter().map(|record| {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Stored {
                    offset: record.offset,
                    key: record.key.map(text),
                    value: record.value.map(text),
                    headers: record.headers().map(|(n, v)| (n.into(), text(v.unwrap()))).collect(),
                }
            }));
            next = header.next_offset();
        }
    }
    stored
}

pub fn origin() -> Origin {
    Origin { protocol: "rest", address: Some([83, 149, 9, 216].into()), user_agent: Some("curl/8".into()) }
}

pub fn event(id: &str, user: &str) -> String {
    format!(r#"{{"id": "{id}", "timestamp":"2025-08-31T12:00:00Z",  "type":"play","user":"{user}"}}"#)
}
