//! Keys and values with schemas of the registry, in both versions of the API: registered, written, read back.

mod support;

use std::time::Duration;

use playhouse_client::produce::{Outgoing, Producer};
use playhouse_client::{Client, Compression, Options};
use playhouse_testkit::wait_until;
use serde_json::{Value, json};

use support::{Answer, House, V2};

const JSON: &str = "application/json";
const USER: &str = r#"{"type":"record","name":"User","namespace":"stream.playhouse","fields":[{"name":"name","type":"string"},
    {"name":"age","type":["null","int"]}]}"#;
const PROTO: &str =
    "syntax = \"proto3\"; package p; message Play { string user = 1; int64 ms = 2; } message Other { bool o = 1; }";

fn media(format: &str) -> String {
    format!("application/vnd.kafka.{format}.v2+json")
}

fn produce(house: &House, topic: &str, format: &str, body: &Value) -> Answer {
    house.post(&format!("/topics/{topic}"), &media(format), body)
}

/// Everything that a new consumer in the format reads of the topic, once it is so much.
fn read(house: &House, topic: &str, format: &str, count: usize) -> Vec<Value> {
    let path = instance(house, topic, format);
    let mut records = Vec::new();
    wait_until("all records are read", Duration::from_secs(30), || {
        let read = house.get_in(&format!("{path}/records?timeout=1000"), &media(format)).ok();
        records.extend(read.as_array().unwrap().iter().cloned());
        if records.len() >= count { Ok(()) } else { Err(format!("{records:?}")) }
    });
    records
}

fn instance(house: &House, topic: &str, format: &str) -> String {
    let name = uuid();
    let settings = json!({"name": name, "format": format, "auto.offset.reset": "earliest"});
    house.post(&format!("/consumers/{name}"), V2, settings).ok();
    let path = format!("/consumers/{name}/instances/{name}");
    let assigned = json!({"partitions": [{"topic": topic, "partition": 0}]});
    assert_eq!(house.post(&format!("{path}/assignments"), V2, assigned).status, 204);
    path
}

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn members(records: &[Value], name: &str) -> Vec<Value> {
    records.iter().map(|record| record[name].clone()).collect()
}

#[test]
fn avro_is_registered_once_and_shown_as_it_was_sent() {
    let house = House::start();
    house.topic("users", 1);
    let (one, two) = (json!({"name": "a", "age": null}), json!({"name": "b", "age": {"int": 7}}));
    let records = json!([{"key": "k", "value": one}, {"key": null, "value": two}, {"key": "gone", "value": null}]);
    let body = json!({"key_schema": "\"string\"", "value_schema": USER, "records": records});
    let answer = produce(&house, "users", "avro", &body).ok();
    assert_eq!((&answer["key_schema_id"], &answer["value_schema_id"]), (&json!(1), &json!(2)));
    assert_eq!(members(answer["offsets"].as_array().unwrap(), "error"), [Value::Null, Value::Null, Value::Null]);
    // The same again, and by the ids that were told.
    assert_eq!(produce(&house, "users", "avro", &body).ok()["value_schema_id"], 2);
    let by_id = json!({"value_schema_id": 2, "records": [{"value": one}]});
    assert_eq!(produce(&house, "users", "avro", &by_id).ok()["key_schema_id"], Value::Null);
    let registered = house.registry.snapshot();
    assert_eq!(
        registered.subjects("", Default::default()).map(|it| it.to_string()).collect::<Vec<_>>(),
        ["users-key", "users-value"]
    );

    let read = read(&house, "users", "avro", 7);
    let values = members(&read, "value");
    assert_eq!(values, [&one, &two, &Value::Null, &one, &two, &Value::Null, &one].map(Value::clone));
    assert_eq!(members(&read, "key")[..3], [json!("k"), Value::Null, json!("gone")]);
    assert_eq!(read[1], json!({"topic": "users", "key": null, "value": two, "partition": 0, "offset": 1}));
}

#[test]
fn json_schema_and_protobuf_go_the_same_way() {
    let house = House::start();
    for (format, schema, value, shown) in [
        ("jsonschema", r#"{"required":["user"]}"#, json!({"user": "u", "n": 1.5}), json!({"user": "u", "n": 1.5})),
        ("protobuf", PROTO, json!({"user": "u"}), json!({"user": "u", "ms": "0"})),
    ] {
        house.topic(format, 1);
        let body = json!({"value_schema": schema, "records": [{"value": value}]});
        let id = produce(&house, format, format, &body).ok()["value_schema_id"].as_i64().unwrap();
        assert_eq!(members(&read(&house, format, format, 1), "value"), [shown]);
        // What another format calls its own it is not.
        let path = instance(&house, format, "avro");
        let refused = house.get_in(&format!("{path}/records?timeout=1000"), &media("avro"));
        refused.refused(500, 50002);
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains("not AVRO") && message.contains("offset 0"), "{message}");
        let body = json!({"value_schema_id": id, "records": [{"value": value}]});
        produce(&house, format, "avro", &body).refused(422, 42205);
    }
}

#[test]
fn what_is_wrong_is_told_with_the_specifications_codes() {
    let house = House::start();
    house.topic("users", 1);
    let value = json!({"name": "a", "age": 7});
    for (body, code, told) in [
        (json!({"records": [{"key": 1, "value": value}]}), 42201, "does not include key schema"),
        (
            json!({"key_schema": "\"int\"", "records": [{"key": 1, "value": value}]}),
            42202,
            "does not include value schema",
        ),
        (json!({"value_schema": "{\"type\":\"recrod\"}", "records": [{"value": value}]}), 42205, "recrod"),
        (json!({"value_schema_id": 77, "records": [{"value": value}]}), 42205, "schema id 77 is not registered"),
        (json!({"value_schema": USER, "value_schema_id": 1, "records": [{"value": value}]}), 42205, "not both"),
        (
            json!({"value_schema": USER, "records": [{"value": value}]}),
            42203,
            "records[0].value: /age: 7 is no value of a union",
        ),
        // Registered meanwhile, so not to be replaced by what cannot read it.
        (json!({"value_schema": "\"int\"", "records": [{"value": 1}]}), 42205, "incompatible"),
    ] {
        let answer = produce(&house, "users", "avro", &body);
        answer.refused(422, code);
        assert!(answer.body["message"].as_str().unwrap().contains(told), "{answer:?}");
    }
    assert!(house.get("/topics/users/partitions/0/offsets").ok()["end_offset"] == 0);
}

#[test]
fn a_reader_meets_what_others_wrote() {
    let house = House::start();
    house.topic("users", 1);
    let body = json!({"value_schema": USER, "records": [{"value": {"name": "a", "age": null}}]});
    produce(&house, "users", "avro", &body).ok();
    let guid = house.registry.schema(1).unwrap().guid;
    let header = [&[1], &guid.as_bytes()[..]].concat();
    let datum = b"\x02b\x00".to_vec();
    let send = async {
        let mut client = Client::connect(&house.broker.to_string(), Options::default()).await.unwrap();
        let mut producer = Producer::open(&mut client, "users", Compression::None).await.unwrap();
        let headed = Outgoing {
            key: Some(b"plain".to_vec()),
            value: Some(datum),
            headers: vec![("__value_schema_id".to_owned(), header)],
            ..Outgoing::default()
        };
        let bare = Outgoing { value: Some(b"{}".to_vec()), ..Outgoing::default() };
        let broken = Outgoing { value: Some(b"\0\0\0\0\x01\x02".to_vec()), ..Outgoing::default() };
        producer.send(&mut client, &[headed, bare, broken]).await.unwrap();
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(send);
    let path = instance(&house, "users", "avro");
    let records = || house.get_in(&format!("{path}/records?timeout=1000"), &media("avro"));
    // One read may bring both.
    let mut values = Vec::new();
    let refused = loop {
        match records() {
            answer if answer.status == 200 => values.extend(answer.ok().as_array().unwrap().clone()),
            refused => break refused,
        }
    };
    assert_eq!(members(&values, "value"), [json!({"name": "a", "age": null}), json!({"name": "b", "age": null})]);
    assert_eq!(values[1]["key"], "plain", "a key of plain text is shown as it is");
    refused.refused(500, 50002);
    assert!(refused.body["message"].as_str().unwrap().contains("names no schema"), "{refused:?}");
    let behind = json!({"offsets": [{"topic": "users", "partition": 0, "offset": 3}]});
    assert_eq!(house.post(&format!("{path}/positions"), V2, behind).status, 204);
    let refused = records();
    refused.refused(500, 50002);
    assert!(refused.body["message"].as_str().unwrap().contains("cannot be shown"), "{refused:?}");
}

fn reports(house: &House, topic: &str, records: &[Value]) -> Vec<Value> {
    let cluster = house.get("/v3/clusters").ok()["data"][0]["cluster_id"].as_str().unwrap().to_owned();
    let body: String = records.iter().map(Value::to_string).collect();
    let path = format!("/v3/clusters/{cluster}/topics/{topic}/records");
    let answer = house.request("POST", &path, &[("Content-Type", JSON)], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>().map(Result::unwrap).collect()
}

#[test]
fn version_3_takes_a_schema_by_text_id_version_or_not_at_all() {
    let house = House::start();
    house.topic("users", 1);
    let data = json!({"name": "a", "age": null});
    let value = |more: Value| {
        let mut value = json!({"data": data});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"value": value})
    };
    let sent = [
        value(json!({"type": "AVRO", "schema": USER})),
        value(json!({"schema_id": 1})),
        value(json!({"schema_version": 1})),
        value(json!({})),
        json!({"key": {"type": "AVRO", "schema": "\"string\"", "data": "k"}, "value": {"data": null}}),
        value(json!({"type": "AVRO", "schema": USER, "subject_name_strategy": "RECORD_NAME"})),
        value(json!({"schema_id": 1, "subject_name_strategy": "TOPIC_RECORD_NAME"})),
        value(json!({"subject": "stream.playhouse.User"})),
    ];
    let reports = reports(&house, "users", &sent);
    assert!(reports.iter().all(|report| report["error_code"] == 200), "{reports:?}");
    let of = |subject: &str, version: Value| json!({"type": "AVRO", "size": 8, "subject": subject, "schema_id": 1, "schema_version": version});
    for report in &reports[..4] {
        assert_eq!(report["value"], of("users-value", json!(1)));
    }
    assert_eq!(
        reports[4]["key"],
        json!({"type": "AVRO", "size": 7, "subject": "users-key", "schema_id": 2, "schema_version": 1})
    );
    assert_eq!(reports[4]["value"], Value::Null);
    assert_eq!(reports[5]["value"], of("stream.playhouse.User", json!(1)));
    assert_eq!(reports[6]["value"], of("users-stream.playhouse.User", Value::Null));
    assert_eq!(reports[7]["value"], of("stream.playhouse.User", json!(1)));
    let mut values = vec![data; 8];
    values[4] = Value::Null;
    assert_eq!(members(&read(&house, "users", "avro", 8), "value"), values);
}

#[test]
fn version_3_tells_what_is_wrong_record_by_record() {
    let house = House::start();
    house.topic("plays", 1);
    let sent = [
        json!({"value": {"type": "PROTOBUF", "schema": PROTO, "data": {"user": "u", "ms": 5}}}),
        json!({"value": {"data": {"nobody": 1}}}),
        json!({"value": {"type": "AVRO", "data": {"user": "u"}}}),
        json!({"value": {"schema_id": 77, "data": 1}}),
        json!({"key": {"data": 1}}),
        json!({"value": {"type": "JSONSCHEMA", "schema": "{\"type\":\"string\"}", "subject": "words", "data": "w"}}),
        json!({"value": {"type": "JSONSCHEMA", "subject": "words", "data": 1}}),
    ];
    let reports = reports(&house, "plays", &sent);
    let codes: Vec<_> = reports.iter().map(|report| report["error_code"].as_i64().unwrap()).collect();
    assert_eq!(codes, [200, 400, 42205, 42205, 42205, 200, 400], "{reports:?}");
    assert_eq!(reports[0]["value"]["type"], "PROTOBUF");
    assert_eq!(reports[5]["value"]["type"], "JSONSCHEMA");
    assert!(reports[2]["message"].as_str().unwrap().contains("of type PROTOBUF, not AVRO"), "{}", reports[2]);
}
