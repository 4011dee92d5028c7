//! `playhouse replay`: recorded traffic, sent again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use playhouse_generate::Time;
use playhouse_generate::replay::{self, Format, Input, Progress, ReplayOptions, Resume, ResumeKey, Shift};
use playhouse_generate::send::Summary;

use super::delivery::{DeliveryArgs, INTERRUPTED, Meter, stop_on_ctrl_c};

/// Send recorded traffic to the ingest door: a web log, or events as NDJSON or a JSON array; plain, gzip or zstd
///
/// Replaying a file twice changes nothing: ids follow from its content. An interrupted replay goes on where it stopped.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, or `-` for standard input
    file: PathBuf,

    /// The ingest door
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:60000")]
    url: String,

    /// weblog, ndjson or json (one array); recognised by content if not given
    #[arg(long)]
    format: Option<Format>,

    /// Shift recorded times so that the first falls here (RFC 3339 or a date)
    #[arg(long, value_name = "TIME", value_parser = playhouse_generate::parse_time)]
    from: Option<Time>,

    /// Shift recorded times so that the last falls here; with --from the span is stretched or squeezed to fit
    #[arg(long, value_name = "TIME", value_parser = playhouse_generate::parse_time)]
    to: Option<Time>,

    /// Fail unless there is an interrupted replay to go on with
    #[arg(long)]
    resume: bool,

    /// Begin again from the first line, even if an earlier replay was interrupted
    #[arg(long, conflicts_with = "resume")]
    restart: bool,

    #[command(flatten)]
    delivery: DeliveryArgs,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    let target = args.delivery.target(&args.url)?;
    let stop = stop_on_ctrl_c();
    let mut input = open(&args)?;
    let shift = shift(&args)?;
    input.set_shift(shift);
    let mut resume = find_resume(&args, &target.to_string(), &format!("{:?} {shift:?}", input.format()))?;
    let mut earlier = Summary::default();
    if let Some(resume) = &mut resume {
        if args.restart {
            resume.restart();
        } else if resume.acknowledged() > 0 {
            eprintln!(
                "going on after line {} of an interrupted replay (--restart begins again)",
                resume.acknowledged()
            );
        } else if args.resume {
            bail!("no interrupted replay of {} to {target} to go on with", args.file.display());
        }
        earlier = resume.summary().clone();
    }

    let meter = Meter::new(input.bytes_total());
    let mut courier = args.delivery.courier(target, &meter, earlier);
    let options = ReplayOptions { rate: args.delivery.rate, ..ReplayOptions::default() };
    let mut shown = meter.clone();
    let mut on_progress = |progress: Progress| {
        shown.show(progress.bytes_read, || format!("{} accepted, {} rejected", progress.accepted, progress.rejected));
    };
    let ended = replay::run(&mut input, &mut courier, resume.as_mut(), &options, stop, &mut on_progress).await;
    meter.clear();
    eprintln!("{}", courier.summary());
    let resumable = resume.is_some() && courier.acknowledged() > 0;
    let ending = match ended {
        Ok(ending) => ending,
        Err(error) if resumable => {
            return Err(anyhow::Error::new(error).context("stopped; the same command goes on from here"));
        }
        Err(error) => return Err(error.into()),
    };
    if ending.interrupted {
        if resumable {
            eprintln!("interrupted; the same command goes on from here");
        }
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if let Some(resume) = resume {
        resume.complete()?;
    }
    Ok(if ending.summary.unsendable > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn is_stdin(args: &Args) -> bool {
    args.file == Path::new("-")
}

fn open(args: &Args) -> Result<Input> {
    Ok(if is_stdin(args) {
        Input::from_reader("standard input".to_owned(), Box::new(std::io::stdin()), args.format)?
    } else {
        Input::open(&args.file, args.format)?
    })
}

/// Reads the file once more, for its span of time.
fn shift(args: &Args) -> Result<Option<Shift>> {
    if args.from.is_none() && args.to.is_none() {
        return Ok(None);
    }
    if is_stdin(args) {
        bail!("--from and --to need a file: its span of time has to be read first");
    }
    Ok(Shift::new(open(args)?.time_span()?, args.from, args.to)?)
}

fn find_resume(args: &Args, target: &str, options: &str) -> Result<Option<Resume>> {
    if is_stdin(args) {
        if args.resume {
            bail!("standard input cannot be resumed");
        }
        return Ok(None);
    }
    let file = args.file.canonicalize().with_context(|| format!("cannot open {}", args.file.display()))?;
    let key = ResumeKey { file: file.display().to_string(), target: target.to_owned(), options: options.to_owned() };
    Ok(Some(Resume::find(&state_directory(), key)?))
}

/// Beside other programs' state; never beside the recorded file, whose directory may not be writable.
fn state_directory() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("playhouse/replay")
}
