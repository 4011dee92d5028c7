//! The epoch record: bytes in, values out.
//!
//! ```text
//! u32 length of everything after this field    u32 CRC-32C of the header    u32 length of the header
//! header (JSON)    delta (opaque)    dropped rows    kept streams (Arrow IPC, each as long as the header says)
//! ```
//! The header carries the length and CRC-32C of each section, so that a reader of one reads and checks no other. Dropped
//! rows are, source by source, a u32 count and as many u32 row numbers. All integers are little-endian.

use std::io::Cursor;

use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::{Position, TopicPartition};

/// A half-open range of offsets of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    #[serde(flatten)]
    pub partition: TopicPartition,
    pub from: i64,
    pub to: i64,
}

/// What the watermark is made of: the newest event time of a partition, and when it last had a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTime {
    #[serde(flatten)]
    pub partition: TopicPartition,
    pub max_event_ms: Option<i64>,
    pub active_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Counts from 1, without gaps.
    pub number: u64,
    /// The engine's clock when the epoch was cut, ms since the Unix epoch; state expires by it, so a replay is exact.
    pub clock_ms: i64,
    /// Of each source after this epoch; ms since the Unix epoch.
    pub watermarks_ms: Vec<Option<i64>>,
    /// Covered by this epoch, in the order in which they were read; partitions without new records are absent.
    pub ranges: Vec<OffsetRange>,
    /// Partitions whose times this epoch changed.
    pub times: Vec<PartitionTime>,
    /// Rows in each stream, whether they are kept in the record or not.
    pub rows: Vec<u64>,
    delta: Section,
    dropped: Section,
    /// Of the streams that are kept, the last ones of `rows`.
    kept: Vec<Section>,
}

impl Header {
    /// Moves `position` to the end of this epoch.
    pub fn advance(&self, position: &mut Position) {
        for range in &self.ranges {
            position.set(range.partition.clone(), range.to);
        }
    }

    /// Whether every record of this epoch lies before `position`.
    pub fn is_before(&self, position: &Position) -> bool {
        self.ranges.iter().all(|range| range.to <= position.get(&range.partition))
    }

    /// Whether some records of this epoch lie before `position` and some do not.
    pub fn straddles(&self, position: &Position) -> bool {
        !self.is_before(position) && self.ranges.iter().any(|range| range.from < position.get(&range.partition))
    }

    pub(super) fn delta_section(&self) -> Section {
        self.delta
    }

    /// Where the dropped rows lie after the header: offset and section.
    pub(super) fn dropped_section(&self) -> (u64, Section) {
        (self.delta.bytes, self.dropped)
    }

    /// Where stream `index` lies after the header: offset and section. `None` for one that is not kept.
    pub(super) fn stream_section(&self, index: usize) -> Option<(u64, Section)> {
        let index = index.checked_sub(self.rows.len().checked_sub(self.kept.len())?)?;
        let section = *self.kept.get(index)?;
        let before: u64 = self.kept[..index].iter().map(|stream| stream.bytes).sum();
        Some((self.delta.bytes + self.dropped.bytes + before, section))
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = Section> {
        [self.delta, self.dropped].into_iter().chain(self.kept.iter().copied())
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.sections().map(|section| section.bytes).sum()
    }
}

/// An epoch about to be written.
#[derive(Debug, Clone)]
pub struct Epoch {
    pub number: u64,
    pub clock_ms: i64,
    pub watermarks_ms: Vec<Option<i64>>,
    pub ranges: Vec<OffsetRange>,
    pub times: Vec<PartitionTime>,
    pub delta: Vec<u8>,
    /// By source: which of the decoded rows the plans did not see, counted from 0 over `ranges`, ascending.
    pub dropped: Vec<Vec<u32>>,
    /// Rows by stream.
    pub streams: Vec<Vec<RecordBatch>>,
    /// How many of the first streams can be computed again from `ranges` and `dropped`, and are therefore not kept.
    pub derived: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("epoch record is torn or corrupt: {0}")]
    Corrupt(&'static str),
    #[error("epoch header: {0}")]
    Header(#[from] serde_json::Error),
    #[error("rows of an epoch: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// Length, header CRC, header length.
pub(super) const PREFIX_BYTES: usize = 12;
/// Longer headers are not written, so a longer one read is corruption.
const HEADER_BYTES_MAX: usize = 16 << 20;

impl Epoch {
    /// The header, the bytes that precede the delta, and those that follow it.
    pub(super) fn encode(&self) -> Result<(Header, Vec<u8>, Vec<u8>), CodecError> {
        let mut tail = Vec::new();
        for rows in &self.dropped {
            tail.extend_from_slice(&(rows.len() as u32).to_le_bytes());
            rows.iter().for_each(|row| tail.extend_from_slice(&row.to_le_bytes()));
        }
        let dropped = section(&tail);
        let mut kept = Vec::new();
        for batches in &self.streams[self.derived..] {
            let start = tail.len();
            encode_batches(batches, &mut tail)?;
            kept.push(section(&tail[start..]));
        }
        let header = Header {
            number: self.number,
            clock_ms: self.clock_ms,
            watermarks_ms: self.watermarks_ms.clone(),
            ranges: self.ranges.clone(),
            times: self.times.clone(),
            rows: self
                .streams
                .iter()
                .map(|batches| batches.iter().map(|batch| batch.num_rows() as u64).sum())
                .collect(),
            delta: section(&self.delta),
            dropped,
            kept,
        };
        let json = serde_json::to_vec(&header)?;
        let length = (PREFIX_BYTES - 4 + json.len() + self.delta.len() + tail.len()) as u32;
        let mut head = Vec::with_capacity(PREFIX_BYTES + json.len());
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
        head.extend_from_slice(&(json.len() as u32).to_le_bytes());
        head.extend_from_slice(&json);
        Ok((header, head, tail))
    }
}

fn section(bytes: &[u8]) -> Section {
    Section { bytes: bytes.len() as u64, crc: crc32c::crc32c(bytes) }
}

/// Total length of the record and length of its header, from the first [`PREFIX_BYTES`].
pub(super) fn decode_prefix(prefix: &[u8; PREFIX_BYTES]) -> Result<(u64, u32, usize), CodecError> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *prefix;
    let length = u32::from_le_bytes([a, b, c, d]) as u64 + 4;
    let crc = u32::from_le_bytes([e, f, g, h]);
    let header_bytes = u32::from_le_bytes([i, j, k, l]) as usize;
    if header_bytes > HEADER_BYTES_MAX || (PREFIX_BYTES + header_bytes) as u64 > length {
        return Err(CodecError::Corrupt("header length"));
    }
    Ok((length, crc, header_bytes))
}

pub(super) fn decode_header(bytes: &[u8], crc: u32, record_bytes: u64) -> Result<Header, CodecError> {
    if crc32c::crc32c(bytes) != crc {
        return Err(CodecError::Corrupt("header checksum"));
    }
    let header: Header = serde_json::from_slice(bytes)?;
    if (PREFIX_BYTES + bytes.len()) as u64 + header.body_bytes() != record_bytes {
        return Err(CodecError::Corrupt("record length"));
    }
    Ok(header)
}

pub(super) fn check_section(bytes: &[u8], section: Section) -> Result<(), CodecError> {
    if bytes.len() as u64 != section.bytes || crc32c::crc32c(bytes) != section.crc {
        return Err(CodecError::Corrupt("section checksum"));
    }
    Ok(())
}

pub(super) fn decode_dropped(mut bytes: &[u8]) -> Result<Vec<Vec<u32>>, CodecError> {
    let mut next = || {
        let (number, rest) = bytes.split_first_chunk::<4>()?;
        bytes = rest;
        Some(u32::from_le_bytes(*number))
    };
    let mut sources = Vec::new();
    while let Some(count) = next() {
        let rows: Vec<u32> = (0..count).map_while(|_| next()).collect();
        if rows.len() != count as usize {
            return Err(CodecError::Corrupt("dropped rows"));
        }
        sources.push(rows);
    }
    Ok(sources)
}

/// No batches, no bytes.
fn encode_batches(batches: &[RecordBatch], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let Some(first) = batches.first() else { return Ok(()) };
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(out, &first.schema(), options)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(())
}

pub(super) fn decode_batches(bytes: &[u8]) -> Result<Vec<RecordBatch>, CodecError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    Ok(StreamReader::try_new(Cursor::new(bytes), None)?.collect::<Result<_, _>>()?)
}
