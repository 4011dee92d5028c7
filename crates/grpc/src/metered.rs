//! Bytes of requests on their way, counted frame by frame: tonic gathers a whole message before a handler sees it, so a
//! limit per message alone would let many callers fill the memory together.
//!
//! A frame that finds no room waits, and is not read from the connection meanwhile; but not for ever, as two half-read
//! messages would wait for each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::PollSemaphore;
use tonic::Status;

const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);

/// What one call holds of the budget. Handlers find it among the request's extensions.
#[derive(Clone)]
pub(crate) struct Held(Arc<Inner>);

struct Inner {
    budget: Arc<Semaphore>,
    bytes: AtomicUsize,
}

impl Held {
    pub(crate) fn new(budget: Arc<Semaphore>) -> Held {
        Held(Arc::new(Inner { budget, bytes: AtomicUsize::new(0) }))
    }

    /// A message has been dealt with; at most what is held is given back.
    pub(crate) fn release(&self, bytes: usize) {
        let mut released = 0;
        let less = |held: usize| {
            released = bytes.min(held);
            Some(held - released)
        };
        if self.0.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok() {
            self.0.budget.add_permits(released);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.add_permits(*self.bytes.get_mut());
    }
}

pub(crate) struct Metered<B> {
    body: B,
    held: Held,
    room: PollSemaphore,
    waiting: Option<(Bytes, Pin<Box<Sleep>>)>,
}

impl<B> Metered<B> {
    pub(crate) fn new(body: B, held: Held) -> Metered<B> {
        let room = PollSemaphore::new(held.0.budget.clone());
        Metered { body, held, room, waiting: None }
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let Some((frame, deadline)) = &mut self.waiting else { return Poll::Ready(Ok(Bytes::new())) };
        let bytes = frame.len();
        match self.room.poll_acquire_many(context, u32::try_from(bytes).unwrap_or(u32::MAX)) {
            Poll::Ready(Some(permit)) => {
                permit.forget();
                self.held.0.bytes.fetch_add(bytes, Ordering::AcqRel);
            }
            Poll::Ready(None) => return Poll::Ready(Err(Status::unavailable("the server is stopping"))),
            Poll::Pending => {
                ready!(deadline.as_mut().poll(context));
                let message = "requests in flight hold all memory there is for them: retry later, or send less at once";
                return Poll::Ready(Err(Status::resource_exhausted(message)));
            }
        }
        Poll::Ready(Ok(self.waiting.take().map(|(frame, _)| frame).unwrap_or_default()))
    }
}

impl<B: Body + Unpin> Body for Metered<B>
where
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.waiting.is_none() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(Status::cancelled(error.to_string())))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(mut data) => {
                    let bytes = data.copy_to_bytes(data.remaining());
                    self.waiting = Some((bytes, Box::pin(sleep(ROOM_WAIT_MAX))));
                }
                Err(other) => return Poll::Ready(Some(Ok(other.map_data(|_| Bytes::new())))),
            }
        }
        let bytes = ready!(self.poll_room(context));
        Poll::Ready(Some(bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_holds_is_given_back() {
        let budget = Arc::new(Semaphore::new(100));
        let held = Held::new(budget.clone());
        budget.try_acquire_many(60).unwrap().forget();
        held.0.bytes.store(60, Ordering::Relaxed);
        held.release(10);
        assert_eq!(budget.available_permits(), 50);
        held.release(1000);
        assert_eq!(budget.available_permits(), 100);
        budget.try_acquire_many(7).unwrap().forget();
        held.0.bytes.store(7, Ordering::Relaxed);
        drop(held);
        assert_eq!(budget.available_permits(), 100);
    }
}
