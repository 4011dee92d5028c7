//! `playhouse bad stats`

use anyhow::Result;
use serde_json::Value;

use super::admin::AdminArgs;
use super::filter::{FilterArgs, shown_time};
use crate::cli::broker::{print, print_json, table};

/// Kinds of reasons in the table, the most frequent first; `--json` has all.
const REASONS_SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// A JSON object instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let stats = args.admin.get("/api/bad-events/stats", &args.filter.query()).await?;
    if args.json {
        print_json(&stats);
        return Ok(());
    }
    let oldest = shown_time(stats["oldest_ms"].as_i64());
    let newest = shown_time(stats["newest_ms"].as_i64());
    let of = |name: &str| stats[name].to_string();
    print(&format!(
        "{} bad events ({} fixed, {} dropped), {} bytes, from {oldest} to {newest}",
        of("count"),
        of("fixed"),
        of("dropped"),
        of("raw_bytes")
    ));
    if stats["room"]["displaced"] != 0 {
        let room = |name: &str| stats["room"][name].to_string();
        let at = shown_time(stats["room"]["displaced_at_ms"].as_i64());
        print(&format!(
            "{} older ones were displaced, last at {at}: bad_events.disk_quota is {} bytes",
            room("displaced"),
            room("bytes_max")
        ));
    }
    for (kind, columns) in [("topics", &["topic"][..]), ("stages", &["stage"]), ("reasons", &["keyword", "path"])] {
        let groups = stats[kind].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows: Vec<Vec<String>> = groups.iter().take(REASONS_SHOWN).map(|group| row(group, columns)).collect();
        if !rows.is_empty() {
            print(&format!("\n{}", table(&[columns, &["count"]].concat(), &rows)));
        }
    }
    Ok(())
}

fn row(group: &Value, columns: &[&str]) -> Vec<String> {
    let text = |name: &&str| match group[*name].as_str() {
        None | Some("") => "-".to_owned(),
        Some(text) => text.chars().filter(|c| !c.is_control()).collect(),
    };
    columns.iter().map(text).chain([group["count"].to_string()]).collect()
}
