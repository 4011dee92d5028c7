//! Answers on their way out. What an answer is made of is held until it is taken, so a caller that does not take its answers
//! would hold it for ever: its connection is cut.
//!
//! HTTP/2 asks for the next frame of an answer when there is room for it at the caller. So a frame that was handed over and
//! after which no other was asked for has not been taken.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use playhouse_http::Begun;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::metered::Held;

/// A large frame has time by its size.
const BYTES_PER_SECOND_MIN: usize = 16 << 10;

/// Frames that were handed over and not taken, of all calls.
#[derive(Debug, Default)]
pub(crate) struct Untaken {
    next: AtomicU64,
    frames: Mutex<HashMap<u64, (Instant, CancellationToken)>>,
}

impl Untaken {
    /// Cuts the connections of those who take nothing. Never ends.
    pub(crate) async fn watch(&self, patience: Duration) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(patience / 8).await;
            let now = Instant::now();
            for (deadline, cut) in self.frames().values() {
                if *deadline <= now {
                    cut.cancel();
                }
            }
        }
    }

    fn frames(&self) -> MutexGuard<'_, HashMap<u64, (Instant, CancellationToken)>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be known about a call until its answer is taken.
pub(crate) struct Call {
    pub(crate) begun: Begun,
    /// Given back when the answer is gone.
    pub(crate) _held: Held,
    pub(crate) untaken: Arc<Untaken>,
    pub(crate) patience: Duration,
    /// Cuts the caller's connection.
    pub(crate) cut: CancellationToken,
}

impl Drop for Call {
    /// Where there was no outcome, the caller has gone or its deadline has passed.
    fn drop(&mut self) {
        self.begun.ended(Code::Cancelled as u16);
    }
}

pub(crate) struct Answer<B> {
    body: B,
    call: Call,
    untaken: Option<u64>,
}

impl<B> Answer<B> {
    pub(crate) fn new(body: B, call: Call) -> Answer<B> {
        Answer { body, call, untaken: None }
    }

    fn handed_over(&mut self, bytes: usize) {
        let id = self.call.untaken.next.fetch_add(1, Ordering::Relaxed);
        let patience = self.call.patience + Duration::from_secs((bytes / BYTES_PER_SECOND_MIN) as u64);
        self.call.untaken.frames().insert(id, (Instant::now() + patience, self.call.cut.clone()));
        self.untaken = Some(id);
    }

    fn taken(&mut self) {
        if let Some(id) = self.untaken.take() {
            self.call.untaken.frames().remove(&id);
        }
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.taken();
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.taken();
        let polled = Pin::new(&mut self.body).poll_frame(context);
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map(|frame| {
                    let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                    if let Some(data) = frame.data_ref() {
                        self.handed_over(data.len());
                    }
                    if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                        self.call.begun.ended(status.code() as u16);
                    }
                    frame
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
