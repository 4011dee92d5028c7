//! `playhouse bad fix`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::repair::{self, ChoiceArgs};

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("change").required(true).args(["patch", "sql"])))]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// JSON Patch (RFC 6902), or @FILE that holds one: '[{"op": "add", "path": "/user", "value": "unknown"}]'
    #[arg(long, value_name = "JSON")]
    patch: Option<String>,
    /// SQL expression over raw, bad_id, topic, received_at, received_at_ms: "json_set(raw, '$.user', 'unknown')"
    #[arg(long, value_name = "EXPRESSION")]
    sql: Option<String>,
    /// Write nothing: show each event before and after, and what would still be bad
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let mut body = json!({"dry_run": args.dry_run});
    if let Some(patch) = &args.patch {
        body["patch"] = read(patch)?;
    }
    if let Some(sql) = args.sql {
        body["sql"] = sql.into();
    }
    repair::run(args.choice, "fix", body).await
}

fn read(patch: &str) -> Result<Value> {
    let text = match patch.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(Path::new(file)).with_context(|| format!("cannot read --patch {patch}"))?
        }
        None => patch.to_owned(),
    };
    serde_json::from_str(&text).context("--patch is not JSON")
}
