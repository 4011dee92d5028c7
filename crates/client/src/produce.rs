//! Sending records, each exactly once where the broker has idempotent producers: what is sent again after a lost answer
//! carries the sequence it had.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId};
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::partition_of;

use crate::client::To;
use crate::connection::Versions;
use crate::error::check;
use crate::{Client, Error, topic_name};

const PRODUCE: Versions = (3, 9);
const INIT_PRODUCER_ID: Versions = (0, 4);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// `None` goes by the key as Java clients place it, or in turn where there is no key.
    pub partition: Option<i32>,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Sends to one topic.
#[derive(Debug)]
pub struct Producer {
    topic: String,
    partitions: i32,
    compression: Compression,
    /// Id and epoch, once a broker gave them.
    identity: Option<(i64, i16)>,
    sequences: BTreeMap<i32, i32>,
    /// By partition; asked for again after a failure.
    leaders: BTreeMap<i32, i32>,
    turn: i32,
}

/// Where one partition's records went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub partition: i32,
    pub base_offset: i64,
    pub records: usize,
}

impl Producer {
    pub async fn open(client: &mut Client, topic: &str, compression: Compression) -> Result<Producer, Error> {
        let partitions = client.topic(topic).await?.partitions.len() as i32;
        let identity = if client.knows::<InitProducerIdRequest>(To::Any, INIT_PRODUCER_ID).await? {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(i32::MAX)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1);
            let answer = client
                .retry(async |client| {
                    let answer = client.call(To::Any, INIT_PRODUCER_ID, &request).await?;
                    check(answer.error_code, || "a producer id".to_owned(), None)?;
                    Ok(answer)
                })
                .await?;
            Some((answer.producer_id.0, answer.producer_epoch))
        } else {
            None
        };
        Ok(Producer {
            topic: topic.to_owned(),
            partitions,
            compression,
            identity,
            sequences: BTreeMap::new(),
            leaders: BTreeMap::new(),
            turn: 0,
        })
    }

    /// Sends all of them and waits until they are acknowledged by all replicas: one batch per partition.
    pub async fn send(&mut self, client: &mut Client, records: &[Outgoing]) -> Result<Vec<Sent>, Error> {
        let mut parts: BTreeMap<i32, Vec<&Outgoing>> = BTreeMap::new();
        for record in records {
            parts.entry(self.place(record)).or_default().push(record);
        }
        // Those without a key stay together within a batch, and go on to the next partition with the next one.
        self.turn = self.turn.wrapping_add(1) & i32::MAX;
        let mut sent = Vec::with_capacity(parts.len());
        for (partition, records) in parts {
            let sequence = *self.sequences.get(&partition).unwrap_or(&0);
            let batch = self.batch(&records, sequence);
            let base_offset = client
                .retry(async |client| {
                    let sent = self.send_batch(client, partition, &batch).await;
                    if sent.is_err() {
                        self.leaders.clear();
                    }
                    sent
                })
                .await?;
            // 2^31 - 1 is followed by 0.
            self.sequences.insert(partition, sequence.wrapping_add(records.len() as i32) & i32::MAX);
            sent.push(Sent { partition, base_offset, records: records.len() });
        }
        Ok(sent)
    }

    fn place(&self, record: &Outgoing) -> i32 {
        match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, self.partitions),
            (None, None) => self.turn % self.partitions.max(1),
        }
    }

    fn batch(&self, records: &[&Outgoing], sequence: i32) -> Bytes {
        let mut builder = BatchBuilder::new(self.compression);
        if let Some((id, epoch)) = self.identity {
            builder = builder.producer(id, epoch, sequence);
        }
        for record in records {
            let headers: Vec<(&str, &[u8])> =
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            builder.push(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
        }
        Bytes::from(builder.build())
    }

    async fn send_batch(&mut self, client: &mut Client, partition: i32, batch: &Bytes) -> Result<i64, Error> {
        let topic = self.topic.clone();
        let what = || format!("partition {partition} of topic {topic:?}");
        if self.leaders.is_empty() {
            let topic = client.topic(&self.topic).await?;
            self.leaders = topic.partitions.iter().map(|it| (it.index, it.leader)).collect();
        }
        let Some(leader) = self.leaders.get(&partition).copied() else {
            return Err(Error::refused(what(), ResponseError::UnknownTopicOrPartition.code(), None));
        };
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.clone()));
        let data = TopicProduceData::default().with_name(topic_name(&self.topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(client.options.request_timeout.as_millis() as i32)
            .with_topic_data(vec![data]);
        let answer = client.call(To::Broker(leader), PRODUCE, &request).await?;
        let answer = answer.responses.iter().flat_map(|it| &it.partition_responses).next();
        let Some(answer) = answer else {
            return Err(Error::Invalid { what: what(), reason: "the broker's answer leaves it out".to_owned() });
        };
        // It is there already: the answer to the first try was lost.
        if answer.error_code == ResponseError::DuplicateSequenceNumber.code() {
            return Ok(-1);
        }
        check(answer.error_code, what, answer.error_message.as_deref())?;
        Ok(answer.base_offset)
    }
}
