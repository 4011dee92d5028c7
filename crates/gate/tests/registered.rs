//! The gate before the real registry: its latest version goes before the schema of the configuration, on every door.

mod common;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use common::*;
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_registry::{Registry, RegistryConfig};
use playhouse_schema::formats::Format;
use playhouse_schema::registry::{ConfigUpdate, Level, Outcome, Proposal};
use playhouse_schema::wire::SchemaKey;
use serde_json::{Value, json};

const SUBJECT: &str = "multimedia_events-value";

struct Registered {
    house: House,
    registry: Arc<Registry>,
}

impl Registered {
    fn new() -> Registered {
        let opened = OnceLock::new();
        let house = House::with_registry(|log| {
            let registry = Registry::open(log, RegistryConfig::default()).unwrap();
            opened.set(registry.clone()).unwrap();
            registry
        });
        Registered { house, registry: opened.into_inner().unwrap() }
    }

    async fn register(&self, format: Format, text: impl Into<String>) -> i32 {
        let proposal = Proposal::new(format, text);
        let update = ConfigUpdate { level: Some(Level::None), normalize: None };
        self.registry.change(move |state, _| state.set_config(Some(SUBJECT), update)).await.unwrap();
        let registered = self.registry.change(move |state, rules| state.register(rules, SUBJECT, &proposal)).await;
        let (Outcome { id, .. }, _) = registered.unwrap();
        id
    }

    /// Whether the Kafka door takes the value, or why not.
    async fn produced(&self, value: &[u8]) -> Result<(), String> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1_000, None, Some(value), &[]);
        let before = self.house.bad().len();
        let produced = self.house.gate.produce(TOPIC, 0, Bytes::from(builder.build()), &origin()).await.unwrap();
        match produced.quarantined {
            0 => Ok(()),
            _ => Err(self.house.bad()[before].reasons[0].keyword.clone()),
        }
    }

    /// The same of the HTTP door.
    async fn posted(&self, value: impl Into<Bytes>) -> Result<(), String> {
        let reply = self.house.ingest(value).await;
        match reply["results"][0]["reasons"][0]["keyword"].as_str() {
            None => Ok(()),
            Some(keyword) => Err(keyword.to_owned()),
        }
    }

    /// Of a value that both doors are asked for.
    async fn outcome(&self, value: impl AsRef<[u8]>) -> Result<(), String> {
        let value = value.as_ref();
        let posted = self.posted(value.to_vec()).await;
        assert_eq!(posted, self.produced(value).await, "the doors differ over {:?}", String::from_utf8_lossy(value));
        posted
    }
}

fn refused(keyword: &str) -> Result<(), String> {
    Err(keyword.to_owned())
}

fn named(id: i32, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    SchemaKey::Id(id).put(&mut value);
    value.extend_from_slice(payload);
    value
}

fn play(more: Value) -> String {
    let mut event = json!({"id": "a", "user": "u"});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_latest_version_goes_before_the_schema_of_the_configuration() {
    let it = Registered::new();
    assert_eq!(it.outcome(event("a", "u")).await, Ok(()));
    assert_eq!(it.outcome(r#"{"user":"u","id":"a","track":1}"#).await, refused("required"));

    let first = it.register(Format::Json, r#"{"type":"object","required":["track"]}"#).await;
    assert_eq!(it.outcome(r#"{"user":"u","id":"a","track":1}"#).await, Ok(()));
    assert_eq!(it.outcome(event("a", "u")).await, refused("required"));
    let stored = it.house.everything(TOPIC);
    let is_posted = |record: &&Stored| !record.headers.is_empty() && record.value.as_ref().unwrap().contains("track");
    let posted = stored.iter().find(is_posted).unwrap();
    assert!(posted.headers.contains(&("schema_id".to_owned(), first.to_string())), "{posted:?}");
    assert_eq!(posted.key.as_deref(), Some("u"), "the key is found under any schema");
    assert!(it.house.bad().iter().any(|bad| bad.schema_id == Some(first)));

    let second = it.register(Format::Json, r#"{"type":"object","required":["place"]}"#).await;
    assert_eq!(it.outcome(r#"{"place":1}"#).await, Ok(()));
    assert_eq!(it.outcome(r#"{"track":1}"#).await, refused("required"));
    // What names the version before is checked against that.
    assert_eq!(it.outcome(named(first, br#"{"track":1}"#)).await, Ok(()));
    assert_eq!(it.outcome(named(second, br#"{"track":1}"#)).await, refused("required"));
    assert_eq!(it.outcome(named(99, b"{}")).await, refused("schema_id"));

    it.registry.change(|state, _| state.delete_subject(SUBJECT, false)).await.unwrap();
    assert_eq!(it.outcome(event("a", "u")).await, Ok(()), "the configured schema again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn other_formats_are_checked_by_the_schema_that_is_named() {
    let it = Registered::new();
    let avro = it.register(Format::Avro, r#"{"type":"record","name":"P","fields":[{"name":"ms","type":"int"}]}"#).await;
    assert_eq!(it.outcome(named(avro, b"\x02")).await, Ok(()));
    assert_eq!(it.outcome(named(avro, b"\x02\x02")).await, refused("avro"));
    assert_eq!(it.outcome(event("a", "u")).await, refused("schema_id"), "the latest is not of JSON");
    let text = r#"syntax = "proto3"; message A { string s = 1; } message B { message C { bool b = 1; } }"#;
    let protobuf = it.register(Format::Protobuf, text).await;
    assert_eq!(it.outcome(named(protobuf, b"\x00\x0a\x01s")).await, Ok(()));
    assert_eq!(it.outcome(named(protobuf, b"\x04\x02\x00\x08\x01")).await, Ok(()));
    assert_eq!(it.outcome(named(protobuf, b"\x00\x08\x01")).await, refused("type"));
    assert_eq!(it.outcome(named(protobuf, b"\x04\x02\x00\x0a\x01s")).await, refused("type"));
    assert_eq!(it.outcome(named(protobuf, b"\x04\x02")).await, refused("schema_id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn documents_are_as_deep_as_the_configuration_allows_under_any_schema() {
    let it = Registered::new();
    let id = it.register(Format::Json, "true").await;
    let nested = |levels: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
    let depth = config().max_depth;
    for value in [nested(depth).into_bytes(), named(id, nested(depth).as_bytes())] {
        assert_eq!(it.outcome(value).await, Ok(()));
    }
    for value in [nested(depth + 1).into_bytes(), named(id, nested(depth + 1).as_bytes())] {
        assert_eq!(it.outcome(value).await, refused("depth"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn texts_are_typed_as_the_latest_version_says() {
    let it = Registered::new();
    let fields = [("id", "a"), ("user", "7"), ("n", "5")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    let made = || -> Value { serde_json::from_slice(&it.house.gate.event_of(TOPIC, &fields).unwrap()).unwrap() };
    let configured = made();
    assert_eq!((&configured["user"], &configured["n"]), (&"7".into(), &"5".into()));
    assert!(configured["timestamp"].is_string());
    let schema =
        json!({"properties": {"id": {"type": "string"}, "user": {"type": "integer"}, "n": {"type": "number"}}});
    it.register(Format::Json, schema.to_string()).await;
    assert_eq!(made(), json!({"id": "a", "user": 7, "n": 5}));
    assert_eq!(it.outcome(play(json!({"user": 7}))).await, Ok(()));
}
