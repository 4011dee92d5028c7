//! The REST proxy in the whole: what is produced there passes the gate, and offsets outlive the process.

use playhouse_testkit::{Playhouse, http, wait_until};
use serde_json::{Value, json};

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
const V2: &str = "application/vnd.kafka.v2+json";
const JSON_V2: &str = "application/vnd.kafka.json.v2+json";
const TOPIC: &str = "multimedia_events";

fn event(id: &str) -> Value {
    json!({"id": id, "timestamp": "2025-08-31T12:00:00Z", "type": "play", "user": format!("user of {id}")})
}

fn post(playhouse: &Playhouse, path: &str, media: &str, body: &Value) -> (u16, Value) {
    let headers = [("Content-Type", media)];
    let answer = http::post(playhouse.rest_proxy(), path, &headers, body.to_string().as_bytes()).unwrap();
    (answer.status, if answer.body.is_empty() { Value::Null } else { answer.json() })
}

fn produce(playhouse: &Playhouse, values: impl IntoIterator<Item = Value>) {
    let records: Vec<Value> = values.into_iter().map(|value| json!({"value": value})).collect();
    let (status, answer) = post(playhouse, &format!("/topics/{TOPIC}"), JSON_V2, &json!({"records": records}));
    assert_eq!(status, 200, "{answer}");
    let offsets = answer["offsets"].as_array().unwrap();
    assert!(offsets.iter().all(|it| it["offset"].is_i64()), "what is kept as a bad event has its place: {answer}");
}

/// The path of a new instance that is subscribed to the events.
fn subscribe(playhouse: &Playhouse, name: &str) -> String {
    let settings = json!({"name": name, "format": "json", "auto.offset.reset": "earliest"});
    assert_eq!(post(playhouse, "/consumers/watchers", V2, &settings).0, 200);
    let path = format!("/consumers/watchers/instances/{name}");
    assert_eq!(post(playhouse, &format!("{path}/subscription"), V2, &json!({"topics": [TOPIC]})).0, 204);
    path
}

fn read(playhouse: &Playhouse, path: &str, count: usize) -> Vec<Value> {
    let mut records = Vec::new();
    wait_until("all records are read", DEADLINE, || {
        let headers = [("Accept", JSON_V2)];
        let path = format!("{path}/records?timeout=1000");
        let answer = http::request(playhouse.rest_proxy(), "GET", &path, &headers, &[]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        records.extend(answer.json().as_array().unwrap().iter().cloned());
        if records.len() >= count { Ok(()) } else { Err(format!("{records:?}")) }
    });
    records
}

#[test]
fn what_is_produced_passes_the_gate_and_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.start();
    produce(&playhouse, [event("one"), json!({"id": "bad"}), event("two")]);
    assert_eq!(playhouse.post("/events", event("three").to_string(), &[]).0, 200);
    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from events"), 3);
    assert_eq!(playhouse.count("select count(*) from bad_events where source_protocol = 'kafka'"), 1);

    let path = subscribe(&playhouse, "one");
    let records = read(&playhouse, &path, 3);
    let mut ids: Vec<&str> = records.iter().map(|record| record["value"]["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["one", "three", "two"]);
    let of_ingest = records.iter().find(|record| record["value"]["id"] == "three").unwrap();
    assert_eq!(of_ingest["key"], "user of three", "a key of plain text is shown as it is");
    assert_eq!(post(&playhouse, &format!("{path}/offsets"), V2, &json!({})).0, 204);
    playhouse.stop();

    let playhouse = builder.start();
    let missing = http::get(playhouse.rest_proxy(), &format!("{path}/records")).unwrap();
    assert_eq!((missing.status, &missing.json()["error_code"]), (404, &json!(40403)), "instances do not outlive it");
    produce(&playhouse, [event("four")]);
    let path = subscribe(&playhouse, "one");
    let records = read(&playhouse, &path, 1);
    assert_eq!(records.len(), 1, "what was committed does not come again: {records:?}");
    assert_eq!(records[0]["value"]["id"], "four");
    let stopped = playhouse.stop();
    assert!(stopped < std::time::Duration::from_secs(2), "an instance does not hold up the end: {stopped:?}");
}
