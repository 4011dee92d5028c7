//! Content encodings: compressed bytes in, decompressed bytes out into one growing [`Buffer`] within its limits.

use std::io::{self, Write};

use axum::http::{HeaderMap, StatusCode, header};
use flate2::write::MultiGzDecoder;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use crate::Problem;
use crate::budget::Lease;

/// Room made for decompressed output at a time.
const STEP_BYTES: usize = 64 << 10;
/// What a gzip decoder holds besides its output.
const GZIP_STATE_BYTES: usize = 80 << 10;
/// The largest window of a zstd frame is 8 MiB, as RFC 8878 recommends: what `zstd -19` needs.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    pub fn of(headers: &HeaderMap) -> Result<Encoding, Problem> {
        let mut found = Encoding::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let text = value.to_str().map_err(|_| unsupported(format!("content-encoding {value:?} is not text")))?;
            for token in text.split(',').map(str::trim).filter(|token| !token.is_empty()) {
                let next = match token.to_ascii_lowercase().as_str() {
                    "identity" => continue,
                    "gzip" | "x-gzip" => Encoding::Gzip,
                    "zstd" => Encoding::Zstd,
                    _ => return Err(unsupported(format!("content-encoding {token:?} is not known: use gzip or zstd"))),
                };
                if found != Encoding::Identity {
                    return Err(unsupported("stacked content encodings are not supported: compress once".to_string()));
                }
                found = next;
            }
        }
        Ok(found)
    }

    pub fn name(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
        }
    }
}

fn unsupported(detail: String) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-encoding",
        "The body's encoding is not supported",
        detail,
    )
    .closing()
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum DecodeError {
    #[error("the body is larger than the limit of {0} bytes")]
    TooLarge(usize),
    #[error("the request does not fit into the memory for requests in flight")]
    OverBudget,
    #[error("the {0} body is cut off: it ends in the middle, or before a checksum that matches")]
    Truncated(&'static str),
    #[error("the body is not valid {0}: {1}")]
    Corrupt(&'static str, String),
}

/// The body as it grows. What it allocates is held of the door's budget first.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    limit: usize,
    lease: Lease,
    /// Memory besides the bytes.
    state_bytes: usize,
    /// Why a write was refused, for decoders that can only pass an `io::Error` on.
    refused: Option<DecodeError>,
}

impl Buffer {
    pub(crate) fn new(limit: usize, expected_bytes: usize, lease: Lease) -> Result<Buffer, DecodeError> {
        let mut buffer = Buffer { bytes: Vec::new(), limit, lease, state_bytes: 0, refused: None };
        buffer.room(expected_bytes.min(limit))?;
        Ok(buffer)
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, Lease) {
        (self.bytes, self.lease)
    }

    /// Makes room for `more` bytes. Grows by doubling; what decompresses beyond the limit is found out by one byte.
    fn room(&mut self, more: usize) -> Result<(), DecodeError> {
        let needed = self.bytes.len() + more;
        if needed <= self.bytes.capacity() {
            return Ok(());
        }
        let capacity = needed.max((self.bytes.capacity() * 2).min(self.limit + 1));
        self.lease.hold(capacity + self.state_bytes).map_err(|_| DecodeError::OverBudget)?;
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    fn hold_state(&mut self, state_bytes: usize) -> Result<(), DecodeError> {
        if state_bytes != self.state_bytes {
            self.state_bytes = state_bytes;
            self.lease.hold(self.bytes.capacity() + state_bytes).map_err(|_| DecodeError::OverBudget)?;
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(DecodeError::TooLarge(self.limit));
        }
        self.room(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.push(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.refused = Some(error);
                Err(io::Error::other("refused"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the body's bytes as they arrive.
pub(crate) enum Decoder {
    Identity(Buffer),
    Gzip { decoder: Box<MultiGzDecoder<Buffer>>, begun: bool },
    Zstd { context: DCtx<'static>, buffer: Buffer, between_frames: bool },
}

impl Decoder {
    pub(crate) fn new(encoding: Encoding, mut buffer: Buffer) -> Result<Decoder, DecodeError> {
        Ok(match encoding {
            Encoding::Identity => Decoder::Identity(buffer),
            Encoding::Gzip => {
                buffer.hold_state(GZIP_STATE_BYTES)?;
                Decoder::Gzip { decoder: Box::new(MultiGzDecoder::new(buffer)), begun: false }
            }
            Encoding::Zstd => {
                let mut context = DCtx::create();
                context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(corrupt_zstd)?;
                buffer.hold_state(context.sizeof())?;
                Decoder::Zstd { context, buffer, between_frames: true }
            }
        })
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        match self {
            Decoder::Identity(buffer) => buffer.push(chunk),
            Decoder::Gzip { decoder, begun } => {
                *begun |= !chunk.is_empty();
                decoder.write_all(chunk).map_err(|error| gzip_error(decoder, error))
            }
            Decoder::Zstd { context, buffer, between_frames } => {
                let mut input = InBuffer::around(chunk);
                loop {
                    if input.pos == chunk.len() && (*between_frames || buffer.bytes.len() < buffer.bytes.capacity()) {
                        return Ok(());
                    }
                    if buffer.bytes.len() == buffer.bytes.capacity() {
                        buffer.room(STEP_BYTES.min(buffer.limit + 1 - buffer.bytes.len()))?;
                    }
                    let filled = buffer.bytes.len();
                    let mut output = OutBuffer::around_pos(&mut buffer.bytes, filled);
                    let missing = context.decompress_stream(&mut output, &mut input).map_err(corrupt_zstd)?;
                    *between_frames = missing == 0;
                    if buffer.bytes.len() > buffer.limit {
                        return Err(DecodeError::TooLarge(buffer.limit));
                    }
                    buffer.hold_state(context.sizeof())?;
                }
            }
        }
    }

    pub(crate) fn finish(self) -> Result<Buffer, DecodeError> {
        match self {
            Decoder::Identity(buffer) => Ok(buffer),
            Decoder::Gzip { mut decoder, begun } => {
                if !begun {
                    return Err(DecodeError::Truncated("gzip"));
                }
                // Whatever was corrupt in itself failed when it was written.
                if decoder.try_finish().is_err() {
                    return Err(decoder.get_mut().refused.take().unwrap_or(DecodeError::Truncated("gzip")));
                }
                decoder.finish().map_err(|error| DecodeError::Corrupt("gzip", error.to_string()))
            }
            Decoder::Zstd { buffer, between_frames: true, .. } => Ok(buffer),
            Decoder::Zstd { .. } => Err(DecodeError::Truncated("zstd")),
        }
    }
}

fn gzip_error(decoder: &mut MultiGzDecoder<Buffer>, error: io::Error) -> DecodeError {
    match decoder.get_mut().refused.take() {
        Some(refused) => refused,
        None => DecodeError::Corrupt("gzip", error.to_string()),
    }
}

fn corrupt_zstd(code: usize) -> DecodeError {
    DecodeError::Corrupt("zstd", get_error_name(code).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ByteBudget;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn decode(encoding: Encoding, body: &[u8], chunk: usize, limit: usize) -> Result<Vec<u8>, DecodeError> {
        let budget = ByteBudget::new(64 << 20);
        let decoded = (|| {
            let mut decoder = Decoder::new(encoding, Buffer::new(limit, 0, budget.lease())?)?;
            for chunk in body.chunks(chunk) {
                decoder.push(chunk)?;
            }
            Ok(decoder.finish()?.into_parts().0)
        })();
        assert_eq!(budget.used_bytes(), 0);
        decoded
    }

    fn text() -> Vec<u8> {
        (0..20_000).flat_map(|line| format!("{{\"id\":\"e{line}\"}}\n").into_bytes()).collect()
    }

    #[test]
    fn whole_bodies_come_back_whatever_the_chunks() {
        let text = text();
        for chunk in [1, 7, 4096, usize::MAX] {
            assert_eq!(decode(Encoding::Identity, &text, chunk, 1 << 20).as_ref(), Ok(&text));
            assert_eq!(decode(Encoding::Gzip, &gzip(&text), chunk, 1 << 20).as_ref(), Ok(&text));
            assert_eq!(decode(Encoding::Zstd, &zstd(&text), chunk, 1 << 20).as_ref(), Ok(&text));
        }
    }

    #[test]
    fn members_and_frames_are_joined() {
        for (encoding, compress) in [(Encoding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Encoding::Zstd, zstd)] {
            let body = [compress(b"one\n"), compress(b""), compress(b"two\n")].concat();
            for chunk in [1, 5, usize::MAX] {
                assert_eq!(decode(encoding, &body, chunk, 100), Ok(b"one\ntwo\n".to_vec()));
            }
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        for (encoding, body) in [(Encoding::Gzip, gzip(&text()[..300])), (Encoding::Zstd, zstd(&text()[..300]))] {
            for cut in 1..body.len() {
                assert_eq!(decode(encoding, &body[..cut], 64, 1000), Err(DecodeError::Truncated(encoding.name())));
            }
        }
    }

    #[test]
    fn garbage_is_corrupt() {
        let junk = b"this is no compressed body at all";
        assert!(matches!(decode(Encoding::Gzip, junk, 8, 1000), Err(DecodeError::Corrupt("gzip", _))));
        assert!(matches!(decode(Encoding::Zstd, junk, 8, 1000), Err(DecodeError::Corrupt("zstd", _))));
        let mut trailing = gzip(b"fine");
        trailing.extend_from_slice(junk);
        assert!(matches!(decode(Encoding::Gzip, &trailing, 8, 1000), Err(DecodeError::Corrupt("gzip", _))));
    }

    #[test]
    fn the_limit_is_exact_and_bombs_stop_at_it() {
        let text = text();
        for (encoding, body) in [(Encoding::Gzip, gzip(&text)), (Encoding::Zstd, zstd(&text))] {
            assert!(decode(encoding, &body, 999, text.len()).is_ok());
            assert_eq!(decode(encoding, &body, 999, text.len() - 1), Err(DecodeError::TooLarge(text.len() - 1)));
        }
        let zeros = vec![0; 100 << 20];
        assert_eq!(decode(Encoding::Gzip, &gzip(&zeros), 4096, 1 << 20), Err(DecodeError::TooLarge(1 << 20)));
        assert_eq!(decode(Encoding::Zstd, &zstd(&zeros), 4096, 1 << 20), Err(DecodeError::TooLarge(1 << 20)));
    }

    #[test]
    fn the_budget_bounds_what_is_held() {
        let budget = ByteBudget::new(100_000);
        let mut decoder = Decoder::new(Encoding::Identity, Buffer::new(1 << 20, 0, budget.lease()).unwrap()).unwrap();
        let pushed = (0..100).find_map(|_| decoder.push(&[b'x'; 4096]).err());
        assert_eq!(pushed, Some(DecodeError::OverBudget));
        assert!(budget.used_bytes() <= 100_000);
    }
}
