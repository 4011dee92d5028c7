//! `playhouse generate`: synthetic viewers, written or sent.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use playhouse_generate::send::{Batch, Pace, SendError, Summary};
use playhouse_generate::{Config, Generator, Share, Time};

use super::delivery::{DeliveryArgs, INTERRUPTED, Meter, stop_on_ctrl_c};

/// Simulate viewers of the music catalogue: the same options give the same bytes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Lines to produce, counting invalid and duplicate ones
    #[arg(long, value_name = "N", default_value_t = Config::default().events)]
    events: u64,

    /// Another seed gives another audience
    #[arg(long, value_name = "S", default_value_t = Config::default().seed)]
    seed: u64,

    /// How many different viewers there are
    #[arg(long, value_name = "N", default_value_t = Config::default().users)]
    users: u32,

    /// Event time of the first event (RFC 3339 or a date) [default: 2025-08-31]
    #[arg(long, value_name = "TIME", value_parser = playhouse_generate::parse_time)]
    start: Option<Time>,

    /// Event time to cover, about
    #[arg(long, value_name = "SPAN", default_value = "2d", value_parser = playhouse_generate::parse_span)]
    span: Duration,

    /// Share of lines that break the schema, in varied ways
    #[arg(long, value_name = "P%", default_value = "0%")]
    invalid: Share,

    /// Share of events with a timestamp minutes to hours before their place
    #[arg(long, value_name = "P%", default_value = "0%")]
    late: Share,

    /// Share of lines that repeat a recent one exactly
    #[arg(long, value_name = "P%", default_value = "0%")]
    duplicate: Share,

    /// Write NDJSON to this file, or to standard output with `-` (the default)
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    out: Option<PathBuf>,

    /// Send to this ingest door instead, such as http://127.0.0.1:60000
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Write the exact expected answers as JSON to this file, or to standard output with `-`
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,

    #[command(flatten)]
    delivery: DeliveryArgs,
}

const BATCH_EVENTS: usize = 1000;
const BATCH_BYTES: usize = 512 << 10;

pub async fn run(args: Args) -> Result<ExitCode> {
    let defaults = Config::default();
    let mut generator = Generator::new(Config {
        events: args.events,
        seed: args.seed,
        users: args.users,
        start_ms: args.start.map_or(defaults.start_ms, |start| start.timestamp_millis()),
        span_ms: u64::try_from(args.span.as_millis())?,
        invalid: args.invalid,
        late: args.late,
        duplicate: args.duplicate,
    })?;
    let out = args.out.as_deref().filter(|out| *out != Path::new("-"));
    let to_stdout = args.url.is_none() && out.is_none();
    if to_stdout && args.truth.as_deref() == Some(Path::new("-")) {
        bail!("the events and --truth - would both go to standard output: name a file for one of them");
    }
    let code = match &args.url {
        Some(url) => send(&args, url, &mut generator).await?,
        None => write(out, args.delivery.rate, &mut generator).await?,
    };
    if generator.lines_written() == generator.lines_total()
        && let Some(truth) = &args.truth
    {
        write_truth(truth, &generator)?;
    }
    Ok(code)
}

async fn write(out: Option<&Path>, rate: Option<u32>, generator: &mut Generator) -> Result<ExitCode> {
    let name = out.map_or("standard output".to_owned(), |path| path.display().to_string());
    let mut file: Box<dyn Write + Send> = match out {
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot create {name}"))?),
        None => Box::new(io::stdout()),
    };
    let mut pace = Pace::new(rate);
    let batch_events = pace.batch_events(usize::MAX) as u64;
    let mut lines = Vec::with_capacity(BATCH_BYTES + (64 << 10));
    loop {
        lines.clear();
        let added = generator.fill(&mut lines, BATCH_BYTES, batch_events);
        if added == 0 {
            break;
        }
        pace.wait(added as usize).await;
        match file.write_all(&lines) {
            // The reader had enough, as `head` does.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written.with_context(|| format!("cannot write to {name}"))?,
        }
    }
    match file.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).with_context(|| format!("cannot write to {name}"))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn send(args: &Args, url: &str, generator: &mut Generator) -> Result<ExitCode> {
    let mut meter = Meter::new(Some(generator.lines_total()));
    let mut courier = args.delivery.courier(args.delivery.target(url)?, &meter, Summary::default());
    let mut stop = stop_on_ctrl_c();
    let sending = async {
        let mut pace = Pace::new(args.delivery.rate);
        let batch_events = pace.batch_events(BATCH_EVENTS) as u64;
        loop {
            let first = generator.lines_written() + 1;
            let mut body = Vec::with_capacity(BATCH_BYTES);
            let added = generator.fill(&mut body, BATCH_BYTES, batch_events);
            if added == 0 {
                break;
            }
            pace.wait(added as usize).await;
            let last = first + added - 1;
            courier.send(Batch { body, numbers: (first..=last).collect(), malformed: Vec::new(), last }).await?;
            let summary = courier.summary();
            meter.show(summary.total(), || format!("{} accepted, {} rejected", summary.accepted, summary.rejected));
        }
        courier.finish().await
    };
    let ended: Option<Result<(), SendError>> = tokio::select! {
        ended = sending => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    meter.clear();
    eprintln!("{}", courier.summary());
    let Some(ended) = ended else { return Ok(ExitCode::from(INTERRUPTED)) };
    ended?;
    Ok(if courier.summary().unsendable > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write_truth(path: &Path, generator: &Generator) -> Result<()> {
    let name = || format!("cannot write the expected answers to {}", path.display());
    let mut out: Box<dyn Write> = if path == Path::new("-") {
        Box::new(io::stdout())
    } else {
        Box::new(BufWriter::new(File::create(path).with_context(name)?))
    };
    serde_json::to_writer_pretty(&mut out, &generator.truth()).with_context(name)?;
    out.write_all(b"\n").and_then(|()| out.flush()).with_context(name)
}
