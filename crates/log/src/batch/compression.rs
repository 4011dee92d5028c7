//! The five codecs of a batch's records, as the clients of the field really frame them.

use std::io::{self, Read, Write};

use super::BatchError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// snappy-java's stream framing, sent by Java clients: this magic, two version numbers, then length-prefixed blocks.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// Snappy cannot expand its input further than this (a copy of at most 64 bytes takes at least 2).
const SNAPPY_MAX_RATIO: usize = 64;
/// What events in JSON come to decompressed, at most, usually: growing the output would copy it.
const USUAL_RATIO: usize = 8;

impl Compression {
    pub(super) fn from_attributes(attributes: i16) -> Result<Compression, BatchError> {
        Ok(match attributes & 0x07 {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            other => return Err(BatchError::Invalid(format!("unknown compression {other}"))),
        })
    }

    pub(super) fn attributes(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// `output` (which already holds a header) with the compressed `input` appended.
    pub(super) fn compress(self, input: &[u8], mut output: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => {
                output.extend_from_slice(input);
                Ok(output)
            }
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
                encoder.write_all(input)?;
                encoder.finish()
            }
            Compression::Snappy => {
                let start = output.len();
                output.resize(start + snap::raw::max_compress_len(input.len()), 0);
                let written = snap::raw::Encoder::new().compress(input, &mut output[start..])?;
                output.truncate(start + written);
                Ok(output)
            }
            Compression::Lz4 => {
                use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
                // Java's reader accepts independent blocks only.
                let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                let mut encoder = FrameEncoder::with_frame_info(info, output);
                encoder.write_all(input)?;
                encoder.finish().map_err(io::Error::other)
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(output, 1)?;
                encoder.write_all(input)?;
                encoder.finish()
            }
        }
    }

    /// At most `limit` bytes of decompressed `input`.
    pub(super) fn decompress(self, input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Compression::None if input.len() > limit => Err(BatchError::TooLarge(limit)),
            Compression::None => Ok(input.to_vec()),
            Compression::Gzip => read_limited(flate2::read::MultiGzDecoder::new(input), input.len(), limit),
            Compression::Snappy => decompress_snappy(input, limit),
            Compression::Lz4 => read_limited(lz4_flex::frame::FrameDecoder::new(input), input.len(), limit),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(invalid)?;
                // The window is allocated as the frame asks: never much more than the output may be.
                let window_log = usize::BITS - limit.leading_zeros();
                decoder.window_log_max(window_log.clamp(23, 27)).map_err(invalid)?;
                read_limited(decoder, input.len(), limit)
            }
        }
    }
}

fn read_limited(decoder: impl Read, input_bytes: usize, limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Vec::with_capacity(input_bytes.saturating_mul(USUAL_RATIO).min(limit));
    decoder.take(limit as u64 + 1).read_to_end(&mut output).map_err(invalid)?;
    if output.len() > limit { Err(BatchError::TooLarge(limit)) } else { Ok(output) }
}

fn decompress_snappy(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Vec::new();
    if !input.starts_with(XERIAL_MAGIC) {
        append_snappy_block(input, &mut output, limit)?;
        return Ok(output);
    }
    let mut rest = input.get(XERIAL_HEADER_BYTES..).unwrap_or_default();
    while !rest.is_empty() {
        let block = rest.split_first_chunk::<4>().and_then(|(length, after)| {
            let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
            after.split_at_checked(length)
        });
        let Some((block, after)) = block else {
            return Err(BatchError::Invalid("snappy block runs past the batch".into()));
        };
        append_snappy_block(block, &mut output, limit)?;
        rest = after;
    }
    Ok(output)
}

fn append_snappy_block(block: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
    let announced = snap::raw::decompress_len(block).map_err(invalid)?;
    let start = output.len();
    if announced > limit - start {
        return Err(BatchError::TooLarge(limit));
    }
    if announced > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(BatchError::Invalid("snappy block announces more than it can hold".into()));
    }
    output.resize(start + announced, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut output[start..]).map_err(invalid)?;
    output.truncate(start + written);
    Ok(())
}

fn invalid(error: impl std::fmt::Display) -> BatchError {
    BatchError::Invalid(format!("records do not decompress: {error}"))
}
