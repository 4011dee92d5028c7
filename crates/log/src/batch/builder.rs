//! Framing records into a batch: one growing buffer, nothing allocated per record.

use super::{Compression, HEADER_BYTES, LENGTH_OVERHEAD, Record, TRANSACTIONAL, patch_crc, varint};

/// Headers that many records share.
#[derive(Debug, Clone, Default)]
pub struct EncodedHeaders {
    count: i64,
    bytes: Vec<u8>,
}

impl EncodedHeaders {
    pub fn new(headers: &[(&str, &[u8])]) -> EncodedHeaders {
        let mut bytes = Vec::new();
        for (name, value) in headers {
            put_sized(&mut bytes, name.as_bytes());
            put_sized(&mut bytes, value);
        }
        EncodedHeaders { count: headers.len() as i64, bytes }
    }
}

const NO_PRODUCER: (i64, i16, i32) = (-1, -1, -1);

/// Frames records into one batch. Offsets begin at 0: the log patches the base offset.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    /// Room for the header, then the records.
    buffer: Vec<u8>,
    count: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    /// Id, epoch, base sequence.
    producer: (i64, i16, i32),
    transactional: bool,
}

impl BatchBuilder {
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder {
            compression,
            buffer: vec![0; HEADER_BYTES],
            count: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: i64::MIN,
            producer: NO_PRODUCER,
            transactional: false,
        }
    }

    /// Makes room for `bytes` of records at once.
    pub fn reserve(mut self, bytes: usize) -> BatchBuilder {
        self.buffer.reserve(bytes);
        self
    }

    /// Makes the batch part of its producer's transaction.
    pub fn transactional(mut self) -> BatchBuilder {
        self.transactional = true;
        self
    }

    /// Continues a producer's sequence (for tests and quarantined batches).
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.producer = (id, epoch, base_sequence);
        self
    }

    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) {
        let header_bytes: usize =
            headers.iter().map(|(name, value)| sized(name.as_bytes()) + sized(value)).sum::<usize>();
        self.begin(timestamp_ms, key, value, headers.len() as i64, header_bytes);
        for (name, value) in headers {
            put_sized(&mut self.buffer, name.as_bytes());
            put_sized(&mut self.buffer, value);
        }
    }

    /// Pushes a record with headers that are encoded already.
    pub fn push_with(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &EncodedHeaders) {
        self.begin(timestamp_ms, key, value, headers.count, headers.bytes.len());
        self.buffer.extend_from_slice(&headers.bytes);
    }

    /// Pushes a record of another batch with its headers as they are.
    pub fn push_record(&mut self, record: &Record<'_>) {
        let headers = record.raw_headers;
        self.begin(record.timestamp_ms, record.key, record.value, record.header_count.into(), headers.len());
        self.buffer.extend_from_slice(headers);
    }

    fn begin(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: i64,
        header_bytes: usize,
    ) {
        if self.count == 0 {
            self.base_timestamp_ms = timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let offset_delta = i64::from(self.count);
        self.count += 1;
        let body_bytes = 1
            + varint::size(timestamp_delta)
            + varint::size(offset_delta)
            + nullable_sized(key)
            + nullable_sized(value)
            + varint::size(headers)
            + header_bytes;
        let buffer = &mut self.buffer;
        buffer.reserve(body_bytes + 5);
        varint::put(buffer, body_bytes as i64);
        buffer.push(0);
        varint::put(buffer, timestamp_delta);
        varint::put(buffer, offset_delta);
        for part in [key, value] {
            match part {
                Some(bytes) => put_sized(buffer, bytes),
                None => varint::put(buffer, -1),
            }
        }
        varint::put(buffer, headers);
    }

    pub fn len(&self) -> usize {
        self.count as usize
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// Uncompressed bytes so far.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The finished batch, with its CRC. Empty builders give an empty vector.
    pub fn build(self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut attributes = self.compression.attributes();
        let mut batch = self.buffer;
        if self.compression != Compression::None {
            let records = &batch[HEADER_BYTES..];
            let mut output = Vec::with_capacity(HEADER_BYTES + records.len() / 2);
            output.resize(HEADER_BYTES, 0);
            match self.compression.compress(records, output) {
                Ok(compressed) => batch = compressed,
                // Compression into memory has no reason to fail; a batch that is not compressed is as good.
                Err(_) => attributes = Compression::None.attributes(),
            }
        }
        if self.transactional {
            attributes |= TRANSACTIONAL;
        }
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let mut put = |at: usize, bytes: &[u8]| batch_field(&mut batch, at, bytes);
        put(16, &[2]);
        put(21, &attributes.to_be_bytes());
        put(23, &(self.count - 1).to_be_bytes());
        put(27, &self.base_timestamp_ms.to_be_bytes());
        put(35, &self.max_timestamp_ms.to_be_bytes());
        put(43, &producer_id.to_be_bytes());
        put(51, &producer_epoch.to_be_bytes());
        put(53, &base_sequence.to_be_bytes());
        put(57, &self.count.to_be_bytes());
        let length = (batch.len() - LENGTH_OVERHEAD) as i32;
        batch_field(&mut batch, 8, &length.to_be_bytes());
        patch_crc(&mut batch);
        batch
    }
}

fn batch_field(batch: &mut [u8], at: usize, bytes: &[u8]) {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
}

fn sized(bytes: &[u8]) -> usize {
    varint::size(bytes.len() as i64) + bytes.len()
}

fn nullable_sized(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, sized)
}

fn put_sized(buffer: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(buffer, bytes.len() as i64);
    buffer.extend_from_slice(bytes);
}
