//! Compaction: the newest of every key stays, offsets and order stay, and no crash leaves anything else.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::*;
use playhouse_log::batch::{BatchBuilder, BatchHeader, Compression, Records, split_first};
use playhouse_log::disk::{Disk, SimulatedDisk};
use playhouse_log::{AppendError, CleanupPolicy, Clock, Log, LogConfig, Partition, TopicSettings, TransactionMarker};
use proptest::prelude::*;

const HOUR_MS: i64 = 3_600_000;

fn compacted() -> TopicSettings {
    TopicSettings {
        cleanup: CleanupPolicy::Compact,
        min_cleanable_dirty_ratio: 0.0,
        delete_retention_ms: HOUR_MS,
        ..small_segments()
    }
}

/// Nothing happens by itself, and the time is `now`.
fn open_at(disk: &SimulatedDisk, now: &Arc<AtomicI64>) -> Arc<Log> {
    let now = Arc::clone(now);
    let hour = Duration::from_secs(3600);
    let clock = Clock::new(move || now.load(Ordering::Relaxed));
    open_with(disk, LogConfig { clock, retention_interval: hour, compaction_interval: hour, ..LogConfig::default() })
}

fn keyed(key: &str, value: Option<&str>) -> Vec<u8> {
    keyed_by(BatchBuilder::new(Compression::None), key, value)
}

fn keyed_by(mut builder: BatchBuilder, key: &str, value: Option<&str>) -> Vec<u8> {
    // Large enough that segments roll.
    let padded = value.map(|value| format!("{value:<200}"));
    builder.push(1_000, Some(key.as_bytes()), padded.as_deref().map(str::as_bytes), &[]);
    builder.build()
}

/// Closes the active segment and makes everything below it known to be durable, so that it can be compacted.
fn fill(partition: &Partition, log: &Log) {
    for number in 0..40 {
        append(partition, &keyed(&format!("filler {number}"), Some("x")));
    }
    log.checkpoint().unwrap();
}

type Row = (i64, String, Option<String>);

/// All records by offset, but for fillers.
fn rows(partition: &Partition) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut offset = partition.log_start_offset();
    loop {
        let mut bytes = partition.read(offset, 700).unwrap();
        if bytes.is_empty() {
            assert_eq!(offset, partition.high_watermark());
            return rows;
        }
        while !bytes.is_empty() {
            let (header, size) = split_first(&bytes).unwrap();
            let batch = bytes.split_to(size);
            assert!(header.next_offset() > offset);
            for record in &Records::decompress(&batch, 1 << 20).unwrap() {
                let record = record.unwrap();
                assert!(record.offset >= offset && record.offset < header.next_offset());
                let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().trim_end().to_owned();
                let key = if header.is_control() { "control".to_owned() } else { text(record.key.unwrap()) };
                if !key.starts_with("filler") {
                    rows.push((record.offset, key, record.value.filter(|_| !header.is_control()).map(text)));
                }
            }
            offset = header.next_offset();
        }
    }
}

fn newest(rows: &[Row]) -> BTreeMap<String, (i64, Option<String>)> {
    rows.iter().map(|(offset, key, value)| (key.clone(), (*offset, value.clone()))).collect()
}

fn setup() -> (SimulatedDisk, Arc<AtomicI64>, Arc<Log>, Arc<Partition>) {
    let (disk, now) = (SimulatedDisk::new(), Arc::new(AtomicI64::new(2_000)));
    let log = open_at(&disk, &now);
    let partition = partition_of(&log, compacted());
    (disk, now, log, partition)
}

#[test]
fn the_newest_of_every_key_stays_where_it_was() {
    let (disk, now, log, partition) = setup();
    for round in 0..50 {
        for key in ["a", "b", "c"] {
            append(&partition, &keyed(key, Some(&format!("{key}{round}"))));
        }
    }
    fill(&partition, &log);
    let before = rows(&partition);
    let (size, end) = (log.size_bytes(), partition.high_watermark());
    let freed = log.compact().unwrap();
    assert!(freed > 0 && log.size_bytes() == size - freed && partition.size_bytes() == log.size_bytes());
    let after = rows(&partition);
    assert_eq!(newest(&after), newest(&before));
    assert_eq!(after.len(), 3, "{after:?}");
    assert_eq!((partition.log_start_offset(), partition.high_watermark()), (0, end));
    assert_eq!(log.compact().unwrap(), 0, "nothing new");
    for disk in [disk.fork().kill(), disk.fork().power_cut(None), disk.power_cut(Some(5))] {
        let log = open_at(&disk, &now);
        let partition = partition_of(&log, compacted());
        assert_eq!(rows(&partition), after);
        assert_eq!(append(&partition, &keyed("a", Some("next"))).base_offset, end);
        assert_eq!(log.size_bytes(), partition.size_bytes());
    }
}

#[test]
fn tombstones_stay_for_their_time_and_then_go() {
    let (_disk, now, log, partition) = setup();
    append(&partition, &keyed("gone", Some("1")));
    append(&partition, &keyed("kept", Some("1")));
    append(&partition, &keyed("gone", None));
    fill(&partition, &log);
    log.compact().unwrap();
    assert_eq!(rows(&partition), [(1, "kept".into(), Some("1".into())), (2, "gone".into(), None)]);
    now.fetch_add(HOUR_MS - 1, Ordering::Relaxed);
    fill(&partition, &log);
    log.compact().unwrap();
    assert_eq!(rows(&partition).len(), 2, "not yet");
    now.fetch_add(1, Ordering::Relaxed);
    fill(&partition, &log);
    log.compact().unwrap();
    assert_eq!(rows(&partition), [(1, "kept".into(), Some("1".into()))]);
}

#[test]
fn a_little_that_is_new_is_not_worth_a_compaction() {
    let (_disk, now, log, partition) = setup();
    for _ in 0..200 {
        append(&partition, &keyed("a", Some("1")));
    }
    fill(&partition, &log);
    let mut settings = compacted();
    settings.min_cleanable_dirty_ratio = 0.5;
    log.alter_topic("events", settings.clone()).unwrap();
    assert!(log.compact().unwrap() > 0);
    for number in 0..150 {
        append(&partition, &keyed(&format!("unique {number}"), Some("1")));
    }
    fill(&partition, &log);
    assert!(log.compact().unwrap() > 0, "most of it is new");
    for _ in 0..40 {
        append(&partition, &keyed("a", Some("2")));
    }
    log.checkpoint().unwrap();
    assert_eq!(log.compact().unwrap(), 0, "a fifth of it is new");
    settings.max_compaction_lag_ms = Some(1_000);
    log.alter_topic("events", settings.clone()).unwrap();
    now.fetch_add(10_000, Ordering::Relaxed);
    // The first look closes what is too old, the next finds it on disk.
    log.compact().unwrap();
    log.checkpoint().unwrap();
    assert!(log.compact().unwrap() > 0, "but it is old");
    settings.min_compaction_lag_ms = 1_000_000;
    log.alter_topic("events", settings).unwrap();
    for _ in 0..100 {
        append(&partition, &keyed("a", Some("3")));
    }
    fill(&partition, &log);
    assert_eq!(log.compact().unwrap(), 0, "too young");
}

#[test]
fn records_without_keys_are_refused() {
    let (_disk, _now, _log, partition) = setup();
    let mut builder = BatchBuilder::new(Compression::Lz4);
    builder.push(1, Some(b"key"), Some(b"value"), &[]);
    builder.push(1, None, Some(b"value"), &[]);
    assert!(matches!(partition.append(&builder.build()), Err(AppendError::KeysMissing(records)) if records == [1]));
}

#[test]
fn compacted_and_deleted_as_well() {
    let (_disk, now, log, partition) = setup();
    let both = TopicSettings { cleanup: CleanupPolicy::CompactAndDelete, retention_ms: Some(HOUR_MS), ..compacted() };
    append(&partition, &keyed("a", Some("1")));
    fill(&partition, &log);
    now.store(2 * HOUR_MS, Ordering::Relaxed);
    log.retain().unwrap();
    assert_eq!(rows(&partition).len(), 1, "age deletes nothing of a compacted topic");
    log.alter_topic("events", both).unwrap();
    log.compact().unwrap();
    assert!(log.retain().unwrap() > 0);
    assert_eq!(partition.log_start_offset(), partition.high_watermark());
}

fn transactional(producer: i64, sequence: i32, key: &str, value: &str) -> Vec<u8> {
    let builder = BatchBuilder::new(Compression::None).producer(producer, 0, sequence).transactional();
    keyed_by(builder, key, Some(value))
}

fn end(partition: &Partition, producer_id: i64, commit: bool) {
    let marker = TransactionMarker { producer_id, producer_epoch: 0, coordinator_epoch: 0, commit };
    let appended = partition.end_transaction(&marker).unwrap();
    runtime().block_on(partition.durable(appended.next_offset)).unwrap();
}

fn markers(partition: &Partition) -> usize {
    rows(partition).iter().filter(|(_, key, _)| key == "control").count()
}

#[test]
fn aborted_records_go_and_supersede_nothing_and_markers_outlive_them() {
    let (_disk, now, log, partition) = setup();
    append(&partition, &keyed("a", Some("old")));
    append(&partition, &transactional(7, 0, "a", "aborted"));
    end(&partition, 7, false);
    append(&partition, &transactional(8, 0, "b", "committed"));
    end(&partition, 8, true);
    append(&partition, &transactional(8, 1, "b", "newer"));
    end(&partition, 8, true);
    // 7 and 8 go on, so that these are not their last batches.
    append(&partition, &transactional(7, 1, "c", "open"));
    end(&partition, 7, true);
    append(&partition, &transactional(8, 2, "d", "open"));
    end(&partition, 8, true);
    let expected = |partition: &Partition| {
        let rows: Vec<_> = rows(partition).into_iter().filter(|(_, key, _)| key != "control").collect();
        newest(&rows).into_iter().map(|(key, (_, value))| (key, value.unwrap())).collect::<Vec<_>>()
    };
    let rows: Vec<(String, String)> =
        [("a", "old"), ("b", "newer"), ("c", "open"), ("d", "open")].map(|(k, v)| (k.into(), v.into())).into();
    fill(&partition, &log);
    log.compact().unwrap();
    assert_eq!(expected(&partition), rows);
    assert_eq!(markers(&partition), 5, "a reader that was in the middle needs them");
    assert_eq!(partition.read_committed(0, 100_000).unwrap().aborted.len(), 1);
    fill(&partition, &log);
    log.compact().unwrap();
    assert_eq!(markers(&partition), 5, "their time begins now");
    now.fetch_add(HOUR_MS, Ordering::Relaxed);
    fill(&partition, &log);
    log.compact().unwrap();
    assert_eq!(expected(&partition), rows);
    assert_eq!(markers(&partition), 3, "b's newest, c and d are there, so are their markers");
    assert!(partition.read_committed(0, 100_000).unwrap().aborted.is_empty());
}

#[test]
fn what_is_undecided_or_held_is_not_touched() {
    let (_disk, _now, log, partition) = setup();
    append(&partition, &transactional(7, 0, "a", "1"));
    for _ in 0..100 {
        append(&partition, &keyed("a", Some("2")));
    }
    fill(&partition, &log);
    assert_eq!(log.compact().unwrap(), 0);
    end(&partition, 7, true);
    partition.hold("engine", 0);
    assert_eq!(log.compact().unwrap(), 0);
    partition.release("engine");
    assert!(log.compact().unwrap() > 0);
}

#[test]
fn producers_are_remembered_when_their_records_are_gone() {
    let (disk, now, log, partition) = setup();
    for sequence in 0..3 {
        append(&partition, &keyed_by(BatchBuilder::new(Compression::None).producer(7, 0, sequence), "a", Some("x")));
    }
    append(&partition, &keyed("a", Some("newest")));
    fill(&partition, &log);
    log.compact().unwrap();
    assert_eq!(rows(&partition).len(), 1);
    log.close().unwrap();
    let disk = disk.kill();
    // Without the checkpoint the log itself must tell.
    disk.remove_file(Path::new("/data/events-0/checkpoint.json")).unwrap();
    let log = open_at(&disk, &now);
    let partition = partition_of(&log, compacted());
    let again = keyed_by(BatchBuilder::new(Compression::None).producer(7, 0, 2), "a", Some("x"));
    assert!(partition.append(&again).unwrap().duplicate);
    let gap = keyed_by(BatchBuilder::new(Compression::None).producer(7, 0, 4), "a", Some("x"));
    assert!(matches!(partition.append(&gap), Err(AppendError::OutOfOrderSequence { expected: 3, .. })));
}

/// At whatever operation of the disk the power goes while the log is compacted, it opens again with the newest of
/// everything.
#[test]
fn a_power_cut_at_any_moment_of_a_compaction_loses_nothing() {
    let (disk, now, log, partition) = setup();
    for round in 0..30 {
        for key in ["a", "b", "c"] {
            append(&partition, &keyed(key, Some(&format!("{key}{round}"))));
        }
        append(&partition, &transactional(7, round, "t", &round.to_string()));
        end(&partition, 7, round % 2 == 0);
        append(&partition, &keyed("gone", None));
    }
    fill(&partition, &log);
    let expected = committed_newest(&partition);
    log.close().unwrap();
    let mut cuts = 0;
    for operations in 0.. {
        let disk = disk.fork();
        let log = open_at(&disk, &now);
        log.checkpoint().unwrap();
        disk.die_after(Some(operations));
        let outcome = log.compact();
        for torn in [None, Some(operations)] {
            let disk = disk.power_cut(torn);
            let log = open_at(&disk, &now);
            let partition = partition_of(&log, compacted());
            assert_eq!(committed_newest(&partition), expected, "cut after {operations} operations");
            assert!(!disk.exists(Path::new("/data/events-0/compacted")));
            log.checkpoint().unwrap();
            log.compact().unwrap();
            assert_eq!(committed_newest(&partition), expected, "cut after {operations} operations, compacted again");
        }
        if outcome.is_ok() {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts}");
}

fn committed_newest(partition: &Partition) -> BTreeMap<String, (i64, Option<String>)> {
    let mut rows: Vec<Row> = Vec::new();
    let mut offset = partition.log_start_offset();
    loop {
        let mut bytes = partition.read_stable(offset, 5_000).unwrap();
        if bytes.is_empty() {
            return newest(&rows);
        }
        while !bytes.is_empty() {
            let (header, size) = split_first(&bytes).unwrap();
            for record in &Records::decompress(&bytes.split_to(size), 1 << 20).unwrap() {
                let record = record.unwrap();
                let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().trim_end().to_owned();
                rows.push((record.offset, text(record.key.unwrap()), record.value.map(text)));
            }
            offset = header.next_offset();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, tombstone: bool, records: usize },
    Compact,
    Wait,
    Close,
    PowerCut(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0u8..12, any::<bool>(), 1usize..9)
            .prop_map(|(key, tombstone, records)| Step::Put { key, tombstone, records }),
        4 => Just(Step::Compact),
        2 => Just(Step::Wait),
        1 => Just(Step::Close),
        2 => proptest::option::of(any::<u64>()).prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// The newest value of every key is there; one whose newest is a tombstone may be gone altogether; and no record moves.
    #[test]
    fn the_newest_survive_whatever_happens(steps in proptest::collection::vec(step(), 1..150)) {
        let now = Arc::new(AtomicI64::new(2_000));
        let mut disk = SimulatedDisk::new();
        let mut log = open_at(&disk, &now);
        let mut model: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
        let mut number = 0;
        for step in steps {
            let partition = partition_of(&log, compacted());
            match step {
                Step::Put { key, tombstone, records } => {
                    let mut builder = BatchBuilder::new(if key % 2 == 0 { Compression::Lz4 } else { Compression::None });
                    let mut put = Vec::new();
                    for record in 0..records {
                        let key = format!("{}", (usize::from(key) + record) % 12);
                        let value = (!tombstone || record % 2 == 0).then(|| format!("{number}"));
                        number += 1;
                        builder.push(1_000, Some(key.as_bytes()), value.as_deref().map(str::as_bytes), &[("h", &[0; 100])]);
                        put.push((key, value));
                    }
                    let appended = append(&partition, &builder.build());
                    for (at, (key, value)) in put.into_iter().enumerate() {
                        model.insert(key, (appended.base_offset + at as i64, value));
                    }
                }
                Step::Compact => {
                    log.checkpoint().unwrap();
                    log.compact().unwrap();
                }
                Step::Wait => drop(now.fetch_add(HOUR_MS, Ordering::Relaxed)),
                Step::Close => {
                    log.close().unwrap();
                    log = open_at(&disk, &now);
                }
                Step::PowerCut(torn) => {
                    disk = disk.power_cut(torn);
                    log = open_at(&disk, &now);
                }
            }
            let mut found = newest(&rows(&partition_of(&log, compacted())));
            for (key, expected) in &model {
                match found.remove(key) {
                    Some(row) => prop_assert_eq!(&row, expected),
                    None => prop_assert!(expected.1.is_none(), "{key} is gone"),
                }
            }
            prop_assert!(found.is_empty());
        }
    }
}

/// The header fields that Kafka's own compaction writes.
#[test]
fn a_batch_with_tombstones_tells_its_delete_horizon() {
    let (_disk, now, log, partition) = setup();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(1_500, Some(b"gone"), None, &[]);
    builder.push(1_700, Some(b"kept"), Some(b"v"), &[]);
    append(&partition, &builder.build());
    fill(&partition, &log);
    log.compact().unwrap();
    let batch = partition.read(0, 1).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(header.delete_horizon_ms(), Some(now.load(Ordering::Relaxed) + HOUR_MS));
    let records = Records::decompress(&batch, 1000).unwrap();
    let times: Vec<i64> = records.iter().map(|record| record.unwrap().timestamp_ms).collect();
    assert_eq!(times, [1_500, 1_700]);
    assert_eq!(partition.offset_at(1_600).unwrap(), Some((1, 1_700)));
}
