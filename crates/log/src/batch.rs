//! Record batch format v2 (KIP-98, `DefaultRecordBatch`): header, records, compression. Bytes in, values out, no I/O.

use bytes::Bytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

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

/// The next batch at the front of `bytes` (which may hold several): its header and its whole bytes.
pub fn split_first(_bytes: &[u8]) -> Result<(BatchHeader, usize), BatchError> {
    todo!()
}

/// One record, borrowed from its batch's (decompressed) records.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Raw headers: iterate with [`Record::headers`].
    pub raw_headers: &'a [u8],
    pub header_count: i32,
}

impl<'a> Record<'a> {
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + 'a {
        todo!() as std::vec::IntoIter<_>
    }
}

/// The records section of one batch, decompressed (borrowed without copy when it was not compressed), at most `limit` bytes.
pub struct Records {}

impl Records {
    pub fn decompress(_batch: &Bytes, _limit: usize) -> Result<Records, BatchError> {
        todo!()
    }
    pub fn header(&self) -> &BatchHeader {
        todo!()
    }
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, BatchError>> {
        todo!() as std::vec::IntoIter<_>
    }
}

/// Frames records into one batch. Offsets begin at 0: the log patches the base offset.
pub struct BatchBuilder {}

impl BatchBuilder {
    pub fn new(_compression: Compression) -> BatchBuilder {
        todo!()
    }
    /// Continues a producer's sequence (for tests and quarantined batches).
    pub fn producer(self, _id: i64, _epoch: i16, _base_sequence: i32) -> BatchBuilder {
        todo!()
    }
    pub fn push(&mut self, _timestamp_ms: i64, _key: Option<&[u8]>, _value: Option<&[u8]>, _headers: &[(&str, &[u8])]) {
        todo!()
    }
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Uncompressed bytes so far.
    pub fn size_bytes(&self) -> usize {
        todo!()
    }
    /// The finished batch, with its CRC. Empty builders give an empty vector.
    pub fn build(self) -> Vec<u8> {
        todo!()
    }
}
