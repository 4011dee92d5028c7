//! The stores that the configuration names, and the sinks that the pipeline's inserts make of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use anyhow::{Result, anyhow, bail};
use playhouse_connectors::cache::CacheStore;
use playhouse_connectors::known_options;
use playhouse_connectors::lake::{Lake, LakeTable};
use playhouse_connectors::tables::TablesStore;
use playhouse_engine::sink::{Sink, SinkError, Target};
use playhouse_engine::sql::{ConnectorOptions, Pipeline};
use playhouse_engine::{AttachedSink, Engine, LATE_EVENTS, late_events_schema};

use super::data::DataDirectory;
use crate::config::{self, Config};

/// Options whose values are columns, templates or durations: the engine checks them when it compiles the pipeline.
const COLUMNS: [&str; 3] = ["primary_key", "index", "json"];
const TEMPLATES: [&str; 1] = ["key"];
const DURATIONS: [&str; 2] = ["ttl", "commit_interval"];

static CONNECTORS: LazyLock<Vec<ConnectorOptions>> = LazyLock::new(|| {
    let pick = |names: Vec<&'static str>| -> &'static [&'static str] { names.leak() };
    known_options()
        .iter()
        .map(|connector| {
            let names = || connector.options.iter().map(|option| option.name);
            ConnectorOptions {
                name: connector.connector,
                options: pick(names().collect()),
                required: pick(connector.options.iter().filter(|o| o.required).map(|o| o.name).collect()),
                columns: pick(names().filter(|name| COLUMNS.contains(name)).collect()),
                templates: pick(names().filter(|name| TEMPLATES.contains(name)).collect()),
                durations: pick(names().filter(|name| DURATIONS.contains(name)).collect()),
            }
        })
        .collect()
});

/// What a pipeline may say in `WITH (connector = '…', …)`.
pub fn connectors() -> Vec<ConnectorOptions> {
    CONNECTORS.clone()
}

pub struct Stores {
    tables: Option<TablesStore>,
    pub cache: Option<CacheStore>,
    lake: Lake,
}

/// A lake table and the engine's stream that fills it.
pub struct LakeStream {
    pub table: Arc<LakeTable>,
    pub stream: usize,
    /// Name of the sink.
    pub sink: String,
}

pub struct Attached {
    pub sinks: Vec<AttachedSink>,
    pub lakes: Vec<LakeStream>,
}

impl Stores {
    pub fn open(config: &Config, data: &DataDirectory) -> Result<Stores> {
        let tables = match &config.tables {
            config::Tables::None => None,
            config::Tables::Embedded => Some(open_tables("embedded", data.path())?),
            config::Tables::Postgres(url) => Some(open_tables(url.expose(), data.path())?),
        };
        let budget = config.embedded_cache.memory_budget;
        let cache = match &config.cache {
            config::Cache::None => None,
            config::Cache::Embedded => Some(CacheStore::open("embedded", budget).map_err(plain)?),
            config::Cache::Redis(url) => Some(CacheStore::open(url.expose(), budget).map_err(plain)?),
        };
        let lake = absolute(&config.lake)?;
        let address = format!("file:{}", lake.display());
        Ok(Stores { tables, cache, lake: Lake::open(&address, data.path()).map_err(plain)? })
    }

    /// One sink per insert of the pipeline (but for stores that are left out), and the table of late events.
    pub async fn attach(&self, pipeline: &Pipeline) -> Result<Attached> {
        let mut attached = Attached { sinks: Vec::new(), lakes: Vec::new() };
        for sink in &pipeline.sinks {
            let target = &sink.target;
            let made: Option<Box<dyn Sink>> = match target.options.get("connector").map(String::as_str) {
                Some("lake") => Some(self.lake_sink(target, sink.stream, &mut attached.lakes)?),
                Some("tables") => self.tables.as_ref().map(|tables| tables.sink(target)).transpose().map_err(plain)?,
                Some("cache") => self.cache.as_ref().map(|cache| cache.sink(target)).transpose().map_err(plain)?,
                other => bail!("{}: no connector {:?}", target.name, other.unwrap_or_default()),
            };
            if let Some(made) = made {
                attached.sinks.push(AttachedSink { name: target.name.clone(), stream: sink.stream, sink: made });
            }
        }
        let late = Target {
            name: LATE_EVENTS.to_owned(),
            options: late_options(pipeline),
            schema: late_events_schema(),
            primary_key: Vec::new(),
        };
        let stream = Engine::late_stream(pipeline);
        let sink = self.lake_sink(&late, stream, &mut attached.lakes)?;
        attached.sinks.push(AttachedSink { name: late.name, stream, sink });
        Ok(attached)
    }

    fn lake_sink(&self, target: &Target, stream: usize, lakes: &mut Vec<LakeStream>) -> Result<Box<dyn Sink>> {
        let table = self.lake.table(target).map_err(plain)?;
        let sink = Box::new(table.sink());
        lakes.push(LakeStream { table, stream, sink: target.name.clone() });
        Ok(sink)
    }
}

/// Late events are committed as often as the pipeline's first lake table.
fn late_options(pipeline: &Pipeline) -> BTreeMap<String, String> {
    let is_lake = |options: &BTreeMap<String, String>| options.get("connector").is_some_and(|name| name == "lake");
    let first = pipeline.sinks.iter().map(|sink| &sink.target.options).find(|options| is_lake(options));
    let mut options = BTreeMap::from([("connector".to_owned(), "lake".to_owned())]);
    for name in ["commit_interval", "commit_bytes"] {
        if let Some(value) = first.and_then(|first| first.get(name)) {
            options.insert(name.to_owned(), value.clone());
        }
    }
    options
}

fn open_tables(address: &str, data: &Path) -> Result<TablesStore> {
    TablesStore::open(address, data).map_err(plain)
}

fn plain(error: SinkError) -> anyhow::Error {
    anyhow!("{error}")
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}
