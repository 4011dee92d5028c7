//! The `.txnindex` of a segment: the transactions whose abort marker lies in it, as Kafka's `AbortedTxn` version 0.

pub const ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;

pub type AbortedEntry = [u8; ENTRY_BYTES];

/// A transaction that was aborted: its producer's transactional records from `first_offset` up to `last_offset`, where
/// the marker lies, are not for readers of committed records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
    pub last_offset: i64,
    /// The last stable offset once this transaction was over: no transaction that ended later concerns what is below it.
    pub last_stable_offset: i64,
}

impl AbortedTransaction {
    pub fn encode(&self) -> AbortedEntry {
        let mut entry = [0; ENTRY_BYTES];
        entry[..2].copy_from_slice(&VERSION.to_be_bytes());
        let fields = [self.producer_id, self.first_offset, self.last_offset, self.last_stable_offset];
        for (chunk, field) in entry[2..].chunks_exact_mut(8).zip(fields) {
            chunk.copy_from_slice(&field.to_be_bytes());
        }
        entry
    }

    pub fn decode(entry: &AbortedEntry) -> AbortedTransaction {
        let (words, _) = entry[2..].as_chunks::<8>();
        let [producer_id, first_offset, last_offset, last_stable_offset] =
            [0, 1, 2, 3].map(|at: usize| i64::from_be_bytes(words[at]));
        AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_kafka_writes_them() {
        let aborted =
            AbortedTransaction { producer_id: 258, first_offset: 3, last_offset: 7, last_stable_offset: i64::MAX };
        let entry = aborted.encode();
        assert_eq!(entry[..10], [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(entry[25], 7);
        assert_eq!(AbortedTransaction::decode(&entry), aborted);
    }
}
