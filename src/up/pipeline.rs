//! The pipeline file, compiled with what this binary has: connectors, built-in data, settings as variables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use playhouse_engine::sql::{CompileOptions, Functions, Pipeline};
use playhouse_engine::{BadEvents, BadRecord, FailedStage, KeepBad, Refused, TopicPartition};
use playhouse_gate::{Failure, Gate, Reason, Stage};

use crate::config::{Config, Resource};

const PIPELINE: &str = include_str!("../../pipelines/multimedia.sql");
const CATALOGUE: &[u8] = include_bytes!("../../data/catalogue.ndjson");
const COUNTRIES: &[u8] = include_bytes!("../../data/country-ipv4.mmdb");
const USER_AGENTS: &[u8] = include_bytes!("../../data/regexes.yaml");

/// The pipeline's name in sink positions: it stays the same when the file changes.
pub const NAME: &str = "multimedia";

pub async fn compile(config: &Config) -> Result<Pipeline> {
    let (name, sql, directory) = match &config.pipeline.file {
        Resource::Builtin => ("the built-in pipeline".to_owned(), PIPELINE.to_owned(), PathBuf::from(".")),
        Resource::File(path) => {
            let named = format!("pipeline {} (setting pipeline.file)", path.display());
            let sql = std::fs::read_to_string(path).with_context(|| format!("cannot read {named}"))?;
            (named, sql, path.parent().map(PathBuf::from).unwrap_or_default())
        }
    };
    let variables = BTreeMap::from([
        ("topic".to_owned(), config.topic.clone()),
        ("cache_ttl".to_owned(), format!("{} ms", config.cache_ttl.as_millis())),
        ("dedup_window".to_owned(), format!("{} ms", config.pipeline.dedup_window.as_millis())),
    ]);
    let options = CompileOptions {
        name: NAME.to_owned(),
        variables,
        functions: Functions {
            geoip: Some(config.geoip.read(COUNTRIES).context("setting geoip")?),
            user_agents: Some(Bytes::from_static(USER_AGENTS)),
        },
        builtin: BTreeMap::from([(
            "catalogue".to_owned(),
            config.catalogue.read(CATALOGUE).context("setting catalogue")?,
        )]),
        directory,
        connectors: super::stores::connectors(),
    };
    Pipeline::compile(&sql, options).await.with_context(|| name)
}

/// Whether the configured pipeline compiles, for `playhouse doctor`.
pub fn check(config: &Config) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().build()?.block_on(compile(config)).map(drop)
}

impl Resource {
    /// The file's bytes, or those inside the binary.
    pub fn read(&self, builtin: &'static [u8]) -> Result<Bytes> {
        match self {
            Resource::Builtin => Ok(Bytes::from_static(builtin)),
            Resource::File(path) => {
                std::fs::read(path).map(Bytes::from).with_context(|| format!("cannot read {}", path.display()))
            }
        }
    }
}

/// What fails behind the gate is kept by the gate.
pub fn bad_events(gate: Arc<Gate>) -> BadEvents {
    let kept = gate.clone();
    let keep: KeepBad = Arc::new(move |records, maybe_kept| {
        let gate = gate.clone();
        let failures = records.into_iter().map(failure).collect();
        Box::pin(async move { gate.keep_failures(failures, maybe_kept).await.map_err(|error| error.to_string()) })
    });
    let refused: Refused = Arc::new(move |sink, from| {
        let gate = kept.clone();
        let from: Vec<_> = from.into_iter().map(|(name, offset)| (name.topic, name.partition, offset)).collect();
        Box::pin(async move {
            let kept = gate.kept_failures(&Stage::Sink(sink), &from).await.map_err(|error| error.to_string())?;
            let place = |(topic, partition, offset)| (TopicPartition { topic, partition }, offset);
            Ok(kept.into_iter().map(place).collect())
        })
    });
    BadEvents { keep, refused }
}

fn failure(record: BadRecord) -> Failure {
    let (stage, keyword) = match record.stage {
        FailedStage::Decode => (Stage::Decode, "decode"),
        FailedStage::Enrich => (Stage::Enrich, "enrich"),
        FailedStage::Sink(name) => (Stage::Sink(name), "sink"),
    };
    Failure {
        topic: record.topic,
        partition: record.partition,
        offset: record.offset,
        stage,
        reason: Reason { path: record.path, message: record.message, keyword: keyword.to_owned() },
    }
}
