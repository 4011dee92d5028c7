//! What a pipeline is compiled with, and the checking of `WITH (…)` options.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

/// What the surroundings give to a pipeline's text.
#[derive(Debug, Clone, Default)]
pub struct CompileOptions {
    /// The pipeline's name, in messages and sink scopes.
    pub name: String,
    /// Values for `${name}` inside quoted strings.
    pub variables: BTreeMap<String, String>,
    pub functions: Functions,
    /// Contents of `path = 'builtin:<name>'`; any other path is read from disk.
    pub builtin: BTreeMap<String, Bytes>,
    /// Where relative paths start; the working directory by default.
    pub directory: PathBuf,
    /// The connectors that exist, for checking `WITH` options.
    pub connectors: Vec<ConnectorOptions>,
}

/// Data behind the SQL functions. Without it the function is unknown to the pipeline.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    /// A country database in MaxMind's format, for `geoip_country`.
    pub geoip: Option<Bytes>,
    /// The `regexes.yaml` of uap-core, for `ua_device`, `ua_os` and `ua_browser`.
    pub user_agents: Option<Bytes>,
}

/// The options that one sink connector understands in `WITH (connector = '<name>', …)`.
#[derive(Debug, Clone, Default)]
pub struct ConnectorOptions {
    pub name: &'static str,
    pub options: &'static [&'static str],
    /// Options that must be given; a subset of `options`.
    pub required: &'static [&'static str],
    /// Options whose value lists columns, which must exist in the rows (`primary_key = 'a, b'`).
    pub columns: &'static [&'static str],
    /// Options whose value names columns in braces, which must exist in the rows (`key = 'event:{id}'`).
    pub templates: &'static [&'static str],
    /// Options that hold a duration (`ttl = '1 hour'`).
    pub durations: &'static [&'static str],
}
