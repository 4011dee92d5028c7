//! Transactions as a partition keeps them: what is stable, what was aborted, through every kind of restart.

mod common;

use std::collections::BTreeMap;

use common::*;
use playhouse_log::batch::{BatchBuilder, Compression, Records, split_first};
use playhouse_log::disk::{Disk, SimulatedDisk};
use playhouse_log::{AppendError, Durability, LogConfig, Partition, TransactionMarker};
use proptest::prelude::*;

fn transactional(producer: i64, epoch: i16, sequence: i32, value: usize) -> Vec<u8> {
    numbered_by(BatchBuilder::new(Compression::None).producer(producer, epoch, sequence).transactional(), value, 1)
}

fn end(partition: &Partition, producer_id: i64, producer_epoch: i16, commit: bool) -> i64 {
    let marker = TransactionMarker { producer_id, producer_epoch, coordinator_epoch: 1, commit };
    let appended = partition.end_transaction(&marker).unwrap();
    runtime().block_on(partition.durable(appended.next_offset)).unwrap();
    appended.base_offset
}

/// The values that a reader of committed records sees, told by the lists of aborted transactions as clients do it, and
/// the same without the records of others, as the engine reads.
fn committed(partition: &Partition) -> Vec<usize> {
    let mut by_lists = Vec::new();
    let mut stripped = Vec::new();
    let mut offset = partition.log_start_offset();
    loop {
        let read = partition.read_committed(offset, 1 << 20).unwrap();
        let mut stable = partition.read_stable(offset, 1 << 20).unwrap();
        let mut batches = read.batches;
        if batches.is_empty() {
            assert!(stable.is_empty());
            assert_eq!(offset, partition.last_stable_offset());
            assert_eq!(by_lists, stripped);
            return by_lists;
        }
        // A client goes through the list by first offset, and drops a producer when it meets its marker.
        let mut aborted = read.aborted;
        aborted.sort_by_key(|it| it.first_offset);
        let mut dropping: Vec<i64> = Vec::new();
        while !batches.is_empty() {
            let (header, size) = split_first(&batches).unwrap();
            let batch = batches.split_to(size);
            while aborted.first().is_some_and(|it| it.first_offset <= header.last_offset()) {
                dropping.push(aborted.remove(0).producer_id);
            }
            offset = header.next_offset();
            if header.is_control() {
                dropping.retain(|id| *id != header.producer_id);
            } else if !(header.is_transactional() && dropping.contains(&header.producer_id)) {
                push_values(&mut by_lists, &batch);
            }
        }
        while !stable.is_empty() {
            let (_, size) = split_first(&stable).unwrap();
            push_values(&mut stripped, &stable.split_to(size));
        }
    }
}

fn push_values(values: &mut Vec<usize>, batch: &bytes::Bytes) {
    for record in &Records::decompress(batch, 1 << 20).unwrap() {
        values.push(std::str::from_utf8(record.unwrap().value.unwrap()).unwrap().parse().unwrap());
    }
}

#[test]
fn what_is_undecided_is_not_stable_and_what_is_aborted_is_listed() {
    let (_log, partition) = partition(SimulatedDisk::new(), one_partition());
    append(&partition, &numbered(0, 1));
    append(&partition, &transactional(7, 0, 0, 1));
    append(&partition, &transactional(8, 0, 0, 2));
    append(&partition, &numbered(3, 1));
    assert_eq!((partition.last_stable_offset(), partition.high_watermark()), (1, 4));
    assert_eq!(committed(&partition), [0]);
    end(&partition, 8, 0, true);
    assert_eq!(partition.last_stable_offset(), 1, "7 is still open");
    end(&partition, 7, 0, false);
    assert_eq!(partition.last_stable_offset(), 6);
    assert_eq!(committed(&partition), [0, 2, 3]);
    // The second of one producer, after its first was aborted.
    append(&partition, &transactional(7, 0, 1, 4));
    end(&partition, 7, 0, true);
    assert_eq!(committed(&partition), [0, 2, 3, 4]);
    let states = partition.producers();
    assert_eq!(states.iter().map(|it| (it.producer_id, it.last_sequence)).collect::<Vec<_>>(), [(7, 1), (8, 0)]);
    assert!(states.iter().all(|it| it.transaction_start.is_none() && it.coordinator_epoch == 1));
}

#[test]
fn a_marker_of_a_newer_epoch_fences_the_producer_off() {
    let (_log, partition) = partition(SimulatedDisk::new(), one_partition());
    append(&partition, &transactional(7, 0, 0, 1));
    end(&partition, 7, 1, false);
    assert_eq!(partition.last_stable_offset(), 2);
    assert!(committed(&partition).is_empty());
    assert!(matches!(
        partition.append(&transactional(7, 0, 1, 1)),
        Err(AppendError::ProducerFenced { current: 1, .. })
    ));
    let stale = TransactionMarker { producer_id: 7, producer_epoch: 0, coordinator_epoch: 1, commit: true };
    assert!(matches!(partition.end_transaction(&stale), Err(AppendError::ProducerFenced { .. })));
    append(&partition, &transactional(7, 1, 0, 2));
    end(&partition, 7, 1, true);
    assert_eq!(committed(&partition), [2]);
}

#[test]
fn batches_that_no_producer_may_send_are_refused() {
    let (_log, partition) = partition(SimulatedDisk::new(), one_partition());
    append(&partition, &transactional(7, 0, 0, 1));
    let plain = numbered_by(BatchBuilder::new(Compression::None).producer(7, 0, 1), 2, 1);
    assert!(matches!(partition.append(&plain), Err(AppendError::InTransaction(7))));
    let orphan = numbered_by(BatchBuilder::new(Compression::None).transactional(), 2, 1);
    assert!(matches!(partition.append(&orphan), Err(AppendError::Invalid(_))));
    end(&partition, 7, 0, true);
    let marker = partition.read(1, 1).unwrap();
    assert!(matches!(partition.append(&marker), Err(AppendError::Invalid(_))), "only the log writes markers");
}

#[test]
fn a_transaction_is_over_when_its_marker_is_durable() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), one_partition());
    append(&partition, &transactional(7, 0, 0, 1));
    disk.pause_syncs(true);
    let marker = TransactionMarker { producer_id: 7, producer_epoch: 0, coordinator_epoch: 1, commit: true };
    partition.end_transaction(&marker).unwrap();
    assert_eq!(partition.last_stable_offset(), 0);
    let disk = disk.power_cut(None);
    drop(log);
    let log = open(&disk);
    let partition = partition_of(&log, one_partition());
    assert_eq!((partition.last_stable_offset(), partition.high_watermark()), (0, 1));
    assert_eq!(partition.producers()[0].transaction_start, Some(0));
    end(&partition, 7, 1, false);
    assert!(committed(&partition).is_empty());
}

#[test]
fn in_the_page_cache_nothing_is_stable_too_early_either() {
    let log = open_with(&SimulatedDisk::new(), LogConfig { durability: Durability::Os, ..LogConfig::default() });
    let partition = partition_of(&log, one_partition());
    append(&partition, &transactional(7, 0, 0, 1));
    assert_eq!((partition.last_stable_offset(), partition.high_watermark()), (0, 1));
    end(&partition, 7, 0, true);
    assert_eq!((partition.last_stable_offset(), partition.high_watermark()), (2, 2));
}

#[test]
fn a_lost_or_damaged_transaction_index_is_made_anew() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), small_segments());
    for number in 0..200 {
        append(&partition, &transactional(7, 0, number, number as usize));
        end(&partition, 7, 0, number % 3 == 0);
    }
    let expected: Vec<usize> = (0..200).filter(|number| number % 3 == 0).collect();
    assert_eq!(committed(&partition), expected);
    log.close().unwrap();
    let disk = disk.kill();
    let indexes = disk.list("/data/events-0".as_ref()).unwrap().into_iter();
    let indexes: Vec<_> = indexes.filter(|path| path.extension().is_some_and(|it| it == "txnindex")).collect();
    assert!(indexes.len() > 2, "the log rolled");
    for (number, path) in indexes.iter().enumerate() {
        let disk = disk.fork();
        match number % 3 {
            0 => disk.remove_file(path).unwrap(),
            1 => disk.open(path, false).unwrap().set_len(35).unwrap(),
            _ => disk.open(path, false).unwrap().set_len(34).unwrap(),
        }
        let log = open(&disk);
        assert_eq!(committed(&partition_of(&log, small_segments())), expected, "{}", path.display());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(i64),
    Plain,
    End(i64, bool),
    Checkpoint,
    Close,
    PowerCut(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0i64..4).prop_map(Step::Write),
        4 => Just(Step::Plain),
        6 => (0i64..4, any::<bool>()).prop_map(|(producer, commit)| Step::End(producer, commit)),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Close),
        2 => proptest::option::of(any::<u64>()).prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, readers of committed records see exactly what was committed, up to the oldest
    /// transaction that is open.
    #[test]
    fn committed_is_what_was_committed(steps in proptest::collection::vec(step(), 1..120)) {
        let mut disk = SimulatedDisk::new();
        let mut log = open(&disk);
        // Offset, value, and the producer while undecided.
        let mut written: Vec<(i64, usize, Option<i64>)> = Vec::new();
        let mut sequences: BTreeMap<i64, i32> = BTreeMap::new();
        let mut value = 0;
        for step in steps {
            let partition = partition_of(&log, small_segments());
            match step {
                Step::Write(producer) => {
                    let sequence = sequences.entry(producer).or_default();
                    let appended = append(&partition, &transactional(producer, 0, *sequence, value));
                    *sequence += 1;
                    written.push((appended.base_offset, value, Some(producer)));
                    value += 1;
                }
                Step::Plain => {
                    let appended = append(&partition, &numbered(value, 1));
                    written.push((appended.base_offset, value, None));
                    value += 1;
                }
                Step::End(producer, commit) => {
                    end(&partition, producer, 0, commit);
                    if commit {
                        written.iter_mut().filter(|it| it.2 == Some(producer)).for_each(|it| it.2 = None);
                    } else {
                        written.retain(|it| it.2 != Some(producer));
                    }
                }
                Step::Checkpoint => log.checkpoint().unwrap(),
                Step::Close => {
                    log.close().unwrap();
                    log = open(&disk);
                }
                Step::PowerCut(torn) => {
                    disk = disk.power_cut(torn);
                    log = open(&disk);
                }
            }
            let partition = partition_of(&log, small_segments());
            let open = written.iter().find(|it| it.2.is_some()).map_or(i64::MAX, |it| it.0);
            prop_assert_eq!(partition.last_stable_offset(), open.min(partition.high_watermark()));
            let expected: Vec<usize> = written.iter().filter(|it| it.0 < open).map(|it| it.1).collect();
            prop_assert_eq!(committed(&partition), expected);
        }
    }
}
