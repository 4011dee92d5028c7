//! Single events over keep-alive connections, each answered once it is on disk, beside what the same HTTP stack answers
//! with an empty handler in the same run: `cargo bench --bench rest`.
//!
//! One thread drives all connections, the same for both, so that the servers have the processors; a round of the one
//! follows a round of the other. Then events come at half the rate that was reached, and their latency is counted from
//! when they were due, beside that of `fdatasync` alone on the same disk. `PLAYHOUSE_BENCH_CONNECTIONS`,
//! `PLAYHOUSE_BENCH_SECONDS` (of one round) and `PLAYHOUSE_BENCH_ROUNDS` change how much of it there is,
//! `PLAYHOUSE_BENCH_SET` (`key=value;…`) settings of the server.

mod support;

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use playhouse_http::ServeOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Set in the process that serves the empty handler.
const EMPTY: &str = "PLAYHOUSE_BENCH_EMPTY";
const EVENTS: u64 = 200_000;
const SYNCS: Duration = Duration::from_secs(2);
const RATIO_ASKED: f64 = 0.6;

fn main() {
    if std::env::var_os(EMPTY).is_some() {
        return serve_empty();
    }
    let connections = support::setting("PLAYHOUSE_BENCH_CONNECTIONS", 256) as usize;
    let seconds = Duration::from_secs(support::setting("PLAYHOUSE_BENCH_SECONDS", 5));
    let rounds = support::setting("PLAYHOUSE_BENCH_ROUNDS", 3);
    let events = events();

    let data = tempfile::tempdir().expect("a directory");
    let mut playhouse =
        support::playhouse().data(data.path()).set("tables", "none").set("ingest.connections_max", 2 * connections);
    let settings = std::env::var("PLAYHOUSE_BENCH_SET").unwrap_or_default();
    for (key, value) in settings.split(';').filter_map(|setting| setting.split_once('=')) {
        playhouse = playhouse.set(key, value);
    }
    let playhouse = playhouse.start();
    let empty = Empty::start();
    let (mut ceilings, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ceilings.push(rate(empty.address, &events, connections, seconds));
        let cpu = support::cpu_seconds(playhouse.pid());
        let reached = rate(playhouse.ingest(), &events, connections, seconds);
        let cpu = support::cpu_seconds(playhouse.pid()) - cpu;
        println!("{reached:.0} events/s, {:.1} µs of processor each", cpu * 1e6 / (reached * seconds.as_secs_f64()));
        rates.push(reached);
    }
    let (ceiling, reached) = (support::median(ceilings), support::median(rates));
    println!("\n{connections} connections, keep-alive, one event each; medians of {rounds} interleaved rounds");
    println!("empty handler   {ceiling:>8.0} requests/s");
    println!("on disk         {reached:>8.0} events/s     ratio {:.2}, asked {RATIO_ASKED:.2}", reached / ceiling);

    let mut syncs = sync_times(data.path());
    let mut latencies = latencies(playhouse.ingest(), &events, connections, reached / 2.0, seconds);
    syncs.extend(sync_times(data.path()));
    let sync_p99 = support::percentile(&mut syncs, 0.99);
    println!(
        "at {:.0} events/s  p50 {:.2} ms, p99 {:.2} ms; fdatasync p50 {:.2} ms, p99 {sync_p99:.2} ms: asked p99 {:.2} ms",
        reached / 2.0,
        support::percentile(&mut latencies, 0.5),
        support::percentile(&mut latencies, 0.99),
        support::percentile(&mut syncs, 0.5),
        2.0 * sync_p99 + 2.0
    );
}

/// Whole requests of one event each.
fn events() -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    support::generator(EVENTS, 1).fill(&mut lines, usize::MAX, EVENTS);
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| [head(line.len()).as_bytes(), line].concat()).collect()
}

fn head(body_bytes: usize) -> String {
    format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n"
    )
}

/// Requests answered in a second, each connection with one under way.
fn rate(address: SocketAddr, events: &[Vec<u8>], connections: usize, time: Duration) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (next, answered) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0_u64)));
    let began = Instant::now();
    let local = tokio::task::LocalSet::new();
    let drive = |events: Rc<[Vec<u8>]>| {
        let (next, answered) = (next.clone(), answered.clone());
        async move {
            let mut stream = TcpStream::connect(address).await.expect("the door is open");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let mut reply = vec![0; 16 << 10];
            while began.elapsed() < time {
                let event = &events[next.replace(next.get() + 1) % events.len()];
                stream.write_all(event).await.expect("sent");
                let status = status(&mut stream, &mut reply).await;
                assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply[..500]));
                answered.set(answered.get() + 1);
            }
        }
    };
    let events: Rc<[Vec<u8>]> = events.into();
    local.block_on(&runtime, async {
        let tasks: Vec<_> = (0..connections).map(|_| tokio::task::spawn_local(drive(events.clone()))).collect();
        for task in tasks {
            task.await.expect("every request is answered");
        }
    });
    answered.get() as f64 / began.elapsed().as_secs_f64()
}

/// Reads one whole reply.
async fn status(stream: &mut TcpStream, reply: &mut [u8]) -> u16 {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut reply[filled..]).await.expect("a reply");
        assert!(read > 0, "the door closed the connection");
        filled += read;
        let Some(end) = reply[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&reply[..end]).expect("a head of text");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        if filled >= end + 4 + length {
            return head[9..12].parse().expect("a status");
        }
    }
}

/// Milliseconds from when each event was due until it was answered. A thread for each connection: they sleep more
/// exactly than a runtime's timer.
fn latencies(address: SocketAddr, events: &[Vec<u8>], connections: usize, rate: f64, time: Duration) -> Vec<f64> {
    let bodies: Arc<[Vec<u8>]> = events.iter().map(|event| body(event).to_vec()).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now() + Duration::from_millis(500);
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let (bodies, next) = (bodies.clone(), next.clone());
            std::thread::spawn(move || {
                let mut connection = support::Connection::open(address);
                let mut latencies = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = began + Duration::from_secs_f64(number as f64 / rate);
                    if due > began + time {
                        return latencies;
                    }
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    assert_eq!(connection.post(&bodies[number % bodies.len()]), 200);
                    latencies.push(due.elapsed().as_secs_f64() * 1e3);
                }
            })
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().expect("every request is answered")).collect()
}

fn body(request: &[u8]) -> &[u8] {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    &request[end + 4..]
}

/// Milliseconds of appends that are made durable one by one, on the disk of the log.
fn sync_times(directory: &Path) -> Vec<f64> {
    let mut file = File::create(directory.join("syncs")).expect("a file");
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < SYNCS {
        file.write_all(&[7; 512]).expect("written");
        let begun = Instant::now();
        file.sync_data().expect("synced");
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times
}

/// A process that serves an empty handler as the ingest door is served.
struct Empty {
    process: Child,
    address: SocketAddr,
}

impl Empty {
    fn start() -> Empty {
        let this = std::env::current_exe().expect("a path");
        let mut process = Command::new(this).env(EMPTY, "1").stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("its address");
        Empty { process, address: line.trim().parse().expect("an address") }
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve_empty() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        let router = Router::new().route("/events", post(|| async {}));
        playhouse_http::serve(listener, router, ServeOptions::default(), CancellationToken::new()).await;
    });
}
