//! What the tests share: options as the binary gives them, rows by hand, batches as text.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use playhouse_engine::sql::{CompileOptions, ConnectorOptions, EpochRows, Functions, Pipeline};
use playhouse_log::batch::{BatchBuilder, Compression, Records};

pub fn repository_file(path: &str) -> Bytes {
    Bytes::from(std::fs::read(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap())
}

pub fn connectors() -> Vec<ConnectorOptions> {
    vec![
        ConnectorOptions {
            name: "lake",
            options: &["table", "partition_by", "commit_interval", "commit_bytes"],
            required: &["table"],
            columns: &["partition_by"],
            durations: &["commit_interval"],
            ..Default::default()
        },
        ConnectorOptions {
            name: "tables",
            options: &["table", "primary_key", "index", "json"],
            required: &["table", "primary_key"],
            columns: &["primary_key", "index", "json"],
            ..Default::default()
        },
        ConnectorOptions {
            name: "cache",
            options: &["key", "ttl"],
            required: &["key"],
            templates: &["key"],
            durations: &["ttl"],
            ..Default::default()
        },
    ]
}

/// Without functions: those need data, and their patterns take a while to compile.
pub fn options() -> CompileOptions {
    CompileOptions {
        name: "test".to_string(),
        variables: BTreeMap::from([("topic".to_string(), "multimedia_events".to_string())]),
        builtin: BTreeMap::from([(
            "songs".to_string(),
            Bytes::from_static(
                br#"{"content_id":"a","title":"Alpha","plays":1} {"content_id":"b","title":"Beta","plays":2}"#,
            ),
        )]),
        connectors: connectors(),
        ..Default::default()
    }
}

pub fn full_options() -> CompileOptions {
    let variables = [("topic", "multimedia_events"), ("dedup_window", "24 hours"), ("cache_ttl", "1 hour")];
    CompileOptions {
        variables: variables.map(|(name, value)| (name.to_string(), value.to_string())).into(),
        builtin: BTreeMap::from([("catalogue".to_string(), repository_file("data/catalogue.ndjson"))]),
        functions: Functions {
            geoip: Some(repository_file("data/country-ipv4.mmdb")),
            user_agents: Some(repository_file("data/regexes.yaml")),
        },
        ..options()
    }
}

/// With a handful of user agent patterns: all of them take a while to compile without optimisation.
pub fn quick_options() -> CompileOptions {
    let mut options = full_options();
    let patterns = "user_agent_parsers:\n  - regex: '(curl)'\nos_parsers:\ndevice_parsers:\n";
    options.functions.user_agents = Some(Bytes::from_static(patterns.as_bytes()));
    options
}

/// A source and a look-up table, which most tests begin with.
pub const TABLES: &str = "
CREATE TABLE events (id TEXT NOT NULL, at TIMESTAMPTZ, who TEXT, what TEXT, n BIGINT, x DOUBLE PRECISION)
WITH (connector = 'log', topic = '${topic}', fields = 'who=user', watermark = 'at');
CREATE TABLE songs (content_id TEXT PRIMARY KEY, title TEXT, plays BIGINT)
WITH (connector = 'file', path = 'builtin:songs');
CREATE TABLE out WITH (connector = 'lake', table = 'out');
";

pub async fn compile(sql: &str) -> Pipeline {
    Pipeline::compile(&format!("{TABLES}{sql}"), options()).await.unwrap_or_else(|error| panic!("{error}\n{sql}"))
}

/// The payloads as records 0, 1, … of partition 3, decoded.
pub fn decode(pipeline: &Pipeline, payloads: &[&str]) -> RecordBatch {
    let mut decoder = pipeline.sources[0].decoder();
    if payloads.is_empty() {
        return decoder.finish();
    }
    let mut batch = BatchBuilder::new(Compression::None);
    for payload in payloads {
        let headers: [(&str, &[u8]); 2] = [("source_address", b"83.149.9.216"), ("user_agent", b"curl/8.1")];
        batch.push(0, None, Some(payload.as_bytes()), &headers);
    }
    let records = Records::decompress(&Bytes::from(batch.build()), 1 << 20).unwrap();
    for record in records.iter() {
        decoder.push(3, &record.unwrap(), 1_700_000_000_000).unwrap();
    }
    decoder.finish()
}

pub async fn run(pipeline: &Pipeline, payloads: &[&str]) -> EpochRows {
    pipeline.run(vec![decode(pipeline, payloads)]).await.unwrap()
}

/// One line per row, values separated by `|`, null as `~`.
pub fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    let format = FormatOptions::default().with_null("~");
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &format).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(values.join("|"));
        }
    }
    lines
}

pub fn names(schema: &arrow::datatypes::Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}
