//! Which bad events a command is about, and how they are told.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Of a reason's message in a line.
const REASON_CHARS_MAX: usize = 60;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Filter")]
pub struct FilterArgs {
    /// Sent to this topic
    #[arg(long)]
    topic: Option<String>,
    /// Where it failed: decode, validate, enrich or sink:<name>
    #[arg(long)]
    stage: Option<String>,
    /// A reason's keyword, such as required or type
    #[arg(long)]
    keyword: Option<String>,
    /// A reason's path (a JSON pointer) is this or below it
    #[arg(long)]
    path: Option<String>,
    /// Stands in a reason's message
    #[arg(long)]
    text: Option<String>,
    /// Received since: a time such as 2026-01-31T12:00:00Z, or a span such as 15m for that long ago
    #[arg(long, value_name = "TIME", value_parser = moment_ms)]
    since: Option<i64>,
    /// Received before: a time or a span
    #[arg(long, value_name = "TIME", value_parser = moment_ms)]
    until: Option<i64>,
    /// What has become of it: open, fixed or dropped
    #[arg(long)]
    state: Option<String>,
}

impl FilterArgs {
    pub fn query(&self) -> Vec<(&'static str, String)> {
        [
            ("topic", self.topic.clone()),
            ("stage", self.stage.clone()),
            ("keyword", self.keyword.clone()),
            ("path", self.path.clone()),
            ("text", self.text.clone()),
            ("since_ms", self.since.map(|ms| ms.to_string())),
            ("until_ms", self.until.map(|ms| ms.to_string())),
            ("state", self.state.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// The same as a JSON object.
    pub fn object(&self) -> Value {
        let times = [("since_ms", self.since), ("until_ms", self.until)];
        let times = times.into_iter().filter_map(|(name, ms)| Some((name.to_owned(), ms?.into())));
        let texts = self.query().into_iter().filter(|(name, _)| !name.ends_with("_ms"));
        let texts = texts.map(|(name, value)| (name.to_owned(), value.into()));
        Value::Object(texts.chain(times).collect())
    }
}

/// What a sender wrote must not move the cursor of a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The first of some reasons, and how many more there are.
pub fn first_reason(reasons: &Value) -> String {
    let Some(first) = reasons.get(0) else { return "-".to_owned() };
    let told = |name: &str| plain(first[name].as_str().unwrap_or_default());
    let message: String = told("message").chars().take(REASON_CHARS_MAX).collect();
    let more = match reasons.as_array().map_or(0, Vec::len) {
        0 | 1 => String::new(),
        count => format!(" (+{})", count - 1),
    };
    let place = told("path");
    let place = if place.is_empty() { place } else { format!(" {place}") };
    format!("{}{place}: {message}{more}", told("keyword"))
}

fn moment_ms(text: &str) -> Result<i64, String> {
    if let Ok(span) = playhouse_generate::parse_span(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok(now.saturating_sub(span).as_millis() as i64);
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|time| time.timestamp_millis())
        .map_err(|_| "is neither a time such as 2026-01-31T12:00:00Z nor a span such as 15m".to_owned())
}

/// As tables show it.
pub fn shown_time(ms: Option<i64>) -> String {
    let time = ms.and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or("-".to_owned(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_told_and_the_rest_counted() {
        let two = serde_json::json!([
            {"path": "/user", "keyword": "type", "message": "\u{1b}[2Jis no\nstring"},
            {"path": "", "keyword": "required", "message": "is missing"},
        ]);
        assert_eq!(first_reason(&two), "type /user:  [2Jis no string (+1)");
        assert_eq!(first_reason(&serde_json::json!([])), "-");
    }

    #[test]
    fn moments_are_times_or_spans() {
        assert_eq!(moment_ms("1970-01-01T00:00:01Z"), Ok(1000));
        assert!(moment_ms("15m").is_ok_and(|ms| ms > 0));
        assert!(moment_ms("yesterday").is_err());
        assert_eq!((shown_time(Some(1000)).as_str(), shown_time(None).as_str()), ("1970-01-01T00:00:01.000Z", "-"));
    }
}
