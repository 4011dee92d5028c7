//! Playhouse beside one Apache Kafka broker: same client (Kafka's own perf tools), same machine, same run, rounds in
//! turn, medians. `cargo xtask bench` fetches Kafka and runs it.
//!
//! What is compared: page cache with page cache (`durability = "os"`, Kafka's default), and fsync with fsync
//! (`durability = "fsync"`, `log.flush.interval.messages=1`). `PLAYHOUSE_BENCH_MB` sets the payload of one measurement,
//! `PLAYHOUSE_BENCH_ROUNDS` the rounds. A ratio above 1 is in Playhouse's favour, whatever the unit. "client" is the share
//! of one core that the client took: near 1 or above on a small machine it was the client that was measured.

mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use playhouse_client::produce::{Outgoing, Producer};
use playhouse_client::topics::NewTopic;
use playhouse_client::{Client, Compression, Options};
use playhouse_testkit::Playhouse;

const SIZES: [usize; 3] = [100, 1_000, 10_000];
const PARTITIONS: [usize; 2] = [1, 16];
/// For latency.
const RATE: u64 = 20_000;
const READY: Duration = Duration::from_secs(60);

fn main() {
    let jars: PathBuf =
        std::env::var("PLAYHOUSE_TEST_KAFKA_JARS").expect("cargo xtask bench sets where Kafka is").into();
    let number =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default);
    let (megabytes, rounds) = (number("PLAYHOUSE_BENCH_MB", 400), number("PLAYHOUSE_BENCH_ROUNDS", 3));
    let mut measured = Measured::default();
    for round in 0..rounds {
        for fsync in [false, true] {
            // Who is first alternates.
            let mut sides = [Side::Playhouse, Side::Kafka];
            sides.rotate_left(round % 2);
            for side in sides {
                println!("round {} {side:?} {}", round + 1, mode(fsync));
                measure(side, fsync, &jars, megabytes, &mut measured);
            }
        }
    }
    measured.print();
}

fn mode(fsync: bool) -> &'static str {
    if fsync { "fsync" } else { "page cache" }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Playhouse,
    Kafka,
}

/// Name of a figure, with whether more of it is better, to the rounds of each side.
#[derive(Default)]
struct Measured(BTreeMap<(String, bool), BTreeMap<Side, Vec<f64>>>);

impl Measured {
    fn add(&mut self, side: Side, name: String, more_is_better: bool, value: f64) {
        println!("  {name}: {value:.2}");
        self.0.entry((name, more_is_better)).or_default().entry(side).or_default().push(value);
    }

    fn print(self) {
        println!("\n{:<58} {:>12} {:>12} {:>7}", "medians", "Playhouse", "Kafka", "ratio");
        for ((name, more_is_better), sides) in self.0 {
            let median = |side| sides.get(&side).map_or(f64::NAN, |it: &Vec<f64>| support::median(it.clone()));
            let (ours, theirs) = (median(Side::Playhouse), median(Side::Kafka));
            let ratio = if more_is_better { ours / theirs } else { theirs / ours };
            println!("{name:<58} {ours:>12.2} {theirs:>12.2} {ratio:>7.2}");
        }
    }
}

enum Broker {
    Playhouse(Playhouse),
    Kafka(Child),
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Broker::Kafka(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Running {
    broker: Broker,
    bootstrap: String,
    runtime: tokio::runtime::Runtime,
    _data: tempfile::TempDir,
}

impl Running {
    fn start(side: Side, fsync: bool, jars: &Path) -> (Running, Duration) {
        let data = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let (broker, bootstrap, began) = match side {
            Side::Playhouse => {
                let builder = support::playhouse().data(data.path()).set("tables", "none");
                let began = Instant::now();
                let playhouse = builder.set("durability", if fsync { "fsync" } else { "os" }).start();
                let bootstrap = playhouse.kafka().to_string();
                (Broker::Playhouse(playhouse), bootstrap, began)
            }
            Side::Kafka => {
                let port = free_port();
                let mut command = kafka(jars, data.path(), port, fsync);
                let began = Instant::now();
                let child = command.spawn().expect("java is installed");
                (Broker::Kafka(child), format!("127.0.0.1:{port}"), began)
            }
        };
        let running = Running { broker, bootstrap, runtime, _data: data };
        // Up is who answers.
        while running.try_client().is_none() {
            assert!(began.elapsed() < READY, "{side:?} does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        (running, began.elapsed())
    }

    fn pid(&self) -> u32 {
        match &self.broker {
            Broker::Playhouse(playhouse) => playhouse.pid(),
            Broker::Kafka(child) => child.id(),
        }
    }

    fn try_client(&self) -> Option<Client> {
        let options = Options { patience: Duration::ZERO, ..Options::default() };
        self.runtime.block_on(Client::connect(&self.bootstrap, options)).ok()
    }

    fn topic(&self, partitions: usize) -> String {
        let mut client = self.try_client().expect("it answered before");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let new = NewTopic {
            name: format!("bench-{}", since.as_nanos()),
            partitions: Some(partitions as i32),
            replication_factor: Some(1),
            ..NewTopic::default()
        };
        self.runtime.block_on(client.create_topic(&new)).expect("a topic");
        new.name
    }
}

fn measure(side: Side, fsync: bool, jars: &Path, megabytes: usize, measured: &mut Measured) {
    let (running, started) = Running::start(side, fsync, jars);
    let named = |what: &str| format!("{}: {what}", mode(fsync));
    measured.add(side, named("start, ms"), false, started.as_secs_f64() * 1e3);
    if fsync {
        // Each record its own sync, at worst: a fraction of the payload says enough.
        for producers in [1, 16] {
            let rate = acknowledged(&running, producers, Duration::from_secs(5));
            measured.add(
                side,
                named(&format!("{producers} producers of 1 KB records, one at a time, records/s")),
                true,
                rate,
            );
        }
        let (rate, _) = produce(&running, jars, &running.topic(1), megabytes / 4, 1_000, None);
        measured.add(side, named("produce 1000 B, 1 partitions, MB/s"), true, rate.megabytes_per_second);
    } else {
        let (cpu, mut moved) = (support::cpu_seconds(running.pid()), 0.0);
        for size in SIZES {
            for partitions in PARTITIONS {
                let topic = running.topic(partitions);
                let what = |verb: &str| named(&format!("{verb} {size:>5} B, {partitions:>2} partitions, MB/s"));
                let (rate, client) = produce(&running, jars, &topic, megabytes, size, None);
                measured.add(side, what("produce"), true, rate.megabytes_per_second);
                println!("    client {client:.2} cores");
                let (rate, client) = consume(&running, jars, &topic, megabytes, size);
                measured.add(side, what("consume"), true, rate);
                println!("    client {client:.2} cores");
                moved += 2.0 * megabytes as f64 / 1e3;
            }
        }
        let cpu = support::cpu_seconds(running.pid()) - cpu;
        measured.add(side, named("broker processor seconds per GB moved"), false, cpu / moved);
    }
    // 20 seconds of it.
    let megabytes = (RATE * 20 / 1_000) as usize;
    let (latency, _) = produce(&running, jars, &running.topic(16), megabytes, 1_000, Some(RATE));
    measured.add(side, named("acks=all at 20,000 records/s of 1 KB, p50 ms"), false, latency.p50_ms);
    measured.add(side, named("acks=all at 20,000 records/s of 1 KB, p99 ms"), false, latency.p99_ms);
    measured.add(side, named("peak memory, MB"), false, support::peak_memory(running.pid()) as f64 / 1e6);
}

struct Rate {
    megabytes_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn produce(
    running: &Running,
    jars: &Path,
    topic: &str,
    megabytes: usize,
    size: usize,
    rate: Option<u64>,
) -> (Rate, f64) {
    let records = (megabytes * 1_000_000 / size).max(1).to_string();
    let throughput = rate.map_or("-1".to_owned(), |rate| rate.to_string());
    let server = format!("bootstrap.servers={}", running.bootstrap);
    let (printed, client) = tool(
        jars,
        "ProducerPerformance",
        &[
            "--topic",
            topic,
            "--num-records",
            &records,
            "--record-size",
            &size.to_string(),
            "--throughput",
            &throughput,
            "--producer-props",
            &server,
            "acks=all",
        ],
    );
    // "… records/sec (12.34 MB/sec), 1.23 ms avg latency, 4.00 ms max latency, 1 ms 50th, 2 ms 95th, 3 ms 99th, 4 ms 99.9th."
    let last = printed.lines().rev().find(|line| line.contains("99th")).expect("a summary");
    let before = |unit: &str| -> f64 {
        let text = last.split(unit).next().unwrap_or_default();
        let number = text.rsplit([' ', '(', ',']).find(|word| !word.is_empty()).unwrap_or_default();
        number.parse().unwrap_or(f64::NAN)
    };
    // The tool's MB are MiB.
    let megabytes_per_second = before(" MB/sec") * 1.048_576;
    (Rate { megabytes_per_second, p50_ms: before(" ms 50th"), p99_ms: before(" ms 99th") }, client)
}

fn consume(running: &Running, jars: &Path, topic: &str, megabytes: usize, size: usize) -> (f64, f64) {
    let records = (megabytes * 1_000_000 / size).max(1).to_string();
    let (printed, client) = tool(
        jars,
        "ConsumerPerformance",
        &["--bootstrap-server", &running.bootstrap, "--topic", topic, "--messages", &records, "--timeout", "60000"],
    );
    // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s: without the joining.
    let last = printed.lines().rev().find(|line| line.split(", ").count() >= 9).expect("a summary");
    let rate = last.split(", ").nth(8).and_then(|it| it.trim().parse::<f64>().ok()).unwrap_or(f64::NAN);
    (rate * 1.048_576, client)
}

/// What it printed, and how many cores it kept busy.
fn tool(jars: &Path, name: &str, arguments: &[&str]) -> (String, f64) {
    let began = Instant::now();
    let mut child = Command::new("java")
        .args(["-Xmx512m", "-cp"])
        .arg(jars.join("*"))
        .arg(format!("org.apache.kafka.tools.{name}"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("java is installed");
    let mut out = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut out, &mut text);
        text
    });
    let mut cpu = 0.0;
    let status = loop {
        cpu = support::cpu_seconds(child.id()).max(cpu);
        match child.try_wait().expect("the child can be waited for") {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let printed = reader.join().expect("the reader does not panic");
    assert!(status.success(), "{name} {arguments:?}: {printed}");
    (printed, cpu / began.elapsed().as_secs_f64())
}

/// Records a second that producers get acknowledged which send one and wait for it.
fn acknowledged(running: &Running, producers: usize, duration: Duration) -> f64 {
    let topic = running.topic(producers);
    let record = Outgoing { value: Some(vec![b'x'; 1_000]), ..Outgoing::default() };
    let threads: Vec<_> = (0..producers)
        .map(|partition| {
            let (bootstrap, topic) = (running.bootstrap.clone(), topic.clone());
            let record = Outgoing { partition: Some(partition as i32), ..record.clone() };
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let mut client = Client::connect(&bootstrap, Options::default()).await.expect("it answers");
                    let mut producer =
                        Producer::open(&mut client, &topic, Compression::None).await.expect("a producer");
                    let (began, mut count) = (Instant::now(), 0_u64);
                    while began.elapsed() < duration {
                        producer.send(&mut client, std::slice::from_ref(&record)).await.expect("an acknowledgement");
                        count += 1;
                    }
                    count
                })
            })
        })
        .collect();
    let counts = threads.into_iter().map(|it| it.join().expect("no producer panics"));
    counts.sum::<u64>() as f64 / duration.as_secs_f64()
}

fn kafka(jars: &Path, directory: &Path, port: u16, fsync: bool) -> Command {
    let controller = free_port();
    let settings = directory.join("kafka.properties");
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
        directory.join("kafka").display()
    );
    if fsync {
        text.push_str("log.flush.interval.messages=1\n");
    }
    std::fs::write(&settings, text).expect("a file");
    // The heap that Kafka's start script gives a broker.
    let java = |heap: &str| {
        let mut command = Command::new("java");
        command.args([&format!("-Xms{heap}"), &format!("-Xmx{heap}"), "-XX:+UseG1GC", "-cp"]).arg(jars.join("*"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut format = java("256m");
    format.args(["kafka.tools.StorageTool", "format", "-t", "YusTX7G8TE6jck2aVCiPig", "-c"]).arg(&settings);
    assert!(format.status().expect("java is installed").success(), "Kafka's directory can be formatted");
    let mut broker = java("1g");
    broker.arg("kafka.Kafka").arg(&settings);
    broker
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
