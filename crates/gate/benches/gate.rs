//! How fast one core takes events in: decode, validate, stamp, append (page-cache durability), in batches of 1,000 over the
//! in-process path. Next to it, in the same run and in turns, what parsers make of the same bytes: the
//! fastest checked one is the ceiling. `cargo bench -p playhouse-gate --bench gate`.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use playhouse_gate::{Gate, GateConfig, Origin, TopicRule};
use playhouse_log::{Durability, Log, LogConfig, TopicSettings, disk::RealDisk};
use playhouse_schema::{Fields, Validator};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SCHEMA: &str = include_str!("../../../config/multimedia_events.schema.json");
const TOPIC: &str = "multimedia_events";
const BATCH: usize = 1_000;
const BATCHES: usize = 400;
const DISTINCT: usize = 100;
const ROUNDS: usize = 9;

/// Whether a document is taken.
type Check<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bodies: Vec<Bytes> = (0..DISTINCT).map(body).collect();
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    let validator = Validator::compile(SCHEMA, &Fields { key: Some("user".into()), id: Some("id".into()) }, 32)?;
    let directory = std::env::temp_dir().join(format!("playhouse-bench-gate-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!(
        "{} events of {} bytes in batches of {BATCH}, {ROUNDS} rounds",
        BATCH * BATCHES,
        bytes / (DISTINCT * BATCH) - 1
    );

    let mut ingest = Vec::new();
    // For a profiler: nothing but the gate.
    if std::env::args().any(|argument| argument == "alone") {
        for round in 0..ROUNDS {
            ingest.push(take_in(&runtime, &directory.join(round.to_string()), &bodies)?);
        }
        println!("{:.2} M events/s", median(&mut ingest) / 1e6);
        return Ok(std::fs::remove_dir_all(&directory)?);
    }
    let mut others: [(&str, Vec<f64>); 5] = [
        ("scanner: parse, validate, find key and id", Vec::new()),
        ("sonic-rs to Value", Vec::new()),
        ("sonic-rs, checked lazy pass", Vec::new()),
        ("simd-json to a borrowed value, copy included", Vec::new()),
        ("serde_json to Value", Vec::new()),
    ];
    for round in 0..ROUNDS {
        ingest.push(take_in(&runtime, &directory.join(round.to_string()), &bodies)?);
        let checks: [Check<'_>; 5] = [
            &mut |line| validator.check(line).is_ok(),
            &mut |line| sonic_rs::from_slice::<sonic_rs::Value>(line).is_ok(),
            &mut |line| {
                std::str::from_utf8(line).is_ok()
                    && sonic_rs::to_object_iter(line).all(|field| black_box(field).is_ok())
            },
            &mut |line| {
                let mut copy = line.to_vec();
                simd_json::to_borrowed_value(&mut copy).is_ok()
            },
            &mut |line| serde_json::from_slice::<serde_json::Value>(line).is_ok(),
        ];
        for ((_, rates), check) in others.iter_mut().zip(checks) {
            let start = Instant::now();
            parse(&bodies, check);
            rates.push(rate(start));
        }
    }
    std::fs::remove_dir_all(&directory)?;

    let ingest = median(&mut ingest);
    let others: Vec<(&str, f64)> = others.iter_mut().map(|(name, rates)| (*name, median(rates))).collect();
    let (ceiling, fastest) =
        others[1..].iter().copied().max_by(|one, other| one.1.total_cmp(&other.1)).ok_or("no rival")?;
    println!("medians:");
    println!("  {:<46} {:>6.2} M events/s", "gate: decode, validate, stamp, append", ingest / 1e6);
    for (name, rate) in others {
        println!("  {name:<46} {:>6.2} M events/s", rate / 1e6);
    }
    println!(
        "gate to the fastest checked parse ({ceiling}): {:.0} % (aimed at: 50 %, and 1 M events/s)",
        100.0 * ingest / fastest
    );
    Ok(())
}

fn body(batch: usize) -> Bytes {
    let mut body = String::new();
    for n in batch * BATCH..(batch + 1) * BATCH {
        body.push_str(&format!(
            r#"{{"id":"event-{n:08}","timestamp":"2025-08-31T12:{:02}:{:02}.{:03}Z","type":"heartbeat","user":"user-{}","session":"s-{}","content":"track-{}","position_ms":{},"watched_ms":10000,"ip":"83.149.{}.{}","user_agent":"Mozilla/5.0 (X11)","metadata":{{"quality":"1080p"}}}}"#,
            n / 60 % 60, n % 60, n % 1000, n % 50_000, n % 70_000, n % 1000, n % 600_000, n % 256, n / 256 % 256,
        ));
        body.push('\n');
    }
    body.into()
}

/// Events a second since then.
fn rate(start: Instant) -> f64 {
    (BATCH * BATCHES) as f64 / start.elapsed().as_secs_f64()
}

fn take_in(
    runtime: &tokio::runtime::Runtime,
    directory: &Path,
    bodies: &[Bytes],
) -> Result<f64, Box<dyn std::error::Error>> {
    let log =
        Log::open(Arc::new(RealDisk), directory, LogConfig { durability: Durability::Os, ..LogConfig::default() })?;
    let rule = TopicRule {
        topic: TOPIC.into(),
        schema: Some(SCHEMA.into()),
        schema_id: None,
        key_field: Some("user".into()),
        id_field: Some("id".into()),
        keep_bad: true,
    };
    let config = GateConfig {
        default_topic: TOPIC.into(),
        in_flight_bytes: 64 << 20,
        max_event_bytes: 1 << 20,
        max_depth: 32,
        max_events_per_request: 100_000,
        auto_create_topics: false,
        new_topic: TopicSettings::default(),
    };
    let gate = Gate::new(log.clone(), config, vec![rule])?;
    let origin =
        Origin { protocol: "rest", address: Some([83, 149, 9, 216].into()), user_agent: Some("curl/8".into()) };
    let start = Instant::now();
    runtime.block_on(async {
        for batch in 0..BATCHES {
            let outcome = gate.ingest(TOPIC, bodies[batch % DISTINCT].clone(), &origin).await?;
            assert_eq!(outcome.accepted, BATCH);
        }
        Ok::<_, playhouse_gate::RequestError>(())
    })?;
    let rate = rate(start);
    // Syncs what the page cache holds, which is not what is measured.
    log.close()?;
    std::fs::remove_dir_all(directory)?;
    Ok(rate)
}

fn parse(bodies: &[Bytes], check: Check<'_>) {
    for batch in 0..BATCHES {
        let lines = bodies[batch % DISTINCT].trim_ascii_end().split(|byte| *byte == b'\n');
        assert!(lines.map(black_box).all(&mut *check));
    }
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
