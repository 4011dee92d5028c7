//! `playhouse bad list`

use anyhow::{Context, Result};
use serde_json::Value;

use super::admin::AdminArgs;
use super::filter::{FilterArgs, shown_time};
use crate::cli::broker::{print, table, writeln_out};

/// Asked for at once: each carries the event as it was sent.
const PAGE_ROWS: usize = 100;
/// Of a reason's message in the table.
const REASON_CHARS_MAX: usize = 60;

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
        print(&table(&["bad_id", "received_at", "topic", "stage", "reasons"], &rows));
    }
    Ok(())
}

fn row(event: &Value) -> Vec<String> {
    let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let received_at = shown_time(event["received_at_ms"].as_i64());
    vec![text("bad_id"), received_at, text("topic"), text("stage"), reasons(&event["reasons"])]
}

/// The first, and how many more there are.
fn reasons(reasons: &Value) -> String {
    let Some(first) = reasons.get(0) else { return "-".to_owned() };
    let told = |name: &str| first[name].as_str().unwrap_or_default();
    // What a sender wrote must not move the cursor of a terminal.
    let message: String =
        told("message").chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect();
    let place: String = told("path").chars().filter(|c| !c.is_control()).collect();
    let more = match reasons.as_array().map_or(0, Vec::len) {
        0 | 1 => String::new(),
        count => format!(" (+{})", count - 1),
    };
    let place = if place.is_empty() { String::new() } else { format!(" {place}") };
    format!("{}{place}: {message}{more}", told("keyword"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_the_first_reason_and_counts_the_rest() {
        let two = serde_json::json!([
            {"path": "/user", "keyword": "type", "message": "\u{1b}[2Jis no\nstring"},
            {"path": "", "keyword": "required", "message": "is missing"},
        ]);
        assert_eq!(reasons(&two), "type /user:  [2Jis no string (+1)");
        assert_eq!(reasons(&serde_json::json!([])), "-");
    }
}
