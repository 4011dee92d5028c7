//! From input to courier.

use std::time::Duration;

use tokio::sync::watch;

use super::input::{Input, InputError};
use super::resume::{Resume, ResumeError};
use crate::send::{Batch, Courier, Pace, SendError, Summary};

#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Events per request, at most.
    pub batch_events: usize,
    /// Bytes per request, about; a single event may be larger.
    pub batch_bytes: usize,
    /// Events per second; as fast as the door takes them if `None`.
    pub rate: Option<u32>,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { batch_events: 1000, batch_bytes: 512 << 10, rate: None }
    }
}

/// How far a replay has come.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Lines or elements read, including those of an earlier, interrupted replay.
    pub items: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub bytes_read: u64,
}

#[derive(Debug)]
pub struct Ending {
    pub summary: Summary,
    /// Stopped before the end; what was acknowledged is noted.
    pub interrupted: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
}

/// What is under way when a replay is stopped gets this long to be acknowledged.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Sends what `resume` does not already count as acknowledged, until the input's end or until `stop` turns true. The
/// courier should begin with `resume`'s summary. However it ends, what was acknowledged is noted in `resume`.
pub async fn run(
    input: &mut Input,
    courier: &mut Courier,
    resume: Option<&mut Resume>,
    options: &ReplayOptions,
    mut stop: watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Ending, ReplayError> {
    let mut resume = resume;
    let skip = resume.as_ref().map_or(0, |resume| resume.acknowledged());
    let outcome = tokio::select! {
        outcome = deliver(input, courier, &mut resume, skip, options, progress) => Some(outcome),
        () = stopped(&mut stop) => None,
    };
    let interrupted = outcome.is_none();
    if interrupted {
        let _ = tokio::time::timeout(STOP_GRACE, courier.finish()).await;
    }
    let acknowledged = courier.acknowledged().max(skip);
    if let Some(resume) = resume
        && acknowledged > 0
    {
        resume.save(acknowledged, courier.summary())?;
    }
    outcome.transpose()?;
    Ok(Ending { summary: courier.summary().clone(), interrupted })
}

/// Ends when `stop` turns true; never, if nobody can turn it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

async fn deliver(
    input: &mut Input,
    courier: &mut Courier,
    resume: &mut Option<&mut Resume>,
    skip: u64,
    options: &ReplayOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), ReplayError> {
    let mut pace = Pace::new(options.rate);
    let batch_events = pace.batch_events(options.batch_events);
    let mut passed = 0u32;
    let mut ended = false;
    let mut broken = None;
    while !ended {
        let mut batch = Batch::default();
        while batch.numbers.len() < batch_events && batch.body.len() < options.batch_bytes {
            let start = batch.body.len();
            let item = match input.next(&mut batch.body) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    ended = true;
                    break;
                }
                Err(error) => {
                    // What was read before is sent all the same.
                    broken = Some(error);
                    ended = true;
                    break;
                }
            };
            if item.number <= skip {
                // Read again all the same: occurrences are counted from the file's beginning.
                batch.body.truncate(start);
                passed += 1;
                if passed.is_multiple_of(10_000) {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            batch.last = item.number;
            match item.malformed {
                None => batch.numbers.push(item.number),
                Some(reason) => {
                    batch.malformed.push((item.number, reason));
                    if batch.malformed.len() >= batch_events {
                        break;
                    }
                }
            }
        }
        pace.wait(batch.numbers.len()).await;
        let items = batch.last;
        courier.send(batch).await?;
        if ended {
            courier.finish().await?;
        }
        if let Some(resume) = resume {
            resume.advance(courier.acknowledged().max(skip), courier.summary())?;
        }
        let summary = courier.summary();
        progress(Progress {
            items: items.max(skip),
            accepted: summary.accepted,
            rejected: summary.rejected,
            bytes_read: input.bytes_read(),
        });
    }
    broken.map_or(Ok(()), |error| Err(error.into()))
}
