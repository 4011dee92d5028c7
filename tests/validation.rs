//! Topics whose values are checked, from outside: the settings, and what becomes of a Kafka batch with bad records.

use std::collections::BTreeMap;
use std::process::Command;

use playhouse_client::produce::{Outgoing, Producer};
use playhouse_client::topics::NewTopic;
use playhouse_client::{Client, Compression, Error, Options, ResponseError};
use playhouse_testkit::{Playhouse, http};
use serde_json::Value;

const TOPIC: &str = "multimedia_events";

fn event(id: &str) -> String {
    format!(r#"{{"id":"{id}","timestamp":"2025-08-31T12:00:00Z","type":"play","user":"u"}}"#)
}

fn outgoing(value: impl Into<Vec<u8>>) -> Outgoing {
    Outgoing { partition: Some(1), timestamp_ms: 1_000, value: Some(value.into()), ..Outgoing::default() }
}

async fn client(playhouse: &Playhouse) -> Client {
    Client::connect(&playhouse.kafka().to_string(), Options::default()).await.unwrap()
}

async fn set(client: &mut Client, topic: &str, name: &str, value: Option<&str>) -> Result<(), Error> {
    client.alter_settings(topic, &BTreeMap::from([(name.to_owned(), value.map(str::to_owned))])).await
}

fn shown(playhouse: &Playhouse, bad_id: &str) -> Value {
    let admin = format!("http://{}", playhouse.admin());
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_playhouse"), "bad", "show", bad_id, "--admin", &admin]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn first_offset(producer: &mut Producer, client: &mut Client, records: &[Outgoing]) -> Option<i64> {
    producer.send_each(client, records).await[0].as_ref().unwrap().offset
}

fn landed(playhouse: &Playhouse) -> Vec<String> {
    playhouse.in_sight();
    playhouse.query("select id from events order by id").into_iter().map(|row| row[0].clone().unwrap()).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_batch_is_refused_whole_where_its_topic_says_so_and_otherwise_only_its_bad_records() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.start();
    block_on(async {
        let mut client = client(&playhouse).await;
        let mut producer = Producer::open(&mut client, TOPIC, Compression::Lz4).await.unwrap();
        let mixed = [outgoing(event("a")), outgoing("{}"), outgoing(event("b"))];
        assert_eq!(first_offset(&mut producer, &mut client, &mixed).await, Some(0));
        assert!(set(&mut client, TOPIC, "playhouse.on.invalid", Some("ignore")).await.is_err());
        set(&mut client, TOPIC, "playhouse.on.invalid", Some("reject")).await.unwrap();
    });
    let lost = shown(&playhouse, "multimedia_events-1-1");
    assert_eq!((&lost["raw"], &lost["topic"]), (&"{}".into(), &TOPIC.into()), "{lost}");
    assert_eq!(landed(&playhouse), ["a", "b"]);

    // The setting outlives the process.
    playhouse.stop();
    let playhouse = builder.start();
    block_on(async {
        let mut client = client(&playhouse).await;
        let mut producer = Producer::open(&mut client, TOPIC, Compression::Zstd).await.unwrap();
        let mixed = [outgoing(event("c")), outgoing("{}"), outgoing(event("d"))];
        let error = producer.send(&mut client, &mixed).await.unwrap_err();
        assert_eq!(error.code(), Some(ResponseError::InvalidRecord));
        assert!(error.to_string().contains("1 of 3 records are invalid"), "{error}");
        // The same producer goes on, with the sequence that was refused.
        let good = [outgoing(event("c")), outgoing(event("d"))];
        assert_eq!(first_offset(&mut producer, &mut client, &good).await, Some(3));
    });
    assert_eq!(landed(&playhouse), ["a", "b", "c", "d"]);
    assert_eq!(playhouse.count("select count(*) from bad_events"), 1);
    // Over HTTP each event has an answer of its own, and the bad one is kept.
    let (status, answer) = playhouse.post("/events", event("e") + "\n{}", &[]);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(playhouse.count("select count(*) from bad_events"), 2);
}

#[test]
fn any_topic_is_checked_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    block_on(async {
        let mut client = client(&playhouse).await;
        let strict = [("playhouse.validation", "id"), ("playhouse.on.invalid", "reject")];
        let settings = strict.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let plays = NewTopic { name: "plays".to_owned(), partitions: Some(2), settings, ..NewTopic::default() };
        client.create_topic(&plays).await.unwrap();
        let mut producer = Producer::open(&mut client, "plays", Compression::None).await.unwrap();
        let bare = producer.send(&mut client, &[outgoing("{}")]).await.unwrap_err();
        assert!(bare.to_string().contains("names no schema"), "{bare}");
        // Nobody has registered one.
        let unknown = producer.send(&mut client, &[outgoing(b"\0\0\0\0\x07{}")]).await.unwrap_err();
        assert!(unknown.to_string().contains("schema id 7 is not registered"), "{unknown}");
        set(&mut client, "plays", "playhouse.validation", None).await.unwrap();
        producer.send(&mut client, &[outgoing("{}")]).await.unwrap();

        // The schema of the configuration can be left out, too.
        let settings = client.settings(TOPIC).await.unwrap();
        let validation = settings.iter().find(|it| it.name == "playhouse.validation").unwrap();
        assert_eq!((validation.value.as_deref(), validation.set), (Some("full"), false));
        set(&mut client, TOPIC, "playhouse.validation", Some("none")).await.unwrap();
        let mut producer = Producer::open(&mut client, TOPIC, Compression::None).await.unwrap();
        // What is no event is no row either, but a bad event of the engine's.
        producer.send(&mut client, &[outgoing("anything"), outgoing(event("a"))]).await.unwrap();
    });
    assert_eq!(landed(&playhouse), ["a"]);
    assert_eq!(playhouse.count("select count(*) from bad_events"), 1);
}

#[test]
fn what_is_registered_for_the_default_topic_goes_before_the_schema_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.start();
    let schema = serde_json::json!({
        "type": "object",
        "required": ["id", "timestamp", "type", "user", "watched_ms"],
        "properties": {"id": {"type": "string"}, "user": {"type": "string"}, "watched_ms": {"type": "integer"}},
    });
    let body = serde_json::json!({"schemaType": "JSON", "schema": schema.to_string()}).to_string();
    let headers = [("Content-Type", "application/json")];
    let path = format!("/subjects/{TOPIC}-value/versions");
    let registered = http::post(playhouse.registry(), &path, &headers, body.as_bytes()).unwrap();
    assert_eq!(registered.status, 200, "{}", registered.text());
    let id = registered.json()["id"].as_i64().unwrap();

    let watched = |id: &str| event(id).replace('}', r#","watched_ms":5}"#);
    let named = |payload: String| [&[0, 0, 0, 0, id as u8], payload.as_bytes()].concat();
    let takes = |playhouse: &Playhouse| {
        // Over HTTP, the configured schema would take the second.
        let (_, answer) = playhouse.post("/events", watched("a") + "\n" + &event("b"), &[]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&1.into(), &1.into()), "{answer}");
        assert_eq!(answer["results"][1]["reasons"][0]["keyword"], "required");
        // Over Kafka, bare and with the schema's id before it.
        let sent = [watched("c").into_bytes(), event("d").into_bytes(), named(watched("e")), named(event("f"))];
        let first = block_on(async {
            let mut client = client(playhouse).await;
            let mut producer = Producer::open(&mut client, TOPIC, Compression::Zstd).await.unwrap();
            first_offset(&mut producer, &mut client, &sent.map(outgoing)).await.unwrap()
        });
        let lost = shown(playhouse, &format!("{TOPIC}-1-{}", first + 3));
        assert_eq!((&lost["schema_id"], &lost["reasons"][0]["keyword"]), (&id.into(), &"required".into()), "{lost}");
    };
    takes(&playhouse);
    // Numbers in a link are typed as that schema says.
    let pixel = "/pixel.gif?type=watch&user=7&watched_ms=7&id=p&timestamp=2025-08-31T12:00:00Z";
    let pixel = http::get(playhouse.ingest(), pixel).unwrap();
    assert_eq!(pixel.status, 200, "{}", pixel.text());
    assert_eq!(landed(&playhouse), ["a", "c", "e", "p"]);
    assert_eq!(playhouse.count(&format!("select count(*) from bad_events where schema_id = {id}")), 3);

    playhouse.stop();
    takes(&builder.start());
}
