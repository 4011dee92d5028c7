//! `playhouse tap`: the records of a topic as they arrive.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use playhouse_client::fetch::Incoming;
use serde_json::{Value, json};

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
        let value = record.value.as_deref().and_then(|value| serde_json::from_slice::<Value>(value).ok());
        if !args.filter.iter().all(|filter| filter.takes(record, value.as_ref())) {
            return Ok(());
        }
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
            return writeln!(self.out, "{}", document(&args.topic, record, value));
        }
        let key = record.key.as_deref().map(readable).unwrap_or_default();
        let place = format!("{}/{}/{}", args.topic, record.partition, record.offset);
        let body = match (value, &record.value) {
            (Some(json), _) if self.pretty => format!("{json:#}"),
            (Some(json), _) => json.to_string(),
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

fn document(topic: &str, record: &Incoming, value: Option<Value>) -> Value {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(readable);
    let headers = record.headers.iter().map(|(name, value)| json!({"name": name, "value": text(value)}));
    json!({
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": time(record.timestamp_ms),
        "key": text(&record.key),
        "headers": headers.collect::<Vec<_>>(),
        "value": value.or_else(|| text(&record.value).map(Value::String)),
    })
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
