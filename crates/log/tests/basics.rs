//! What a partition promises when nothing goes wrong: order, whole batches, times, topics, sizes.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use common::*;
use playhouse_log::batch::{BatchBuilder, BatchHeader, Compression, Records, split_first};
use playhouse_log::disk::{Disk, RealDisk, SimulatedDisk};
use playhouse_log::{
    AlterTopicError, AppendError, Clock, CreateTopicError, DeleteRecordsError, Log, LogConfig, ReadError,
    TimestampType, TopicSettings, Trimmed,
};

#[test]
fn records_come_back_in_order_over_segments_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Log::open(Arc::new(RealDisk), directory.path(), LogConfig::default()).unwrap();
    let log = open();
    let (id, topic) = (log.id(), log.create_topic("events", small_segments()).unwrap());
    let partition = &topic.partitions()[0];
    for number in 0..500 {
        append(partition, &numbered(number, 1 + number % 3));
    }
    let expected = values(partition);
    assert_eq!(expected.len(), (0..500).map(|number| 1 + number % 3).sum::<usize>());
    log.close().unwrap();

    let log = open();
    assert_eq!(log.id(), id);
    let topic = log.topic("events").unwrap();
    assert_eq!(topic.settings(), small_segments());
    let partition = &topic.partitions()[0];
    assert_eq!(values(partition), expected);
    assert_eq!(partition.high_watermark(), expected.len() as i64);
    assert!(std::fs::read_dir(directory.path().join("events-0")).unwrap().count() > 9, "the log rolled");
    assert_eq!(log.size_bytes(), partition.size_bytes());
    for offset in 0..expected.len() as i64 {
        let (header, _) = split_first(&partition.read(offset, 1).unwrap()).unwrap();
        assert!((header.base_offset..header.next_offset()).contains(&offset));
    }
    // One batch after the other from whichever is asked for, the last one included.
    for from in [0, 7, expected.len() as i64 - 1] {
        let batches: Vec<BatchHeader> = partition.batches_from(from).map(|batch| batch.unwrap().0).collect();
        assert!((batches[0].base_offset..batches[0].next_offset()).contains(&from));
        assert!(batches.windows(2).all(|pair| pair[0].next_offset() == pair[1].base_offset));
        assert_eq!(batches.last().unwrap().next_offset(), partition.high_watermark());
    }
    assert_eq!(partition.batches_from(partition.high_watermark()).count(), 0);
}

/// The formats of Apache Kafka's index files, byte by byte.
#[test]
fn index_files_are_as_kafka_writes_them() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), small_segments());
    for number in 0..300 {
        let mut builder = BatchBuilder::new(Compression::None);
        (0..3).for_each(|record| builder.push(5_000 + number, None, Some(&[record; 20]), &[]));
        append(&partition, &builder.build());
    }
    log.close().unwrap();
    let disk = disk.kill();
    let (mut offsets, mut times) = (0, 0);
    for path in disk.list("/data/events-0".as_ref()).unwrap() {
        let base = |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap();
        let contents = |path: &std::path::Path| {
            let file = disk.open(path, false).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            bytes
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte));
        match path.extension().unwrap().to_str().unwrap() {
            "index" => {
                let log = contents(&path.with_extension("log"));
                let mut last = 0;
                for entry in contents(&path).chunks(8) {
                    let position = number(&entry[4..]) as usize;
                    let header = BatchHeader::parse(&log[position..]).unwrap();
                    assert_eq!(base(&path) + number(&entry[..4]), header.last_offset());
                    assert!(position > last + 4096 && position < last + 4096 + 2 * header.total_bytes);
                    last = position;
                    offsets += 1;
                }
            }
            "timeindex" => {
                for entry in contents(&path).chunks(12) {
                    let batch = number(&entry[..8]) - 5_000;
                    assert_eq!(base(&path) + number(&entry[8..]), batch * 3 + 2);
                    times += 1;
                }
            }
            _ => {}
        }
    }
    assert!(offsets > 3 && times > offsets, "{offsets} {times}");
}

#[test]
fn reads_are_bounded_and_whole() {
    let (_log, partition) = partition(SimulatedDisk::new(), TopicSettings::default());
    let batch = numbered(0, 10);
    for _ in 0..20 {
        append(&partition, &batch);
    }
    assert_eq!(partition.read(0, 3 * batch.len() + 1).unwrap().len(), 3 * batch.len());
    assert_eq!(partition.read(15, 0).unwrap().len(), batch.len(), "at least one batch");
    assert!(partition.read(200, 1000).unwrap().is_empty());
    assert!(matches!(partition.read(201, 1), Err(ReadError::OutOfRange { start: 0, end: 200, .. })));
    assert!(matches!(partition.read(-1, 1), Err(ReadError::OutOfRange { .. })));
    // The verbatim batch, but for its place.
    let mut read = partition.read(10, 1).unwrap().to_vec();
    assert_eq!(BatchHeader::parse(&read).unwrap().base_offset, 10);
    read[..8].fill(0);
    assert_eq!(read, batch);
}

#[test]
fn bad_batches_are_told_apart_and_change_nothing() {
    let settings = TopicSettings { max_batch_bytes: 10_000, ..TopicSettings::default() };
    let (_log, partition) = partition(SimulatedDisk::new(), settings);
    let good = numbered(0, 2);
    let changed = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    assert!(matches!(partition.append(&changed(16, 1)), Err(AppendError::UnsupportedFormat(1))));
    assert!(matches!(partition.append(&changed(70, 0xee)), Err(AppendError::Corrupt(_))));
    assert!(matches!(partition.append(&good[..good.len() - 1]), Err(AppendError::Invalid(_))));
    assert!(matches!(partition.append(&changed(9, 0x10)), Err(AppendError::TooLarge { limit: 10_000, .. })));
    assert!(matches!(partition.append(&[]), Err(AppendError::Invalid(_))));
    let two = [good.clone(), changed(70, 0xee)].concat();
    assert!(matches!(partition.append(&two), Err(AppendError::Corrupt(_))), "all or nothing");
    assert_eq!(append(&partition, &[good.clone(), good].concat()).next_offset, 4);
    assert_eq!(values(&partition).len(), 4);
}

#[test]
fn the_log_stamps_the_time_where_the_topic_says_so() {
    let now = Arc::new(AtomicI64::new(5_000));
    let clock = {
        let now = Arc::clone(&now);
        Clock::new(move || now.load(Ordering::Relaxed))
    };
    let config = LogConfig { clock, ..LogConfig::default() };
    let log = Log::open(Arc::new(SimulatedDisk::new()), "/data".as_ref(), config).unwrap();
    let settings = TopicSettings { timestamp_type: TimestampType::LogAppendTime, ..TopicSettings::default() };
    let topic = log.create_topic("events", settings).unwrap();
    let partition = &topic.partitions()[0];
    assert_eq!(append(partition, &numbered(0, 2)).append_time_ms, 5_000);
    now.store(4_000, Ordering::Relaxed);
    assert_eq!(append(partition, &numbered(2, 2)).append_time_ms, 5_000, "a clock set back does not turn time back");
    now.store(6_000, Ordering::Relaxed);
    append(partition, &numbered(4, 2));
    let batches = Records::decompress(&partition.read(4, 1).unwrap(), 1 << 20).unwrap();
    assert!(batches.header().is_log_append_time());
    assert!(batches.iter().all(|record| record.unwrap().timestamp_ms == 6_000));
    assert_eq!(partition.offset_at(5_001).unwrap(), Some((4, 6_000)));
    assert_eq!(partition.offset_at(0).unwrap(), Some((0, 5_000)));
    assert_eq!(partition.offset_at(6_001).unwrap(), None);
}

#[test]
fn offsets_are_found_by_time() {
    let (_log, partition) = partition(SimulatedDisk::new(), small_segments());
    let times: Vec<i64> = (0..900).map(|number: i64| number * 10 + [0, -35, 70][number as usize % 3]).collect();
    for chunk in times.chunks(3) {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        chunk.iter().for_each(|time| builder.push(*time, None, Some(&[0; 50]), &[]));
        append(&partition, &builder.build());
    }
    for wanted in (-100..9_200).step_by(7) {
        let expected = times.iter().position(|time| *time >= wanted).map(|at| (at as i64, times[at]));
        assert_eq!(partition.offset_at(wanted).unwrap(), expected, "at {wanted}");
    }
}

#[test]
fn topics_are_made_once_and_deleted_wholly() {
    let disk = SimulatedDisk::new();
    let log = open(&disk);
    for name in ["", ".", "..", "a/b", "../x", "a b", "ü", &"x".repeat(250)] {
        let created = log.create_topic(name, TopicSettings::default());
        assert!(matches!(created, Err(CreateTopicError::InvalidName(_))), "{name:?}");
    }
    let none = TopicSettings { partitions: 0, ..TopicSettings::default() };
    assert!(matches!(log.create_topic("a", none), Err(CreateTopicError::InvalidPartitions(0))));

    let long = "x".repeat(249);
    let topic = log.create_topic(&long, one_partition()).unwrap();
    assert!(matches!(log.create_topic(&long, one_partition()), Err(CreateTopicError::Exists(_))));
    assert_eq!(log.ensure_topic(&long, TopicSettings::default()).unwrap().id(), topic.id());
    let partition = Arc::clone(&topic.partitions()[0]);
    append(&partition, &numbered(0, 5));
    assert!(log.delete_topic(&long).unwrap());
    assert!(!log.delete_topic(&long).unwrap());
    assert!(matches!(partition.append(&numbered(0, 1)), Err(AppendError::Failed(_))));
    assert_eq!(log.size_bytes(), 0);
    let again = log.create_topic(&long, one_partition()).unwrap();
    assert_ne!(again.id(), topic.id());
    assert_eq!(again.partitions()[0].high_watermark(), 0);
    assert!(again.partition(1).is_none() && again.partition(-1).is_none());
}

#[test]
fn threads_append_together_and_each_batch_keeps_its_place() {
    let disk = SimulatedDisk::new();
    let (_log, partition) = partition(disk.clone(), small_segments());
    let runtime = runtime();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (partition, runtime) = (&partition, &runtime);
            scope.spawn(move || {
                for number in 0..100 {
                    let batch = numbered(thread * 1000 + number, 1);
                    let appended = partition.append(&batch).unwrap();
                    runtime.block_on(partition.durable(appended.next_offset)).unwrap();
                    assert!(partition.high_watermark() >= appended.next_offset);
                    let (header, _) = split_first(&partition.read(appended.base_offset, 1).unwrap()).unwrap();
                    assert_eq!(header.base_offset, appended.base_offset);
                }
            });
        }
    });
    let mut values = values(&partition);
    for thread in 0..8 {
        let own: Vec<_> = values.iter().filter(|value| **value / 1000 == thread).copied().collect();
        assert!(own.is_sorted() && own.len() == 100);
    }
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 800);
}

#[test]
fn producer_ids_are_never_handed_out_twice() {
    let mut disk = SimulatedDisk::new();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3 {
        let log = open(&disk);
        for _ in 0..1500 {
            assert!(seen.insert(log.allocate_producer_id().unwrap()));
        }
        disk = disk.power_cut(None);
    }
}

#[test]
fn settings_and_partitions_change_while_the_topic_lives() {
    let disk = SimulatedDisk::new();
    let log = open(&disk);
    let before = log.create_topic("events", one_partition()).unwrap();
    let partition = Arc::clone(&before.partitions()[0]);
    append(&partition, &numbered(0, 5));
    let small = TopicSettings { max_batch_bytes: 100, partitions: 99, ..small_segments() };
    log.alter_topic("events", small.clone()).unwrap();
    assert!(matches!(partition.append(&numbered(5, 5)), Err(AppendError::TooLarge { limit: 100, .. })));
    assert_eq!(before.settings().partitions, 1, "the number of partitions is not a setting");
    for wrong in [0, 1, 10_001] {
        let error = log.add_partitions("events", wrong).unwrap_err();
        assert!(matches!(error, AlterTopicError::InvalidPartitions { current: 1, .. }), "{error}");
    }
    let grown = log.add_partitions("events", 3).unwrap();
    assert!(Arc::ptr_eq(&grown.partitions()[0], &partition) && grown.id() == before.id());
    append(&grown.partitions()[2], &numbered(0, 1));
    assert_eq!(log.topic("events").unwrap().partitions().len(), 3);
    for unknown in [log.alter_topic("other", small).unwrap_err(), log.add_partitions("other", 2).unwrap_err()] {
        assert!(matches!(unknown, AlterTopicError::Unknown(_)));
    }
    let log = open(&disk.power_cut(None));
    let topic = log.topic("events").unwrap();
    assert_eq!((topic.partitions().len(), topic.settings().max_batch_bytes), (3, 100));
    assert_eq!(topic.settings(), grown.settings());
    assert_eq!((values(&topic.partitions()[0]).len(), values(&topic.partitions()[2]).len()), (5, 1));
}

#[test]
fn a_trimmed_partition_keeps_what_is_newest_or_held() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), small_segments());
    for number in 0..300 {
        append(&partition, &numbered(number, 1));
    }
    let (size, whole) = (partition.size_bytes(), log.size_bytes());
    assert_eq!(partition.trim(size).unwrap(), Trimmed::default(), "it is not too large");
    partition.hold("engine", 250);
    let held = partition.trim(0).unwrap();
    assert!(held.offsets > 0 && partition.log_start_offset() <= 250, "{held:?}");
    partition.release("engine");
    let trimmed = partition.trim(size / 2).unwrap();
    assert!(partition.size_bytes() <= size / 2 && partition.size_bytes() > 0);
    let start = partition.log_start_offset();
    assert_eq!((held.offsets + trimmed.offsets, held.bytes + trimmed.bytes), (start, size - partition.size_bytes()));
    assert_eq!(log.size_bytes(), whole - held.bytes - trimmed.bytes);
    assert_eq!(values(&partition), (start as usize..300).collect::<Vec<_>>());
    drop((log, partition));
    let log = open(&disk);
    assert_eq!(partition_of(&log, small_segments()).log_start_offset(), start);
}

#[test]
fn deleted_records_stay_deleted_and_their_space_comes_back() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), small_segments());
    for number in 0..300 {
        append(&partition, &numbered(number, 1));
    }
    partition.hold("engine", 100);
    let refused = partition.delete_records(150).unwrap_err();
    assert!(matches!(&refused, DeleteRecordsError::Held { reader, offset: 100 } if reader == "engine"), "{refused}");
    partition.hold("engine", 300);
    assert!(matches!(partition.delete_records(301), Err(DeleteRecordsError::OutOfRange { end: 300, .. })));
    assert_eq!(partition.delete_records(150).unwrap(), 150);
    assert_eq!(partition.delete_records(20).unwrap(), 150, "the start never goes back");
    assert!(matches!(partition.read(149, 1), Err(ReadError::OutOfRange { start: 150, .. })));
    assert_eq!(partition.offset_at(0).unwrap(), Some((150, 1_000)));
    let expected: Vec<usize> = (150..300).collect();
    assert_eq!(values(&partition), expected);

    let disk = disk.power_cut(None);
    drop(log);
    let log = open(&disk);
    let partition = partition_of(&log, small_segments());
    assert_eq!((partition.log_start_offset(), values(&partition)), (150, expected));
    let size = partition.size_bytes();
    assert!(log.retain().unwrap() > 0);
    assert!(partition.size_bytes() < size && partition.log_start_offset() == 150);
    partition.delete_records(300).unwrap();
    log.retain().unwrap();
    assert_eq!((partition.size_bytes(), partition.high_watermark()), (0, 300));
    assert!(values(&partition).is_empty());
}

#[test]
fn segments_are_closed_by_age() {
    let disk = SimulatedDisk::new();
    let settings = TopicSettings { segment_ms: 100, ..one_partition() };
    let (_log, partition) = partition(disk.clone(), settings);
    for time in [0, 50, 99, 100, 150, 10, 200] {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(time, None, Some(b"x"), &[]);
        append(&partition, &builder.build());
    }
    let files = disk.list("/data/events-0".as_ref()).unwrap();
    let logs = files.iter().filter(|path| path.extension().is_some_and(|it| it == "log"));
    let bases: Vec<&str> =
        logs.map(|path| path.file_stem().unwrap().to_str().unwrap().trim_start_matches('0')).collect();
    assert_eq!(bases, ["", "3", "6"]);
}
