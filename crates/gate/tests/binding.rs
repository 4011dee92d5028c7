//! Topics bound to a subject: what is taken, what is refused and why, and what becomes of the batch.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::*;
use playhouse_gate::{
    BadEvent, FoundSchema, Gate, ON_INVALID_SETTING, Origin, ProduceError, Produced, RepairOutcome, SUBJECT_SETTING,
    SchemaSource, Stage, VALIDATION_SETTING,
};
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::{CleanupPolicy, TopicSettings};
use playhouse_schema::formats::{Format, Schema};
use playhouse_schema::wire::{SchemaKey, VALUE_SCHEMA_HEADER, put_path};
use uuid::Uuid;

const PLAYS: &str = "plays";
const JSON_ID: i32 = 1;
const AVRO_ID: i32 = 2;
const OTHER_ID: i32 = 3;
const PROTOBUF_ID: i32 = 4;
const UNREADABLE_ID: i32 = 5;
const PROTOBUF: &str = "syntax = \"proto3\"; message A { string a = 1; message I { message X { sint32 x = 1; } message Y { int32 y = 1; } } }
    message B { message J {} message K { bool k = 1; } }";
const AVRO_GUID: Uuid = Uuid::from_u128(0xa);
const PROTOBUF_GUID: Uuid = Uuid::from_u128(0xb);

/// `plays-value` has a JSON, an Avro and a Protobuf schema, of which `latest` is the latest; `other-value` a JSON schema.
struct Registry {
    latest: i32,
}

impl Registry {
    fn schema(&self, id: i32) -> Option<FoundSchema> {
        let (format, text) = match id {
            JSON_ID => (Format::Json, r#"{"type":"object","required":["user"]}"#),
            OTHER_ID => (Format::Json, "{}"),
            PROTOBUF_ID => (Format::Protobuf, PROTOBUF),
            AVRO_ID => (Format::Avro, r#"{"type":"record","name":"Play","fields":[{"name":"ms","type":"int"}]}"#),
            UNREADABLE_ID => {
                let parsed = Err("schema id 5 cannot be read: another version wrote it".to_owned());
                return Some(FoundSchema { id: Some(id), format: Format::Avro, parsed });
            }
            _ => return None,
        };
        let schema = Schema::parse(format, text, &[]).unwrap();
        Some(FoundSchema::new(Some(id), Arc::new(schema)))
    }

    fn id_of(guid: Uuid) -> Option<i32> {
        [(AVRO_GUID, AVRO_ID), (PROTOBUF_GUID, PROTOBUF_ID)].into_iter().find(|it| it.0 == guid).map(|it| it.1)
    }
}

impl SchemaSource for Registry {
    fn by_id(&self, id: i32) -> Option<FoundSchema> {
        self.schema(id)
    }

    fn by_guid(&self, guid: Uuid) -> Option<FoundSchema> {
        self.schema(Registry::id_of(guid)?)
    }

    fn latest(&self, subject: &str) -> Option<FoundSchema> {
        if subject == "plays-value" { self.schema(self.latest) } else { None }
    }

    fn is_under(&self, subject: &str, key: SchemaKey) -> bool {
        let id = match key {
            SchemaKey::Id(id) => Some(id),
            SchemaKey::Guid(guid) => Registry::id_of(guid),
        };
        subject == if id == Some(OTHER_ID) { "other-value" } else { "plays-value" }
    }
}

/// A house with the topic `plays`, which has these settings.
fn house(latest: i32, settings: &[(&str, &str)]) -> House {
    let house = House::with_registry(|_| Arc::new(Registry { latest }));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, *value)).collect();
    house.log.create_topic(PLAYS, TopicSettings { partitions: 2, ..TopicSettings::default() }).unwrap();
    set(&house, PLAYS, &settings);
    house
}

fn set(house: &House, topic: &str, notes: &[(&str, &str)]) {
    let mut settings = house.log.topic(topic).unwrap().settings();
    settings.notes.extend(notes.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    house.log.alter_topic(topic, settings).unwrap();
}

fn kafka() -> Origin {
    Origin { protocol: "kafka", ..Origin::default() }
}

#[derive(Clone, Default)]
struct Sent {
    value: Option<Vec<u8>>,
    header: Option<Vec<u8>>,
}

fn bare(value: impl AsRef<[u8]>) -> Sent {
    Sent { value: Some(value.as_ref().to_vec()), header: None }
}

fn prefixed(id: i32, payload: impl AsRef<[u8]>) -> Sent {
    let mut value = Vec::new();
    SchemaKey::Id(id).put(&mut value);
    value.extend_from_slice(payload.as_ref());
    bare(value)
}

fn headed(guid: Uuid, payload: impl AsRef<[u8]>) -> Sent {
    let mut header = Vec::new();
    SchemaKey::Guid(guid).put(&mut header);
    Sent { header: Some(header), ..bare(payload) }
}

async fn produce(gate: &Gate, sent: &[Sent], sequence: Option<i32>) -> Result<Produced, ProduceError> {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    if let Some(sequence) = sequence {
        builder = builder.producer(5, 0, sequence);
    }
    for Sent { value, header } in sent {
        let headers: Vec<(&str, &[u8])> = header.iter().map(|it| (VALUE_SCHEMA_HEADER, &it[..])).collect();
        builder.push(1_000, Some(b"key"), value.as_deref(), &headers);
    }
    gate.produce(PLAYS, 1, Bytes::from(builder.build()), &kafka()).await
}

/// Sends one record to a topic with these settings; `None` where it is taken, or the keyword and message of the reason.
async fn outcome(house: &House, sent: Sent) -> Option<(String, String)> {
    let before = house.bad().len();
    let produced = produce(&house.gate, &[sent], None).await.unwrap();
    let bad = house.bad().split_off(before);
    assert_eq!(bad.len(), produced.quarantined);
    let reason = &bad.first()?.reasons[0];
    Some((reason.keyword.clone(), reason.message.clone()))
}

#[track_caller]
fn refused(outcome: Option<(String, String)>, keyword: &str, message: &str) {
    let (found_keyword, found_message) = outcome.expect("it is refused");
    assert_eq!(found_keyword, keyword);
    assert!(found_message.contains(message), "{found_message}");
}

#[tokio::test]
async fn under_id_a_value_names_a_schema_of_its_subject() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "id")]);
    assert_eq!(outcome(&house, prefixed(JSON_ID, "no payload of that schema")).await, None);
    assert_eq!(outcome(&house, headed(AVRO_GUID, "anything")).await, None);
    refused(outcome(&house, bare(r#"{"user":"u"}"#)).await, "schema_id", "names no schema: send the schema's id");
    refused(outcome(&house, prefixed(9, "{}")).await, "schema_id", "schema id 9 is not registered");
    let unknown = Uuid::from_u128(9);
    refused(outcome(&house, headed(unknown, "{}")).await, "schema_id", &format!("schema guid {unknown} is not"));
    refused(outcome(&house, prefixed(OTHER_ID, "{}")).await, "schema_id", r#"none of the subject "plays-value""#);
    refused(outcome(&house, bare(b"\0\0\x01")).await, "schema_id", "cut off: 3 of 5 bytes");
    refused(outcome(&house, Sent { header: Some(b"7".to_vec()), ..bare("{}") }).await, "schema_id", "the byte 55");
    refused(outcome(&house, Sent::default()).await, "type", "tombstone");
}

#[tokio::test]
async fn under_full_a_payload_is_valid_under_the_schema_that_it_names() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "full")]);
    assert_eq!(outcome(&house, prefixed(JSON_ID, r#"{"user":"u"}"#)).await, None);
    refused(outcome(&house, prefixed(JSON_ID, "{}")).await, "required", "user");
    refused(outcome(&house, prefixed(JSON_ID, "{")).await, "json", "not JSON");
    assert_eq!(outcome(&house, prefixed(AVRO_ID, b"\x02")).await, None);
    assert_eq!(outcome(&house, headed(AVRO_GUID, b"\x02")).await, None);
    refused(outcome(&house, prefixed(AVRO_ID, b"\x02\x02")).await, "avro", "1 bytes follow");
    // A header goes before a prefix: all of the value is the payload.
    refused(
        outcome(&house, Sent { header: headed(AVRO_GUID, "").header, ..prefixed(AVRO_ID, b"\x02") }).await,
        "avro",
        "",
    );
    let bad = house.bad();
    assert_eq!(bad.iter().map(|row| row.schema_id.unwrap()).collect::<Vec<_>>(), [JSON_ID, JSON_ID, AVRO_ID, AVRO_ID]);
    let stages: Vec<Stage> = bad.into_iter().map(|row| row.stage).collect();
    assert_eq!(stages, [Stage::Validate, Stage::Decode, Stage::Decode, Stage::Decode]);
}

#[tokio::test]
async fn the_path_to_a_protobuf_message_stands_behind_the_schemas_name() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "full")]);
    // A text, and a flag: neither is a message of the other type.
    for (path, message, other) in
        [(&[0][..], &b"\x0a\x01x"[..], &b"\x08\x01"[..]), (&[1, 1], b"\x08\x01", b"\x0a\x01x")]
    {
        let named = |message: &[u8]| {
            let mut payload = Vec::new();
            put_path(path, &mut payload);
            payload.extend_from_slice(message);
            prefixed(PROTOBUF_ID, payload)
        };
        let headed = |message: &[u8]| {
            let mut sent = headed(PROTOBUF_GUID, message);
            put_path(path, sent.header.as_mut().unwrap());
            sent
        };
        assert_eq!(outcome(&house, named(message)).await, None);
        assert_eq!(outcome(&house, headed(message)).await, None);
        refused(outcome(&house, named(other)).await, "type", "wire type");
        refused(outcome(&house, headed(other)).await, "type", "wire type");
    }
    let mut nowhere = Vec::new();
    put_path(&[2], &mut nowhere);
    refused(outcome(&house, prefixed(PROTOBUF_ID, nowhere)).await, "type", "no message type at [2]");
    refused(outcome(&house, prefixed(PROTOBUF_ID, b"\x01")).await, "schema_id", "the path to the Protobuf message");
}

#[tokio::test]
async fn bare_json_is_checked_against_the_latest_version() {
    let json = house(JSON_ID, &[(VALIDATION_SETTING, "full")]);
    assert_eq!(outcome(&json, bare(r#"{"user":"u"}"#)).await, None);
    refused(outcome(&json, bare("{}")).await, "required", "user");
    let avro = house(AVRO_ID, &[(VALIDATION_SETTING, "full")]);
    refused(
        outcome(&avro, bare(r#"{"user":"u"}"#)).await,
        "schema_id",
        r#"those of the subject "plays-value" are AVRO"#,
    );
    let none = house(JSON_ID, &[(VALIDATION_SETTING, "full"), (SUBJECT_SETTING, "plays-events")]);
    refused(outcome(&none, bare("{}")).await, "subject", r#"no schema is registered under the subject "plays-events""#);
    // A topic with values of several subjects has no latest version.
    let any = house(JSON_ID, &[(VALIDATION_SETTING, "full"), (SUBJECT_SETTING, "*")]);
    assert_eq!(outcome(&any, prefixed(OTHER_ID, "{}")).await, None);
    refused(outcome(&any, prefixed(JSON_ID, "{}")).await, "required", "user");
    refused(outcome(&any, bare(r#"{"user":"u"}"#)).await, "schema_id", "names no schema");
}

#[tokio::test]
async fn compacted_topics_take_tombstones() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "full")]);
    refused(outcome(&house, Sent::default()).await, "type", "tombstone");
    let settings = house.log.topic(PLAYS).unwrap().settings();
    house.log.alter_topic(PLAYS, TopicSettings { cleanup: CleanupPolicy::Compact, ..settings }).unwrap();
    assert_eq!(outcome(&house, Sent::default()).await, None);
}

#[tokio::test]
async fn settings_hold_from_the_next_batch_on() {
    let house = house(JSON_ID, &[]);
    assert_eq!(outcome(&house, bare("anything")).await, None);
    set(&house, PLAYS, &[(VALIDATION_SETTING, "full")]);
    refused(outcome(&house, bare("anything")).await, "json", "");
    set(&house, PLAYS, &[(VALIDATION_SETTING, "none")]);
    assert_eq!(outcome(&house, bare("anything")).await, None);
}

#[tokio::test]
async fn a_rejected_batch_leaves_no_trace() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "full"), (ON_INVALID_SETTING, "reject")]);
    let good = bare(r#"{"user":"u"}"#);
    let batch = [good.clone(), bare("{}"), good.clone(), bare("{"), Sent::default()];
    for _ in 0..2 {
        let error = produce(&house.gate, &batch, Some(0)).await.unwrap_err();
        let ProduceError::Rejected(rejected) = &error else { panic!("{error}") };
        let told: Vec<_> = rejected.records.iter().map(|it| (it.index, it.reasons[0].keyword.as_str())).collect();
        assert_eq!(told, [(1, "required"), (3, "json"), (4, "type")]);
        assert_eq!((rejected.count, rejected.sent), (3, 5));
        assert!(error.to_string().starts_with("3 of 5 records are invalid"), "{error}");
    }
    assert!(house.everything(PLAYS).is_empty() && house.bad().is_empty());
    let counters = house.gate.counters();
    assert_eq!((counters.accepted, counters.rejected, counters.in_flight_bytes), (0, 6, 0));
    // The producer's sequence stands where it stood.
    let produced = produce(&house.gate, &[good.clone(), good], Some(0)).await.unwrap();
    assert_eq!(
        (produced.appended.base_offset, produced.appended.next_offset, produced.appended.duplicate),
        (0, 2, false)
    );
}

#[tokio::test]
async fn of_many_rejected_records_a_thousand_are_told() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "full"), (ON_INVALID_SETTING, "reject")]);
    let error = produce(&house.gate, &vec![bare("{}"); 3_000], None).await.unwrap_err();
    let ProduceError::Rejected(rejected) = error else { panic!("{error}") };
    assert_eq!((rejected.records.len(), rejected.count), (1_000, 3_000));
}

#[tokio::test]
async fn the_other_doors_ask_the_same_of_an_event() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "full"), (ON_INVALID_SETTING, "reject")]);
    let reply = house.ingest_to(PLAYS, "{\"user\":\"u\"}\n{}\n{\"user\":").await;
    assert_eq!((&reply["accepted"], &reply["rejected"]), (&1.into(), &2.into()));
    assert_eq!(reply["results"][1]["reasons"][0]["keyword"], "required");
    assert_eq!(reply["results"][2]["reasons"][0]["keyword"], "json");
    let named = prefixed(AVRO_ID, b"\x02").value.unwrap();
    assert_eq!(house.ingest_to(PLAYS, named.clone()).await["accepted"], 1);
    let broken = prefixed(AVRO_ID, b"").value.unwrap();
    assert_eq!(house.ingest_to(PLAYS, broken.clone()).await["results"][0]["reasons"][0]["keyword"], "avro");
    let events = [named, br#"{"user":"u"}"#.to_vec(), broken, b"{}".to_vec()].map(Bytes::from);
    let outcome = house.gate.ingest_events(PLAYS, &events, &origin()).await.unwrap();
    assert_eq!((outcome.accepted, outcome.rejected), (2, 2));
    // Only what was checked against the latest schema is stamped with it.
    let stamps = house
        .everything(PLAYS)
        .into_iter()
        .map(|record| record.headers.into_iter().find(|(name, _)| name == "schema_id").map(|(_, id)| id));
    let mut stamps: Vec<_> = stamps.collect();
    stamps.sort();
    assert_eq!(stamps, [None, None, Some("1".to_owned()), Some("1".to_owned())]);
    assert_eq!(house.bad().len(), 5);

    set(&house, PLAYS, &[(VALIDATION_SETTING, "id")]);
    let reply = house.ingest_to(PLAYS, r#"{"user":"u"}"#).await;
    assert_eq!(reply["results"][0]["reasons"][0]["keyword"], "schema_id");
}

#[tokio::test]
async fn a_subject_of_the_registry_goes_before_the_schema_of_the_configuration() {
    let house = house(JSON_ID, &[]);
    set(&house, TOPIC, &[(SUBJECT_SETTING, "plays-value")]);
    let reply = house.ingest(r#"{"user":"u"}"#).await;
    assert_eq!(reply["accepted"], 1, "{reply}");
    // The key is found all the same.
    assert_eq!(house.everything(TOPIC)[0].key.as_deref(), Some("u"));
    set(&house, TOPIC, &[(SUBJECT_SETTING, "")]);
    assert_eq!(house.ingest(r#"{"user":"u"}"#).await["rejected"], 1);
    // An id of the configuration's own schema is known as well.
    let sent = prefixed(7, event("a", "u")).value.unwrap();
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(1_000, None, Some(&sent), &[]);
    let produced = house.gate.produce(TOPIC, 0, Bytes::from(batch.build()), &kafka()).await.unwrap();
    assert_eq!(produced.quarantined, 0);
}

#[tokio::test]
async fn a_retry_is_no_bad_event_although_its_schema_has_become_stricter() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "id")]);
    let batch = [prefixed(JSON_ID, "{}"), bare("names none")];
    assert_eq!(produce(&house.gate, &batch, Some(0)).await.unwrap().quarantined, 1);
    set(&house, PLAYS, &[(VALIDATION_SETTING, "full")]);
    assert!(produce(&house.gate, &batch, Some(0)).await.unwrap().appended.duplicate);
    assert_eq!(house.bad().iter().map(|row| row.place).collect::<Vec<_>>(), [Some((1, 1))]);
    assert_eq!(house.stored(PLAYS, 1).len(), 1);
}

#[tokio::test]
async fn under_a_schema_that_cannot_be_read_nothing_is_valid() {
    let house = house(UNREADABLE_ID, &[(VALIDATION_SETTING, "full")]);
    refused(outcome(&house, prefixed(UNREADABLE_ID, b"\x02")).await, "schema_id", "another version wrote it");
    refused(outcome(&house, bare("{}")).await, "schema_id", "are AVRO");
}

/// A fix makes the payload anew; which schema it is under is still what the header said.
#[tokio::test]
async fn a_fixed_record_is_judged_by_the_schema_that_its_header_names() {
    let house = house(JSON_ID, &[(VALIDATION_SETTING, "full")]);
    assert!(outcome(&house, headed(AVRO_GUID, b"\x02\x02")).await.is_some());
    let fix = |payload: &'static [u8]| Arc::new(move |_: &BadEvent| Ok(payload.to_vec()));
    let json = house.gate.repair(house.bad(), fix(br#"{"user":"u"}"#), false).await.unwrap();
    assert!(matches!(&json[0].outcome, RepairOutcome::StillBad(reasons) if reasons[0].keyword == "avro"), "{json:?}");
    let avro = house.gate.repair(house.bad(), fix(b"\x02"), false).await.unwrap();
    assert_eq!(avro[0].outcome, RepairOutcome::Fixed);
    let stored = house.everything(PLAYS).pop().unwrap();
    assert_eq!((stored.key.as_deref(), stored.value.as_deref()), (Some("key"), Some("\x02")));
    assert!(stored.headers.iter().any(|(name, _)| name == VALUE_SCHEMA_HEADER), "{stored:?}");
}
