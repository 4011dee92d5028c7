//! Reads length-prefixed requests off a socket, never holding more than has arrived.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Requests up to this size are read without a share of the common budget, so that large ones cannot starve them.
const SMALL: usize = 1 << 20;
/// Only Produce carries bulk; any other request is refused above this size.
const CONTROL_MAX: usize = 8 << 20;
/// Key, version and correlation id.
const HEADER_MIN: usize = 8;
const READ_STEP: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a request of {size} bytes is outside {HEADER_MIN}..={limit}")]
    Size { size: i32, limit: usize },
    #[error("the connection ended inside a request")]
    Truncated,
    #[error("a request did not arrive within {} s", .0.as_secs())]
    Slow(Duration),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

#[derive(Debug)]
pub(crate) struct Frame {
    /// From the API key on, without the length.
    pub(crate) bytes: Bytes,
    pub(crate) budget: Option<OwnedSemaphorePermit>,
}

pub(crate) struct FrameReader<R> {
    input: R,
    buffer: BytesMut,
    frame_bytes_max: usize,
    transfer_timeout: Duration,
    /// In KiB.
    budget: Arc<Semaphore>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(input: R, frame_bytes_max: usize, transfer_timeout: Duration, budget: Arc<Semaphore>) -> Self {
        FrameReader { input, buffer: BytesMut::new(), frame_bytes_max, transfer_timeout, budget }
    }

    /// Waits for the first byte of the next request; `false` at the end of the input. Safe to cancel.
    pub(crate) async fn ready(&mut self) -> Result<bool, FrameError> {
        if self.buffer.is_empty() {
            self.buffer.reserve(READ_STEP);
            return Ok(self.input.read_buf(&mut self.buffer).await? > 0);
        }
        Ok(true)
    }

    /// From now on.
    pub(crate) fn limit(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// The request whose first byte is [`Self::ready`].
    pub(crate) async fn next(&mut self) -> Result<Frame, FrameError> {
        let timeout = self.transfer_timeout;
        let deadline = Instant::now() + timeout;
        timeout_at(deadline, self.read()).await.map_err(|_| FrameError::Slow(timeout))?
    }

    async fn read(&mut self) -> Result<Frame, FrameError> {
        self.fill(4 + 2).await?;
        let mut head = &self.buffer[..6];
        let (size, key) = (head.get_i32(), head.get_i16());
        let limit =
            if key == ApiKey::Produce as i16 { self.frame_bytes_max } else { self.frame_bytes_max.min(CONTROL_MAX) };
        let length = usize::try_from(size).ok().filter(|length| (HEADER_MIN..=limit).contains(length));
        let length = length.ok_or(FrameError::Size { size, limit })?;
        let budget = if length > SMALL {
            let permits = (length >> 10) as u32;
            Some(self.budget.clone().acquire_many_owned(permits).await.map_err(std::io::Error::other)?)
        } else {
            None
        };
        self.fill(4 + length).await?;
        self.buffer.advance(4);
        Ok(Frame { bytes: self.buffer.split_to(length).freeze(), budget })
    }

    async fn fill(&mut self, length: usize) -> Result<(), FrameError> {
        while self.buffer.len() < length {
            // At most doubles what has arrived: an announced length alone reserves nothing.
            let missing = length - self.buffer.len();
            self.buffer.reserve(missing.min(self.buffer.len().max(READ_STEP)));
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        Ok(())
    }
}
