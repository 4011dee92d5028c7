use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const LIMIT: usize = 1 << 20;

type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);

fn build(compression: Compression, records: &[OwnedRecord]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(compression);
    for (time, key, value, headers) in records {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        builder.push(*time, key.as_deref(), value.as_deref(), &headers);
    }
    builder.build()
}

fn read(batch: Vec<u8>) -> Result<Vec<OwnedRecord>, BatchError> {
    let records = Records::decompress(&Bytes::from(batch), LIMIT)?;
    records
        .iter()
        .map(|record| {
            let record = record?;
            let headers = record.headers().map(|(n, v)| (n.to_owned(), v.unwrap_or_default().to_vec())).collect();
            Ok((record.timestamp_ms, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers))
        })
        .collect()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300)
}

fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let headers = proptest::collection::vec(("[a-z]{0,9}", bytes()), 0..4);
    let record = (any::<i64>(), proptest::option::of(bytes()), proptest::option::of(bytes()), headers);
    proptest::collection::vec(record, 1..40)
}

fn compression() -> impl Strategy<Value = Compression> {
    proptest::sample::select(ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn records_come_back_as_they_were(compression in compression(), records in records()) {
        let batch = build(compression, &records);
        let header = BatchHeader::parse(&batch).unwrap();
        prop_assert_eq!(header.record_count as usize, records.len());
        prop_assert_eq!(header.compression().unwrap(), compression);
        prop_assert_eq!(header.max_timestamp_ms, records.iter().map(|r| r.0).max().unwrap());
        prop_assert_eq!(read(batch).unwrap(), records);
    }

    #[test]
    fn a_cut_batch_is_an_error(compression in compression(), records in records(), at in 0.0f64..1.0) {
        let mut batch = build(compression, &records);
        batch.truncate((batch.len() as f64 * at) as usize);
        prop_assert!(read(batch).is_err());
    }

    #[test]
    fn a_flipped_bit_is_noticed(compression in compression(), records in records(), at in 16.0f64..1e6, bit in 0u8..8) {
        let mut batch = build(compression, &records);
        let at = CRC_START + at as usize % (batch.len() - CRC_START);
        batch[at] ^= 1u8 << bit;
        prop_assert!(matches!(read(batch), Err(BatchError::Crc)));
    }

    /// The checksum is no protection from someone who computes it: damage beneath a right CRC ends in records or in an
    /// error, within the limit.
    #[test]
    fn damage_beneath_a_right_checksum_is_survived(
        compression in compression(),
        records in records(),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        let mut batch = build(compression, &records);
        for (at, byte) in damage {
            let at = CRC_START + at % (batch.len() - CRC_START);
            batch[at] = byte;
        }
        patch_crc(&mut batch);
        if let Ok(records) = Records::decompress(&Bytes::from(batch), LIMIT) {
            let size: usize = records.iter().flatten().map(|r| r.key.map_or(0, <[u8]>::len) + r.headers().count()).sum();
            prop_assert!(size <= LIMIT);
        }
    }

    #[test]
    fn noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut batch = noise;
        let _ = split_first(&batch);
        if batch.len() > HEADER_BYTES {
            batch[16] = 2;
            let length = (batch.len() - LENGTH_OVERHEAD) as i32;
            batch[8..12].copy_from_slice(&length.to_be_bytes());
            patch_crc(&mut batch);
            let _ = read(batch);
        }
    }

    #[test]
    fn varints_round_trip(value in any::<i64>()) {
        let mut buffer = Vec::new();
        varint::put(&mut buffer, value);
        prop_assert_eq!(buffer.len(), varint::size(value));
        let mut rest = buffer.as_slice();
        prop_assert_eq!(varint::take(&mut rest), Some(value));
        prop_assert!(rest.is_empty());
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    for compression in ALL {
        let batch = build(compression, &[(0, None, Some(vec![7; 4 * LIMIT]), vec![])]);
        assert!(matches!(read(batch), Err(BatchError::TooLarge(LIMIT))), "{compression:?}");
    }
}

#[test]
fn snappy_as_java_frames_it() {
    let plain = build(Compression::None, &[(5, Some(b"k".to_vec()), Some(vec![b'v'; 5000]), vec![])]);
    let mut framed = plain[..HEADER_BYTES].to_vec();
    framed.extend_from_slice(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    for chunk in plain[HEADER_BYTES..].chunks(1000) {
        let block = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
        framed.extend_from_slice(&(block.len() as i32).to_be_bytes());
        framed.extend_from_slice(&block);
    }
    framed[22] = Compression::Snappy.attributes() as u8;
    let length = (framed.len() - LENGTH_OVERHEAD) as i32;
    framed[8..12].copy_from_slice(&length.to_be_bytes());
    patch_crc(&mut framed);
    assert_eq!(read(framed).unwrap(), read(plain).unwrap());
}

#[test]
fn lz4_frames_have_independent_blocks() {
    let batch = build(Compression::Lz4, &[(0, None, Some(vec![1; 200_000]), vec![])]);
    let frame = &batch[HEADER_BYTES..];
    assert_eq!(frame[..4], [0x04, 0x22, 0x4d, 0x18]);
    assert_eq!(frame[4] & 0b1110_0000, 0b0110_0000, "version 01, blocks independent");
}

#[test]
fn the_append_time_is_every_records_time() {
    let mut batch = build(Compression::Lz4, &[(10, None, None, vec![]), (99, None, None, vec![])]);
    patch_place(&mut batch, 1000, 7);
    patch_append_time(&mut batch, 50);
    let times: Vec<i64> = read(batch.clone()).unwrap().into_iter().map(|record| record.0).collect();
    assert_eq!(times, [50, 50]);
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch, header.max_timestamp_ms), (1000, 7, 50));
    assert_eq!(header.base_timestamp_ms, 10);
}

#[test]
fn records_are_copied_with_their_headers() {
    let first = build(Compression::None, &[(3, Some(vec![1]), None, vec![("h".into(), vec![2])])]);
    let records = Records::decompress(&Bytes::from(first.clone()), LIMIT).unwrap();
    let mut builder = BatchBuilder::new(Compression::None);
    for record in &records {
        builder.push_record(&record.unwrap());
    }
    assert_eq!(builder.build(), first);
}

#[test]
fn old_formats_are_named() {
    let mut batch = build(Compression::None, &[(0, None, None, vec![])]);
    batch[16] = 1;
    assert!(matches!(split_first(&batch), Err(BatchError::Magic(1))));
    assert!(matches!(split_first(&batch[..17]), Err(BatchError::Magic(1))));
}

#[test]
fn counts_are_not_trusted() {
    let mut batch = build(Compression::None, &[(0, None, Some(vec![0; 10]), vec![])]);
    batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    patch_crc(&mut batch);
    assert!(matches!(read(batch), Err(BatchError::Invalid(_))));
}

#[test]
fn empty_builders_build_nothing() {
    assert!(BatchBuilder::new(Compression::Zstd).build().is_empty());
}
