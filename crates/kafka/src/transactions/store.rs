//! The states of all transactional ids, kept in the compacted topic `__transaction_state`.

use std::collections::HashMap;
use std::sync::Arc;

use playhouse_log::batch::{BatchBuilder, BatchError, Compression, Records};
use playhouse_log::{AppendError, Appended, CreateTopicError, Log, Partition, ReadError, TopicSettings};

use super::records::{read_key, read_value, write_key, write_value};
use super::state::Transaction;

pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

const SEGMENT_BYTES: u64 = 16 << 20;
const BATCH_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum TransactionsError {
    #[error("cannot open the topic of transactions: {0}")]
    Topic(#[from] CreateTopicError),
    #[error("cannot read the topic of transactions: {0}")]
    Read(#[from] ReadError),
    #[error("cannot read the topic of transactions: {0}")]
    Batch(#[from] BatchError),
    #[error("cannot end a transaction: {0}")]
    Append(#[from] AppendError),
}

#[derive(Debug)]
pub(super) struct Store {
    partition: Arc<Partition>,
}

impl Store {
    pub(super) fn open(log: &Log) -> Result<(Store, HashMap<String, Transaction>), TransactionsError> {
        let settings = TopicSettings::store(SEGMENT_BYTES, BATCH_BYTES_MAX);
        let topic = log.ensure_topic(TRANSACTIONS_TOPIC, settings)?;
        let partition = topic.partition(0).ok_or(CreateTopicError::InvalidPartitions(0))?.clone();
        let mut transactions = HashMap::new();
        for batch in partition.batches_from(0) {
            let (_, batch) = batch?;
            for record in Records::decompress(&batch, BATCH_BYTES_MAX)?.iter() {
                let record = record?;
                let Some(id) = record.key.and_then(read_key) else { continue };
                match record.value.and_then(read_value) {
                    Some(transaction) => drop(transactions.insert(id, transaction)),
                    None => drop(transactions.remove(&id)),
                }
            }
        }
        Ok((Store { partition }, transactions))
    }

    /// Appends the state of an id, or that it is forgotten.
    pub(super) fn write(&self, id: &str, state: Option<&Transaction>, now_ms: i64) -> Result<Appended, AppendError> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(now_ms, Some(&write_key(id)), state.map(write_value).as_deref(), &[]);
        self.partition.append(&builder.build())
    }

    pub(super) async fn durable(&self, appended: Appended) -> Result<(), AppendError> {
        self.partition.durable(appended.next_offset).await
    }
}
