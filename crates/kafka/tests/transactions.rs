//! Transactions over a socket: what the producer may do, what readers see, and what is left after a restart.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use playhouse_kafka::{KafkaConfig, OFFSETS_TOPIC};
use playhouse_log::TransactionMarker;
use playhouse_log::batch::{BatchBuilder, Compression, split_first};
use support::{Broker, Client, TOPIC, batch, values};

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn id(text: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(text.to_owned()))
}

fn group(text: &str) -> GroupId {
    GroupId(StrBytes::from_string(text.to_owned()))
}

/// A producer as clients have it: an id, an epoch, a sequence per partition.
struct Producer {
    transactional_id: TransactionalId,
    id: ProducerId,
    epoch: i16,
    sequences: [i32; 2],
}

impl Producer {
    async fn init(client: &mut Client, transactional_id: &str) -> Producer {
        Producer::init_with(client, transactional_id, 60_000).await
    }

    async fn init_with(client: &mut Client, transactional_id: &str, timeout_ms: i32) -> Producer {
        let transactional_id = id(transactional_id);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id.clone()))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
            .with_transaction_timeout_ms(timeout_ms);
        let response = client.call(5, &request).await;
        assert_eq!(response.error_code, 0);
        let (id, epoch) = (response.producer_id, response.producer_epoch);
        Producer { transactional_id, id, epoch, sequences: [0; 2] }
    }

    async fn add(&self, client: &mut Client, partitions: &[i32]) -> Vec<i16> {
        let topic = AddPartitionsToTxnTopic::default().with_name(name(TOPIC)).with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id.clone())
            .with_v3_and_below_producer_id(self.id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let response = client.call(3, &request).await;
        let results = &response.results_by_topic_v3_and_below[0].results_by_partition;
        results.iter().map(|result| result.partition_error_code).collect()
    }

    fn batch(&self, partition: i32, values: &[&str]) -> Bytes {
        let sequence = self.sequences[partition as usize];
        let builder = BatchBuilder::new(Compression::None).producer(self.id.0, self.epoch, sequence);
        let mut builder = builder.transactional();
        values.iter().for_each(|value| builder.push(1_000, None, Some(value.as_bytes()), &[]));
        builder.build().into()
    }

    async fn send(&mut self, client: &mut Client, partition: i32, values: &[&str]) -> i16 {
        let records = self.batch(partition, values);
        let error = produce(client, Some(self.transactional_id.clone()), partition, records).await;
        if error == 0 {
            self.sequences[partition as usize] += values.len() as i32;
        }
        error
    }

    async fn end(&self, client: &mut Client, commit: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        client.call(4, &request).await.error_code
    }

    async fn add_offsets(&self, client: &mut Client, group_id: &str) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_group_id(group(group_id));
        client.call(3, &request).await.error_code
    }

    async fn commit_offset(&self, client: &mut Client, group_id: &str, offset: i64) -> i16 {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_group_id(group(group_id))
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        client.call(4, &request).await.topics[0].partitions[0].error_code
    }
}

async fn produce(
    client: &mut Client,
    transactional_id: Option<TransactionalId>,
    partition: i32,
    records: Bytes,
) -> i16 {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(TOPIC)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(transactional_id)
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![topic]);
    client.call(9, &request).await.responses[0].partition_responses[0].error_code
}

/// What a consumer sees of partition 0 from the start: at `read_committed` after the aborted are taken out as it does.
async fn seen(client: &mut Client, committed: bool) -> Vec<String> {
    let wanted = FetchPartition::default().with_partition(0).with_fetch_offset(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(TOPIC)).with_partitions(vec![wanted]);
    let request = FetchRequest::default()
        .with_isolation_level(i8::from(committed))
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic]);
    let response = client.call(12, &request).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    assert_eq!(partition.aborted_transactions.is_some(), committed);
    let mut aborted = partition.aborted_transactions.clone().unwrap_or_default();
    aborted.sort_by_key(|it| it.first_offset);
    let mut dropping = Vec::new();
    let mut seen = Vec::new();
    let mut batches = partition.records.clone().unwrap();

    while !batches.is_empty() {
        let (header, size) = split_first(&batches).unwrap();
        let batch = batches.split_to(size);
        while aborted.first().is_some_and(|it| it.first_offset <= header.last_offset()) {
            dropping.push(aborted.remove(0).producer_id.0);
        }
        if header.is_control() {
            dropping.retain(|id| *id != header.producer_id);
        } else if !(header.is_transactional() && dropping.contains(&header.producer_id)) {
            seen.extend(values(batch));
        }
    }
    seen
}

async fn latest(client: &mut Client, committed: bool) -> i64 {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_isolation_level(i8::from(committed)).with_topics(vec![topic]);
    client.call(7, &request).await.topics[0].partitions[0].offset
}

/// Offset and error of a group's committed offset of partition 0.
async fn committed(client: &mut Client, group_id: &str, stable: bool) -> (i64, i16) {
    let topic = OffsetFetchRequestTopic::default().with_name(name(TOPIC)).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group(group_id))
        .with_require_stable(stable)
        .with_topics(Some(vec![topic]));
    let response = client.call(7, &request).await;
    let partition = &response.topics[0].partitions[0];
    (partition.committed_offset, partition.error_code)
}

async fn state(client: &mut Client, transactional_id: &str) -> String {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id(transactional_id)]);
    client.call(0, &request).await.transaction_states[0].transaction_state.to_string()
}

#[tokio::test]
async fn committed_is_seen_and_aborted_is_not() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let mut producer = Producer::init(client, "one").await;
    assert_eq!(producer.epoch, 0);
    for (round, commit) in [true, false, true].into_iter().enumerate() {
        assert_eq!(producer.add(client, &[0, 1]).await, [0, 0]);
        let value = format!("{round}");
        assert_eq!(producer.send(client, 0, &[&value]).await, 0);
        assert_eq!(producer.send(client, 1, &[&value]).await, 0);
        let stable = latest(client, true).await;
        assert_eq!(stable + 1, latest(client, false).await, "the open one is not stable");
        assert_eq!(producer.end(client, commit).await, 0);
        assert_eq!(latest(client, true).await, latest(client, false).await, "ended when it is answered");
        assert_eq!(producer.end(client, commit).await, 0, "the same again is answered alike");
        assert_eq!(producer.end(client, !commit).await, ResponseError::InvalidTxnState.code());
    }
    assert_eq!(produce(client, None, 0, batch(&["plain"])).await, 0);
    assert_eq!(seen(client, true).await, ["0", "2", "plain"]);
    assert_eq!(seen(client, false).await, ["0", "1", "2", "plain"]);
}

#[tokio::test]
async fn a_batch_needs_an_open_transaction_with_its_partition() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let mut producer = Producer::init(client, "one").await;
    let invalid = ResponseError::InvalidTxnState.code();
    assert_eq!(producer.send(client, 0, &["early"]).await, invalid);
    assert_eq!(producer.add(client, &[0]).await, [0]);
    assert_eq!(producer.send(client, 1, &["elsewhere"]).await, invalid);
    let nobody = produce(client, None, 0, producer.batch(0, &["nobody's"])).await;
    assert_eq!(nobody, ResponseError::TransactionalIdAuthorizationFailed.code());
    let stranger = produce(client, Some(id("other")), 0, producer.batch(0, &["x"])).await;
    assert_eq!(stranger, ResponseError::InvalidProducerIdMapping.code());
    assert_eq!(producer.send(client, 0, &["good"]).await, 0);
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    let not_tried = ResponseError::OperationNotAttempted.code();
    assert_eq!(producer.add(client, &[1, 99]).await, [not_tried, unknown]);
    // What only a broker writes.
    assert_eq!(producer.end(client, true).await, 0);
    let marker = broker.log.topic(TOPIC).unwrap().partitions()[0].read(1, 1).unwrap();
    let forged = produce(client, Some(id("one")), 0, marker).await;
    assert_eq!(forged, ResponseError::InvalidRecord.code());
    assert_eq!(producer.send(client, 0, &["late"]).await, invalid);
    assert_eq!(seen(client, true).await, ["good"]);
}

#[tokio::test]
async fn a_second_producer_fences_the_first_off_and_aborts_what_it_left() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let mut first = Producer::init(client, "one").await;
    first.add(client, &[0]).await;
    first.send(client, 0, &["lost"]).await;
    let mut second = Producer::init(client, "one").await;
    assert!(second.id == first.id && second.epoch > first.epoch);
    let fenced = ResponseError::ProducerFenced.code();
    assert_eq!(first.send(client, 0, &["zombie"]).await, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(first.add(client, &[0]).await, [fenced]);
    assert_eq!(first.end(client, true).await, fenced);
    assert_eq!(first.add_offsets(client, "group").await, fenced);
    second.add(client, &[0]).await;
    assert_eq!(second.send(client, 0, &["kept"]).await, 0);
    assert_eq!(second.end(client, true).await, 0);
    assert_eq!(seen(client, true).await, ["kept"]);
    assert_eq!(state(client, "one").await, "CompleteCommit");
}

#[tokio::test]
async fn offsets_count_with_the_transaction() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let producer = Producer::init(client, "one").await;
    for (commit, expected) in [(true, 10), (false, 10), (true, 30)] {
        let offset = expected + if commit { 0 } else { 10 };
        assert_eq!(producer.commit_offset(client, "group", 1).await, ResponseError::InvalidTxnState.code());
        assert_eq!(producer.add_offsets(client, "group").await, 0);
        let before = committed(client, "group", false).await;
        assert_eq!(producer.commit_offset(client, "group", offset).await, 0);
        assert_eq!(committed(client, "group", false).await, before);
        assert_eq!(committed(client, "group", true).await, (-1, ResponseError::UnstableOffsetCommit.code()));
        assert_eq!(producer.end(client, commit).await, 0);
        assert_eq!(committed(client, "group", true).await, (expected, 0));
    }
    let broker = broker.restart().await;
    assert_eq!(committed(&mut broker.client().await, "group", true).await, (30, 0));
}

#[tokio::test]
async fn what_is_open_too_long_is_aborted_and_its_producer_fenced() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let mut producer = Producer::init_with(client, "slow", 50).await;
    producer.add(client, &[0]).await;
    producer.send(client, 0, &["too late"]).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while state(client, "slow").await != "CompleteAbort" {
        assert!(Instant::now() < deadline, "it is {}", state(client, "slow").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(seen(client, true).await.is_empty());
    assert_eq!(latest(client, true).await, latest(client, false).await);
    assert_eq!(producer.end(client, true).await, ResponseError::ProducerFenced.code());
    assert_eq!(producer.send(client, 0, &["zombie"]).await, ResponseError::InvalidProducerEpoch.code());
    for timeout_ms in [0, -1, 901_000] {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id("slow")))
            .with_producer_id(ProducerId(-1))
            .with_transaction_timeout_ms(timeout_ms);
        assert_eq!(client.call(4, &request).await.error_code, ResponseError::InvalidTransactionTimeout.code());
    }
}

#[tokio::test]
async fn an_open_transaction_goes_on_after_a_restart() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let mut producer = Producer::init(client, "one").await;
    producer.add(client, &[0]).await;
    producer.send(client, 0, &["before"]).await;
    producer.add_offsets(client, "group").await;
    assert_eq!(producer.commit_offset(client, "group", 5).await, 0);
    let broker = broker.restart().await;
    let client = &mut broker.client().await;
    assert_eq!(state(client, "one").await, "Ongoing");
    assert!(seen(client, true).await.is_empty());
    assert_eq!(producer.send(client, 0, &["after"]).await, 0);
    assert_eq!(producer.end(client, true).await, 0);
    assert_eq!(seen(client, true).await, ["before", "after"]);
    assert_eq!(committed(client, "group", true).await, (5, 0));
    // The next of its name has the next epoch.
    assert_eq!(Producer::init(client, "one").await.epoch, producer.epoch + 1);
}

/// As a crash between the decision and the markers leaves it, and one between the markers and what the coordinator
/// remembers of them.
#[tokio::test]
async fn what_was_decided_before_a_crash_is_finished_after_it() {
    for marked in [false, true] {
        for commit in [true, false] {
            let broker = Broker::start().await;
            let client = &mut broker.client().await;
            let mut producer = Producer::init(client, "one").await;
            producer.add(client, &[0]).await;
            producer.send(client, 0, &["value"]).await;
            producer.add_offsets(client, "group").await;
            producer.commit_offset(client, "group", 5).await;
            support::write_transaction_state(
                &broker.log,
                "one",
                producer.id.0,
                producer.epoch,
                commit,
                &[(TOPIC, 0), (OFFSETS_TOPIC, 0), ("deleted", 7)],
            );
            if marked {
                let marker = TransactionMarker {
                    producer_id: producer.id.0,
                    producer_epoch: producer.epoch,
                    coordinator_epoch: 0,
                    commit,
                };
                for topic in [TOPIC, OFFSETS_TOPIC] {
                    broker.log.topic(topic).unwrap().partitions()[0].end_transaction(&marker).unwrap();
                }
            }
            let broker = broker.restart().await;
            let client = &mut broker.client().await;
            let deadline = Instant::now() + Duration::from_secs(30);
            let expected = if commit { "CompleteCommit" } else { "CompleteAbort" };
            while state(client, "one").await != expected {
                assert!(Instant::now() < deadline, "it is {}", state(client, "one").await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(seen(client, true).await.len(), usize::from(commit));
            assert_eq!(committed(client, "group", true).await, (if commit { 5 } else { -1 }, 0));
            assert_eq!(producer.end(client, commit).await, 0, "the client asks again and is told");
        }
    }
}

#[tokio::test]
async fn a_transaction_that_nobody_knows_of_holds_no_reader_back() {
    let broker = Broker::start().await;
    let partition = broker.log.topic(TOPIC).unwrap().partitions()[0].clone();
    let builder = BatchBuilder::new(Compression::None).producer(777, 3, 0);
    let mut builder = builder.transactional();
    builder.push(1, None, Some(b"orphan"), &[]);
    partition.append(&builder.build()).unwrap();
    let broker = broker.restart().await;
    let client = &mut broker.client().await;
    produce(client, None, 0, batch(&["plain"])).await;
    assert_eq!(seen(client, true).await, ["plain"]);
}

#[tokio::test]
async fn a_parked_fetch_is_woken_by_the_commit() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let mut producer = Producer::init(client, "one").await;
    producer.add(client, &[0]).await;
    producer.send(client, 0, &["value"]).await;
    let mut reader = broker.client().await;
    let wanted = FetchPartition::default().with_partition(0).with_fetch_offset(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(TOPIC)).with_partitions(vec![wanted]);
    let request = FetchRequest::default()
        .with_isolation_level(1)
        .with_min_bytes(1)
        .with_max_wait_ms(30_000)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic]);
    let started = Instant::now();
    reader.send(11, &request).await;
    assert_eq!(producer.end(client, true).await, 0);
    let (_, response) = reader.receive::<FetchRequest>(11).await;
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
}

#[tokio::test]
async fn transactions_and_producers_are_shown() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let mut producer = Producer::init(client, "one").await;
    producer.add(client, &[0]).await;
    producer.send(client, 0, &["value", "other"]).await;
    Producer::init(client, "two").await;
    let ids = async |client: &mut Client, states: &[&str], duration| {
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| StrBytes::from_string(state.to_string())).collect())
            .with_duration_filter(duration);
        let response = client.call(1, &request).await;
        let ids = response.transaction_states.iter().map(|it| it.transactional_id.to_string()).collect::<Vec<_>>();
        (ids.join(","), response.unknown_state_filters.len())
    };
    assert_eq!(ids(client, &[], -1).await, ("one,two".to_owned(), 0));
    assert_eq!(ids(client, &["Ongoing", "Lost"], -1).await, ("one".to_owned(), 1));
    assert_eq!(ids(client, &[], 3_600_000).await, (String::new(), 0));

    let unknown = DescribeTransactionsRequest::default().with_transactional_ids(vec![id("one"), id("three")]);
    let described = client.call(0, &unknown).await.transaction_states;
    assert_eq!((described[0].producer_id, described[0].topics[0].partitions.len()), (producer.id, 1));
    assert_eq!(described[1].error_code, ResponseError::TransactionalIdNotFound.code());

    let topic = TopicRequest::default().with_name(name(TOPIC)).with_partition_indexes(vec![0, 9]);
    let response = client.call(0, &DescribeProducersRequest::default().with_topics(vec![topic])).await;
    let partitions = &response.topics[0].partitions;
    let shown = &partitions[0].active_producers[0];
    assert_eq!((shown.producer_id, shown.last_sequence, shown.current_txn_start_offset), (producer.id, 1, 0));
    assert_eq!(partitions[1].error_code, ResponseError::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn the_number_of_transactional_ids_is_bounded() {
    let mut config = KafkaConfig::default();
    config.transactions.ids_max = 20;
    let broker = Broker::start_with(config).await;
    let client = &mut broker.client().await;
    let busy = Producer::init(client, "busy").await;
    assert_eq!(busy.add(client, &[0]).await, [0]);
    for number in 0..100 {
        Producer::init(client, &format!("{number}")).await;
    }
    let listed = client.call(1, &ListTransactionsRequest::default().with_duration_filter(-1)).await;
    assert!(listed.transaction_states.len() <= 20);
    assert_eq!(busy.end(client, true).await, 0, "what is open is not forgotten");
}
