//! How fast the default pipeline's events are decoded and run, next to parsing the same bytes into a DOM.
//!
//! `cargo run --release -p playhouse-engine --example decode_rate` from the repository's root.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use playhouse_engine::sql::{CompileOptions, ConnectorOptions, Functions, Pipeline};
use playhouse_log::batch::{BatchBuilder, Compression, Records};

const EVENTS: usize = 262_144;
/// Rows of one epoch.
const EPOCH: usize = 65_536;
const USER_AGENT: &[u8] = b"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/32.0.1700.77 Safari/537.36";

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let lake = ["table", "partition_by", "commit_interval", "commit_bytes"].as_slice();
    let options = CompileOptions {
        name: "multimedia".to_string(),
        variables: [("topic", "multimedia_events"), ("dedup_window", "24 hours"), ("cache_ttl", "1 hour")]
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into(),
        functions: Functions {
            geoip: Some(fs::read("data/country-ipv4.mmdb")?.into()),
            user_agents: Some(fs::read("data/regexes.yaml")?.into()),
        },
        builtin: BTreeMap::from([("catalogue".to_string(), fs::read("data/catalogue.ndjson")?.into())]),
        connectors: [("lake", lake), ("tables", &["table", "primary_key", "index"]), ("cache", &["key", "ttl"])]
            .map(|(name, options)| ConnectorOptions { name, options, ..Default::default() })
            .to_vec(),
        ..Default::default()
    };
    let started = Instant::now();
    let pipeline = runtime.block_on(Pipeline::compile(&fs::read_to_string("pipelines/multimedia.sql")?, options))?;
    println!("compile the pipeline: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);

    let payloads: Vec<String> = (0..EVENTS).map(payload).collect();
    let batches: Vec<Bytes> = payloads
        .chunks(512)
        .map(|chunk| {
            let mut batch = BatchBuilder::new(Compression::None);
            for payload in chunk {
                let headers: [(&str, &[u8]); 2] = [("source_address", b"83.149.9.216"), ("user_agent", USER_AGENT)];
                batch.push(0, None, Some(payload.as_bytes()), &headers);
            }
            Bytes::from(batch.build())
        })
        .collect();
    let mean = payloads.iter().map(String::len).sum::<usize>() / EVENTS;
    println!("{EVENTS} events of {mean} bytes, one thread; best of 5");

    let mut decoder = pipeline.sources[0].decoder();
    let mut decoded = Vec::new();
    let decode = measure("read records, decode to Arrow", || {
        decoded.clear();
        for batch in &batches {
            let records = Records::decompress(batch, 1 << 30)?;
            for record in records.iter() {
                decoder.push(1, &record?, 1_700_000_000_000)?;
            }
            if decoder.len() >= EPOCH {
                decoded.push(decoder.finish());
            }
        }
        Ok(())
    })?;
    let dom = measure("parse to a serde_json DOM", || {
        for payload in &payloads {
            black_box(serde_json::from_str::<serde_json::Value>(payload)?);
        }
        Ok(())
    })?;
    println!("decoding takes {:.2} of the time of a DOM", decode / dom);
    measure("run the default pipeline's plans", || {
        for batch in &decoded {
            black_box(runtime.block_on(pipeline.run(vec![batch.clone()]))?);
        }
        Ok(())
    })?;
    let empty = decoder.finish();
    let started = Instant::now();
    for _ in 0..1000 {
        runtime.block_on(pipeline.run(vec![empty.clone()]))?;
    }
    println!("an epoch without rows: {:.0} µs", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// Prints the best rate of five rounds and gives its time per event in nanoseconds.
fn measure(what: &str, mut round: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        round()?;
        best = best.min(started.elapsed().as_nanos() as f64 / EVENTS as f64);
    }
    println!("{what}: {best:.0} ns per event, {:.2} M events/s", 1e3 / best);
    Ok(best)
}

fn payload(index: usize) -> String {
    format!(
        r#"{{"id":"01J6Q{index:012}","timestamp":"2025-08-31T12:{:02}:{:02}.{:03}Z","type":"heartbeat","user":"user{}","session":"s-{}","content":"track-{}","position_ms":{},"watched_ms":10000,"ip":"83.149.{}.{}","metadata":{{"quality":"1080p","cdn":"edge-{}"}}}}"#,
        index / 60 % 60,
        index % 60,
        index % 1000,
        index % 5000,
        index % 7000,
        index % 3503,
        index * 10 % 200_000,
        index / 256 % 256,
        index % 256,
        index % 9
    )
}
