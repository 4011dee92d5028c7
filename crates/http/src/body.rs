//! Reads a request body into one buffer: as it arrives, decompressed on the way, within limits of size, memory and time;
//! and a response's body that gives back what its request held.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::Problem;
use crate::budget::Lease;
use crate::encoding::{Buffer, DecodeError, Decoder, Encoding};

/// Room made at once for a body whose length is announced: an announcement is not yet bytes.
const FIRST_ROOM_BYTES: usize = 256 << 10;
pub(crate) const BUSY_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct BodyLimits {
    /// Of the body as sent, where it is compressed.
    pub compressed_bytes_max: usize,
    /// Of the body as it is, or as it decompresses.
    pub bytes_max: usize,
    /// How far a sender may fall behind `bytes_per_second_min` before it is cut off.
    pub patience: Duration,
    pub bytes_per_second_min: usize,
    /// However fast it comes, a body has to be complete after this time.
    pub time_max: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        BodyLimits {
            compressed_bytes_max: 32 << 20,
            bytes_max: 64 << 20,
            patience: Duration::from_secs(10),
            bytes_per_second_min: 16 << 10,
            time_max: Duration::from_secs(300),
        }
    }
}

/// A body and its share of the budget, to be kept until nothing of the request is in memory any more.
#[derive(Debug)]
pub struct Received {
    pub bytes: Bytes,
    pub lease: Lease,
}

/// `announced` is the Content-Length.
pub async fn receive(
    mut body: Body,
    announced: Option<usize>,
    encoding: Encoding,
    limits: &BodyLimits,
    lease: Lease,
) -> Result<Received, Problem> {
    let wire_max = if encoding == Encoding::Identity { limits.bytes_max } else { limits.compressed_bytes_max };
    if let Some(length) = announced.filter(|length| *length > wire_max) {
        return Err(too_large(format!("the body of {length} bytes is larger than the limit of {wire_max} bytes")));
    }
    let refused = |error| refusal(error, encoding);
    let buffer = Buffer::new(limits.bytes_max, announced.unwrap_or(0).min(FIRST_ROOM_BYTES), lease).map_err(refused)?;
    let mut decoder = Decoder::new(encoding, buffer).map_err(refused)?;
    let begun = Instant::now();
    let mut received = 0;
    loop {
        let earned = Duration::from_secs_f64(received as f64 / limits.bytes_per_second_min.max(1) as f64);
        let deadline = begun + (limits.patience + earned).min(limits.time_max);
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(too_slow(received, begun.elapsed(), limits)),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(
                    Problem::bad_request(format!("the body broke off after {received} bytes: {error}")).closing()
                );
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(chunk) = frame.into_data() else { continue };
        received += chunk.len();
        if received > wire_max {
            return Err(too_large(format!("the body is larger than the limit of {wire_max} bytes")));
        }
        decoder.push(&chunk).map_err(refused)?;
    }
    let (bytes, lease) = decoder.finish().map_err(refused)?.into_parts();
    Ok(Received { bytes: Bytes::from(bytes), lease })
}

fn refusal(error: DecodeError, encoding: Encoding) -> Problem {
    match error {
        DecodeError::TooLarge(limit) if encoding == Encoding::Identity => {
            too_large(format!("the body is larger than the limit of {limit} bytes"))
        }
        DecodeError::TooLarge(limit) => {
            too_large(format!("the {} body decompresses to more than the limit of {limit} bytes", encoding.name()))
        }
        DecodeError::OverBudget => {
            Problem::busy(format!("{error}: retry later, or send less at once"), BUSY_RETRY).closing()
        }
        DecodeError::Truncated(_) | DecodeError::Corrupt(..) => Problem::bad_request(error.to_string()).closing(),
    }
}

fn too_large(detail: String) -> Problem {
    Problem::too_large(format!("{detail}: send it in parts")).closing()
}

fn too_slow(received: usize, elapsed: Duration, limits: &BodyLimits) -> Problem {
    let detail = if elapsed >= limits.time_max {
        format!("the body was not complete after {} s ({received} bytes)", limits.time_max.as_secs_f32())
    } else {
        format!(
            "only {received} bytes of the body arrived in {:.1} s: at least {} bytes a second are expected",
            elapsed.as_secs_f32(),
            limits.bytes_per_second_min
        )
    };
    Problem::timeout(detail)
}

/// A response that keeps its request's share of the budget until it is handed to the socket.
pub struct LeasedBody {
    bytes: Option<Bytes>,
    _lease: Lease,
}

impl LeasedBody {
    pub fn new(bytes: Bytes, lease: Lease) -> LeasedBody {
        LeasedBody { bytes: Some(bytes), _lease: lease }
    }
}

impl HttpBody for LeasedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
