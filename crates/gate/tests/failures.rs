//! Records that fail behind the gate: kept as bad events with all that their records have, once, and repaired like others.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::*;
use playhouse_gate::{BadEvent, Failure, Gate, Origin, REPLAY_HEADER, Reason, RepairOutcome, Stage};
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::SimulatedDisk;
use playhouse_log::{Durability, Log, LogConfig, partition_of};

fn failure(topic: &str, partition: i32, offset: i64) -> Failure {
    Failure {
        topic: topic.into(),
        partition,
        offset,
        stage: Stage::Enrich,
        reason: Reason::whole("enrich", "store: divide by zero error"),
    }
}

fn places(bad: &[BadEvent]) -> Vec<(i32, i64)> {
    bad.iter().map(|row| row.place.unwrap()).collect()
}

#[tokio::test]
async fn the_record_is_kept_with_where_it_came_from() {
    let house = House::new();
    let partition = partition_of(b"u", 4);
    house.ingest([event("a", "u"), event("b", "u"), event("c", "u")].join("\n")).await;
    let mut batch = BatchBuilder::new(Compression::Zstd);
    batch.push(1, Some(b"k"), Some(event("d", "u").as_bytes()), &[("trace", b"7")]);
    let kafka = Origin { protocol: "kafka", ..Origin::default() };
    house.gate.produce(TOPIC, partition, batch.build().into(), &kafka).await.unwrap();

    // In any order.
    let failures = [3, 0, 2].map(|offset| failure(TOPIC, partition, offset)).to_vec();
    house.gate.keep_failures(failures, false).await.unwrap();
    let bad = house.bad();
    assert_eq!(places(&bad), [0, 2, 3].map(|offset| (partition, offset)));
    let first = &bad[0];
    assert_eq!((first.stage.to_string().as_str(), first.reasons[0].keyword.as_str()), ("enrich", "enrich"));
    assert_eq!(first.raw, event("a", "u").into_bytes());
    assert_eq!((first.source_address.as_deref(), first.user_agent.as_deref()), (Some("83.149.9.216"), Some("curl/8")));
    assert_eq!((first.schema_id, first.key.as_deref(), first.headers.len()), (Some(7), Some(&b"u"[..]), 0));
    let fourth = &bad[2];
    assert_eq!((fourth.schema_id, fourth.key.as_deref()), (None, Some(&b"k"[..])));
    assert_eq!(fourth.headers, [("trace".to_owned(), b"7".to_vec())]);
}

#[tokio::test]
async fn what_may_have_been_kept_is_looked_for() {
    let house = House::new();
    let partition = partition_of(b"u", 4);
    house.ingest([event("a", "u"), event("b", "u")].join("\n")).await;
    house.ingest_to("anything", "no matter").await;
    let anything = (0..4).find(|index| !house.stored("anything", *index).is_empty()).unwrap();
    let failed = || vec![failure(TOPIC, partition, 0), failure("anything", anything, 0)];
    house.gate.keep_failures(failed(), true).await.unwrap();
    house.gate.keep_failures(failed(), true).await.unwrap();
    assert_eq!(house.bad().len(), 2);
    // The same record may fail in two places, and another one is another one.
    let sink = Failure { stage: Stage::Sink("store".into()), ..failure(TOPIC, partition, 0) };
    house.gate.keep_failures(vec![sink.clone(), failure(TOPIC, partition, 1)], true).await.unwrap();
    house.gate.keep_failures(vec![sink], true).await.unwrap();
    let stages: Vec<String> = house.bad().iter().map(|row| row.stage.to_string()).collect();
    assert_eq!(stages, ["enrich", "enrich", "sink:store", "enrich"]);
}

#[tokio::test]
async fn a_record_that_is_gone_is_told_of_all_the_same() {
    let house = House::new();
    house.gate.keep_failures(vec![failure("deleted", 0, 7), failure(TOPIC, 0, 99)], false).await.unwrap();
    let bad = house.bad();
    assert_eq!(places(&bad), [(0, 7), (0, 99)]);
    assert!(bad.iter().all(|row| row.raw.is_empty() && row.reasons[0].message.ends_with("gone from the log)")));
}

#[tokio::test]
async fn a_repaired_one_comes_back_as_it_came() {
    let house = House::new();
    house.ingest(event("a", "u")).await;
    house.gate.keep_failures(vec![failure(TOPIC, partition_of(b"u", 4), 0)], false).await.unwrap();
    let fix = Arc::new(|_: &BadEvent| Ok(event("a", "other").into_bytes()));
    let repairs = house.gate.repair(house.bad(), fix, false).await.unwrap();
    assert_eq!(repairs[0].outcome, RepairOutcome::Fixed);
    let stored = house.stored(TOPIC, partition_of(b"other", 4)).pop().unwrap();
    assert_eq!((stored.key.as_deref(), stored.value.as_deref()), (Some("other"), Some(&*event("a", "other"))));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let origin = [header("source_address", "83.149.9.216"), header("user_agent", "curl/8"), header("schema_id", "7")];
    assert_eq!(stored.headers, [&origin[..], &[header(REPLAY_HEADER, "0-0")]].concat());
}

/// Whoever passes over what failed says so on disk, whatever the log waits for.
#[tokio::test]
async fn it_is_on_disk_before_the_caller_goes_on() {
    let open = |disk: &SimulatedDisk| {
        let os = LogConfig { durability: Durability::Os, ..LogConfig::default() };
        let log = Log::open(Arc::new(disk.clone()), Path::new("/data/log"), os).unwrap();
        Gate::new(log, config(), rules()).unwrap()
    };
    let disk = SimulatedDisk::new();
    let gate = open(&disk);
    gate.ingest(TOPIC, event("a", "u").into(), &origin()).await.unwrap();
    gate.keep_failures(vec![failure(TOPIC, partition_of(b"u", 4), 0)], false).await.unwrap();
    let gate = open(&disk.power_cut(Some(1)));
    let bad = gate.bad_events().read(&mut Vec::new(), 10).unwrap();
    assert_eq!(places(&bad), [(partition_of(b"u", 4), 0)]);
}
