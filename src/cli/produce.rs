//! `playhouse produce`: lines of standard input, or of a file, as records.

use std::io::BufRead;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use playhouse_client::Compression;
use playhouse_client::produce::{Outgoing, Producer};
use tokio::sync::mpsc;

use super::broker::{BrokerArgs, assignment};

/// Of one request, in records and bytes; a smaller one goes out when nothing more is there.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 512 << 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  echo '{\"id\":\"1\"}' | playhouse produce clicks
  playhouse produce clicks --key-separator : users.txt     alice:{…} has the key alice
  playhouse produce clicks --null-value --key alice        a tombstone")]
pub struct Args {
    topic: String,
    /// File to read; standard input if not given
    file: Option<PathBuf>,
    /// The key of every record
    #[arg(long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// What ends the key at the beginning of each line
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// The partition; without it the key decides, as in Java clients
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A header of every record; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    header: Vec<(String, String)>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "lz4", value_parser = compression)]
    compression: Compression,
    /// One record without a value (a tombstone in a compacted topic); reads nothing
    #[arg(long, requires = "key", conflicts_with = "file")]
    null_value: bool,
    /// Say nothing at the end
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = args.broker.connect().await?;
    let mut producer = Producer::open(&mut client, &args.topic, args.compression).await?;
    if args.null_value {
        let record = Outgoing { value: None, ..outgoing(&args, Vec::new())? };
        producer.send(&mut client, &[record]).await?;
        return Ok(());
    }
    let mut lines = read_lines(args.file.clone());
    let (mut records, mut bytes, mut sent) = (Vec::new(), 0, 0);
    loop {
        // What has been read goes out as soon as there is nothing more at once.
        let line = match lines.try_recv() {
            Ok(line) => Some(line?),
            Err(_) if records.is_empty() => lines.recv().await.transpose()?,
            Err(_) => None,
        };
        let ended = line.is_none();
        if let Some(line) = line {
            bytes += line.len();
            records.push(outgoing(&args, line)?);
        }
        if !records.is_empty() && (ended || records.len() >= BATCH_RECORDS || bytes >= BATCH_BYTES) {
            producer.send(&mut client, &records).await.with_context(|| format!("{sent} records were sent"))?;
            sent += records.len();
            (records, bytes) = (Vec::new(), 0);
        } else if ended {
            break;
        }
    }
    if !args.quiet {
        eprintln!("{sent} records");
    }
    Ok(())
}

/// Lines in the order of the input, read on a thread of their own: standard input blocks.
fn read_lines(file: Option<PathBuf>) -> mpsc::Receiver<Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(2 * BATCH_RECORDS);
    std::thread::spawn(move || {
        let read = || -> Result<()> {
            let input: Box<dyn BufRead> = match &file {
                Some(path) => Box::new(std::io::BufReader::new(
                    std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?,
                )),
                None => Box::new(std::io::stdin().lock()),
            };
            for line in input.split(b'\n') {
                let mut line = line.context("cannot read the input")?;
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                if sender.blocking_send(Ok(line)).is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = read() {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn outgoing(args: &Args, line: Vec<u8>) -> Result<Outgoing> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (key, value) = match &args.key_separator {
        None => (args.key.as_ref().map(|key| key.clone().into_bytes()), line),
        Some(separator) => {
            let at = line.windows(separator.len().max(1)).position(|window| window == separator.as_bytes());
            let Some(at) = at else {
                bail!("a line has no {separator:?} to end its key: {}", String::from_utf8_lossy(&line));
            };
            (Some(line[..at].to_vec()), line[at + separator.len()..].to_vec())
        }
    };
    Ok(Outgoing {
        partition: args.partition,
        timestamp_ms: now.as_millis() as i64,
        key,
        value: Some(value),
        headers: args.header.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect(),
    })
}

fn compression(name: &str) -> Result<Compression, String> {
    match name {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("is none of none, gzip, snappy, lz4, zstd".to_owned()),
    }
}
