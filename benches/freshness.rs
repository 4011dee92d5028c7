//! Acknowledged to visible by a PostgreSQL client, at a steady 50,000 events/s, everything on:
//! `cargo bench --bench freshness`.
//!
//! A probe event of a type of its own is sent; from its acknowledgement on, a client asks the view `events_by_type` (and
//! for every tenth probe the table `events`) until it is there. The ceiling is the same question asked of what is there.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::Connection;

const RATE: u64 = 50_000;
const PROBES: usize = 400;
const EVENTS: u64 = RATE * 300;

fn main() {
    let data = tempfile::tempdir().expect("a directory");
    let playhouse = support::playhouse().data(data.path()).set("tables", "none").start();
    let done = Arc::new(AtomicBool::new(false));
    let load = load(playhouse.ingest(), done.clone());
    // Let the load settle, and the first lake commit pass.
    std::thread::sleep(Duration::from_secs(5));

    let mut connection = Connection::open(playhouse.ingest());
    let (mut views, mut rows, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for probe in 0..PROBES {
        let kind = format!("probe-{probe}");
        let now = chrono::Utc::now().to_rfc3339();
        let event = format!(r#"{{"id":"{kind}","timestamp":"{now}","type":"{kind}","user":"probe"}}"#);
        assert_eq!(connection.post(event.as_bytes()), 200);
        let acknowledged = Instant::now();
        let view = format!("SELECT events FROM events_by_type WHERE type = '{kind}'");
        while playhouse.query(&view).is_empty() {}
        views.push(acknowledged.elapsed().as_secs_f64() * 1e3);
        let again = Instant::now();
        playhouse.query(&view);
        floor.push(again.elapsed().as_secs_f64() * 1e3);
        if probe % 10 == 0 {
            let table = format!("SELECT type FROM events WHERE id = '{kind}'");
            let asked = Instant::now();
            while playhouse.query(&table).is_empty() {}
            rows.push((acknowledged.elapsed() - (asked - acknowledged)).as_secs_f64() * 1e3);
        }
    }
    done.store(true, Ordering::Relaxed);
    let sent = load.join().expect("the load ran");
    println!(
        "load: {sent:.0} events/s, {PROBES} probes, peak memory {} MB",
        support::peak_memory(playhouse.pid()) / 1_000_000
    );
    show("acknowledged to visible in a view", &mut views);
    show("acknowledged to visible in table events", &mut rows);
    show("floor: the same question, already visible", &mut floor);
}

fn show(what: &str, milliseconds: &mut [f64]) {
    let (p50, p99) = (support::percentile(milliseconds, 0.5), support::percentile(milliseconds, 0.99));
    println!("{what:<44} p50 {p50:>7.1} ms   p99 {p99:>7.1} ms");
}

/// Sends at a steady rate until told to stop; returns the rate it reached.
fn load(address: std::net::SocketAddr, done: Arc<AtomicBool>) -> std::thread::JoinHandle<f64> {
    std::thread::spawn(move || {
        let batches = support::batches(support::generator(EVENTS, 3));
        let mut connection = Connection::open(address);
        let began = Instant::now();
        let mut sent = 0;
        while let Ok((body, lines)) = batches.recv() {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let due = began + Duration::from_secs_f64(sent as f64 / RATE as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            assert_eq!(connection.post(&body), 200);
            sent += lines;
        }
        sent as f64 / began.elapsed().as_secs_f64()
    })
}
