//! Topics whose values are checked, from outside: the settings, and what becomes of a Kafka batch with bad records.

use std::collections::BTreeMap;
use std::process::Command;

use playhouse_client::produce::{Outgoing, Producer};
use playhouse_client::{Client, Compression, Error, Options, ResponseError};
use playhouse_testkit::Playhouse;
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
        assert_eq!(producer.send(&mut client, &mixed).await.unwrap()[0].base_offset, 0);
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
        assert_eq!(producer.send(&mut client, &good).await.unwrap()[0].base_offset, 3);
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
        let strict = strict.map(|(name, value)| (name.to_owned(), value.to_owned()));
        client.create_topic("plays", Some(2), None, &strict).await.unwrap();
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
