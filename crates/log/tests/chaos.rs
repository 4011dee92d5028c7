//! Everything that can go wrong with a disk, in whatever order a seed brings it, under a producer that does what real ones
//! do: it sends a batch again until it is acknowledged. In the end every record is there exactly once and in order.
//!
//! A failure names its seed; `LOG_CHAOS_SEED=<seed> cargo test -p playhouse-log --test chaos` replays it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::*;
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::{Disk, SimulatedDisk};
use playhouse_log::{AppendError, Clock, Log, LogConfig, Partition};

const SEEDS: std::ops::Range<u64> = 0..40;
const STEPS: usize = 150;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("LOG_CHAOS_SEED") {
        Ok(seed) => vec![seed.parse().expect("LOG_CHAOS_SEED is a number")],
        Err(_) => SEEDS.collect(),
    }
}

struct Run {
    dice: Dice,
    disk: SimulatedDisk,
    log: Arc<Log>,
    /// Sent from here on: batches of `first..next` values, acknowledged below `first`.
    acknowledged: usize,
    in_flight: Vec<(usize, usize)>,
    next: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let disk = SimulatedDisk::new();
        let log = open_quietly(&disk);
        partition_of(&log, small_segments());
        Run { dice: Dice(seed), disk, log, acknowledged: 0, in_flight: Vec::new(), next: 0 }
    }

    fn partition(&self) -> Arc<Partition> {
        partition_of(&self.log, small_segments())
    }

    fn heal(&mut self) {
        self.disk.fail_syncs(false);
        self.disk.pause_syncs(false);
        self.disk.set_capacity(None);
    }

    /// Another process finds the disk as this one left it.
    fn restart(&mut self, disk: SimulatedDisk) {
        disk.pause_syncs(false);
        self.disk = disk;
        self.log = open_quietly(&self.disk);
    }

    /// Sends what is in flight again, from the first on, until all of it is acknowledged.
    fn settle(&mut self) {
        self.heal();
        for (first, count) in std::mem::take(&mut self.in_flight) {
            loop {
                let partition = self.partition();
                let sent = partition.append(&batch(first, count));
                let outcome = sent.and_then(|sent| runtime().block_on(partition.durable(sent.next_offset)));
                match outcome {
                    Ok(()) => break,
                    // For good: the process has to come again.
                    Err(AppendError::Failed(_)) => {
                        let disk = self.disk.kill();
                        self.restart(disk);
                    }
                    Err(error) => panic!("a disk that is well refuses: {error}"),
                }
            }
        }
        self.acknowledged = self.next;
    }

    fn step(&mut self) {
        match self.dice.roll(24) {
            0 => self.disk.fail_syncs(true),
            1 => self.disk.pause_syncs(true),
            2 => self.disk.set_capacity(Some(self.disk.used_bytes() + self.dice.roll(3_000))),
            3 => self.disk.cut_next_write(self.dice.roll(200) as usize),
            4 => self.heal(),
            5 => {
                let torn = (self.dice.roll(3) > 0).then_some(self.dice.0);
                let disk = self.disk.power_cut(torn);
                self.restart(disk);
                self.settle();
            }
            6 => {
                let disk = self.disk.kill();
                self.restart(disk);
                self.settle();
            }
            7 => {
                self.heal();
                // It may have stopped before: then it says so, and the next start finds what was durable.
                let _ = self.log.close();
                let disk = self.disk.kill();
                self.restart(disk);
                self.settle();
            }
            8 => {
                // It would wait for the sync.
                self.disk.pause_syncs(false);
                let _ = self.log.checkpoint();
            }
            9..=10 => {
                self.disk.pause_syncs(false);
                self.settle();
            }
            // A producer has at most five batches under way.
            _ if self.in_flight.len() < 5 => {
                let count = 1 + self.dice.roll(12) as usize;
                let sent = self.partition().append(&batch(self.next, count));
                self.in_flight.push((self.next, count));
                self.next += count;
                if sent.is_err() {
                    // What comes after it would be out of order.
                    self.settle();
                }
            }
            _ => self.settle(),
        }
    }
}

fn batch(first: usize, count: usize) -> Vec<u8> {
    numbered_by(BatchBuilder::new(Compression::None).producer(7, 0, first as i32), first, count)
}

/// Whose checkpoints are written only where a step says so: the rest of a run is the same whenever it is replayed.
fn open_quietly(disk: &SimulatedDisk) -> Arc<Log> {
    let hour = Duration::from_secs(3600);
    let now = Arc::new(AtomicI64::new(1_000));
    let clock = Clock::new(move || now.load(Ordering::Relaxed));
    open_with(disk, LogConfig { clock, retention_interval: hour, compaction_interval: hour, ..LogConfig::default() })
}

#[test]
fn whatever_the_disk_does_every_record_is_there_exactly_once() {
    for seed in seeds() {
        println!("LOG_CHAOS_SEED={seed}");
        let mut run = Run::new(seed);
        for step in 0..STEPS {
            run.step();
            if step % 10 > 0 {
                continue;
            }
            let partition = run.partition();
            let seen = values(&partition);
            assert!(seen.len() >= run.acknowledged, "{} of {} are left", seen.len(), run.acknowledged);
            assert!(seen.iter().copied().eq(0..seen.len()), "{seen:?}");
        }
        run.settle();
        assert_eq!(values(&run.partition()).len(), run.next);
        assert!(run.next > 0);
    }
}

/// A bit that turned around is found, whichever it is: the log says so when it opens or is read, or is none the worse.
/// Apart from a batch's offset and leader epoch, which no checksum covers, as in Kafka.
#[test]
fn a_flipped_bit_is_never_read_as_something_else() {
    let original = SimulatedDisk::new();
    let log = open_quietly(&original);
    let partition = partition_of(&log, small_segments());
    for number in 0..120 {
        append(&partition, &batch(number, 1));
    }
    let expected = values(&partition);
    log.close().unwrap();
    let original = original.kill();
    let mut files = original.list("/data/events-0".as_ref()).unwrap();
    files.push("/data/meta.json".into());
    files.push("/data/topics/events.json".into());
    let (mut found, mut harmless) = (0, 0);
    for seed in seeds().into_iter().flat_map(|seed| seed * 10..seed * 10 + 10) {
        let mut dice = Dice(seed);
        let disk = original.fork();
        let path = &files[dice.roll(files.len() as u64) as usize];
        let file = disk.open(path, false).unwrap();
        let at = dice.roll(file.len().unwrap().max(1)) as usize;
        if path.extension().is_some_and(|it| it == "log") && is_place(&*file, at) {
            continue;
        }
        let mut byte = [0];
        file.read_at(&mut byte, at as u64).unwrap();
        disk.damage(path, at, &[byte[0] ^ (1 << dice.roll(8))]).unwrap();
        let what = format!("LOG_CHAOS_SEED={} (bit flip {seed}): byte {at} of {}", seed / 10, path.display());
        let hour = Duration::from_secs(3600);
        let config = LogConfig { retention_interval: hour, compaction_interval: hour, ..LogConfig::default() };
        let Ok(log) = Log::open(Arc::new(disk.clone()), "/data".as_ref(), config) else {
            found += 1;
            continue;
        };
        // The topic's name or its settings may have changed: then it is another, or is refused.
        let Some(topic) = log.topic("events") else {
            found += 1;
            continue;
        };
        match read_all(&topic.partitions()[0]) {
            Err(_) => found += 1,
            Ok(read) => {
                assert_eq!(read, expected, "{what}");
                harmless += 1;
            }
        }
    }
    assert!(seeds().len() == 1 || found > 50 && harmless > 50, "{found} found, {harmless} harmless");
}

/// Whether the byte is part of a batch's offset or leader epoch.
fn is_place(file: &dyn playhouse_log::disk::DiskFile, at: usize) -> bool {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let mut start = 0;
    while start < bytes.len() {
        let length = 12 + u32::from_be_bytes(bytes[start + 8..start + 12].try_into().unwrap()) as usize;
        if at < start + length {
            return matches!(at - start, 0..8 | 12..16);
        }
        start += length;
    }
    false
}

fn read_all(partition: &Partition) -> Result<Vec<usize>, String> {
    use playhouse_log::batch::{Records, split_first};
    let mut values = Vec::new();
    let mut offset = partition.log_start_offset();
    while offset < partition.high_watermark() {
        let mut bytes = partition.read(offset, 1000).map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Err("nothing below the high watermark".into());
        }
        while !bytes.is_empty() {
            let (header, size) = split_first(&bytes).map_err(|error| error.to_string())?;
            let records = Records::decompress(&bytes.split_to(size), 1 << 20).map_err(|error| error.to_string())?;
            for record in &records {
                let record = record.map_err(|error| error.to_string())?;
                values.push(std::str::from_utf8(record.value.unwrap_or_default()).unwrap_or("?").parse().unwrap_or(0));
            }
            offset = header.next_offset();
        }
    }
    Ok(values)
}

/// A disk that answers late makes callers wait, and nobody else: another partition goes on being read.
#[test]
fn a_slow_sync_delays_acknowledgement_and_nothing_else() {
    let disk = SimulatedDisk::new();
    let log = open_quietly(&disk);
    let partition = partition_of(&log, small_segments());
    append(&partition, &batch(0, 1));
    disk.pause_syncs(true);
    let sent = partition.append(&batch(1, 1)).unwrap();
    assert_eq!((partition.high_watermark(), sent.next_offset), (1, 2));
    assert_eq!(values(&partition), [0], "what is not durable is not read");
    // More is taken meanwhile, and all of it is acknowledged by the next sync.
    for number in 2..50 {
        partition.append(&batch(number, 1)).unwrap();
    }
    let waiting = {
        let partition = Arc::clone(&partition);
        std::thread::spawn(move || runtime().block_on(partition.durable(50)))
    };
    assert!(!waiting.is_finished());
    disk.pause_syncs(false);
    waiting.join().unwrap().unwrap();
    assert_eq!(values(&partition).len(), 50);
}

/// The disk fills up while the log is compacted: the log goes on as it was, and compacts when there is room again.
#[test]
fn a_full_or_failing_disk_stops_a_compaction_and_not_the_partition() {
    use playhouse_log::{CleanupPolicy, TopicSettings};
    let settings =
        TopicSettings { cleanup: CleanupPolicy::Compact, min_cleanable_dirty_ratio: 0.0, ..small_segments() };
    for failure in 0..2 {
        let disk = SimulatedDisk::new();
        let log = open_quietly(&disk);
        let partition = partition_of(&log, settings.clone());
        for number in 0..600 {
            append(&partition, &numbered(number, 1));
        }
        log.checkpoint().unwrap();
        match failure {
            0 => disk.set_capacity(Some(disk.used_bytes() + 10)),
            _ => disk.fail_syncs(true),
        }
        assert!(log.compact().is_err());
        disk.set_capacity(None);
        disk.fail_syncs(false);
        assert!(partition.failure().is_none());
        append(&partition, &numbered(600, 1));
        assert!(log.compact().unwrap() > 0);
        let log = open_quietly(&disk.power_cut(None));
        let last = read_all(&partition_of(&log, settings.clone())).unwrap();
        assert_eq!(last.last(), Some(&600));
    }
}
