//! What the tests of the log share.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use playhouse_log::batch::{BatchBuilder, Compression, Records, split_first};
use playhouse_log::disk::{Disk, SimulatedDisk};
use playhouse_log::{Appended, Log, LogConfig, Partition, TopicSettings};

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

pub fn one_partition() -> TopicSettings {
    TopicSettings { partitions: 1, ..TopicSettings::default() }
}

/// Rolls every few dozen batches.
pub fn small_segments() -> TopicSettings {
    TopicSettings { segment_bytes: 8 << 10, retention_ms: None, ..one_partition() }
}

pub fn open(disk: &SimulatedDisk) -> Arc<Log> {
    open_with(disk, LogConfig::default())
}

pub fn open_with(disk: &SimulatedDisk, config: LogConfig) -> Arc<Log> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::open(disk, Path::new("/data"), config).unwrap()
}

pub fn partition(disk: SimulatedDisk, settings: TopicSettings) -> (Arc<Log>, Arc<Partition>) {
    let log = open(&disk);
    let partition = partition_of(&log, settings);
    (log, partition)
}

pub fn partition_of(log: &Log, settings: TopicSettings) -> Arc<Partition> {
    Arc::clone(&log.ensure_topic("events", settings).unwrap().partitions()[0])
}

/// A batch of `count` records whose values are `first`, `first + 1` and so on.
pub fn numbered(first: usize, count: usize) -> Vec<u8> {
    numbered_by(BatchBuilder::new(Compression::None), first, count)
}

pub fn numbered_by(mut builder: BatchBuilder, first: usize, count: usize) -> Vec<u8> {
    for number in first..first + count {
        builder.push(1_000, Some(b"key"), Some(number.to_string().as_bytes()), &[("h", b"v")]);
    }
    builder.build()
}

/// Appends and waits until it is durable.
pub fn append(partition: &Partition, batch: &[u8]) -> Appended {
    let appended = partition.append(batch).unwrap();
    runtime().block_on(partition.durable(appended.next_offset)).unwrap();
    appended
}

/// All values below the high watermark, after a check that offsets run on.
pub fn values(partition: &Partition) -> Vec<usize> {
    let mut values = Vec::new();
    let mut offset = partition.log_start_offset();
    loop {
        // It may grow while it is read.
        let end = partition.high_watermark();
        let mut bytes = partition.read(offset, 1000).unwrap();
        if bytes.is_empty() {
            assert!(offset >= end, "nothing to read at {offset}, before the end at {end}");
            return values;
        }
        while !bytes.is_empty() {
            let (header, size) = split_first(&bytes).unwrap();
            assert_eq!(header.base_offset, offset);
            let batch: Bytes = bytes.split_to(size);
            for record in &Records::decompress(&batch, 1 << 20).unwrap() {
                let record = record.unwrap();
                assert_eq!(record.offset, offset);
                values.push(std::str::from_utf8(record.value.unwrap()).unwrap().parse().unwrap());
                offset += 1;
            }
        }
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}
