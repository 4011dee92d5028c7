//! Kafka's own DumpLogSegments reads what this log writes: every codec, transactions and their aborts, several segments with
//! their indexes, and what compaction leaves. Run by `cargo xtask test --real`, which has the tool.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::*;
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::RealDisk;
use playhouse_log::{CleanupPolicy, Durability, Log, LogConfig, Partition, TopicSettings, TransactionMarker};

const CODECS: [(Compression, &str); 5] = [
    (Compression::None, "compresscodec: none"),
    (Compression::Gzip, "compresscodec: gzip"),
    (Compression::Snappy, "compresscodec: snappy"),
    (Compression::Lz4, "compresscodec: lz4"),
    (Compression::Zstd, "compresscodec: zstd"),
];

/// What the tool says of these files.
fn dump(files: &[PathBuf]) -> String {
    let jars =
        std::env::var("PLAYHOUSE_TEST_KAFKA_JARS").expect("`cargo xtask test --real` sets PLAYHOUSE_TEST_KAFKA_JARS");
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let output = Command::new("java")
        .args(["-Xmx256m", "-cp", &format!("{jars}/*"), "org.apache.kafka.tools.DumpLogSegments"])
        .args(["--deep-iteration", "--print-data-log", "--files", &files.join(",")])
        .output()
        .expect("java starts");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    // Of indexes it says what does not agree with the log, and of batches whether their checksum holds.
    for complaint in ["isvalid: false", "Mismatches", "Missing", "mismatch", "out of order", "Non-consecutive"] {
        assert!(!told.contains(complaint), "{complaint}: {told}");
    }
    told
}

/// The files of a partition with this ending, in order.
fn files(partition: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == ending)).collect();
    found.sort();
    found
}

fn made(settings: TopicSettings) -> (tempfile::TempDir, Arc<Log>, Arc<Partition>) {
    let directory = tempfile::tempdir().unwrap();
    // What is written is looked at, not whether it outlives a power cut.
    let config = LogConfig { durability: Durability::Os, ..LogConfig::default() };
    let log = Log::open(Arc::new(RealDisk), directory.path(), config).unwrap();
    let partition = partition_of(&log, settings);
    (directory, log, partition)
}

fn end(partition: &Partition, producer_id: i64, commit: bool) {
    let marker = TransactionMarker { producer_id, producer_epoch: 0, coordinator_epoch: 3, commit };
    let appended = partition.end_transaction(&marker).unwrap();
    runtime().block_on(partition.durable(appended.next_offset)).unwrap();
}

#[test]
#[ignore = "needs Apache Kafka's tools"]
fn segments_indexes_and_aborted_transactions_are_read() {
    let (directory, log, partition) = made(TopicSettings { segment_bytes: 12 << 10, ..one_partition() });
    let mut next = 0;
    for turn in 0..40 {
        for (codec, _) in CODECS {
            append(&partition, &numbered_by(BatchBuilder::new(codec), next, 30));
            next += 30;
        }
        let producer = 100 + turn;
        let builder = BatchBuilder::new(Compression::None).producer(producer, 0, 0).transactional();
        append(&partition, &numbered_by(builder, next, 1));
        next += 1;
        end(&partition, producer, turn % 2 == 0);
    }
    log.close().unwrap();
    let of = directory.path().join("events-0");
    let segments = files(&of, "log");
    assert!(segments.len() > 3, "{segments:?}");
    let told = dump(&segments);
    for (_, named) in CODECS {
        assert!(told.matches(named).count() >= 40, "{named}");
    }
    let last = format!("payload: {}", next - 1);
    assert!(told.contains("payload: 0\n") && told.contains(&last), "the first and the last value are there");
    assert_eq!(told.matches("endTxnMarker: COMMIT coordinatorEpoch: 3").count(), 20);
    assert_eq!(told.matches("endTxnMarker: ABORT coordinatorEpoch: 3").count(), 20);

    for ending in ["index", "timeindex"] {
        let indexes = files(&of, ending);
        assert_eq!(indexes.len(), segments.len());
        let told = dump(&indexes);
        let entries = told.lines().filter(|line| line.contains("offset: ")).count();
        assert!(entries > segments.len(), "{ending}: {told}");
    }
    let aborted = dump(&files(&of, "txnindex"));
    assert_eq!(aborted.matches("producerId: ").count(), 20, "{aborted}");
}

#[test]
#[ignore = "needs Apache Kafka's tools"]
fn what_compaction_leaves_is_read() {
    let settings = TopicSettings {
        cleanup: CleanupPolicy::Compact,
        segment_bytes: 8 << 10,
        min_cleanable_dirty_ratio: 0.0,
        ..one_partition()
    };
    let (directory, log, partition) = made(settings);
    for turn in 0..600_usize {
        let mut builder = BatchBuilder::new(CODECS[turn % CODECS.len()].0);
        let (key, value) = (format!("key {}", turn % 7), turn.to_string());
        builder.push(1_000, Some(key.as_bytes()), (!turn.is_multiple_of(11)).then_some(value.as_bytes()), &[]);
        append(&partition, &builder.build());
    }
    // Only what is known to be on disk is compacted.
    log.checkpoint().unwrap();
    assert!(log.compact().unwrap() > 0);
    log.close().unwrap();
    let of = directory.path().join("events-0");
    let told = dump(&files(&of, "log"));
    assert!(told.contains("payload: 599") && !told.contains("payload: 5\n"), "{told}");
    dump(&files(&of, "index"));
    dump(&files(&of, "timeindex"));
}
