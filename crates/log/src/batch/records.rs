//! Reading the records of a batch without an allocation per record.

use bytes::Bytes;

use super::{BatchError, BatchHeader, Compression, HEADER_BYTES, split_first, varint, verify_crc};

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
    /// A header name that is not UTF-8 comes as `"\u{fffd}"`.
    pub fn headers(&self) -> Headers<'a> {
        Headers { rest: self.raw_headers, remaining: self.header_count }
    }
}

/// The headers of one record, in order.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    rest: &'a [u8],
    remaining: i32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining <= 0 {
            return None;
        }
        self.remaining -= 1;
        // `RecordIter` has checked the structure, so neither `?` ends the headers early.
        let (name, value) = take_header(&mut self.rest)?;
        Some((std::str::from_utf8(name).unwrap_or("\u{fffd}"), value))
    }
}

/// The records section of one batch, decompressed (borrowed without copy when it was not compressed), at most `limit` bytes.
#[derive(Debug, Clone)]
pub struct Records {
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
}

impl Records {
    /// Takes the first batch in `batch`, checks its CRC and decompresses its records.
    pub fn decompress(batch: &Bytes, limit: usize) -> Result<Records, BatchError> {
        let (header, total_bytes) = split_first(batch)?;
        verify_crc(batch)?;
        let bytes = match header.compression()? {
            Compression::None if total_bytes - HEADER_BYTES > limit => return Err(BatchError::TooLarge(limit)),
            Compression::None => batch.slice(HEADER_BYTES..total_bytes),
            // A batch that lost all its records has nothing to decompress.
            _ if total_bytes == HEADER_BYTES => Bytes::new(),
            compression => Bytes::from(compression.decompress(&batch[HEADER_BYTES..total_bytes], limit)?),
        };
        Ok(Records { header, bytes })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All records, or those before the first damaged one and then its error.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter { header: &self.header, rest: &self.bytes, remaining: self.header.record_count, ended: false }
    }

    /// A `Bytes` that shares this batch's memory, for a slice of a record (key, value) that must outlive it.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.bytes.slice_ref(part)
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    header: &'a BatchHeader,
    rest: &'a [u8],
    remaining: i32,
    ended: bool,
}

impl<'a> RecordIter<'a> {
    /// The records of a batch that is not compressed.
    pub(super) fn uncompressed(header: &'a BatchHeader, records: &'a [u8]) -> RecordIter<'a> {
        RecordIter { header, rest: records, remaining: header.record_count, ended: false }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.remaining == 0 {
            self.ended = true;
            let surplus = self.rest.len();
            return (surplus > 0).then(|| Err(BatchError::Invalid(format!("{surplus} bytes after the last record"))));
        }
        self.remaining -= 1;
        let record = take_record(&mut self.rest, self.header);
        self.ended = record.is_none();
        Some(record.ok_or_else(|| {
            let number = self.header.record_count - self.remaining - 1;
            BatchError::Invalid(format!("record {number} is malformed or cut off"))
        }))
    }
}

fn take_record<'a>(bytes: &mut &'a [u8], header: &BatchHeader) -> Option<Record<'a>> {
    let length = varint::take(bytes)?;
    let mut body = take_exactly(bytes, length)?;
    let (_attributes, after) = body.split_first()?;
    body = after;
    let timestamp_delta = varint::take(&mut body)?;
    let offset_delta = varint::take(&mut body)?;
    if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
        return None;
    }
    let key = take_nullable(&mut body)?;
    let value = take_nullable(&mut body)?;
    let header_count = i32::try_from(varint::take(&mut body)?).ok()?;
    let raw_headers = body;
    for _ in 0..u32::try_from(header_count).ok()? {
        take_header(&mut body)?;
    }
    if !body.is_empty() {
        return None;
    }
    let timestamp_ms = if header.is_log_append_time() {
        header.max_timestamp_ms
    } else {
        header.base_timestamp_ms.wrapping_add(timestamp_delta)
    };
    let offset = header.base_offset.wrapping_add(offset_delta);
    Some(Record { offset, timestamp_ms, key, value, raw_headers, header_count })
}

fn take_header<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let length = varint::take(bytes)?;
    let name = take_exactly(bytes, length)?;
    let value = take_nullable(bytes)?;
    Some((name, value))
}

fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match varint::take(bytes)? {
        -1 => Some(None),
        length => take_exactly(bytes, length).map(Some),
    }
}

fn take_exactly<'a>(bytes: &mut &'a [u8], length: i64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}
