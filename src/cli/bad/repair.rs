//! What `bad fix`, `bad replay` and `bad drop` share: which events they are about, page after page, and what they tell.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::admin::AdminArgs;
use super::filter::{FilterArgs, first_reason, plain};
use crate::cli::broker::{print, writeln_out};

/// Looked at and replayed at once.
const PAGE_EVENTS: usize = 500;
/// Of those that are still bad, or were tried only: so many are shown.
const SHOWN_MAX: usize = 20;
/// Of an event, before and after.
const PAYLOAD_CHARS_MAX: usize = 2000;

#[derive(Debug, clap::Args)]
pub struct ChoiceArgs {
    /// Bad ids, as `bad list` shows them; or a filter
    #[arg(value_name = "BAD_ID")]
    bad_ids: Vec<String>,
    /// All of them, where no filter says which
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// What came of each event as a JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Sends `body` to `/api/bad-events/<verb>` for all events chosen; fails if any of them is still bad or missing.
pub async fn run(choice: ChoiceArgs, verb: &str, body: Value) -> Result<ExitCode> {
    let mut filter = choice.filter.object();
    let is_filtered = filter.as_object().is_some_and(|filter| !filter.is_empty());
    match (choice.bad_ids.is_empty(), is_filtered, choice.all) {
        (true, false, false) => bail!("which bad events? name their bad ids, give a filter such as --topic, or --all"),
        (false, true, _) | (false, _, true) => bail!("name bad ids or give a filter, not both"),
        _ => {}
    }
    // What is rejected from now on is not meant; under a flood there would be no end to it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    if filter["until_ms"].is_null() {
        filter["until_ms"] = now.into();
    }

    let mut told = Told::new(choice.json);
    let path = format!("/api/bad-events/{verb}");
    for ids in choice.bad_ids.chunks(PAGE_EVENTS) {
        let mut body = body.clone();
        body["bad_ids"] = json!(ids);
        told.page(&choice.admin.post(&path, &body).await?)?;
    }
    if choice.bad_ids.is_empty() {
        let mut cursor = String::new();
        loop {
            let mut body = body.clone();
            (body["filter"], body["limit"], body["cursor"]) = (filter.clone(), PAGE_EVENTS.into(), cursor.into());
            let page = choice.admin.post(&path, &body).await?;
            told.page(&page)?;
            if page["end"] != false {
                break;
            }
            cursor = page["cursor"].as_str().unwrap_or_default().to_owned();
        }
    }
    told.end()
}

struct Told {
    json: bool,
    counts: BTreeMap<String, u64>,
    missing: Vec<String>,
    shown: Vec<String>,
    has_progress: bool,
}

impl Told {
    fn new(json: bool) -> Told {
        let has_progress = std::io::stderr().is_terminal();
        Told { json, counts: BTreeMap::new(), missing: Vec::new(), shown: Vec::new(), has_progress }
    }

    fn page(&mut self, page: &Value) -> Result<()> {
        for event in page["events"].as_array().context("the answer holds no events")? {
            let outcome = event["outcome"].as_str().unwrap_or_default();
            *self.counts.entry(outcome.to_owned()).or_default() += 1;
            if self.json {
                // Whoever closed the pipe still wants the rest done.
                let _ = writeln_out(&event.to_string());
            } else if self.shown.len() < SHOWN_MAX && matches!(outcome, "still_bad" | "would_pass") {
                self.shown.push(shown(event));
            }
        }
        let missing = page["missing"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.missing.extend(missing.iter().filter_map(|id| Some(id.as_str()?.to_owned())));
        if self.has_progress {
            // Over the line before; a terminal that is gone is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", self.summary());
        }
        Ok(())
    }

    fn end(self) -> Result<ExitCode> {
        if self.has_progress {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        if !self.json {
            self.shown.iter().for_each(|event| print(event));
            let shown: u64 = ["still_bad", "would_pass"].iter().filter_map(|outcome| self.counts.get(*outcome)).sum();
            if shown > SHOWN_MAX as u64 {
                print(&format!("… and {} more (--json shows all)", shown - SHOWN_MAX as u64));
            }
            print(&self.summary());
        }
        if !self.missing.is_empty() {
            let missing = self.missing.join(", ");
            bail!("no bad event {missing}: it never was, or its retention is over");
        }
        let failed = self.counts.contains_key("still_bad");
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn summary(&self) -> String {
        let counts = self.counts.iter().map(|(outcome, count)| format!("{count} {}", outcome.replace('_', " ")));
        let counts: Vec<String> = counts.collect();
        if counts.is_empty() { "no bad event".to_owned() } else { counts.join(", ") }
    }
}

/// One event, in a line or, where both are told, with what it was and what it would be.
fn shown(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or("-");
    let outcome = match text("outcome") {
        "still_bad" => format!("still bad: {}", first_reason(&event["reasons"])),
        other => other.replace('_', " "),
    };
    let mut lines = vec![format!("{}  {}  {outcome}", text("bad_id"), plain(text("topic")))];
    for (sign, name) in [('-', "before"), ('+', "after")] {
        let payload = &event[name];
        if let Some(payload) = payload.as_str().map(str::to_owned).or_else(|| payload["base64"].as_str().map(based)) {
            let cut: String = plain(&payload).chars().take(PAYLOAD_CHARS_MAX).collect();
            lines.push(format!("  {sign} {cut}{}", if cut.len() < payload.len() { " …" } else { "" }));
        }
    }
    lines.join("\n")
}

fn based(base64: &str) -> String {
    format!("base64 {base64}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_shown_before_and_after() {
        let event = json!({"bad_id": "0-1", "topic": "clicks", "outcome": "would_pass", "before": "{\n}", "after": {"base64": "/w=="}});
        assert_eq!(shown(&event), "0-1  clicks  would pass\n  - { }\n  + base64 /w==");
        let bad = json!({"bad_id": "0-2", "topic": "clicks", "outcome": "still_bad", "reasons": [{"keyword": "type", "path": "/a", "message": "is no number"}]});
        assert_eq!(shown(&bad), "0-2  clicks  still bad: type /a: is no number");
    }
}
