//! The epoch log on a disk that loses power.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use playhouse_engine::epoch::{Epoch, EpochLog, EpochLogConfig, Identity, OffsetRange};
use playhouse_engine::{Position, TopicPartition};
use playhouse_log::disk::SimulatedDisk;
use proptest::prelude::*;

const DIRECTORY: &str = "/data/epochs";

fn identity(fingerprint: u64) -> Identity {
    Identity { log_id: uuid::Uuid::from_u128(7), pipeline: "test".to_owned(), fingerprint }
}

fn config() -> EpochLogConfig {
    EpochLogConfig { segment_bytes: 2_000, recent_bytes: 4_000 }
}

fn partition() -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: 0 }
}

fn position(offset: i64) -> Position {
    let mut position = Position::default();
    position.set(partition(), offset);
    position
}

/// Epoch `number` covers offsets `10 * (number - 1) .. 10 * number` and carries them as rows.
fn epoch(number: u64) -> Epoch {
    let (from, to) = (10 * (number as i64 - 1), 10 * number as i64);
    let schema = Schema::new(vec![Field::new("offset", DataType::Int64, false)]);
    let rows = Int64Array::from_iter_values(from..to);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(rows)]).unwrap();
    Epoch {
        number,
        clock_ms: number as i64,
        watermarks_ms: vec![None],
        ranges: vec![OffsetRange { partition: partition(), from, to }],
        times: Vec::new(),
        delta: number.to_le_bytes().to_vec(),
        dropped: vec![vec![number as u32, 7], Vec::new()],
        streams: vec![vec![batch.clone()], vec![batch], Vec::new()],
        derived: 1,
    }
}

fn create(disk: &SimulatedDisk) -> Arc<EpochLog> {
    let disk = Arc::new(disk.clone());
    Arc::new(EpochLog::create(disk, Path::new(DIRECTORY), &identity(1), config(), &position(0)).unwrap())
}

fn open(disk: &SimulatedDisk, fingerprint: u64) -> Option<Arc<EpochLog>> {
    let disk = Arc::new(disk.clone());
    EpochLog::open(disk, Path::new(DIRECTORY), &identity(fingerprint), config()).unwrap().map(Arc::new)
}

fn append(log: &EpochLog, number: u64) {
    log.append(epoch(number), &position(10 * (number as i64 - 1))).unwrap();
}

fn rows(log: &Arc<EpochLog>, from: i64) -> Vec<i64> {
    let mut cursor = log.cursor(&position(from));
    let mut rows = Vec::new();
    while let Some(epoch) = cursor.next_epoch().unwrap() {
        assert_eq!(epoch.delta().unwrap(), epoch.header.number.to_le_bytes());
        assert_eq!(epoch.dropped().unwrap(), [vec![epoch.header.number as u32, 7], Vec::new()]);
        let derived = epoch.rows(0).unwrap();
        assert!(derived.is_none() || derived == epoch.rows(1).unwrap(), "in memory or nowhere");
        assert!(epoch.rows(2).unwrap().unwrap().is_empty());
        for batch in epoch.rows(1).unwrap().unwrap() {
            rows.extend(batch.column(0).as_primitive::<Int64Type>().values());
        }
    }
    rows
}

#[test]
fn a_cursor_reads_from_a_position_over_all_segments() {
    let disk = SimulatedDisk::new();
    let log = create(&disk);
    (1..=30).for_each(|number| append(&log, number));
    assert_eq!(rows(&log, 0), (0..300).collect::<Vec<_>>());
    assert_eq!(rows(&log, 250), (250..300).collect::<Vec<_>>());
    assert_eq!(rows(&log, 255), (250..300).collect::<Vec<_>>(), "the epoch that straddles the position is shown");
    assert_eq!(rows(&log, 300), Vec::<i64>::new());
}

#[test]
fn a_cursor_waits_at_the_end_and_goes_on() {
    let disk = SimulatedDisk::new();
    let log = create(&disk);
    let mut cursor = log.cursor(&position(0));
    assert!(cursor.next_epoch().unwrap().is_none());
    for number in 1..=30 {
        append(&log, number);
        assert_eq!(cursor.next_epoch().unwrap().unwrap().header.number, number);
        assert!(cursor.next_epoch().unwrap().is_none());
    }
}

#[test]
fn truncation_keeps_what_somebody_needs_and_readers_keep_what_they_hold() {
    let disk = SimulatedDisk::new();
    let log = create(&disk);
    (1..=30).for_each(|number| append(&log, number));
    let mut reader = log.cursor(&position(0));
    reader.next_epoch().unwrap().unwrap();
    log.truncate(30, &[position(150), position(300)], &position(300)).unwrap();
    let first = log.first_epoch();
    assert!(first > 1 && first <= 16, "epochs from {first} are kept");
    assert_eq!(rows(&log, 150), (150..300).collect::<Vec<_>>());
    assert_eq!(reader.next_epoch().unwrap().unwrap().header.number, 2);
    log.truncate(20, &[position(300)], &position(300)).unwrap();
    assert!(log.first_epoch() <= 21, "the checkpoint at 20 needs the epochs after it");
    log.truncate(30, &[position(300)], &position(300)).unwrap();
    assert_eq!(log.first_epoch(), 31, "nobody needs any of the last segment");
    let reopened = open(&disk, 1).unwrap();
    assert_eq!((reopened.first_epoch(), reopened.newest()), (log.first_epoch(), 30));
}

#[test]
fn another_pipeline_finds_nothing_to_continue() {
    let disk = SimulatedDisk::new();
    append(&create(&disk), 1);
    assert!(open(&disk, 2).is_none());
    assert!(open(&disk, 1).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_power_cut_keeps_every_appended_epoch_whole(epochs in 1u64..40, torn: u64, also_unsynced: bool) {
        let disk = SimulatedDisk::new();
        let log = create(&disk);
        (1..=epochs).for_each(|number| append(&log, number));
        if also_unsynced {
            disk.fail_syncs(true);
            prop_assert!(log.append(epoch(epochs + 1), &position(10 * epochs as i64)).is_err());
            disk.fail_syncs(false);
        }
        let after = disk.power_cut(Some(torn));
        let log = open(&after, 1).expect("the epoch log survives");
        let newest = log.newest();
        prop_assert!(newest == epochs || (also_unsynced && newest == epochs + 1), "newest is {newest}");
        prop_assert_eq!(rows(&log, 0), (0..10 * newest as i64).collect::<Vec<_>>());
        append(&log, newest + 1);
        prop_assert_eq!(rows(&log, 0), (0..10 * (newest as i64 + 1)).collect::<Vec<_>>());
    }
}
