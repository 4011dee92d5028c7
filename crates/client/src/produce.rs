//! Sending records, each exactly once where the broker has idempotent producers: what is sent again after a lost answer
//! carries the sequence it had.
//!
//! The records of one call go in rounds: each round is one request per leader, with at most one batch per partition, so
//! that partitions wait for their disks together.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId};
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::partition_of;
use tokio::time::{Instant, sleep};

use crate::client::{PAUSE, PAUSE_MAX, To, retry};
use crate::connection::Versions;
use crate::error::check;
use crate::{Client, Error, topic_name};

const PRODUCE: Versions = (3, 9);
const INIT_PRODUCER_ID: Versions = (0, 4);
/// What a batch holds at most, unless a single record is larger: below the limit that brokers have by default.
const BATCH_BYTES: usize = 512 << 10;
/// What a record takes besides key, value and headers, at most about.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// Leaders and the number of partitions are asked for again after this.
const LEADERS_AGE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// `None` goes by the key as Java clients place it, or in turn where there is no key.
    pub partition: Option<i32>,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Outgoing {
    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        RECORD_OVERHEAD_BYTES + length(&self.key) + length(&self.value) + headers
    }
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub partition: i32,
    /// `None` where an earlier try brought it there and its answer was lost.
    pub offset: Option<i64>,
}

/// Sends to one topic. A call that is not waited for to its end may leave records half sent: drop the producer with it.
#[derive(Debug)]
pub struct Producer {
    topic: String,
    compression: Compression,
    identity: Identity,
    sequences: BTreeMap<i32, i32>,
    /// By partition, all of them; empty where they have to be asked for.
    leaders: BTreeMap<i32, i32>,
    learned: Instant,
    turn: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    ToAsk,
    /// The broker is too old to give one.
    None,
    Producer {
        id: i64,
        epoch: i16,
    },
}

/// One batch on its way.
struct Batch {
    bytes: Bytes,
    /// Which of the records of the call.
    records: Vec<usize>,
}

struct Failure {
    error: Error,
    /// Of single records, by index within the batch.
    of_records: Vec<(usize, Option<String>)>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, of_records: Vec::new() }
    }
}

impl Producer {
    pub async fn open(client: &mut Client, topic: &str, compression: Compression) -> Result<Producer, Error> {
        let mut producer = Producer {
            topic: topic.to_owned(),
            compression,
            identity: Identity::ToAsk,
            sequences: BTreeMap::new(),
            leaders: BTreeMap::new(),
            learned: Instant::now(),
            turn: 0,
        };
        producer.prepare(client).await?;
        Ok(producer)
    }

    /// How many partitions the topic had when it was last asked for.
    pub fn partitions(&self) -> i32 {
        self.leaders.len() as i32
    }

    /// Asks for the leaders and the number of partitions again.
    pub async fn refresh(&mut self, client: &mut Client) -> Result<(), Error> {
        self.learn_leaders(client).await
    }

    /// Learns what sending takes, as far as it is not known. [`Producer::send`] does it by itself.
    pub async fn prepare(&mut self, client: &mut Client) -> Result<(), Error> {
        if self.identity == Identity::ToAsk {
            self.identity = identity(client).await?;
        }
        if self.leaders.is_empty() || self.learned.elapsed() > LEADERS_AGE_MAX {
            self.learn_leaders(client).await?;
        }
        Ok(())
    }

    /// Sends all of them and waits until they are acknowledged by all replicas. Fails with the first failure.
    pub async fn send(&mut self, client: &mut Client, records: &[Outgoing]) -> Result<(), Error> {
        self.prepare(client).await?;
        let outcomes = self.send_batches(client, records).await;
        outcomes.into_iter().try_for_each(|(_, _, outcome)| outcome.map(drop).map_err(|failure| failure.error))
    }

    /// As [`Producer::send`], but with an outcome for each record, in their order.
    pub async fn send_each(&mut self, client: &mut Client, records: &[Outgoing]) -> Vec<Result<Placed, Error>> {
        if let Err(error) = self.prepare(client).await {
            return records.iter().map(|_| Err(error.clone())).collect();
        }
        let mut each: Vec<Result<Placed, Error>> = Vec::new();
        each.resize_with(records.len(), || Err(left_out(&self.topic, -1)));
        for (partition, indices, outcome) in self.send_batches(client, records).await {
            match outcome {
                Ok(base) => {
                    for (offset, index) in (base..).zip(indices) {
                        each[index] = Ok(Placed { partition, offset: (base >= 0).then_some(offset) });
                    }
                }
                Err(Failure { error, of_records }) => {
                    let (code, what) = (error.code(), format!("partition {partition} of topic {:?}", self.topic));
                    for index in &indices {
                        each[*index] = Err(error.clone());
                    }
                    for (within, message) in of_records {
                        let (Some(code), Some(index)) = (code, indices.get(within)) else { continue };
                        each[*index] = Err(Error::Refused { what: what.clone(), code, message });
                    }
                }
            }
        }
        each
    }

    /// What became of each batch: its partition, its records, and its first offset (-1 where that is not known).
    async fn send_batches(
        &mut self,
        client: &mut Client,
        records: &[Outgoing],
    ) -> Vec<(i32, Vec<usize>, Result<i64, Failure>)> {
        let mut parts = self.parts(records);
        let mut outcomes = Vec::new();
        let mut failed = false;
        while !parts.is_empty() {
            let mut round = BTreeMap::new();
            for (partition, batches) in &mut parts {
                let Some(indices) = batches.pop_front() else { continue };
                let bytes = self.batch(*partition, records, &indices);
                round.insert(*partition, Batch { bytes, records: indices });
            }
            parts.retain(|_, batches| !batches.is_empty());
            let mut answers = self.send_round(client, &round).await;
            for (partition, batch) in round {
                let unanswered = || Err(Failure::from(left_out(&self.topic, partition)));
                let outcome = answers.remove(&partition).unwrap_or_else(unanswered);
                match &outcome {
                    // 2^31 - 1 is followed by 0.
                    Ok(_) => {
                        let sequence = self.sequences.entry(partition).or_insert(0);
                        *sequence = sequence.wrapping_add(batch.records.len() as i32) & i32::MAX;
                    }
                    Err(failure) => {
                        failed = true;
                        // It may be there all the same: what came next would pass for it, having its sequence.
                        let refused = failure.error.code().is_some() && !failure.error.may_pass();
                        if !refused {
                            let rest = parts.remove(&partition).unwrap_or_default();
                            let unsent = |records| (partition, records, Err(Failure::from(failure.error.clone())));
                            outcomes.extend(rest.into_iter().map(unsent));
                        }
                    }
                }
                outcomes.push((partition, batch.records, outcome));
            }
        }
        if failed {
            self.begin_again();
        }
        outcomes
    }

    /// Which sequences the broker has seen is unknown after a failure: a new identity has no past.
    fn begin_again(&mut self) {
        self.sequences.clear();
        self.leaders.clear();
        if self.identity != Identity::None {
            self.identity = Identity::ToAsk;
        }
    }

    /// The records of each partition, as many as fit into one batch each.
    fn parts(&mut self, records: &[Outgoing]) -> BTreeMap<i32, VecDeque<Vec<usize>>> {
        let mut parts: BTreeMap<i32, VecDeque<Vec<usize>>> = BTreeMap::new();
        let mut filled: BTreeMap<i32, usize> = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            let partition = self.place(record);
            let (batches, filled) = (parts.entry(partition).or_default(), filled.entry(partition).or_insert(0));
            match batches.back_mut() {
                Some(batch) if *filled + record.size() <= BATCH_BYTES => batch.push(index),
                _ => {
                    batches.push_back(vec![index]);
                    *filled = 0;
                }
            }
            *filled += record.size();
        }
        // Those without a key stay together within a call, and go on to the next partition with the next one.
        self.turn = self.turn.wrapping_add(1) & i32::MAX;
        parts
    }

    fn place(&self, record: &Outgoing) -> i32 {
        match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, self.partitions()),
            (None, None) => self.turn % self.partitions().max(1),
        }
    }

    fn batch(&self, partition: i32, records: &[Outgoing], indices: &[usize]) -> Bytes {
        let mut builder = BatchBuilder::new(self.compression);
        if let Identity::Producer { id, epoch } = self.identity {
            builder = builder.producer(id, epoch, *self.sequences.get(&partition).unwrap_or(&0));
        }
        for record in indices.iter().map(|index| &records[*index]) {
            let headers: Vec<(&str, &[u8])> =
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            builder.push(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
        }
        Bytes::from(builder.build())
    }

    /// Sends each batch until it is acknowledged, cannot be, or patience is over.
    async fn send_round(
        &mut self,
        client: &mut Client,
        round: &BTreeMap<i32, Batch>,
    ) -> BTreeMap<i32, Result<i64, Failure>> {
        let deadline = Instant::now() + client.options.patience;
        let mut pause = PAUSE;
        let mut outcomes = BTreeMap::new();
        loop {
            let open = |partition: &&i32| match outcomes.get(*partition) {
                None => true,
                Some(Ok(_)) => false,
                Some(Err(Failure { error, .. })) => error.may_pass(),
            };
            let open: Vec<i32> = round.keys().filter(open).copied().collect();
            if open.is_empty() {
                return outcomes;
            }
            if !outcomes.is_empty() {
                if Instant::now() + pause >= deadline {
                    return outcomes;
                }
                sleep(pause).await;
                pause = (2 * pause).min(PAUSE_MAX);
                // Leaders may have moved.
                let _ = client.look_around().await;
                if let Err(error) = self.learn_leaders(client).await {
                    tell(&mut outcomes, &open, error);
                    return outcomes;
                }
            }
            self.try_once(client, round, &open, &mut outcomes).await;
        }
    }

    async fn try_once(
        &mut self,
        client: &mut Client,
        round: &BTreeMap<i32, Batch>,
        open: &[i32],
        outcomes: &mut BTreeMap<i32, Result<i64, Failure>>,
    ) {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in open {
            match self.leaders.get(partition) {
                Some(leader) => by_leader.entry(*leader).or_default().push(*partition),
                None => {
                    let code = ResponseError::UnknownTopicOrPartition.code();
                    let unknown = Error::refused(self.named(*partition), code, None);
                    outcomes.insert(*partition, Err(unknown.into()));
                }
            }
        }
        for (leader, partitions) in by_leader {
            let data = partitions.iter().map(|partition| {
                let records = Some(round[partition].bytes.clone());
                PartitionProduceData::default().with_index(*partition).with_records(records)
            });
            let topic = topic_name(&self.topic);
            let data = TopicProduceData::default().with_name(topic).with_partition_data(data.collect());
            let request = ProduceRequest::default()
                .with_acks(-1)
                .with_timeout_ms(client.options.request_timeout.as_millis() as i32)
                .with_topic_data(vec![data]);
            match client.call(To::Broker(leader), PRODUCE, &request).await {
                Ok(answer) => {
                    for partition in partitions {
                        outcomes.insert(partition, Err(left_out(&self.topic, partition).into()));
                    }
                    for answer in answer.responses.into_iter().flat_map(|it| it.partition_responses) {
                        outcomes.insert(answer.index, self.outcome(answer));
                    }
                }
                Err(error) => tell(outcomes, &partitions, error),
            }
        }
    }

    fn outcome(&self, answer: PartitionProduceResponse) -> Result<i64, Failure> {
        // It is there already: the answer to the first try was lost.
        if answer.error_code == ResponseError::DuplicateSequenceNumber.code() {
            return Ok(-1);
        }
        let told = check(answer.error_code, || self.named(answer.index), answer.error_message.as_deref());
        told.map(|()| answer.base_offset).map_err(|error| {
            let of_records = answer.record_errors.into_iter().filter_map(|it| {
                let message = it.batch_index_error_message.map(|message| message.to_string());
                Some((usize::try_from(it.batch_index).ok()?, message))
            });
            Failure { error, of_records: of_records.collect() }
        })
    }

    async fn learn_leaders(&mut self, client: &mut Client) -> Result<(), Error> {
        let topic = client.topic(&self.topic).await?;
        self.leaders = topic.partitions.iter().map(|it| (it.index, it.leader)).collect();
        self.learned = Instant::now();
        Ok(())
    }

    fn named(&self, partition: i32) -> String {
        format!("partition {partition} of topic {:?}", self.topic)
    }
}

/// The same failure for several partitions.
fn tell(outcomes: &mut BTreeMap<i32, Result<i64, Failure>>, partitions: &[i32], error: Error) {
    outcomes.extend(partitions.iter().map(|partition| (*partition, Err(error.clone().into()))));
}

fn left_out(topic: &str, partition: i32) -> Error {
    let what = format!("partition {partition} of topic {topic:?}");
    Error::Invalid { what, reason: "the broker's answer leaves it out".to_owned() }
}

async fn identity(client: &mut Client) -> Result<Identity, Error> {
    if !client.knows::<InitProducerIdRequest>(To::Any, INIT_PRODUCER_ID).await? {
        return Ok(Identity::None);
    }
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let answer = retry!(client, client => {
        let answer = client.call(To::Any, INIT_PRODUCER_ID, &request).await?;
        check(answer.error_code, || "a producer id".to_owned(), None)?;
        Ok(answer)
    })?;
    Ok(Identity::Producer { id: answer.producer_id.0, epoch: answer.producer_epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(partitions: i32) -> Producer {
        Producer {
            topic: "t".to_owned(),
            compression: Compression::None,
            identity: Identity::None,
            sequences: BTreeMap::new(),
            leaders: (0..partitions).map(|index| (index, 0)).collect(),
            learned: Instant::now(),
            turn: 0,
        }
    }

    fn record(key: Option<&str>, bytes: usize) -> Outgoing {
        Outgoing { key: key.map(|key| key.as_bytes().to_vec()), value: Some(vec![0; bytes]), ..Outgoing::default() }
    }

    #[test]
    fn records_are_placed_by_partition_key_or_turn() {
        let mut producer = producer(4);
        let key = (0..).map(|number: i32| number.to_string()).find(|key| partition_of(key.as_bytes(), 4) == 2).unwrap();
        let fixed = Outgoing { partition: Some(3), ..record(Some(&key), 1) };
        let parts = producer.parts(&[fixed, record(None, 1), record(None, 1), record(Some(&key), 1)]);
        assert_eq!(parts[&0], [vec![1, 2]], "without a key they stay together");
        assert_eq!((&parts[&3][0], &parts[&2][0]), (&vec![0], &vec![3]));
        assert_eq!(producer.parts(&[record(None, 1)]).keys().collect::<Vec<_>>(), [&1], "the next call, the next one");
    }

    #[test]
    fn a_batch_holds_what_fits_and_a_large_record_goes_alone() {
        let mut producer = producer(1);
        let third = BATCH_BYTES / 3;
        let records = [third, third, third, 2 * BATCH_BYTES, 1].map(|bytes| record(None, bytes));
        assert_eq!(producer.parts(&records)[&0], [vec![0, 1], vec![2], vec![3], vec![4]]);
    }
}
