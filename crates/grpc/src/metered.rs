//! Bytes of requests on their way, counted frame by frame: tonic gathers a whole message before a handler sees it, so a
//! limit per message alone would let many callers fill the memory together.
//!
//! A frame that finds no room waits, and is not read from the connection meanwhile; but not for ever, as two half-read
//! messages would wait for each other. A message that has begun has to arrive, lest its beginning is held for ever.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use playhouse_gate::Share;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::PollSemaphore;
use tonic::Status;

use crate::refusal;

const ROOM_RETRY: Duration = Duration::from_secs(1);
/// Before each message: a flag, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// How long a message may take to arrive.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// How far its sender may fall behind `bytes_per_second_min`.
    pub patience: Duration,
    pub bytes_per_second_min: usize,
    /// In any case.
    pub time_max: Duration,
    /// How long a part of it may wait for memory.
    pub room_wait_max: Duration,
}

impl Default for Arrival {
    fn default() -> Self {
        Arrival {
            patience: Duration::from_secs(10),
            bytes_per_second_min: 16 << 10,
            time_max: Duration::from_secs(300),
            room_wait_max: Duration::from_secs(5),
        }
    }
}

impl Arrival {
    fn allows(&self, received: usize) -> Duration {
        let earned = received as f64 / self.bytes_per_second_min.max(1) as f64;
        (self.patience + Duration::from_secs_f64(earned)).min(self.time_max)
    }
}

/// What one call holds of the budget. Handlers find it among the request's extensions.
#[derive(Clone)]
pub(crate) struct Held(Arc<Inner>);

struct Inner {
    budget: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bytes: usize,
    /// Sizes of messages that have arrived whole and were not dealt with.
    whole: VecDeque<usize>,
    /// What the answer holds besides.
    share: Option<Share>,
}

impl Held {
    pub(crate) fn new(budget: Arc<Semaphore>) -> Held {
        Held(Arc::new(Inner { budget, state: Mutex::default() }))
    }

    /// The oldest message has been dealt with.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        if let Some(bytes) = state.whole.pop_front() {
            state.bytes -= bytes;
            self.0.budget.add_permits(bytes);
        }
    }

    /// Until the answer is gone, too.
    pub(crate) fn keep(&self, share: Share) {
        self.state().share = Some(share);
    }

    /// For bytes that there are permits for.
    fn take(&self, bytes: usize, whole: impl Iterator<Item = usize>) {
        let mut state = self.state();
        state.bytes += bytes;
        state.whole.extend(whole);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.add_permits(state.bytes);
    }
}

/// Where one message ends and the next begins.
#[derive(Default)]
struct Messages {
    /// Of the message that has begun.
    received: usize,
    length: [u8; 4],
}

impl Messages {
    /// Goes on by a frame; sizes of the messages that end in it, with their prefixes.
    fn advance(&mut self, mut frame: &[u8]) -> Vec<usize> {
        let mut whole = Vec::new();
        while !frame.is_empty() {
            if self.received < PREFIX_BYTES {
                if self.received > 0 {
                    self.length[self.received - 1] = frame[0];
                }
                self.received += 1;
                frame = &frame[1..];
            }
            if self.received >= PREFIX_BYTES {
                let size = PREFIX_BYTES + u32::from_be_bytes(self.length) as usize;
                let more = (size - self.received).min(frame.len());
                self.received += more;
                frame = &frame[more..];
                if self.received == size {
                    whole.push(size);
                    self.received = 0;
                }
            }
        }
        whole
    }
}

pub(crate) struct Metered<B> {
    body: B,
    held: Held,
    arrival: Arrival,
    messages: Messages,
    room: PollSemaphore,
    waiting: Option<(Bytes, Pin<Box<Sleep>>)>,
    /// How long the message that has begun was waited for, in all, and the wait that lasts.
    waited: Duration,
    slow: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B> Metered<B> {
    pub(crate) fn new(body: B, held: Held, arrival: Arrival) -> Metered<B> {
        let room = PollSemaphore::new(held.0.budget.clone());
        let (messages, waited) = Default::default();
        Metered { body, held, arrival, messages, room, waiting: None, waited, slow: None }
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let Some((frame, deadline)) = &mut self.waiting else { return Poll::Ready(Ok(Bytes::new())) };
        let bytes = frame.len();
        match self.room.poll_acquire_many(context, u32::try_from(bytes).unwrap_or(u32::MAX)) {
            Poll::Ready(Some(permit)) => {
                permit.forget();
                let whole = self.messages.advance(frame);
                if !whole.is_empty() {
                    self.waited = Duration::ZERO;
                }
                self.held.take(bytes, whole.into_iter());
            }
            Poll::Ready(None) => return Poll::Ready(Err(Status::unavailable("the server is stopping"))),
            Poll::Pending => {
                ready!(deadline.as_mut().poll(context));
                let message = "requests in flight hold all memory there is for them: retry later, or send less at once";
                return Poll::Ready(Err(refusal::later(message.to_owned(), ROOM_RETRY)));
            }
        }
        Poll::Ready(Ok(self.waiting.take().map(|(frame, _)| frame).unwrap_or_default()))
    }

    /// Counts the time in which the rest of a message is waited for, and no other: while the caller is not read from, it is
    /// not the one who is slow.
    fn poll_slow(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let received = self.messages.received;
        if received == 0 {
            return Poll::Pending;
        }
        let (_, timer) = self.slow.get_or_insert_with(|| {
            let now = Instant::now();
            let left = self.arrival.allows(received).saturating_sub(self.waited);
            (now, Box::pin(sleep_until(now + left)))
        });
        ready!(timer.as_mut().poll(context));
        let least = self.arrival.bytes_per_second_min;
        let message = format!(
            "a message did not arrive in time ({received} bytes did): at least {least} bytes a second are expected"
        );
        Poll::Ready(Status::deadline_exceeded(message))
    }

    fn came(&mut self) {
        if let Some((since, _)) = self.slow.take() {
            self.waited += since.elapsed();
        }
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
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return self.poll_slow(context).map(|status| Some(Err(status))),
                Poll::Ready(frame) => frame,
            };
            self.came();
            let frame = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(Status::cancelled(error.to_string())))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(mut data) => {
                    let bytes = data.copy_to_bytes(data.remaining());
                    self.waiting = Some((bytes, Box::pin(sleep(self.arrival.room_wait_max))));
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
        held.take(60, [10, 20].into_iter());
        held.release();
        assert_eq!(budget.available_permits(), 50);
        held.release();
        held.release();
        assert_eq!(budget.available_permits(), 70, "a message that has only begun is not dealt with");
        drop(held);
        assert_eq!(budget.available_permits(), 100);
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let message = |length: u32| {
            let mut bytes = vec![0];
            bytes.extend(length.to_be_bytes());
            bytes.resize(PREFIX_BYTES + length as usize, 0xff);
            bytes
        };
        let lengths = [3, 0, 300, 0, 70_000];
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
        let sizes: Vec<usize> = lengths.iter().map(|length| PREFIX_BYTES + *length as usize).collect();
        for cut in [1, 2, 4, 5, 7, 1000, bytes.len()] {
            let mut messages = Messages::default();
            let found: Vec<usize> = bytes.chunks(cut).flat_map(|frame| messages.advance(frame)).collect();
            assert_eq!((found, messages.received), (sizes.clone(), 0), "{cut}");
        }
        let mut messages = Messages::default();
        assert!(messages.advance(&bytes[..7]).is_empty());
        assert_eq!(messages.received, 7);
    }
}
