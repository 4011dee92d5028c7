//! What is left after the power was cut, the process killed or the files damaged.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::*;
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::{Disk, SimulatedDisk};
use playhouse_log::{AppendError, Durability, LogConfig, Partition, TopicSettings};
use proptest::prelude::*;

fn reopened(disk: &SimulatedDisk, settings: TopicSettings) -> Vec<usize> {
    let log = open(disk);
    values(&partition_of(&log, settings))
}

#[test]
fn a_power_cut_keeps_exactly_what_was_acknowledged() {
    for acknowledged in [0, 1, 7, 300] {
        let disk = SimulatedDisk::new();
        let (_log, partition) = partition(disk.clone(), small_segments());
        for number in 0..acknowledged {
            append(&partition, &numbered(number, 1));
        }
        disk.pause_syncs(true);
        for number in acknowledged..acknowledged + 200 {
            partition.append(&numbered(number, 1)).unwrap();
        }
        assert_eq!(values(&partition).len(), acknowledged, "nothing is read that is not durable");
        let found = reopened(&disk.power_cut(None), small_segments());
        assert_eq!(found, (0..acknowledged).collect::<Vec<_>>());
    }
}

#[test]
fn without_fsync_a_power_cut_loses_more() {
    let disk = SimulatedDisk::new();
    let log = open_with(&disk, LogConfig { durability: Durability::Os, ..LogConfig::default() });
    let partition = partition_of(&log, one_partition());
    append(&partition, &numbered(0, 10));
    assert_eq!(values(&partition).len(), 10);
    assert_eq!(disk.sync_count(), 2, "only meta.json and the topic's file");
    assert!(reopened(&disk.power_cut(None), one_partition()).is_empty());
}

#[test]
fn without_fsync_a_sync_that_is_asked_for_takes_closed_segments_with_it() {
    let disk = SimulatedDisk::new();
    let log = open_with(&disk, LogConfig { durability: Durability::Os, ..LogConfig::default() });
    let partition = partition_of(&log, small_segments());
    let files = || disk.list(Path::new("/data/events-0")).unwrap().len();
    let mut sent = 0;
    // The second time some of the closed segments are on disk already.
    for _ in 0..2 {
        let before = files();
        while files() < before + 9 {
            append(&partition, &numbered(sent, 1));
            sent += 1;
        }
        partition.sync().unwrap();
        assert_eq!(reopened(&disk.fork().power_cut(None), small_segments()), (0..sent).collect::<Vec<_>>());
    }
    let syncs = disk.sync_count();
    partition.sync().unwrap();
    assert_eq!(disk.sync_count(), syncs, "nothing is synced twice");
    append(&partition, &numbered(sent, 1));
    let found = reopened(&disk.power_cut(None), small_segments());
    assert_eq!(found, (0..sent).collect::<Vec<_>>(), "nobody asked for the last");
}

#[test]
fn without_fsync_what_is_closed_while_a_sync_runs_is_not_taken_for_synced() {
    let disk = SimulatedDisk::new();
    let log = open_with(&disk, LogConfig { durability: Durability::Os, ..LogConfig::default() });
    let partition = partition_of(&log, small_segments());
    append(&partition, &numbered(0, 1));
    disk.pause_syncs(true);
    let syncing = {
        let partition = Arc::clone(&partition);
        std::thread::spawn(move || partition.sync())
    };
    wait_until("a sync", || disk.waiting_syncs() > 0);
    for number in 1..400 {
        append(&partition, &numbered(number, 1));
    }
    disk.pause_syncs(false);
    syncing.join().unwrap().unwrap();
    partition.sync().unwrap();
    assert_eq!(reopened(&disk.power_cut(None), small_segments()), (0..400).collect::<Vec<_>>());
}

#[derive(Debug, Clone)]
enum Step {
    Append { records: usize, wait: bool },
    Checkpoint,
    Close,
    Kill,
    PowerCut(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (1usize..60, any::<bool>()).prop_map(|(records, wait)| Step::Append { records, wait }),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => proptest::option::of(any::<u64>()).prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: what was acknowledged is there, and what is there is a prefix of what was sent.
    #[test]
    fn the_log_is_a_prefix_of_what_was_sent(steps in proptest::collection::vec(step(), 1..80)) {
        let mut disk = SimulatedDisk::new();
        let mut log = open(&disk);
        let (mut sent, mut acknowledged) = (Vec::new(), 0);
        let mut next = 0;
        for step in steps {
            let partition = partition_of(&log, small_segments());
            match step {
                Step::Append { records, wait } => {
                    let batch = numbered(next, records);
                    sent.extend(next..next + records);
                    next += records;
                    if wait {
                        append(&partition, &batch);
                        acknowledged = sent.len();
                    } else {
                        partition.append(&batch).unwrap();
                    }
                }
                Step::Checkpoint => log.checkpoint().unwrap(),
                Step::Close => {
                    log.close().unwrap();
                    acknowledged = sent.len();
                    log = open(&disk);
                }
                Step::Kill => {
                    disk = disk.kill();
                    log = open(&disk);
                    prop_assert_eq!(&values(&partition_of(&log, small_segments())), &sent);
                    acknowledged = sent.len();
                }
                Step::PowerCut(torn) => {
                    disk = disk.power_cut(torn);
                    log = open(&disk);
                    let found = values(&partition_of(&log, small_segments()));
                    prop_assert!(found.len() >= acknowledged, "{} of {acknowledged} left", found.len());
                    prop_assert_eq!(&found[..], &sent[..found.len()]);
                    acknowledged = found.len();
                    sent = found;
                }
            }
        }
        log.close().unwrap();
        prop_assert_eq!(reopened(&disk, small_segments()), sent);
    }
}

/// The newest `.log` file.
fn last_segment(disk: &SimulatedDisk) -> std::path::PathBuf {
    let files = disk.list(Path::new("/data/events-0")).unwrap();
    files.into_iter().rfind(|path| path.extension().is_some_and(|extension| extension == "log")).unwrap()
}

#[test]
fn a_torn_tail_is_cut_and_written_over() {
    // The last is a whole batch, but of another place.
    let noise = b"noise that was never a batch, and is longer than a header of a batch is";
    for tail in [&noise[..], &[0; 3000], &[1], &numbered(9, 1)] {
        let disk = SimulatedDisk::new();
        let (_log, partition) = partition(disk.clone(), one_partition());
        append(&partition, &numbered(0, 3));
        let disk = disk.kill();
        let file = disk.open(&last_segment(&disk), false).unwrap();
        let whole = file.len().unwrap();
        file.write_all_at(tail, whole).unwrap();
        let log = open(&disk);
        assert_eq!(file.len().unwrap(), whole);
        let partition = partition_of(&log, one_partition());
        assert_eq!(append(&partition, &numbered(3, 1)).base_offset, 3);
        assert_eq!(values(&partition), [0, 1, 2, 3]);
    }
}

#[test]
fn damage_below_the_checkpoint_is_not_cut_in_silence() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), one_partition());
    append(&partition, &numbered(0, 3));
    log.close().unwrap();
    let disk = disk.kill();
    disk.damage(&last_segment(&disk), 70, b"?").unwrap();
    let error =
        playhouse_log::Log::open(std::sync::Arc::new(disk), Path::new("/data"), LogConfig::default()).unwrap_err();
    assert!(error.to_string().contains("records from offset 0 on were durable up to 3"), "{error}");
}

#[test]
fn lost_or_damaged_indexes_and_checkpoints_are_rebuilt() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), small_segments());
    for number in 0..400 {
        append(&partition, &numbered(number, 1));
    }
    let expected = values(&partition);
    log.close().unwrap();
    let damages: [fn(&SimulatedDisk, &Path); 3] = [
        |disk, path| disk.remove_file(path).unwrap(),
        |disk, path| disk.open(path, false).unwrap().set_len(5).unwrap(),
        |disk, path| disk.damage(path, 0, &[0xff; 64]).unwrap(),
    ];
    for extensions in [&["index"][..], &["timeindex"], &["index", "timeindex"], &["json"]] {
        for damage in damages {
            let disk = disk.kill();
            for path in disk.list(Path::new("/data/events-0")).unwrap() {
                if path.extension().is_some_and(|extension| extensions.contains(&extension.to_str().unwrap())) {
                    damage(&disk, &path);
                }
            }
            let log = open(&disk);
            let partition = partition_of(&log, small_segments());
            assert_eq!(values(&partition), expected, "{extensions:?}");
            assert_eq!(append(&partition, &numbered(400, 1)).base_offset, 400);
            assert_eq!(partition.offset_at(1_000).unwrap(), Some((0, 1_000)));
        }
    }
}

fn sequenced(epoch: i16, sequence: i32, count: usize) -> Vec<u8> {
    let builder = BatchBuilder::new(Compression::None).producer(77, epoch, sequence);
    numbered_by(builder, sequence as usize, count)
}

fn expect_sequence(partition: &Partition, next: i32) {
    for first in (0..next).step_by(2).rev().take(5) {
        let again = partition.append(&sequenced(0, first, 2)).unwrap();
        assert!(again.duplicate);
        assert_eq!((again.base_offset, again.next_offset), (first.into(), i64::from(first) + 2));
    }
    match partition.append(&sequenced(0, next + 2, 2)) {
        Err(AppendError::OutOfOrderSequence { producer_id: 77, expected, found }) => {
            assert_eq!((expected, found), (next, next + 2));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn producers_are_remembered_through_every_kind_of_restart() {
    let mut disk = SimulatedDisk::new();
    let mut log = open(&disk);
    let mut next = 0;
    let restarts: [fn(&SimulatedDisk, &playhouse_log::Log) -> SimulatedDisk; 5] = [
        |disk, _| disk.kill(),
        |disk, _| disk.power_cut(None),
        |disk, log| {
            log.checkpoint().unwrap();
            disk.power_cut(Some(3))
        },
        |disk, log| {
            log.close().unwrap();
            disk.kill()
        },
        |disk, _| disk.power_cut(Some(4)),
    ];
    for restart in restarts {
        let partition = partition_of(&log, small_segments());
        for _ in 0..7 {
            assert!(!append(&partition, &sequenced(0, next, 2)).duplicate);
            next += 2;
        }
        expect_sequence(&partition, next);
        disk = restart(&disk, &log);
        log = open(&disk);
        expect_sequence(&partition_of(&log, small_segments()), next);
    }
    let partition = partition_of(&log, small_segments());
    assert_eq!(values(&partition), (0..next as usize).collect::<Vec<_>>());
    append(&partition, &sequenced(1, 0, 1));
    assert!(matches!(
        partition.append(&sequenced(0, next, 2)),
        Err(AppendError::ProducerFenced { current: 1, found: 0, .. })
    ));
    let two = [sequenced(1, 1, 1), sequenced(1, 2, 1)].concat();
    assert!(matches!(partition.append(&two), Err(AppendError::Invalid(_))));
}
