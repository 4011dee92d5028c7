//! `playhouse key list`

use anyhow::Result;
use chrono::{DateTime, SecondsFormat};
use serde_json::json;

use crate::cli::broker::{print, print_json, table};
use crate::config::ConfigArgs;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A JSON array instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: Args) -> Result<()> {
    let keys = super::keys(&args.config)?.list()?;
    let created = |created_ms: i64| {
        DateTime::from_timestamp_millis(created_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
    };
    if args.json {
        let rows = keys.iter().map(|key| {
            json!({
                "id": key.id,
                "name": key.name,
                "topics": key.grant.topics,
                "rights": key.grant.rights,
                "created": created(key.created_ms),
            })
        });
        print_json(&rows.collect());
        return Ok(());
    }
    let row = |key: playhouse_gate::Key| {
        let rights: Vec<&str> = key.grant.rights.iter().map(|right| right.name()).collect();
        vec![key.id, key.name, rights.join(", "), key.grant.topics.join(", "), created(key.created_ms)]
    };
    let rows: Vec<Vec<String>> = keys.into_iter().map(row).collect();
    print(&table(&["id", "name", "may", "topics", "created"], &rows));
    Ok(())
}
