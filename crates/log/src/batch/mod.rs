//! Record batch format v2 (KIP-98, `DefaultRecordBatch`): header, records, compression. Bytes in, values out, no I/O.
//!
//! Every count and length in a batch comes from a stranger. None of them is trusted for an allocation: memory grows with
//! the bytes that are really there, and decompression stops at the caller's limit.

mod builder;
mod compression;
mod control;
mod records;
mod retain;
mod varint;

pub use builder::{BatchBuilder, EncodedHeaders};
pub use compression::Compression;
pub(crate) use control::control_batch;
pub use control::read_marker;
pub use records::{Headers, Record, RecordIter, Records};
pub(crate) use retain::emptied;

#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error("batch ends after {found} bytes where {expected} were announced")]
    Truncated { expected: usize, found: usize },
    #[error("unsupported batch format {0}")]
    Magic(i8),
    #[error("checksum mismatch")]
    Crc,
    #[error("invalid batch: {0}")]
    Invalid(String),
    #[error("records decompress to more than {0} bytes")]
    TooLarge(usize),
}

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes before those that the length field counts.
const LENGTH_OVERHEAD: usize = 12;
/// The checksum covers everything from here on, so base offset and leader epoch can be patched without renewing it.
const CRC_START: usize = 21;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
/// The base timestamp is when compaction may take tombstones and markers out (KIP-534).
const DELETE_HORIZON: i16 = 0x40;
const COMPRESSION: i16 = 0x07;
const NO_TIMESTAMP: i64 = -1;

/// The 61-byte header of a batch, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Of the whole batch, header included.
    pub total_bytes: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Parses the first 61 bytes; the records need not be there.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if let Some(&magic) = bytes.get(16)
            && magic != 2
        {
            return Err(BatchError::Magic(magic as i8));
        }
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { expected: HEADER_BYTES, found: bytes.len() });
        };
        let length = i32_at(header, 8);
        let total_bytes = usize::try_from(length).unwrap_or(0) + LENGTH_OVERHEAD;
        if total_bytes < HEADER_BYTES {
            return Err(BatchError::Invalid(format!("length field {length} is smaller than a header")));
        }
        let parsed = BatchHeader {
            base_offset: i64_at(header, 0),
            total_bytes,
            leader_epoch: i32_at(header, 12),
            crc: i32_at(header, 17) as u32,
            attributes: i16_at(header, 21),
            last_offset_delta: i32_at(header, 23),
            base_timestamp_ms: i64_at(header, 27),
            max_timestamp_ms: i64_at(header, 35),
            producer_id: i64_at(header, 43),
            producer_epoch: i16_at(header, 51),
            base_sequence: i32_at(header, 53),
            record_count: i32_at(header, 57),
        };
        if parsed.last_offset_delta < 0 || parsed.record_count < 0 {
            return Err(BatchError::Invalid(format!(
                "last offset delta {} and record count {} must not be negative",
                parsed.last_offset_delta, parsed.record_count
            )));
        }
        Ok(parsed)
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta.into())
    }
    /// One past the last offset.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_attributes(self.attributes)
    }
    /// Every record's time is `max_timestamp_ms`, whatever its own delta says.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }
    /// Written by a broker to end a transaction; clients never produce one.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
    /// From when on compaction may take the batch's tombstones or marker out, once it has seen them.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp_ms)
    }
    /// Sent by an idempotent producer.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }
    /// Sequence numbers wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }
}

/// The sequence `steps` after `sequence`.
pub(crate) fn sequence_after(sequence: i32, steps: i32) -> i32 {
    ((i64::from(sequence) + i64::from(steps)) & i64::from(i32::MAX)) as i32
}

/// The header of the next batch at the front of `bytes` (which may hold several) and how many bytes the batch takes.
/// The whole batch is there; its checksum is not looked at.
pub fn split_first(bytes: &[u8]) -> Result<(BatchHeader, usize), BatchError> {
    let header = BatchHeader::parse(bytes)?;
    if bytes.len() < header.total_bytes {
        return Err(BatchError::Truncated { expected: header.total_bytes, found: bytes.len() });
    }
    Ok((header, header.total_bytes))
}

/// Checks the CRC-32C of one whole batch.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let Some(covered) = batch.get(CRC_START..header.total_bytes) else {
        return Err(BatchError::Truncated { expected: header.total_bytes, found: batch.len() });
    };
    if crc32c::crc32c(covered) == header.crc { Ok(()) } else { Err(BatchError::Crc) }
}

/// Gives a batch its place in a log. The checksum does not cover these fields.
pub(crate) fn patch_place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Stamps a batch as Kafka's broker does under `LogAppendTime`: the timestamp type bit and the maximum timestamp.
pub(crate) fn patch_append_time(batch: &mut [u8], append_time_ms: i64) {
    let attributes = i16_at(batch, 21) | LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&append_time_ms.to_be_bytes());
    patch_crc(batch);
}

fn patch_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(array_at(bytes, at))
}
fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array_at(bytes, at))
}
fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests;
