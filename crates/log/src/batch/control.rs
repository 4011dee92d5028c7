//! Control batches (KIP-98): one record whose key says how a transaction ended.

use super::{BatchBuilder, BatchHeader, CONTROL, Compression, HEADER_BYTES, RecordIter, TRANSACTIONAL, patch_crc};
use crate::TransactionMarker;

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

pub(crate) fn control_batch(marker: &TransactionMarker, now_ms: i64) -> Vec<u8> {
    let kind = if marker.commit { COMMIT } else { ABORT };
    let key = [KEY_VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
    let value = [&VALUE_VERSION.to_be_bytes()[..], &marker.coordinator_epoch.to_be_bytes()].concat();
    let mut builder = BatchBuilder::new(Compression::None).producer(marker.producer_id, marker.producer_epoch, -1);
    builder.push(now_ms, Some(&key), Some(&value), &[]);
    let mut batch = builder.build();
    batch[21..23].copy_from_slice(&(TRANSACTIONAL | CONTROL).to_be_bytes());
    patch_crc(&mut batch);
    batch
}

/// How a control batch ends its producer's transaction. `None` for a batch that ends none: of records, of another kind, or
/// emptied by compaction.
pub fn read_marker(header: &BatchHeader, batch: &[u8]) -> Option<TransactionMarker> {
    if !header.is_control() {
        return None;
    }
    let record = RecordIter::uncompressed(header, batch.get(HEADER_BYTES..header.total_bytes)?).next()?.ok()?;
    let commit = match record.key? {
        [_, _, high, low, ..] => match i16::from_be_bytes([*high, *low]) {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        },
        _ => return None,
    };
    let coordinator_epoch = match record.value {
        Some([_, _, epoch @ ..]) if epoch.len() >= 4 => i32::from_be_bytes([epoch[0], epoch[1], epoch[2], epoch[3]]),
        _ => -1,
    };
    let BatchHeader { producer_id, producer_epoch, .. } = *header;
    Some(TransactionMarker { producer_id, producer_epoch, coordinator_epoch, commit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::verify_crc;

    #[test]
    fn markers_come_back() {
        for commit in [true, false] {
            let marker = TransactionMarker { producer_id: 9, producer_epoch: 3, coordinator_epoch: 12, commit };
            let batch = control_batch(&marker, 77);
            verify_crc(&batch).unwrap();
            let header = BatchHeader::parse(&batch).unwrap();
            assert!(header.is_control() && header.is_transactional() && header.base_sequence == -1);
            assert_eq!(read_marker(&header, &batch), Some(marker));
        }
    }
}
