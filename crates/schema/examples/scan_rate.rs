//! How fast one core parses, validates and extracts: `cargo run --release -p playhouse-schema --example scan_rate`.
//! Prints the validator next to a checked sonic-rs parse and the reference over the same bytes, in the same run.

use std::hint::black_box;
use std::time::Instant;

use playhouse_schema::{Fields, Validator};

const DEFAULT: &str = include_str!("../../../config/multimedia_events.schema.json");

fn main() {
    let events: Vec<String> = (0..200_000)
        .map(|n| {
            format!(
                r#"{{"id":"event-{n:08}","timestamp":"2025-08-31T12:{:02}:{:02}.{:03}Z","type":"heartbeat","user":"user-{}","session":"s-{}","content":"track-{}","position_ms":{},"watched_ms":10000,"ip":"83.149.{}.{}","user_agent":"Mozilla/5.0 (X11; Linux x86_64)","metadata":{{"quality":"1080p"}}}}"#,
                n / 60 % 60, n % 60, n % 1000, n % 50_000, n % 70_000, n % 1000, n % 600_000, n % 256, n / 256 % 256,
            )
        })
        .collect();
    let bytes: usize = events.iter().map(String::len).sum();
    let fields = Fields { key: Some("user".into()), id: Some("id".into()) };
    let validator = Validator::compile(DEFAULT, &fields, 32).expect("the default schema compiles");
    let reference = jsonschema::options()
        .should_validate_formats(true)
        .build(&serde_json::from_str(DEFAULT).expect("JSON"))
        .expect("the default schema compiles");
    println!("{} events of {} bytes", events.len(), bytes / events.len());

    for round in 1..=3 {
        println!("round {round}");
        let ours = rate("parse + validate + extract", &events, |event| validator.check(event).is_ok());
        let dom = rate("sonic-rs to Value", &events, |event| sonic_rs::from_slice::<sonic_rs::Value>(event).is_ok());
        rate("sonic-rs lazy pass", &events, |event| {
            let text = std::str::from_utf8(event).is_ok();
            text && sonic_rs::to_object_iter(event).all(|field| black_box(field).is_ok())
        });
        rate("serde_json + jsonschema", &events, |event| {
            serde_json::from_slice(event).is_ok_and(|value| reference.is_valid(&value))
        });
        println!("  ratio to the sonic-rs Value: {:.2}", ours / dom);
    }
}

fn rate(name: &str, events: &[String], mut check: impl FnMut(&[u8]) -> bool) -> f64 {
    let start = Instant::now();
    let valid = events.iter().filter(|event| check(black_box(event.as_bytes()))).count();
    assert_eq!(valid, events.len());
    let rate = events.len() as f64 / start.elapsed().as_secs_f64();
    println!("  {name:<28} {:.2} M events/s", rate / 1e6);
    rate
}
