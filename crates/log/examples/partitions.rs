//! What many partitions cost: time to make and to open them, memory, file handles.
//! `cargo run --release -p playhouse-log --example partitions -- [partitions] [directory]`.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::RealDisk;
use playhouse_log::{Log, LogConfig, TopicSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let partitions: i32 = arguments.next().map_or(Ok(10_000), |count| count.parse())?;
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let open = || Log::open(Arc::new(RealDisk), &directory, LogConfig::default());
    tell("begin", Instant::now());

    let started = Instant::now();
    let log = open()?;
    let topic = log.ensure_topic("many", TopicSettings { partitions, ..TopicSettings::default() })?;
    tell("made", started);

    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let started = Instant::now();
    for partition in topic.partitions() {
        let mut builder = BatchBuilder::new(Compression::None);
        (0..10).for_each(|_| builder.push(1_700_000_000_000, Some(b"key"), Some(&[7; 100]), &[]));
        partition.append(&builder.build())?;
    }
    for partition in topic.partitions() {
        runtime.block_on(partition.durable(10))?;
    }
    tell("written to, each", started);

    let started = Instant::now();
    log.close()?;
    drop((topic, log));
    tell("closed", started);

    let started = Instant::now();
    let log = open()?;
    tell("opened after a clean end", started);
    drop(log);

    let started = Instant::now();
    let log = open()?;
    tell("opened once more", started);
    for path in std::fs::read_dir(&directory)?.flatten() {
        let _ = std::fs::remove_file(path.path().join("checkpoint.json"));
    }
    drop(log);
    let started = Instant::now();
    let log = open()?;
    tell("opened without checkpoints", started);
    let records: i64 =
        log.topic("many").map_or(0, |topic| topic.partitions().iter().map(|it| it.high_watermark()).sum());
    println!("{records} records");
    Ok(())
}

fn tell(what: &str, since: Instant) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or("?").to_owned()
    };
    let handles = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let memory_mb = field("VmRSS:").parse::<u64>().unwrap_or(0) / 1024;
    println!(
        "{what:<28} {:>8.2} s  {memory_mb:>5} MB  {handles:>6} handles  {:>3} threads",
        since.elapsed().as_secs_f64(),
        field("Threads:")
    );
}
