//! How fast one thread takes events in, next to a checked sonic-rs parse of the same bytes in the same run:
//! `cargo run --release -p playhouse-gate --example ingest_rate`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use playhouse_gate::{Gate, GateConfig, Origin, TopicRule};
use playhouse_log::{Durability, Log, LogConfig, TopicSettings, disk::RealDisk};

const SCHEMA: &str = include_str!("../../../config/multimedia_events.schema.json");
const BATCH: usize = 1_000;
const BATCHES: usize = 1_000;
const DISTINCT: usize = 100;

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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::temp_dir().join(format!("playhouse-ingest-rate-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bodies: Vec<Bytes> = (0..DISTINCT).map(body).collect();
    let events = (BATCH * BATCHES) as f64;
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    println!("{events} events of {} bytes in requests of {BATCH}", bytes / (DISTINCT * BATCH) - 1);

    for round in 1..=3 {
        let log = Log::open(
            Arc::new(RealDisk),
            &directory,
            LogConfig { durability: Durability::Os, ..LogConfig::default() },
        )?;
        let rule = TopicRule {
            topic: "multimedia_events".into(),
            schema: Some(SCHEMA.into()),
            schema_id: None,
            key_field: Some("user".into()),
            id_field: Some("id".into()),
            keep_bad: true,
        };
        let config = GateConfig {
            default_topic: rule.topic.clone(),
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
        let mut reply = Vec::new();
        let accepted = runtime.block_on(async {
            let mut accepted = 0;
            for batch in 0..BATCHES {
                let outcome = gate.ingest("multimedia_events", bodies[batch % DISTINCT].clone(), &origin).await?;
                accepted += outcome.accepted;
                reply.clear();
                outcome.write_json(&mut reply);
                black_box(&reply);
            }
            Ok::<_, playhouse_gate::RequestError>(accepted)
        })?;
        assert_eq!(accepted as f64, events);
        let ingest = events / start.elapsed().as_secs_f64();
        let written = log.size_bytes();
        log.close()?;
        drop(gate);
        std::fs::remove_dir_all(&directory)?;

        let start = Instant::now();
        for batch in 0..BATCHES {
            for line in bodies[batch % DISTINCT].trim_ascii_end().split(|byte| *byte == b'\n') {
                black_box(sonic_rs::from_slice::<sonic_rs::Value>(line)?);
            }
        }
        let parse = events / start.elapsed().as_secs_f64();
        println!(
            "round {round}: ingest {:.2} M events/s, sonic-rs parse {:.2} M events/s, ratio {:.2}, {:.0} bytes/event on disk",
            ingest / 1e6,
            parse / 1e6,
            ingest / parse,
            written as f64 / events
        );
    }
    Ok(())
}
