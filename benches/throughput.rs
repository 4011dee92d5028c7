//! NDJSON over HTTP to durable log, lake and views, on one machine with the load generator, beside the ceilings of the
//! same run: `cargo bench --bench throughput`.
//!
//! The rate counts events from the first byte sent until the last one is in the views (engine lag 0); the lake follows
//! by its own commit policy, and the rows it committed meanwhile are printed. The events are made before the clock runs,
//! so that the generator takes no more of the processors than it takes to send them. `PLAYHOUSE_BENCH_EVENTS` sets how
//! many a round has, `PLAYHOUSE_BENCH_ROUNDS` how many rounds there are, and `PLAYHOUSE_BENCH_SET` (`key=value;…`) changes
//! settings of the server, to see what one of them is worth.

mod support;

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use playhouse_schema::{Fields, Validator};

const SCHEMA: &str = include_str!("../config/multimedia_events.schema.json");
const CEILING_EVENTS: u64 = 200_000;
const CONNECTIONS: usize = 2;

fn main() {
    let events: u64 = support::setting("PLAYHOUSE_BENCH_EVENTS", 3_000_000);
    let rounds: u64 = support::setting("PLAYHOUSE_BENCH_ROUNDS", 3);
    let mut sample = Vec::new();
    support::generator(CEILING_EVENTS, 1).fill(&mut sample, usize::MAX, CEILING_EVENTS);
    println!("{events} events a round, {} bytes each on average", sample.len() as u64 / CEILING_EVENTS);

    let (mut checks, mut decodes, mut rates, mut tables) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        checks.push(validate(&sample));
        decodes.push(decode_and_write(&sample));
        rates.push(end_to_end(events, round, "none"));
        tables.push(end_to_end(events / 10, round, "embedded"));
    }
    let rate = support::median(rates);
    println!("\nmedians of {rounds} interleaved rounds");
    show("end to end, tables off", rate, rate);
    show("end to end until SQLite has them too", support::median(tables), rate);
    show("ceiling: parse and validate alone, one thread", support::median(checks), rate);
    show("ceiling: arrow-json and Parquet alone, one thread", support::median(decodes), rate);
}

fn show(what: &str, events_per_second: f64, rate: f64) {
    println!("{what:<52} {events_per_second:>10.0} events/s   ratio {:.2}", rate / events_per_second);
}

fn validate(sample: &[u8]) -> f64 {
    let fields = Fields { key: Some("user".into()), id: Some("id".into()) };
    let validator = Validator::compile(SCHEMA, &fields, 64).expect("the default schema compiles");
    let began = Instant::now();
    for line in sample.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(black_box(validator.check(black_box(line))).is_ok());
    }
    CEILING_EVENTS as f64 / began.elapsed().as_secs_f64()
}

fn decode_and_write(sample: &[u8]) -> f64 {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    // Free-form metadata is left out: arrow-json cannot keep it as text.
    let schema = Arc::new(Schema::new(vec![
        text("id"),
        text("timestamp"),
        text("type"),
        text("user"),
        text("session"),
        text("content"),
        number("position_ms"),
        number("watched_ms"),
        text("ip"),
        text("user_agent"),
    ]));
    let began = Instant::now();
    let reader = arrow_json::ReaderBuilder::new(schema.clone())
        .with_batch_size(8192)
        .build(Cursor::new(sample))
        .expect("the schema is supported");
    let level = ZstdLevel::try_new(1).expect("level 1 exists");
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties)).expect("the schema is supported");
    for batch in reader {
        writer.write(&batch.expect("the sample is valid")).expect("written to memory");
    }
    writer.close().expect("written to memory");
    black_box(file);
    CEILING_EVENTS as f64 / began.elapsed().as_secs_f64()
}

fn end_to_end(events: u64, seed: u64, tables: &str) -> f64 {
    let data = tempfile::tempdir().expect("a directory");
    let mut playhouse = support::playhouse().data(data.path()).set("tables", tables);
    let settings = std::env::var("PLAYHOUSE_BENCH_SET").unwrap_or_default();
    for (key, value) in settings.split(';').filter_map(|setting| setting.split_once('=')) {
        playhouse = playhouse.set(key, value);
    }
    let playhouse = playhouse.start();
    let batches = support::made(support::generator(events, seed));
    let cpu = support::cpu_seconds(playhouse.pid());
    let began = Instant::now();
    let (sent, took) = support::send_all(playhouse.ingest(), batches, CONNECTIONS);
    let rows = wait_for_views(&playhouse, tables);
    let whole = began.elapsed().as_secs_f64();
    let cpu = support::cpu_seconds(playhouse.pid()) - cpu;
    println!(
        "tables {tables:<8} {:>8.0} events/s to the views ({:.0} to the ack), {:.2} µs of processor each, peak memory {} MB, \
         {rows} rows in the lake by then",
        sent as f64 / whole,
        sent as f64 / took.as_secs_f64(),
        cpu * 1e6 / sent as f64,
        support::peak_memory(playhouse.pid()) / 1_000_000
    );
    sent as f64 / whole
}

/// Until the engine (and the tables sink, if there is one) has everything; returns the rows committed to the lake.
fn wait_for_views(playhouse: &playhouse_testkit::Playhouse, tables: &str) -> u64 {
    loop {
        let status = playhouse.status();
        let sink = |name: &str| {
            let sinks = status["engine"]["sinks"].as_array().cloned().unwrap_or_default();
            sinks.into_iter().find(|sink| sink["name"] == name)
        };
        let behind = sink("table_events").and_then(|sink| sink["lag"].as_i64()).unwrap_or(0);
        if status["engine"]["lag"] == 0 && (tables == "none" || behind == 0) {
            return sink("lake_events").and_then(|sink| sink["rows_committed"].as_u64()).unwrap_or(0);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
