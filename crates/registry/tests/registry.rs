//! The registry over a log: what is answered is durable, and what is durable is read back.

use std::path::Path;
use std::sync::Arc;

use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::SimulatedDisk;
use playhouse_log::{Log, LogConfig};
use playhouse_registry::{ChangeError, OpenError, Registry, RegistryConfig, SCHEMAS_TOPIC};
use playhouse_schema::formats::Format;
use playhouse_schema::registry::{ConfigUpdate, Level, Outcome, Proposal, Shown, VersionSpec};

fn open_log(disk: &SimulatedDisk) -> Arc<Log> {
    Log::open(Arc::new(disk.clone()), Path::new("/data"), LogConfig::default()).unwrap()
}

fn open(disk: &SimulatedDisk) -> (Arc<Log>, Arc<Registry>) {
    let log = open_log(disk);
    let registry = Registry::open(&log, RegistryConfig::default()).unwrap();
    (log, registry)
}

/// A record type with one field, a text.
fn record(name: &str, field: &str) -> String {
    format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"{field}","type":"string"}}]}}"#)
}

async fn register(registry: &Arc<Registry>, subject: &str, text: String) -> Result<Outcome, ChangeError> {
    let subject = subject.to_owned();
    let proposal = Proposal::new(Format::Avro, text);
    registry.change(move |state, rules| state.register(rules, &subject, &proposal)).await.map(|(outcome, _)| outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_power_cut() {
    let disk = SimulatedDisk::new();
    let (log, registry) = open(&disk);
    for subject in ["a", "b", "c"] {
        register(&registry, subject, record("R", subject)).await.unwrap();
    }
    let update = ConfigUpdate { level: Some(Level::Full), normalize: None };
    registry.change(move |state, _| state.set_config(Some("a"), update)).await.unwrap();
    registry.change(|state, _| state.delete_version("b", VersionSpec::Latest, false)).await.unwrap();
    registry.change(|state, _| state.delete_subject("c", false)).await.unwrap();
    registry.change(|state, _| state.delete_subject("c", true)).await.unwrap();
    let disk = disk.power_cut(None);
    drop((log, registry));

    let (_log, registry) = open(&disk);
    let state = registry.snapshot();
    assert_eq!(state.subjects("", Shown::All).map(|name| name.to_string()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(state.versions("b", Shown::Deleted), Ok(vec![1]));
    assert_eq!(state.own_config("a").and_then(|config| config.level), Some(Level::Full));
    assert_eq!(registry.schema(1).unwrap().text, record("R", "a"));
    assert!(registry.schema(3).is_none());
    assert!(registry.parsed(&registry.schema(2).unwrap()).is_ok());
    // Ids go on.
    assert_eq!(register(&registry, "c", record("R", "c")).await.unwrap(), Outcome { version: 1, id: 4 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_durable_is_neither_answered_nor_seen() {
    let disk = SimulatedDisk::new();
    let (log, registry) = open(&disk);
    register(&registry, "a", record("R", "a")).await.unwrap();
    disk.fail_syncs(true);
    let refused = register(&registry, "b", record("R", "b")).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Store(_)), "{refused}");
    assert!(registry.schema(2).is_none());
    // Nor later, by way of asking for the same again.
    assert!(matches!(register(&registry, "b", record("R", "b")).await, Err(ChangeError::Store(_))));
    assert!(registry.schema(1).is_some(), "what was durable can still be read");
    disk.fail_syncs(false);
    let disk = disk.power_cut(None);
    drop((log, registry));
    let (_log, registry) = open(&disk);
    assert_eq!(registry.snapshot().subject_count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_come_together_share_syncs_and_contradict_nothing() {
    let disk = SimulatedDisk::new();
    let (log, registry) = open(&disk);
    disk.pause_syncs(true);
    let subjects: Vec<String> = (0..32).map(|number| format!("s{}", number % 8)).collect();
    let changes: Vec<_> = subjects
        .into_iter()
        .map(|subject| {
            let registry = registry.clone();
            tokio::spawn(async move { register(&registry, &subject, record("R", &subject)).await.unwrap() })
        })
        .collect();
    // All are decided while the disk stands still.
    while appended_bytes(&log) < 8 * RECORD_BYTES_LEAST {
        tokio::task::yield_now().await;
    }
    assert_eq!(registry.snapshot().subject_count(), 0);
    disk.pause_syncs(false);
    let mut outcomes = Vec::new();
    for change in changes {
        outcomes.push(change.await.unwrap());
    }
    assert!(outcomes.iter().all(|outcome| outcome.version == 1));
    let mut ids: Vec<i32> = outcomes.iter().map(|outcome| outcome.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, (1..=8).collect::<Vec<i32>>());
    assert_eq!(registry.snapshot().subject_count(), 8);
}

/// A batch with one schema of this test has more.
const RECORD_BYTES_LEAST: u64 = 200;

/// Durable or not.
fn appended_bytes(log: &Log) -> u64 {
    log.topic(SCHEMAS_TOPIC).unwrap().partition(0).unwrap().size_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_caller_left_is_seen_all_the_same() {
    let disk = SimulatedDisk::new();
    let (log, registry) = open(&disk);
    disk.pause_syncs(true);
    let caller = tokio::spawn({
        let registry = registry.clone();
        async move { register(&registry, "a", record("R", "a")).await }
    });
    while appended_bytes(&log) == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    let _ = caller.await;
    disk.pause_syncs(false);
    while registry.schema(1).is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_loses_nothing() {
    let disk = SimulatedDisk::new();
    let (log, registry) = open(&disk);
    let topic = log.topic(SCHEMAS_TOPIC).unwrap();
    let settings = playhouse_log::TopicSettings { segment_bytes: 4096, ..topic.settings() };
    log.alter_topic(SCHEMAS_TOPIC, settings).unwrap();
    for round in 0..20 {
        let subject = format!("s{round}");
        register(&registry, &subject, record("R", &subject)).await.unwrap();
        for level in [Level::Full, Level::None] {
            let update = ConfigUpdate { level: Some(level), normalize: None };
            registry.change(move |state, _| state.set_config(None, update)).await.unwrap();
        }
        if round % 2 == 0 {
            for permanent in [false, true] {
                let subject = subject.clone();
                registry.change(move |state, _| state.delete_subject(&subject, permanent)).await.unwrap();
            }
        }
    }
    log.checkpoint().unwrap();
    assert!(log.compact().unwrap() > 0, "there is something to compact");
    let disk = disk.kill();
    drop((log, topic, registry));
    let (_log, registry) = open(&disk);
    let state = registry.snapshot();
    assert_eq!((state.subject_count(), state.schema_count(), state.id_max()), (10, 10, 20));
    assert_eq!(state.config(None).level, Some(Level::None));
}

#[tokio::test]
async fn records_of_somebody_else_are_named() {
    let disk = SimulatedDisk::new();
    let (log, registry) = open(&disk);
    drop(registry);
    let partition = log.topic(SCHEMAS_TOPIC).unwrap().partition(0).unwrap().clone();
    let mut builder = BatchBuilder::new(Compression::None);
    // A kind that means nothing here, and one that should.
    builder.push(0, Some(br#"{"keytype":"CONTEXT","tenant":"t","context":".","magic":0}"#), Some(b"{}"), &[]);
    builder.push(0, Some(br#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#), Some(b"{}"), &[]);
    let appended = partition.append(&builder.build()).unwrap();
    partition.durable(appended.next_offset).await.unwrap();
    let error = Registry::open(&log, RegistryConfig::default()).unwrap_err();
    assert!(matches!(error, OpenError::Record { offset: 1, .. }), "{error}");
    assert!(error.to_string().contains(r#""subject":"s""#), "{error}");
}
