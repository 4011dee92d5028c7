//! Bad events fixed, replayed and dropped; and that none is ever replayed twice.

mod common;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::*;
use playhouse_gate::{
    BadEvent, BadEventsLimits, BadFilter, BadState, Fix, Gate, Origin, REPLAY_HEADER, Repair, RepairError,
    RepairOutcome, StateError,
};
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::SimulatedDisk;
use playhouse_log::{Durability, Log, LogConfig, partition_of};

/// Adds what is missing to `{"id": …}`.
fn complete() -> Arc<Fix> {
    Arc::new(|event| {
        let text = String::from_utf8(event.raw.clone()).map_err(|error| error.to_string())?;
        let rest = text.strip_prefix('{').ok_or("no object")?;
        Ok(format!(r#"{{"timestamp":"2025-08-31T12:00:00Z","type":"play","user":"u",{rest}"#).into_bytes())
    })
}

fn unchanged() -> Arc<Fix> {
    Arc::new(|event| Ok(event.raw.clone()))
}

fn bad(gate: &Gate) -> Vec<BadEvent> {
    gate.bad_events().read(&mut Vec::new(), 1000).unwrap()
}

async fn repair(gate: &Arc<Gate>, fix: Arc<Fix>) -> Vec<Repair> {
    gate.repair(bad(gate), fix, false).await.unwrap()
}

fn outcomes(repairs: &[Repair]) -> Vec<&RepairOutcome> {
    repairs.iter().map(|repair| &repair.outcome).collect()
}

#[tokio::test]
async fn a_fixed_event_is_in_its_topic_once_with_where_it_came_from() {
    let house = House::new();
    house.ingest("{\"id\":\"a\"}\n[1]\n{\"id\":\"b\"}").await;

    let dry = house.gate.repair(bad(&house.gate), complete(), true).await.unwrap();
    assert_eq!((&dry[0].outcome, &dry[2].outcome), (&RepairOutcome::WouldPass, &RepairOutcome::WouldPass));
    assert!(matches!(&dry[1].outcome, RepairOutcome::StillBad(reasons) if reasons[0].keyword == "fix"), "{dry:?}");
    let after = String::from_utf8(dry[0].after.clone().unwrap()).unwrap();
    assert!(after.ends_with(r#","user":"u","id":"a"}"#), "{after}");
    assert!(house.everything(TOPIC).is_empty());
    assert_eq!(bad(&house.gate)[1].attempts, 0);

    let done = repair(&house.gate, complete()).await;
    assert_eq!((&done[0].outcome, &done[2].outcome), (&RepairOutcome::Fixed, &RepairOutcome::Fixed));
    let stored = house.everything(TOPIC);
    let partition = partition_of(b"u", 4);
    for (number, (record, id)) in stored.iter().zip(["0-0", "0-2"]).enumerate() {
        assert_eq!((record.offset, record.key.as_deref()), (number as i64, Some("u")));
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let origin = [header("source_address", "83.149.9.216"), header("user_agent", "curl/8")];
        assert_eq!(record.headers, [&origin[..], &[header("schema_id", "7"), header(REPLAY_HEADER, id)]].concat());
    }
    assert_eq!(stored[0].value.as_deref(), Some(after.as_str()));
    assert_eq!(house.gate.counters().accepted, 2);

    let rows = bad(&house.gate);
    let now: Vec<_> = rows.iter().map(|row| (row.attempts, row.fixed_as.clone())).collect();
    let place = |offset| Some(format!("{TOPIC}/{partition}/{offset}"));
    assert_eq!(now, [(1, place(0)), (1, None), (1, place(1))]);
    assert_eq!(done[0].event, rows[0]);

    // Twice does nothing, whatever the fix.
    for fix in [complete(), unchanged()] {
        let again = repair(&house.gate, fix).await;
        assert_eq!(
            (&again[0].outcome, &again[2].outcome),
            (&RepairOutcome::AlreadyFixed, &RepairOutcome::AlreadyFixed)
        );
    }
    assert_eq!((house.everything(TOPIC).len(), bad(&house.gate)[0].attempts, bad(&house.gate)[1].attempts), (2, 1, 3));
}

#[tokio::test]
async fn what_is_still_bad_stays_and_says_why() {
    let house = House::new();
    house.ingest("{\"id\":\"a\"}").await;
    for attempts in 1..3 {
        let [Repair { event, outcome: RepairOutcome::StillBad(reasons), .. }] =
            &repair(&house.gate, unchanged()).await[..]
        else {
            panic!("it is as bad as before")
        };
        assert_eq!((reasons, event.attempts), (&event.reasons, attempts));
    }
    assert_eq!((house.everything(TOPIC).len(), bad(&house.gate).len()), (0, 1));
}

#[tokio::test]
async fn dropped_events_are_left_alone_until_they_are_restored() {
    let house = House::new();
    house.ingest("{\"id\":\"a\"}\n{\"id\":\"b\"}").await;
    let one = vec![bad(&house.gate).remove(0)];
    let dropped = house.gate.drop_bad_events(one.clone(), false).await.unwrap();
    assert_eq!((&dropped[0].outcome, dropped[0].event.dropped), (&RepairOutcome::Dropped, true));
    assert_eq!(outcomes(&repair(&house.gate, complete()).await), [&RepairOutcome::Dropped, &RepairOutcome::Fixed]);

    let of = |state| BadFilter { state: Some(state), ..BadFilter::default() };
    for (state, id) in [(BadState::Dropped, "0-0"), (BadState::Fixed, "0-1")] {
        let rows = house.gate.bad_events().select(&of(state), &mut Vec::new(), 10).unwrap().rows;
        assert_eq!(rows.iter().map(|row| row.bad_id.as_str()).collect::<Vec<_>>(), [id]);
    }
    let stats = house.gate.bad_events().stats(&BadFilter::default()).unwrap().unwrap();
    assert_eq!((stats.count, stats.fixed, stats.dropped), (2, 1, 1));

    let restored = house.gate.drop_bad_events(bad(&house.gate), true).await.unwrap();
    assert_eq!(outcomes(&restored), [&RepairOutcome::Restored, &RepairOutcome::AlreadyFixed]);
    assert_eq!(outcomes(&repair(&house.gate, complete()).await), [&RepairOutcome::Fixed, &RepairOutcome::AlreadyFixed]);
}

#[tokio::test]
async fn a_kafka_record_comes_back_with_its_key_and_headers() {
    let house = House::new();
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(1, Some(b"k\xff"), Some(br#"{"id":"a"}"#), &[("trace", b"7")]);
    let large = vec![b'x'; 70_000];
    batch.push(1, Some(b"k"), Some(br#"{"id":"b"}"#), &[("large", &large)]);
    let origin = Origin { protocol: "kafka", ..Origin::default() };
    house.gate.produce(TOPIC, 1, batch.build().into(), &origin).await.unwrap();
    let rows = bad(&house.gate);
    assert_eq!(
        (rows[0].key.as_deref(), &rows[0].headers[..]),
        (Some(&b"k\xff"[..]), &[("trace".into(), b"7".to_vec())][..])
    );
    assert!(rows[1].key.is_none() && rows[1].reasons.last().unwrap().message.contains("not kept"), "{rows:?}");
    assert_eq!(repair(&house.gate, complete()).await[0].outcome, RepairOutcome::Fixed);
    let stored = house.everything(TOPIC);
    let of_first = |record: &&Stored| record.headers.contains(&(REPLAY_HEADER.to_owned(), "0-0".to_owned()));
    let first = stored.iter().find(of_first).unwrap();
    assert_eq!(first.key.as_deref(), Some("k\u{fffd}"));
    assert!(first.headers.contains(&("trace".to_owned(), "7".to_owned())), "{stored:?}");
}

#[tokio::test]
async fn what_was_cut_is_not_replayed() {
    let house = House::new();
    house.ingest_to("anything", vec![b'x'; 70_000]).await;
    let repairs = repair(&house.gate, unchanged()).await;
    assert!(
        matches!(&repairs[0].outcome, RepairOutcome::StillBad(reasons) if reasons[0].keyword == "size"),
        "{repairs:?}"
    );
    assert!(house.everything("anything").is_empty());
}

#[tokio::test]
async fn an_event_whose_topic_is_gone_waits_for_it() {
    let house = House::new();
    house.ingest_to("anything", Bytes::from(vec![b'x'; 64 << 10].repeat(2))).await;
    house.ingest("{\"id\":\"a\"}").await;
    house.log.delete_topic("anything").unwrap();
    house.log.delete_topic(TOPIC).unwrap();
    let repairs = repair(&house.gate, complete()).await;
    for repair in &repairs {
        assert!(
            matches!(&repair.outcome, RepairOutcome::StillBad(reasons) if reasons[0].keyword == "topic"),
            "{repair:?}"
        );
    }
    assert_eq!(repairs.len(), 2);
}

fn open(disk: &SimulatedDisk, durability: Durability) -> Result<(Arc<Log>, Arc<Gate>), playhouse_gate::GateError> {
    let log = Log::open(Arc::new(disk.clone()), Path::new("/log"), LogConfig { durability, ..LogConfig::default() });
    let log = log.unwrap();
    Ok((log.clone(), Gate::new(log, config(), rules())?))
}

/// Places of what was replayed.
fn replayed(log: &Log) -> Vec<(i32, i64)> {
    let topic = log.topic(TOPIC).unwrap();
    let records = topic.partitions().iter().flat_map(|partition| {
        let stored = stored_in(partition);
        stored.into_iter().map(|record| (partition.index(), record)).collect::<Vec<_>>()
    });
    let from_bad = |record: &Stored| record.headers.iter().any(|(name, _)| name == REPLAY_HEADER);
    records.filter(|(_, record)| from_bad(record)).map(|(partition, record)| (partition, record.offset)).collect()
}

/// What is left when the process dies.
type Death = fn(&SimulatedDisk) -> SimulatedDisk;

/// The process dies between any two operations on the disk while it replays. Afterwards the event is in its topic at most
/// once, and once for sure if the caller was told so; when it is tried again, once.
#[tokio::test]
async fn never_twice_wherever_it_dies() {
    let deaths: [(Durability, Death); 5] = [
        (Durability::Fsync, |disk| disk.kill()),
        (Durability::Fsync, |disk| disk.power_cut(None)),
        (Durability::Fsync, |disk| disk.power_cut(Some(7))),
        (Durability::Os, |disk| disk.kill()),
        (Durability::Os, |disk| disk.power_cut(None)),
    ];
    for (durability, death) in deaths {
        let base = SimulatedDisk::new();
        let (log, gate) = open(&base, durability).unwrap();
        gate.ingest(TOPIC, "{\"id\":\"a\"}\n{\"id\":\"b\"}".into(), &origin()).await.unwrap();
        log.close().unwrap();
        drop((log, gate));

        let mut interrupted = 0;
        for operations in 0.. {
            let disk = base.fork();
            let (log, gate) = open(&disk, durability).unwrap();
            let events = bad(&gate);
            assert_eq!(events.len(), 2);
            disk.die_after(Some(operations));
            let told = gate.repair(events, complete(), false).await;
            let survived = !disk.is_dead();
            let left = death(&disk);
            drop((log, gate));

            let (log, gate) = open(&left, durability).unwrap();
            let found = replayed(&log);
            assert!(found.len() <= 2, "after {operations} operations: {found:?}");
            let known = bad(&gate).iter().filter(|row| row.fixed_as.is_some()).count();
            assert_eq!(known, found.len(), "after {operations} operations");
            match told {
                Ok(_) => assert_eq!(found.len(), 2, "after {operations} operations"),
                Err(_) => interrupted += 1,
            }
            repair(&gate, complete()).await;
            let places: Vec<String> =
                replayed(&log).iter().map(|(p, offset)| format!("{TOPIC}/{p}/{offset}")).collect();
            let told: Vec<String> = bad(&gate).into_iter().map(|row| row.fixed_as.unwrap()).collect();
            assert_eq!(places, told, "after {operations} operations");
            if survived {
                break;
            }
        }
        assert!(interrupted > 3, "{interrupted}: it died nowhere of interest");
    }
}

#[tokio::test]
async fn a_replay_that_failed_is_looked_for_before_it_is_tried_again() {
    let disk = SimulatedDisk::new();
    let (log, gate) = open(&disk, Durability::Fsync).unwrap();
    gate.ingest(TOPIC, "{\"id\":\"a\"}".into(), &origin()).await.unwrap();
    // The event is written, but not what it was fixed as.
    let budgeted = |operations| disk.set_capacity(Some(disk.used_bytes() + operations));
    let mut failed = 0;
    for room in (0..).step_by(50) {
        budgeted(room);
        match gate.repair(bad(&gate), complete(), false).await {
            Ok(_) => break,
            Err(RepairError::Append(_) | RepairError::State(StateError::Append(_))) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(failed > 2);
    disk.set_capacity(None);
    assert_eq!(repair(&gate, complete()).await[0].outcome, RepairOutcome::AlreadyFixed);
    assert_eq!(replayed(&log).len(), 1);
}

#[tokio::test]
async fn a_flood_displaces_the_oldest_and_that_is_counted() {
    let disk = SimulatedDisk::new();
    let (log, gate) = open(&disk, Durability::Fsync).unwrap();
    let limits = BadEventsLimits { retention_ms: Some(1_000_000), bytes_max: 1 << 20 };
    gate.bad_events().limit(limits).unwrap();
    // What does not compress, and hides its size from nobody.
    let mut dice = 88172645463325252u64;
    let mut noise = || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        format!("{dice:016x}")
    };
    let mut sent = 0;
    for _ in 0..150 {
        let lines: String =
            (0..50).map(|_| format!("{{\"a\":\"{}\"}}\n", (0..20).map(|_| noise()).collect::<String>())).collect();
        gate.ingest(TOPIC, lines.into(), &origin()).await.unwrap();
        sent += 50;
        let usage = gate.bad_events().usage();
        assert!(usage.bytes <= usage.bytes_max + (64 << 10), "{usage:?}");
    }
    let usage = gate.bad_events().usage();
    let left = gate.bad_events().stats(&BadFilter::default()).unwrap().unwrap().count;
    assert_eq!(usage.displaced.events + left, sent);
    assert!(left > sent / 10 && usage.displaced.bytes > 1 << 20 && usage.displaced.at_ms.is_some(), "{usage:?}");
    // The oldest are gone, and what is known of them with the next repair.
    assert_eq!(gate.bad_events().find("0-0").unwrap(), None);
    assert!(gate.bad_events().find(&format!("0-{}", sent - 1)).unwrap().is_some());

    log.close().unwrap();
    drop((log, gate));
    let (log, gate) = open(&disk, Durability::Fsync).unwrap();
    assert_eq!(gate.bad_events().usage().displaced, usage.displaced);
    gate.bad_events().limit(limits).unwrap();
    assert_eq!(gate.bad_events().usage().bytes_max, 1 << 20);
    assert_eq!(log.topic("bad_events").unwrap().settings().retention_ms, Some(1_000_000));
    // Less room takes what is too much at once.
    gate.bad_events().limit(BadEventsLimits { bytes_max: 500_000, ..limits }).unwrap();
    assert!(
        gate.bad_events().usage().bytes <= 500_000
            && gate.bad_events().usage().displaced.events > usage.displaced.events
    );
}

#[tokio::test]
async fn an_event_that_was_displaced_while_it_was_looked_at_is_left_out() {
    let house = House::new();
    house.ingest("{\"id\":\"a\"}\n{\"id\":\"b\"}").await;
    let events = bad(&house.gate);
    house.log.topic("bad_events").unwrap().partition(0).unwrap().delete_records(1).unwrap();
    let repairs = house.gate.repair(events, complete(), false).await.unwrap();
    assert_eq!(repairs.iter().map(|it| it.event.bad_id.as_str()).collect::<Vec<_>>(), ["0-1"]);
}
