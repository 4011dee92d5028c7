//! One connection: requests are read and begun in order, answered in order, and up to `pipeline_max` wait at a time.

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use parking_lot::Mutex;
use playhouse_log::Batches;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::access::Caller;
use crate::api;
use crate::frame::{FrameError, FrameReader};
use crate::guard::Malformed;
use crate::metrics;
use crate::quotas::Kind;
use crate::send_file;
use crate::server::Shared;
use crate::wire::{Reply, Response};

/// How long answers under way may take once the client has stopped sending.
const LINGER: Duration = Duration::from_secs(30);

/// Of requests of a caller that has not shown a key: none that it may send is larger.
const UNKNOWN_FRAME_BYTES_MAX: usize = 64 << 10;

/// What an API may ask about the connection it serves.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: SocketAddr,
    /// Where this client is told to find the broker.
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) throttle: Throttle,
    pub(crate) caller: Arc<Caller>,
}

/// Holds a client back that exceeds its byte rate (KIP-219): it is told at once, and its connection is not read for as long.
#[derive(Clone)]
pub(crate) struct Throttle {
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    until: Arc<Mutex<Instant>>,
}

impl Throttle {
    /// What to tell the client, in milliseconds.
    pub(crate) fn charge(&self, kind: Kind, client_id: &str, bytes: usize) -> i32 {
        let now = Instant::now();
        let wait = self.shared.quotas.charge(kind, &self.caller.quota_name(client_id), bytes, now);
        if !wait.is_zero() {
            metrics::add(&self.shared.metrics.throttled_ms, wait.as_millis() as u64);
            let mut until = self.until.lock();
            *until = (now + wait).max(*until);
        }
        wait.as_millis() as i32
    }

    async fn over(&self) {
        loop {
            let until = *self.until.lock();
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A request under way.
struct Pending {
    api: ApiKey,
    began: Instant,
    reply: Reply,
}

#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("idle")]
    Idle,
    #[error("it has shown no API key")]
    Unknown,
    #[error("its API key was revoked")]
    Revoked,
    #[error("the client does not read its responses")]
    Stalled,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

pub(crate) async fn run(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let caller = Arc::new(Caller::new(shared.config.auth.clone()));
    let context = Context {
        host: shared.config.advertised_host.clone().unwrap_or_else(|| local.ip().to_canonical().to_string()),
        port: i32::from(shared.config.advertised_port.unwrap_or(local.port())),
        throttle: Throttle {
            shared: shared.clone(),
            caller: caller.clone(),
            until: Arc::new(Mutex::new(Instant::now())),
        },
        caller,
        peer,
        shared,
    };
    let (input, output) = stream.into_split();
    let (replies, pending) = mpsc::channel(context.shared.config.pipeline_max);
    let under_way = AtomicUsize::new(0);
    // Either half's failure ends the other; the end of input lets answers under way finish.
    let stop = context.shared.shutdown.child_token();
    let end_of_input = CancellationToken::new();
    let read = async {
        let result = read_requests(&context, input, replies, &under_way, &stop).await;
        if result.is_err() {
            stop.cancel();
        }
        end_of_input.cancel();
        result
    };
    let write = async {
        let result = write_replies(&context, output, pending, &under_way, &stop, &end_of_input).await;
        stop.cancel();
        result
    };
    let (read, write) = tokio::join!(read, write);
    if matches!(read, Err(Closed::Malformed(_) | Closed::Frame(FrameError::Size { .. }))) {
        metrics::add(&context.shared.metrics.malformed, 1);
    }
    match read.and(write) {
        Ok(()) | Err(Closed::Idle) => {}
        // Anybody can come and say nothing.
        Err(error @ (Closed::Unknown | Closed::Revoked)) => tracing::debug!(%peer, %error, "closed a Kafka connection"),
        Err(Closed::Io(error) | Closed::Frame(FrameError::Io(error))) => {
            tracing::debug!(%peer, %error, "Kafka connection ended")
        }
        Err(error) => tracing::warn!(%peer, %error, "closed a Kafka connection"),
    }
}

async fn read_requests(
    context: &Context,
    input: OwnedReadHalf,
    replies: mpsc::Sender<Pending>,
    under_way: &AtomicUsize,
    stop: &CancellationToken,
) -> Result<(), Closed> {
    let config = &context.shared.config;
    let mut frames =
        FrameReader::new(input, config.frame_bytes_max, config.transfer_timeout, context.shared.request_budget.clone());
    if context.caller.is_unknown() {
        frames.limit(config.frame_bytes_max.min(UNKNOWN_FRAME_BYTES_MAX));
        let known = introduce(context, &mut frames, &replies, under_way, stop);
        match timeout(config.authentication_timeout, known).await {
            Err(_) => return Err(Closed::Unknown),
            Ok(known) => {
                if !known? {
                    return Ok(());
                }
            }
        }
        frames.limit(config.frame_bytes_max);
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = context.throttle.over() => {}
        }
        let ready = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            ready = timeout(config.idle_timeout, frames.ready()) => ready,
        };
        match ready {
            Ok(ready) => {
                if !ready? {
                    return Ok(());
                }
            }
            Err(_) if under_way.load(Ordering::Relaxed) > 0 => continue,
            Err(_) => return Err(Closed::Idle),
        }
        if !answer_next(context, &mut frames, &replies, under_way, stop).await? {
            return Ok(());
        }
    }
}

/// Reads and begins the request whose first byte is there; false after the last one.
async fn answer_next(
    context: &Context,
    frames: &mut FrameReader<OwnedReadHalf>,
    replies: &mpsc::Sender<Pending>,
    under_way: &AtomicUsize,
    stop: &CancellationToken,
) -> Result<bool, Closed> {
    let frame = tokio::select! {
        () = stop.cancelled() => return Ok(false),
        frame = frames.next() => frame?,
    };
    if context.caller.is_revoked() {
        return Err(Closed::Revoked);
    }
    let (began, size) = (Instant::now(), frame.bytes.len());
    let handled = api::handle(context, frame.bytes).await;
    // Anybody can send anything: no more is said about it than about silence.
    let (api, reply) =
        handled.map_err(|error| if context.caller.is_unknown() { Closed::Unknown } else { error.into() })?;
    drop(frame.budget);
    context.shared.metrics.request(api, size);
    if matches!(reply, Reply::Silent) {
        return Ok(true);
    }
    let is_last = matches!(reply, Reply::Last(_));
    under_way.fetch_add(1, Ordering::Relaxed);
    Ok(replies.send(Pending { api, began, reply }).await.is_ok() && !is_last)
}

/// Answers what may be asked without a key, until there is one; false where the connection ends before.
async fn introduce(
    context: &Context,
    frames: &mut FrameReader<OwnedReadHalf>,
    replies: &mpsc::Sender<Pending>,
    under_way: &AtomicUsize,
    stop: &CancellationToken,
) -> Result<bool, Closed> {
    while context.caller.is_unknown() {
        let is_there = tokio::select! {
            () = stop.cancelled() => return Ok(false),
            ready = frames.ready() => ready?,
        };
        if !is_there || !answer_next(context, frames, replies, under_way, stop).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn write_replies(
    context: &Context,
    mut output: OwnedWriteHalf,
    mut pending: mpsc::Receiver<Pending>,
    under_way: &AtomicUsize,
    stop: &CancellationToken,
    end_of_input: &CancellationToken,
) -> Result<(), Closed> {
    while let Some(Pending { api, began, reply }) = pending.recv().await {
        let response = match reply {
            Reply::Now(response) | Reply::Last(response) => response,
            Reply::Silent => continue,
            Reply::Later(answer) => tokio::select! {
                biased;
                response = answer => response?,
                () = abandoned(stop, &context.shared.shutdown, end_of_input) => return Ok(()),
            },
        };
        context.shared.metrics.response(api, response.len(), response.errors, began.elapsed());
        write(&mut output, response, context.shared.config.transfer_timeout).await?;
        under_way.fetch_sub(1, Ordering::Relaxed);
    }
    let _ = output.shutdown().await;
    Ok(())
}

/// When to give up on an answer under way: the connection failed, or the client left and lingered long enough. A shutdown
/// of the server is not one of them: answers that wait for the disk still go out.
async fn abandoned(stop: &CancellationToken, shutdown: &CancellationToken, end_of_input: &CancellationToken) {
    let gone = async {
        end_of_input.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    let failed = async {
        stop.cancelled().await;
        if shutdown.is_cancelled() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = failed => {}
    }
}

/// Writes one response; the client must take some of it within every `patience`.
async fn write(output: &mut OwnedWriteHalf, response: Response, patience: Duration) -> Result<(), Closed> {
    let mut parts = &response.parts[..];
    while !parts.is_empty() {
        let in_memory = parts.iter().take_while(|part| matches!(part, Batches::Bytes(_))).count();
        let (run, rest) = parts.split_at(in_memory);
        write_bytes(output, run, patience).await?;
        parts = rest;
        if let Some((Batches::Range(range), rest)) = parts.split_first() {
            send_file::send(output.as_ref(), range, patience).await.map_err(|error| match error.kind() {
                ErrorKind::TimedOut => Closed::Stalled,
                _ => Closed::Io(error),
            })?;
            parts = rest;
        }
    }
    Ok(())
}

async fn write_bytes(output: &mut OwnedWriteHalf, parts: &[Batches], patience: Duration) -> Result<(), Closed> {
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(parts.len());
    for part in parts {
        if let Batches::Bytes(bytes) = part {
            slices.push(IoSlice::new(bytes));
        }
    }
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let written = timeout(patience, output.write_vectored(rest)).await.map_err(|_| Closed::Stalled)??;
        if written == 0 {
            return Err(Closed::Stalled);
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}
