//! The topic `_schemas`: one partition, compacted, one batch per change of the state.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use playhouse_log::batch::{self, BatchBuilder, BatchError, Compression};
use playhouse_log::{AppendError, CreateTopicError, Log, Partition, ReadError, TopicSettings};
use playhouse_schema::registry::{Change, RecordError, State};

/// As Confluent's registry calls it. Written by the registry, read by whoever likes.
pub const SCHEMAS_TOPIC: &str = "_schemas";

const SEGMENT_BYTES: u64 = 16 << 20;
/// A schema of 1 MiB whose every byte is escaped in JSON, its metadata and rules, and room to spare.
const BATCH_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot make the topic {SCHEMAS_TOPIC}: {0}")]
    Topic(#[from] CreateTopicError),
    #[error("cannot read the topic {SCHEMAS_TOPIC}: {0}")]
    Read(#[from] ReadError),
    #[error("cannot read the topic {SCHEMAS_TOPIC}: {0}")]
    Batch(#[from] BatchError),
    #[error("offset {offset} of the topic {SCHEMAS_TOPIC}: {source}")]
    Record { offset: i64, source: RecordError },
}

#[derive(Debug)]
pub(crate) struct SchemasTopic {
    partition: Arc<Partition>,
}

impl SchemasTopic {
    pub(crate) fn open(log: &Log) -> Result<SchemasTopic, OpenError> {
        let settings = TopicSettings::store(SEGMENT_BYTES, BATCH_BYTES_MAX);
        let topic = log.ensure_topic(SCHEMAS_TOPIC, settings)?;
        let partition = topic.partition(0).ok_or(CreateTopicError::InvalidPartitions(0))?.clone();
        Ok(SchemasTopic { partition })
    }

    /// The state that all records make, and the offset after them. What is not one of ours is an error: a schema that is
    /// left out would be missed by those who hold its id.
    pub(crate) fn read(&self) -> Result<(State, i64), OpenError> {
        let mut state = State::default();
        let mut offset = self.partition.log_start_offset();
        for batch in self.partition.batches_from(offset) {
            let (header, batch) = batch?;
            offset = header.next_offset();
            apply(&mut state, &batch)?;
        }
        Ok((state, offset))
    }

    /// Appends what belongs together as one batch: it is there as a whole or not at all. Returns the offset after it.
    pub(crate) fn append(&self, changes: &[Change]) -> Result<i64, AppendError> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let mut builder = BatchBuilder::new(Compression::None);
        for change in changes {
            builder.push(now_ms, Some(&change.key()), change.value().as_deref(), &[]);
        }
        Ok(self.partition.append(&builder.build())?.next_offset)
    }

    pub(crate) async fn durable(&self, next_offset: i64) -> Result<(), AppendError> {
        self.partition.durable(next_offset).await
    }
}

fn apply(state: &mut State, batch: &Bytes) -> Result<(), OpenError> {
    for record in batch::Records::decompress(batch, BATCH_BYTES_MAX)?.iter() {
        let record = record?;
        // A compacted topic has no record without a key.
        let Some(key) = record.key else { continue };
        let change = Change::read(key, record.value);
        if let Some(change) = change.map_err(|source| OpenError::Record { offset: record.offset, source })? {
            state.apply(change);
        }
    }
    Ok(())
}
