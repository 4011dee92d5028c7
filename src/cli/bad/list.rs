//! `playhouse bad list`

use anyhow::{Context, Result};
use serde_json::Value;

use super::admin::AdminArgs;
use super::filter::{FilterArgs, first_reason, shown_time};
use crate::cli::broker::{print, table, writeln_out};

/// Asked for at once: each carries the event as it was sent.
const PAGE_ROWS: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    /// One JSON object a line instead of a table, whole events included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut cursor = String::new();
    let mut left = args.limit;
    let mut rows = Vec::new();
    while left > 0 {
        let mut query = args.filter.query();
        query.push(("limit", left.min(PAGE_ROWS).to_string()));
        query.push(("cursor", cursor));
        let page = args.admin.get("/api/bad-events", &query).await?;
        let found = page["bad_events"].as_array().context("the answer holds no bad_events")?;
        left = left.saturating_sub(found.len());
        for event in found {
            if !args.json {
                rows.push(row(event));
            } else if writeln_out(&event.to_string()).is_err() {
                // Nobody reads any more.
                return Ok(());
            }
        }
        if page["end"] != false {
            break;
        }
        cursor = page["cursor"].as_str().unwrap_or_default().to_owned();
    }
    if !args.json {
        print(&table(&["bad_id", "received_at", "topic", "stage", "state", "reasons"], &rows));
    }
    Ok(())
}

fn row(event: &Value) -> Vec<String> {
    let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let received_at = shown_time(event["received_at_ms"].as_i64());
    let state = match (event["fixed_as"].is_string(), event["dropped"] == true) {
        (true, _) => "fixed",
        (_, true) => "dropped",
        _ => "open",
    };
    vec![text("bad_id"), received_at, text("topic"), text("stage"), state.to_owned(), first_reason(&event["reasons"])]
}
