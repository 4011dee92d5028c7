//! A disk that fails or is full, and what retention and the disk budget do about it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::*;
use playhouse_log::disk::SimulatedDisk;
use playhouse_log::{AppendError, Clock, LogConfig, ReadError, TopicSettings};

#[test]
fn a_failed_sync_stops_the_partition_and_acknowledges_nothing() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), small_segments());
    let other = log.create_topic("other", one_partition()).unwrap();
    append(&partition, &numbered(0, 5));
    disk.pause_syncs(true);
    let mut last = 0;
    for number in 5..400 {
        last = partition.append(&numbered(number, 1)).unwrap().next_offset;
    }
    disk.fail_syncs(true);
    disk.pause_syncs(false);
    let waited = runtime().block_on(partition.durable(last));
    assert!(matches!(waited, Err(AppendError::Failed(_))), "{waited:?}");
    assert!(matches!(partition.append(&numbered(0, 1)), Err(AppendError::Failed(_))));
    disk.fail_syncs(false);
    assert!(matches!(partition.append(&numbered(0, 1)), Err(AppendError::Failed(_))), "for good");
    assert_eq!(partition.high_watermark(), 5);
    assert_eq!(values(&partition).len(), 5, "what is durable can be read");
    runtime().block_on(partition.durable(5)).unwrap();
    append(&other.partitions()[0], &numbered(0, 1));

    // Not even a restart acknowledges what the failed sync may have dropped.
    log.close().unwrap();
    let log = open(&disk.kill());
    let partition = partition_of(&log, small_segments());
    assert_eq!(values(&partition), [0, 1, 2, 3, 4]);
    assert_eq!(append(&partition, &numbered(5, 1)).base_offset, 5);
}

#[test]
fn whoever_waits_when_the_log_goes_is_told() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), one_partition());
    disk.pause_syncs(true);
    let next = partition.append(&numbered(0, 1)).unwrap().next_offset;
    let waiter = {
        let partition = Arc::clone(&partition);
        std::thread::spawn(move || runtime().block_on(partition.durable(next)))
    };
    let disk = disk.power_cut(None);
    drop(log);
    assert!(matches!(waiter.join().unwrap(), Err(AppendError::Failed(_))));
    assert!(matches!(partition.append(&numbered(0, 1)), Err(AppendError::Failed(_))));
    drop(open(&disk));
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), small_segments());
    let mut appended = 0;
    disk.set_capacity(Some(20_000));
    let refused = loop {
        match partition.append(&numbered(appended, 1)) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, AppendError::Io(error) if error.raw_os_error() == Some(libc::ENOSPC)), "{refused:?}");
    assert!(partition.append(&numbered(appended, 3)).is_err());
    disk.set_capacity(None);
    for number in appended..appended + 100 {
        append(&partition, &numbered(number, 1));
    }
    let expected: Vec<usize> = (0..appended + 100).collect();
    assert_eq!(values(&partition), expected);
    drop(log);
    assert_eq!(values(&partition_of(&open(&disk.kill()), small_segments())), expected);
}

#[test]
fn a_cut_write_leaves_nothing_behind() {
    let disk = SimulatedDisk::new();
    let (log, partition) = partition(disk.clone(), one_partition());
    append(&partition, &numbered(0, 1));
    let three = [numbered(1, 1), numbered(2, 1), numbered(3, 1)].concat();
    disk.cut_next_write(three.len() - 10);
    assert!(matches!(partition.append(&three), Err(AppendError::Io(_))));
    append(&partition, &numbered(7, 1));
    assert_eq!(values(&partition), [0, 7]);
    drop(log);
    assert_eq!(values(&partition_of(&open(&disk.kill()), one_partition())), [0, 7]);
}

/// A log whose time is `now`, and which looks after its segments only when asked.
fn timed(disk: &SimulatedDisk, now: &Arc<AtomicI64>, disk_budget_bytes: u64) -> Arc<playhouse_log::Log> {
    let now = Arc::clone(now);
    let clock = Clock::new(move || now.load(Ordering::Relaxed));
    open_with(
        disk,
        LogConfig { clock, disk_budget_bytes, retention_interval: Duration::from_secs(3600), ..LogConfig::default() },
    )
}

#[test]
fn what_is_too_old_goes_by_whole_segments_unless_held() {
    let (disk, now) = (SimulatedDisk::new(), Arc::new(AtomicI64::new(2_000)));
    let log = timed(&disk, &now, u64::MAX);
    let partition = partition_of(&log, TopicSettings { retention_ms: Some(10_000), ..small_segments() });
    for number in 0..300 {
        append(&partition, &numbered(number, 1));
    }
    assert_eq!(log.retain().unwrap(), 0, "nothing is too old yet");
    now.store(11_001, Ordering::Relaxed);
    partition.hold("engine", 150);
    let freed = log.retain().unwrap();
    assert!(freed > 0);
    let start = partition.log_start_offset();
    assert!(start > 0 && start <= 150, "{start}");
    assert_eq!(values(&partition), (start as usize..300).collect::<Vec<_>>());
    assert!(matches!(partition.read(start - 1, 1), Err(ReadError::OutOfRange { .. })));
    assert_eq!(log.retain().unwrap(), 0, "what is held stays");
    partition.hold("engine", 300);
    log.retain().unwrap();
    assert_eq!((partition.log_start_offset(), partition.size_bytes(), log.size_bytes()), (300, 0, 0));
    assert_eq!(append(&partition, &numbered(300, 1)).base_offset, 300);

    let log = timed(&disk.power_cut(None), &now, u64::MAX);
    let partition = partition_of(&log, small_segments());
    assert_eq!((partition.log_start_offset(), values(&partition)), (300, vec![300]));
}

#[test]
fn what_is_too_much_goes_oldest_first() {
    let (disk, now) = (SimulatedDisk::new(), Arc::new(AtomicI64::new(2_000)));
    let log = timed(&disk, &now, u64::MAX);
    let settings = TopicSettings { retention_bytes: Some(20_000), ..small_segments() };
    let partition = partition_of(&log, settings);
    for number in 0..600 {
        append(&partition, &numbered(number, 1));
    }
    let before = log.size_bytes();
    let freed = log.retain().unwrap();
    assert_eq!(log.size_bytes(), before - freed);
    assert!((20_000..20_000 + (8 << 10)).contains(&partition.size_bytes()), "{}", partition.size_bytes());
    assert_eq!(*values(&partition).last().unwrap(), 599);
}

#[test]
fn past_the_disk_budget_appends_are_refused_until_there_is_room() {
    let (disk, now) = (SimulatedDisk::new(), Arc::new(AtomicI64::new(2_000)));
    let log = timed(&disk, &now, 30_000);
    let partition = partition_of(&log, TopicSettings { retention_ms: Some(10_000), ..small_segments() });
    partition.hold("engine", 0);
    let mut appended = 0;
    while let Ok(done) = partition.append(&numbered(appended, 1)) {
        appended += 1;
        runtime().block_on(partition.durable(done.next_offset)).unwrap();
    }
    assert!(matches!(partition.append(&numbered(0, 1)), Err(AppendError::DiskBudget(30_000))));
    assert!(log.size_bytes() <= 30_000);
    now.store(20_000, Ordering::Relaxed);
    log.retain().unwrap();
    assert!(partition.append(&numbered(0, 1)).is_err(), "what is held is not deleted for room");
    partition.release("engine");
    log.retain().unwrap();
    append(&partition, &numbered(0, 1));
}

#[test]
fn retention_runs_by_itself() {
    let (disk, now) = (SimulatedDisk::new(), Arc::new(AtomicI64::new(2_000)));
    let clock = {
        let now = Arc::clone(&now);
        Clock::new(move || now.load(Ordering::Relaxed))
    };
    let config = LogConfig { clock, retention_interval: Duration::from_millis(10), ..LogConfig::default() };
    let log = open_with(&disk, config);
    let partition = partition_of(&log, TopicSettings { retention_ms: Some(10_000), ..small_segments() });
    append(&partition, &numbered(0, 1));
    now.store(50_000, Ordering::Relaxed);
    wait_until("retention", || partition.log_start_offset() == 1);
}
