//! `playhouse tap`: the records of a topic as they arrive.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use playhouse_client::fetch::Incoming;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::broker::BrokerArgs;
use super::filter::Filter;
use super::position::Position;

const WAIT: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  playhouse tap multimedia_events                          from now on, until Ctrl-C
  playhouse tap multimedia_events --from -10 --stop        the last ten of each partition
  playhouse tap multimedia_events --filter type=play --filter 'position_ms>=60000'
  playhouse tap clicks --from 15m --json | jq .value.user  one JSON object per record")]
pub struct Args {
    topic: String,
    /// Where to begin: start, end, an offset, -N (N before the end), a span such as 15m (ago), or a time (RFC 3339)
    #[arg(long, value_name = "PLACE", default_value = "end", allow_hyphen_values = true)]
    from: Position,
    /// Only records with this TEXT, or whose JSON fits FIELD=VALUE (also != ~ > >= < <=); all of several must fit
    #[arg(long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// Only this partition; repeatable
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// Show at most this many records a second, and say how many were left out; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 0)]
    rate: u32,
    /// End after this many records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// End at what is the end now
    #[arg(long)]
    stop: bool,
    /// One JSON object per record and line, with its place, time, key and headers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let mut client = args.broker.connect().await?;
    let mut positions = args.from.offsets(&mut client, &args.topic).await?;
    for partition in &args.partition {
        if !positions.contains_key(partition) {
            bail!("topic {:?} has no partition {partition}", args.topic);
        }
    }
    positions.retain(|index, _| args.partition.is_empty() || args.partition.contains(index));
    let ends = if args.stop { Some(Position::End.offsets(&mut client, &args.topic).await?) } else { None };
    let mut screen = Screen::new(&args);
    loop {
        let at_the_end = |ends: &std::collections::BTreeMap<i32, i64>| {
            positions.iter().all(|(index, offset)| ends.get(index).is_none_or(|end| offset >= end))
        };
        if ends.as_ref().is_some_and(at_the_end) || args.count == Some(screen.shown) {
            break;
        }
        let records = tokio::select! {
            records = client.fetch(&args.topic, &mut positions, WAIT) => records?,
            _ = tokio::signal::ctrl_c() => break,
        };
        for record in records {
            let beyond = |ends: &std::collections::BTreeMap<i32, i64>| {
                ends.get(&record.partition).is_some_and(|end| record.offset >= *end)
            };
            if ends.as_ref().is_some_and(beyond) {
                continue;
            }
            // A reader that went away (`| head`) is a reason to end, not to fail.
            if args.count == Some(screen.shown) || screen.show(&args, &record).is_err() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if screen.flush().is_err() {
            break;
        }
    }
    screen.flush().ok();
    Ok(ExitCode::SUCCESS)
}

struct Screen {
    out: std::io::BufWriter<std::io::Stdout>,
    pretty: bool,
    rate: u32,
    shown: u64,
    second: Instant,
    in_second: u32,
    left_out: u64,
}

impl Screen {
    fn new(args: &Args) -> Screen {
        Screen {
            out: std::io::BufWriter::new(std::io::stdout()),
            pretty: std::io::stdout().is_terminal(),
            rate: args.rate,
            shown: 0,
            second: Instant::now(),
            in_second: 0,
            left_out: 0,
        }
    }

    fn show(&mut self, args: &Args, record: &Incoming) -> std::io::Result<()> {
        if !args.filter.is_empty() {
            let value = record.value.as_deref().and_then(|value| serde_json::from_slice::<Value>(value).ok());
            if !args.filter.iter().all(|filter| filter.takes(record, value.as_ref())) {
                return Ok(());
            }
        }
        // As it was sent: fields in their order, numbers with their digits.
        let value = record.value.as_deref().and_then(|value| serde_json::from_slice::<&RawValue>(value).ok());
        if self.rate > 0 {
            if self.second.elapsed() >= Duration::from_secs(1) {
                self.tell_left_out()?;
                (self.second, self.in_second) = (Instant::now(), 0);
            }
            if self.in_second >= self.rate {
                self.left_out += 1;
                return Ok(());
            }
            self.in_second += 1;
        }
        self.shown += 1;
        if args.json {
            serde_json::to_writer(&mut self.out, &Document::new(&args.topic, record, value))?;
            return writeln!(self.out);
        }
        let key = record.key.as_deref().map(readable).unwrap_or_default();
        let place = format!("{}/{}/{}", args.topic, record.partition, record.offset);
        let body = match (value, &record.value) {
            (Some(json), _) if self.pretty => indented(json.get()),
            (Some(json), _) => json.get().to_owned(),
            (None, Some(bytes)) => readable(bytes),
            (None, None) => "null".to_owned(),
        };
        writeln!(self.out, "{} {place} {key} {body}", time(record.timestamp_ms))
    }

    fn tell_left_out(&mut self) -> std::io::Result<()> {
        if self.left_out > 0 {
            self.out.flush()?;
            eprintln!("… {} more in this second (--rate {})", self.left_out, self.rate);
            self.left_out = 0;
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.tell_left_out()?;
        self.out.flush()
    }
}

#[derive(Serialize)]
struct Document<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    time: String,
    key: Option<String>,
    headers: Vec<Header<'a>>,
    /// JSON as it was sent, or a text.
    value: Option<Body<'a>>,
}

#[derive(Serialize)]
struct Header<'a> {
    name: &'a str,
    value: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(&'a RawValue),
    Text(String),
}

impl<'a> Document<'a> {
    fn new(topic: &'a str, record: &'a Incoming, value: Option<&'a RawValue>) -> Document<'a> {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(readable);
        let headers = record.headers.iter().map(|(name, value)| Header { name, value: text(value) });
        Document {
            topic,
            partition: record.partition,
            offset: record.offset,
            time: time(record.timestamp_ms),
            key: text(&record.key),
            headers: headers.collect(),
            value: value.map(Body::Json).or_else(|| text(&record.value).map(Body::Text)),
        }
    }
}

/// Valid JSON over several lines, nothing else changed.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) = (String::new(), 0_usize, false, false);
    let mut letters = json.chars().filter(|c| *c != '\r' && *c != '\n').peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(letter) = letters.next() {
        if in_text {
            in_text = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            out.push(letter);
            continue;
        }
        match letter {
            ' ' | '\t' => {}
            '{' | '[' => {
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                out.push(letter);
                match letters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_text = letter == '"';
                out.push(letter);
            }
        }
    }
    out
}

fn time(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        Some(time) if ms >= 0 => time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        _ => "-".to_owned(),
    }
}

/// Text as it is, other bytes escaped.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_otherwise_left_as_it_is() {
        let sent = r#"{"b": 1.50,"a":[ ],"text":"{\"x\": [1,2]}\\","list":[1,{"y":null}]}"#;
        let shown = "{\n  \"b\": 1.50,\n  \"a\": [],\n  \"text\": \"{\\\"x\\\": [1,2]}\\\\\",\n  \"list\": [\n    1,\n    {\n      \"y\": null\n    }\n  ]\n}";
        assert_eq!(indented(sent), shown);
    }
}
