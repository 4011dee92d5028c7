//! Batches handed out as places in a file: the same ones that a copying reader gets, for as long as they are held.

mod common;

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::*;
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::{RealDisk, SimulatedDisk};
use playhouse_log::{
    Batches, CleanupPolicy, Durability, FileRange, Isolation, Log, LogConfig, Partition, TopicSettings,
    TransactionMarker,
};
use proptest::prelude::*;

fn open_real(directory: &Path) -> Arc<Log> {
    Log::open(Arc::new(RealDisk), directory, LogConfig::default()).unwrap()
}

/// A batch of one record with so many bytes.
fn sized(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(1_000, Some(b"key"), Some(&vec![bytes as u8; bytes]), &[]);
    builder.build()
}

/// As the operating system sends it.
fn sent(range: &FileRange) -> io::Result<Vec<u8>> {
    let file = std::fs::File::from(range.descriptor().unwrap().try_clone_to_owned()?);
    let mut bytes = vec![0; range.len()];
    file.read_exact_at(&mut bytes, range.position())?;
    assert_eq!(range.read()?, bytes);
    Ok(bytes)
}

fn bytes_of(batches: &Batches) -> Bytes {
    match batches {
        Batches::Bytes(bytes) => bytes.clone(),
        Batches::Range(range) => sent(range).unwrap().into(),
    }
}

fn transferred(partition: &Partition, offset: i64, max_bytes: usize) -> Batches {
    partition.transfer(offset, max_bytes, Isolation::Uncommitted).unwrap().batches
}

/// Some hundred batches in several segments, 2 MB in all.
fn filled(log: &Log) -> Arc<Partition> {
    let settings = TopicSettings { segment_bytes: 700 << 10, retention_ms: None, ..one_partition() };
    let partition = partition_of(log, settings);
    let mut next = 0;
    for number in 0..400 {
        next = partition.append(&sized(number * 37 % 12_000)).unwrap().next_offset;
    }
    runtime().block_on(partition.durable(next)).unwrap();
    partition
}

#[test]
fn a_range_holds_what_a_copy_holds() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_real(directory.path());
    let partition = filled(&log);
    let mut ranges = 0;
    for offset in 0..=partition.high_watermark() {
        for max_bytes in [0, 1, 70_000, 300_000, 1 << 30] {
            let transferred = transferred(&partition, offset, max_bytes);
            assert_eq!(bytes_of(&transferred), partition.read(offset, max_bytes).unwrap(), "{offset} {max_bytes}");
            ranges += usize::from(matches!(transferred, Batches::Range(_)));
        }
    }
    assert!(ranges > 500, "{ranges}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_sizes_are(
        sizes in proptest::collection::vec(prop_oneof![0usize..200, 0usize..6_000, 0usize..90_000], 1..120),
        asked in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..500_000), 20),
        segment_bytes in 100_000u64..2_000_000,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let config = LogConfig { durability: Durability::Os, ..LogConfig::default() };
        let log = Log::open(Arc::new(RealDisk), directory.path(), config).unwrap();
        let partition = partition_of(&log, TopicSettings { segment_bytes, ..one_partition() });
        for size in &sizes {
            append(&partition, &sized(*size));
        }
        for (offset, max_bytes) in asked {
            let offset = offset.index(sizes.len()) as i64;
            let transferred = transferred(&partition, offset, max_bytes);
            prop_assert_eq!(bytes_of(&transferred), partition.read(offset, max_bytes).unwrap());
        }
    }
}

#[test]
fn a_range_outlives_its_segment() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_real(directory.path());
    let partition = filled(&log);
    let expected = partition.read(0, 200_000).unwrap();
    let Batches::Range(range) = transferred(&partition, 0, 200_000) else { panic!("a copy") };
    let end = partition.high_watermark();
    assert_eq!(partition.delete_records(end).unwrap(), end);
    assert!(log.retain().unwrap() > 0);
    assert_eq!(partition.log_start_offset(), end);
    assert_eq!(sent(&range).unwrap(), expected);
    log.delete_topic("events").unwrap();
    assert_eq!(sent(&range).unwrap(), expected);
}

#[test]
fn ranges_pass_over_what_compaction_took_out() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_real(directory.path());
    let settings = TopicSettings {
        segment_bytes: 400 << 10,
        cleanup: CleanupPolicy::Compact,
        min_cleanable_dirty_ratio: 0.0,
        ..one_partition()
    };
    let partition = partition_of(&log, settings);
    let mut next = 0;
    for number in 0..1_000usize {
        let mut builder = BatchBuilder::new(Compression::None);
        // Three of four keys come again and again.
        let key = if number % 4 == 0 { number } else { number % 4 };
        builder.push(1_000, Some(key.to_string().as_bytes()), Some(&[7; 1_500]), &[]);
        next = partition.append(&builder.build()).unwrap().next_offset;
    }
    runtime().block_on(partition.durable(next)).unwrap();
    log.checkpoint().unwrap();
    let Batches::Range(before) = transferred(&partition, 0, 200_000) else { panic!("a copy") };
    let expected = sent(&before).unwrap();
    assert!(log.compact().unwrap() > 0);
    assert_eq!(sent(&before).unwrap(), expected, "what is held stays as it was");
    for offset in 0..1_000 {
        let transferred = transferred(&partition, offset, 100_000);
        assert_eq!(bytes_of(&transferred), partition.read(offset, 100_000).unwrap(), "{offset}");
    }
}

#[test]
fn what_is_not_committed_is_in_no_range() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_real(directory.path());
    let partition = filled(&log);
    let first_open = partition.high_watermark();
    let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, 0).transactional();
    builder.push(1_000, None, Some(&[1; 100_000]), &[]);
    append(&partition, &builder.build());
    append(&partition, &sized(100_000));
    for offset in (0..=first_open).step_by(7).chain([first_open]) {
        let committed = partition.transfer(offset, 1 << 30, Isolation::Committed).unwrap();
        let expected = partition.read_committed(offset, 1 << 30).unwrap();
        assert_eq!(committed.last_stable_offset, first_open);
        assert_eq!(bytes_of(&committed.batches), expected.batches, "{offset}");
        assert_eq!(committed.aborted, expected.aborted);
    }
    let marker = TransactionMarker { producer_id: 7, producer_epoch: 0, coordinator_epoch: 0, commit: false };
    let marked = partition.end_transaction(&marker).unwrap();
    runtime().block_on(partition.durable(marked.next_offset)).unwrap();
    let decided = partition.transfer(first_open, 1 << 30, Isolation::Committed).unwrap();
    assert!(matches!(decided.batches, Batches::Range(_)));
    assert_eq!(decided.aborted.len(), 1);
    assert_eq!(bytes_of(&decided.batches), partition.read(first_open, 1 << 30).unwrap());
}

#[test]
fn an_index_that_is_not_right_costs_no_record() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_real(directory.path());
    let partition = filled(&log);
    let expected = partition.read(0, 300_000).unwrap();
    log.close().unwrap();
    drop((log, partition));
    let index = directory.path().join("events-0/00000000000000000000.index");
    let mut entries = std::fs::read(&index).unwrap();
    // Each entry tells the next one's place.
    let places: Vec<[u8; 4]> = entries.chunks(8).map(|entry| entry[4..].try_into().unwrap()).collect();
    for (entry, place) in entries.chunks_mut(8).zip(places.iter().skip(1)) {
        entry[4..].copy_from_slice(place);
    }
    std::fs::write(&index, entries).unwrap();
    let log = open_real(directory.path());
    let partition = &log.topic("events").unwrap().partitions()[0].clone();
    assert_eq!(bytes_of(&transferred(partition, 0, 300_000)), expected);
}

#[test]
fn a_disk_without_descriptors_copies() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk, one_partition());
    append(&partition, &sized(200_000));
    assert!(matches!(transferred(&partition, 0, 1 << 30), Batches::Bytes(bytes) if bytes.len() > 200_000));
    drop(log);
}
