//! The records of `__transaction_state`, in Apache Kafka's own formats (`TransactionLogKey` and `TransactionLogValue`
//! version 0), so that its readers understand them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut};

use super::state::{Producer, Status, Transaction};
use crate::groups::{get_string, put_string};

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;

pub(super) fn write_key(id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + id.len());
    out.put_i16(KEY_VERSION);
    put_string(&mut out, id);
    out
}

pub(super) fn read_key(mut bytes: &[u8]) -> Option<String> {
    if bytes.try_get_i16().ok()? != KEY_VERSION {
        return None;
    }
    get_string(&mut bytes)
}

pub(super) fn write_value(transaction: &Transaction) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.put_i16(VALUE_VERSION);
    out.put_i64(transaction.producer.id);
    out.put_i16(transaction.producer.epoch);
    out.put_i32(transaction.timeout_ms);
    out.put_i8(transaction.status as i8);
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &transaction.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    out.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        put_string(&mut out, topic);
        out.put_i32(partitions.len() as i32);
        partitions.into_iter().for_each(|partition| out.put_i32(partition));
    }
    out.put_i64(transaction.updated_ms);
    out.put_i64(transaction.started_ms);
    out
}

pub(super) fn read_value(mut bytes: &[u8]) -> Option<Transaction> {
    let bytes = &mut bytes;
    if bytes.try_get_i16().ok()? != VALUE_VERSION {
        return None;
    }
    let producer = Producer { id: bytes.try_get_i64().ok()?, epoch: bytes.try_get_i16().ok()? };
    let timeout_ms = bytes.try_get_i32().ok()?;
    let number = bytes.try_get_i8().ok()?;
    let status = Status::ALL.into_iter().find(|status| *status as i8 == number)?;
    let mut partitions = BTreeSet::new();
    // Null (-1) where there are none.
    for _ in 0..bytes.try_get_i32().ok()? {
        let topic = get_string(bytes)?;
        for _ in 0..bytes.try_get_i32().ok()? {
            partitions.insert((topic.clone(), bytes.try_get_i32().ok()?));
        }
    }
    let (updated_ms, started_ms) = (bytes.try_get_i64().ok()?, bytes.try_get_i64().ok()?);
    Some(Transaction { producer, previous_epoch: None, timeout_ms, status, partitions, updated_ms, started_ms })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_and_values_come_back(id in ".{0,40}", producer in any::<i64>(), epoch in any::<i16>(),
                                     timeout_ms in any::<i32>(), status in 0usize..6, started_ms in any::<i64>(),
                                     partitions in proptest::collection::btree_set(("[a-z._-]{1,9}", 0..9i32), 0..9)) {
            prop_assert_eq!(read_key(&write_key(&id)), Some(id));
            let transaction = Transaction {
                producer: Producer { id: producer, epoch },
                previous_epoch: None,
                timeout_ms,
                status: Status::ALL[status],
                partitions,
                updated_ms: 7,
                started_ms,
            };
            prop_assert_eq!(read_value(&write_value(&transaction)), Some(transaction));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_key(&bytes);
            let _ = read_value(&bytes);
        }
    }
}
