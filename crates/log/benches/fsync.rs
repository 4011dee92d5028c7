//! What waiting for the disk costs: acknowledgements a second and their latency with 1 to 64 producers, each on a partition of
//! its own and with one record under way, and bulk with several batches under way. Beside each stands what the file system does
//! for as many threads that append as much to files of their own and sync them, in the same run, rounds in turn, medians.
//! `cargo bench -p playhouse-log --bench fsync -- [seconds] [rounds]`; `TMPDIR` chooses the disk.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::{Disk, RealDisk};
use playhouse_log::{Log, LogConfig, TopicSettings};

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    producers: usize,
    record_bytes: usize,
    /// Batches of one producer that are not acknowledged yet.
    under_way: usize,
}

const LOADS: [Load; 5] = [
    Load { name: "1 producer, 1 KB", producers: 1, record_bytes: 1_000, under_way: 1 },
    Load { name: "4 producers, 1 KB", producers: 4, record_bytes: 1_000, under_way: 1 },
    Load { name: "16 producers, 1 KB", producers: 16, record_bytes: 1_000, under_way: 1 },
    Load { name: "64 producers, 1 KB", producers: 64, record_bytes: 1_000, under_way: 1 },
    Load { name: "16 producers, 5 x 16 KB", producers: 16, record_bytes: 16_000, under_way: 5 },
];

/// Acknowledged in one round.
#[derive(Default)]
struct Outcome {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of processor time, this process.
    cpu_us: f64,
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (seconds, rounds) = (numbers.next().unwrap_or(2), numbers.next().unwrap_or(5));
    let duration = Duration::from_secs(seconds);
    let mut outcomes: BTreeMap<(usize, bool), Vec<Outcome>> = BTreeMap::new();
    for _ in 0..rounds {
        for (index, load) in LOADS.iter().enumerate() {
            for raw in [false, true] {
                let directory = tempfile::tempdir().expect("a directory");
                let measured = if raw { file_system } else { log };
                let outcome = measured(*load, duration, directory.path());
                outcomes.entry((index, raw)).or_default().push(outcome);
            }
        }
    }
    println!(
        "{:<24} {:>9} {:>8} {:>8} {:>8}   {:>11} {:>8} {:>6}",
        "log", "acks/s", "p50 ms", "p99 ms", "cpu us", "file system", "p99 ms", "ratio"
    );
    for (index, load) in LOADS.iter().enumerate() {
        let median = |raw: bool, field: fn(&Outcome) -> f64| {
            let mut values: Vec<f64> = outcomes[&(index, raw)].iter().map(field).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (ours, theirs) = (median(false, |it| it.per_second), median(true, |it| it.per_second));
        println!(
            "{:<24} {ours:>9.0} {:>8.2} {:>8.2} {:>8.1}   {theirs:>11.0} {:>8.2} {:>6.2}",
            load.name,
            median(false, |it| it.p50_ms),
            median(false, |it| it.p99_ms),
            median(false, |it| it.cpu_us),
            median(true, |it| it.p99_ms),
            ours / theirs
        );
    }
}

fn batch(load: Load) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(1_700_000_000_000, None, Some(&vec![b'x'; load.record_bytes]), &[]);
    builder.build()
}

fn log(load: Load, duration: Duration, directory: &Path) -> Outcome {
    let log = Log::open(Arc::new(RealDisk), directory, LogConfig::default()).expect("a log");
    let settings = TopicSettings { partitions: load.producers as i32, ..TopicSettings::default() };
    let topic = log.create_topic("bench", settings).expect("a topic");
    // As many threads as a server on a small machine has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let batch = Arc::new(batch(load));
    let began = Instant::now();
    let cpu = cpu_seconds();
    let producers: Vec<_> = topic
        .partitions()
        .iter()
        .map(|partition| {
            let (partition, batch) = (Arc::clone(partition), Arc::clone(&batch));
            runtime.spawn(async move {
                let mut latencies = Vec::new();
                let mut under_way = VecDeque::new();
                loop {
                    let open = began.elapsed() < duration;
                    if open && under_way.len() < load.under_way {
                        let appended = partition.append(&batch).expect("room");
                        under_way.push_back((Instant::now(), appended.next_offset));
                        continue;
                    }
                    let Some((sent, next_offset)) = under_way.pop_front() else { return latencies };
                    partition.durable(next_offset).await.expect("a sync");
                    latencies.push(sent.elapsed());
                }
            })
        })
        .collect();
    let latencies =
        producers.into_iter().flat_map(|producer| runtime.block_on(producer).expect("no producer panics")).collect();
    let outcome = told(latencies, began, cpu);
    log.close().expect("a close");
    outcome
}

/// The ceiling: a thread for each file.
fn file_system(load: Load, duration: Duration, directory: &Path) -> Outcome {
    let bytes = batch(load);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.producers)
            .map(|index| {
                let bytes = &bytes;
                scope.spawn(move || {
                    let file = RealDisk.open(&directory.join(index.to_string()), true).expect("a file");
                    let (mut latencies, mut position) = (Vec::new(), 0);
                    while began.elapsed() < duration {
                        let sent = Instant::now();
                        for _ in 0..load.under_way {
                            file.write_all_at(bytes, position).expect("room");
                            position += bytes.len() as u64;
                        }
                        file.sync().expect("a sync");
                        latencies.resize(latencies.len() + load.under_way, sent.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
    });
    told(latencies, began, cpu)
}

fn told(mut latencies: Vec<Duration>, began: Instant, cpu: f64) -> Outcome {
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    latencies.sort();
    let at = |share: f64| {
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    Outcome {
        per_second: latencies.len() as f64 / elapsed,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        cpu_us: cpu * 1e6 / latencies.len().max(1) as f64,
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold spaces: user time is the 12th field, system time the 13th, in 1/100 s.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
