//! Taking records out of a batch, as the gate and compaction do.

use super::*;

impl Records {
    /// The batch with only those records whose index `keep` holds for. Everything else stays: the offsets and timestamps
    /// of the survivors, last offset delta, producer, sequence and codec; so offsets have gaps. The newest time is that of
    /// the survivors. A batch that has lost all its records is a header, as Kafka's compaction leaves it.
    pub fn retain(&self, mut keep: impl FnMut(usize) -> bool) -> Result<Vec<u8>, BatchError> {
        let compression = self.header.compression()?;
        let malformed = || BatchError::Invalid("a record's length is wrong".into());
        let mut kept = Vec::with_capacity(self.bytes.len());
        let (mut count, mut newest_ms) = (0, NO_TIMESTAMP);
        let mut rest = &self.bytes[..];
        for index in 0..self.header.record_count as usize {
            let start = rest;
            let length =
                varint::take(&mut rest).and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
            // Behind the length and one byte of attributes.
            let time = &mut rest.get(1..).ok_or_else(malformed)?;
            let delta = varint::take(time).ok_or_else(malformed)?;
            rest = rest.get(length..).ok_or_else(malformed)?;
            if keep(index) {
                newest_ms = newest_ms.max(self.header.base_timestamp_ms.wrapping_add(delta));
                kept.extend_from_slice(&start[..start.len() - rest.len()]);
                count += 1;
            }
        }
        let mut header = BatchHeader { record_count: count, ..self.header };
        if count == 0 {
            return Ok(emptied(&header));
        }
        if count < self.header.record_count && !header.is_log_append_time() {
            header.max_timestamp_ms = newest_ms;
        }
        let batch = vec![0; HEADER_BYTES];
        let mut batch = match compression {
            Compression::None => [batch, kept].concat(),
            _ => compression.compress(&kept, batch).map_err(|error| BatchError::Invalid(error.to_string()))?,
        };
        put_header(&mut batch, &header);
        Ok(batch)
    }

    /// As [`Self::retain`], for compaction: the newest time is that of the survivors, and with a `delete_horizon_ms` the
    /// batch is told to keep its tombstones, or its marker, until then.
    pub fn compact(
        &self,
        mut keep: impl FnMut(&Record<'_>) -> bool,
        delete_horizon_ms: Option<i64>,
    ) -> Result<Vec<u8>, BatchError> {
        let mut header = self.header;
        if let Some(horizon) = delete_horizon_ms {
            header.attributes |= DELETE_HORIZON;
            header.base_timestamp_ms = horizon;
        }
        let mut kept = Vec::with_capacity(self.bytes.len());
        let mut newest_ms = NO_TIMESTAMP;
        header.record_count = 0;
        for record in self.iter() {
            let record = record?;
            if !keep(&record) {
                continue;
            }
            header.record_count += 1;
            newest_ms = newest_ms.max(record.timestamp_ms);
            put_record(
                &mut kept,
                &record,
                record.timestamp_ms.wrapping_sub(header.base_timestamp_ms),
                header.base_offset,
            );
        }
        if header.record_count == 0 {
            return Ok(emptied(&header));
        }
        if !header.is_log_append_time() {
            header.max_timestamp_ms = newest_ms;
        }
        let compression = header.compression()?;
        let output = vec![0; HEADER_BYTES];
        let mut batch = compression.compress(&kept, output).map_err(|error| BatchError::Invalid(error.to_string()))?;
        put_header(&mut batch, &header);
        Ok(batch)
    }
}

/// A batch without its records: a header in their place, as Kafka's compaction leaves it.
pub(crate) fn emptied(header: &BatchHeader) -> Vec<u8> {
    let mut batch = vec![0; HEADER_BYTES];
    let attributes = header.attributes & !COMPRESSION;
    let max_timestamp_ms = if header.is_log_append_time() { header.max_timestamp_ms } else { NO_TIMESTAMP };
    let header = BatchHeader { attributes, record_count: 0, max_timestamp_ms, ..*header };
    put_header(&mut batch, &header);
    batch
}

/// Writes all fields of the header, with the length and checksum of `batch`.
fn put_header(batch: &mut [u8], header: &BatchHeader) {
    let length = (batch.len() - LENGTH_OVERHEAD) as i32;
    let fields = [
        (0, &header.base_offset.to_be_bytes()[..]),
        (8, &length.to_be_bytes()),
        (12, &header.leader_epoch.to_be_bytes()),
        (16, &[2]),
        (21, &header.attributes.to_be_bytes()),
        (23, &header.last_offset_delta.to_be_bytes()),
        (27, &header.base_timestamp_ms.to_be_bytes()),
        (35, &header.max_timestamp_ms.to_be_bytes()),
        (43, &header.producer_id.to_be_bytes()),
        (51, &header.producer_epoch.to_be_bytes()),
        (53, &header.base_sequence.to_be_bytes()),
        (57, &header.record_count.to_be_bytes()),
    ];
    for (at, bytes) in fields {
        batch[at..at + bytes.len()].copy_from_slice(bytes);
    }
    patch_crc(batch);
}

fn put_record(out: &mut Vec<u8>, record: &Record<'_>, timestamp_delta: i64, base_offset: i64) {
    let mut body = Vec::with_capacity(24);
    body.push(0);
    varint::put(&mut body, timestamp_delta);
    varint::put(&mut body, record.offset.wrapping_sub(base_offset));
    for part in [record.key, record.value] {
        match part {
            Some(bytes) => {
                varint::put(&mut body, bytes.len() as i64);
                body.extend_from_slice(bytes);
            }
            None => varint::put(&mut body, -1),
        }
    }
    varint::put(&mut body, record.header_count.into());
    body.extend_from_slice(record.raw_headers);
    varint::put(out, body.len() as i64);
    out.extend_from_slice(&body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn survivors_keep_their_places() {
        for compression in
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
        {
            let mut builder = BatchBuilder::new(compression).producer(7, 2, 40);
            for number in 0..6u8 {
                builder.push(1000 + i64::from(number), Some(b"key"), Some(&[number]), &[("header", &[number])]);
            }
            let batch = Bytes::from(builder.build());
            let records = Records::decompress(&batch, 10_000).unwrap();
            assert_eq!(records.retain(|_| true).unwrap(), batch, "{compression:?}");

            let retained =
                Records::decompress(&records.retain(|index| [1, 3].contains(&index)).unwrap().into(), 10_000).unwrap();
            let survivors: Vec<_> = retained
                .iter()
                .map(|record| record.unwrap())
                .map(|record| (record.offset, record.timestamp_ms, record.value.unwrap()[0], record.header_count))
                .collect();
            assert_eq!(survivors, [(1, 1001, 1, 1), (3, 1003, 3, 1)]);
            let header = retained.header();
            assert_eq!((header.last_offset_delta, header.record_count, header.base_sequence), (5, 2, 40));
            assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (1000, 1003));

            let emptied = records.retain(|_| false).unwrap();
            assert_eq!(emptied.len(), HEADER_BYTES);
            let header = split_first(&emptied).unwrap().0;
            assert_eq!((header.last_offset_delta, header.base_sequence), (5, 40));
            // Clients would decompress nothing.
            assert_eq!(header.compression().unwrap(), Compression::None);
            assert_eq!(Records::decompress(&emptied.into(), 10_000).unwrap().iter().count(), 0);
        }
    }
}
