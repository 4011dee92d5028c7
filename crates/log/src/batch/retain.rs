//! Taking records out of a batch, as compaction does.

use super::*;

impl Records {
    /// The batch with only those records whose index `keep` holds for. Everything else stays: the offsets and timestamps
    /// of the survivors, last offset delta, producer, sequence and codec; so offsets have gaps, and a batch that has
    /// lost all its records is a header.
    pub fn retain(&self, mut keep: impl FnMut(usize) -> bool) -> Result<Vec<u8>, BatchError> {
        let compression = self.header.compression()?;
        let malformed = || BatchError::Invalid("a record's length is wrong".into());
        let mut kept = Vec::with_capacity(self.bytes.len());
        let mut count = 0;
        let mut rest = &self.bytes[..];
        for index in 0..self.header.record_count as usize {
            let start = rest;
            let length =
                varint::take(&mut rest).and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
            rest = rest.get(length..).ok_or_else(malformed)?;
            if keep(index) {
                kept.extend_from_slice(&start[..start.len() - rest.len()]);
                count += 1;
            }
        }
        let mut batch = Vec::with_capacity(HEADER_BYTES + kept.len());
        batch.resize(HEADER_BYTES, 0);
        if !kept.is_empty() {
            batch = match compression {
                Compression::None => [batch, kept].concat(),
                _ => compression.compress(&kept, batch).map_err(|error| BatchError::Invalid(error.to_string()))?,
            };
        }
        let BatchHeader { base_offset, leader_epoch, attributes, last_offset_delta, .. } = self.header;
        let length = (batch.len() - LENGTH_OVERHEAD) as i32;
        let fields = [
            (0, &base_offset.to_be_bytes()[..]),
            (8, &length.to_be_bytes()),
            (12, &leader_epoch.to_be_bytes()),
            (16, &[2]),
            (21, &attributes.to_be_bytes()),
            (23, &last_offset_delta.to_be_bytes()),
            (27, &self.header.base_timestamp_ms.to_be_bytes()),
            (35, &self.header.max_timestamp_ms.to_be_bytes()),
            (43, &self.header.producer_id.to_be_bytes()),
            (51, &self.header.producer_epoch.to_be_bytes()),
            (53, &self.header.base_sequence.to_be_bytes()),
            (57, &i32::to_be_bytes(count)),
        ];
        for (at, bytes) in fields {
            batch[at..at + bytes.len()].copy_from_slice(bytes);
        }
        patch_crc(&mut batch);
        Ok(batch)
    }
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
                Records::decompress(&records.retain(|index| index % 2 == 1).unwrap().into(), 10_000).unwrap();
            let survivors: Vec<_> = retained
                .iter()
                .map(|record| record.unwrap())
                .map(|record| (record.offset, record.timestamp_ms, record.value.unwrap()[0], record.header_count))
                .collect();
            assert_eq!(survivors, [(1, 1001, 1, 1), (3, 1003, 3, 1), (5, 1005, 5, 1)]);
            let header = retained.header();
            assert_eq!((header.last_offset_delta, header.record_count, header.base_sequence), (5, 3, 40));

            let emptied = records.retain(|_| false).unwrap();
            assert_eq!(emptied.len(), HEADER_BYTES);
            assert_eq!(Records::decompress(&emptied.into(), 10_000).unwrap().iter().count(), 0);
        }
    }
}
