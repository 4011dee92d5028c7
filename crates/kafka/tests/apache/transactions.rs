//! Transactions: begun, ended, refused; offsets in them; what a transactional id is told.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use playhouse_log::batch::{BatchBuilder, Compression, split_first};

use crate::records::{fetch, produce};
use crate::{Side, error, group, name, text};

/// A transactional producer as the broker knows it.
#[derive(Clone)]
struct Producer {
    name: TransactionalId,
    id: ProducerId,
    epoch: i16,
}

fn init(name: &str) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(name))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

impl Producer {
    async fn new(side: &mut Side, what: &str) -> Producer {
        let name = side.name(what);
        let response = loop {
            let response = side.client.call(4, &init(&name)).await;
            match error(response.error_code).as_str() {
                // A broker that has just started makes the topic of transactions first.
                "CoordinatorNotAvailable"
                | "CoordinatorLoadInProgress"
                | "NotCoordinator"
                | "ConcurrentTransactions" => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                _ => break response,
            }
        };
        assert_eq!(error(response.error_code), "none");
        Producer { name: TransactionalId(text(&name)), id: response.producer_id, epoch: response.producer_epoch }
    }

    fn with_epoch(&self, epoch: i16) -> Producer {
        Producer { epoch, ..self.clone() }
    }

    fn with_id(&self, id: i64) -> Producer {
        Producer { id: ProducerId(id), ..self.clone() }
    }

    async fn add(&self, side: &mut Side, topic: &TopicName, partitions: Vec<i32>) -> Vec<(i32, String)> {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic.clone()).with_partitions(partitions);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.name.clone())
            .with_v3_and_below_producer_id(self.id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        loop {
            let response = side.client.call(3, &request).await;
            let all = response.results_by_topic_v3_and_below.iter().flat_map(|it| &it.results_by_partition);
            let mut all: Vec<_> = all.map(|it| (it.partition_index, error(it.partition_error_code))).collect();
            all.sort();
            // The markers of the one before are still on their way.
            if all.iter().all(|(_, error)| error != "ConcurrentTransactions") {
                return all;
            }
        }
    }

    async fn end(&self, side: &mut Side, commit: bool) -> String {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.name.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        loop {
            let told = error(side.client.call(4, &request).await.error_code);
            if told != "ConcurrentTransactions" {
                return told;
            }
        }
    }

    fn records(&self, sequence: i32, transactional: bool) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None).producer(self.id.0, self.epoch, sequence);
        if transactional {
            builder = builder.transactional();
        }
        builder.push(1_700_000_000_000, Some(b"key"), Some(b"value"), &[]);
        builder.build().into()
    }

    async fn send(&self, side: &mut Side, topic: &TopicName, partition: i32, sequence: i32) -> String {
        let request = produce(topic, partition, -1, Some(self.records(sequence, true)))
            .with_transactional_id(Some(self.name.clone()));
        error(side.client.call(9, &request).await.responses[0].partition_responses[0].error_code)
    }

    async fn add_offsets(&self, side: &mut Side, group_id: &str) -> String {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.name.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_group_id(group(group_id));
        loop {
            let told = error(side.client.call(3, &request).await.error_code);
            if told != "ConcurrentTransactions" {
                return told;
            }
        }
    }

    fn offsets(&self, group_id: &str, topic: &TopicName, offset: i64) -> TxnOffsetCommitRequest {
        let partition = |index: i32| {
            TxnOffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(offset)
        };
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic.clone())
            .with_partitions(vec![partition(0), partition(9)]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(self.name.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_group_id(group(group_id))
            .with_generation_id(-1)
            .with_topics(vec![topic])
    }
}

pub async fn ask(side: &mut Side) {
    let (topic, _) = side.topic("transactions", 2, &[]).await;
    begun(side).await;
    written(side, &topic).await;
    fenced(side, &topic).await;
    offsets(side, &topic).await;
    listed(side, &topic).await;
}

async fn begun(side: &mut Side) {
    // Once, so that its coordinator is there.
    Producer::new(side, "begun").await;
    let id = side.name("begun");
    for (case, request) in [
        ("empty_id", init("")),
        ("no_timeout", init(&id).with_transaction_timeout_ms(0)),
        ("negative_timeout", init(&id).with_transaction_timeout_ms(-1)),
        ("long_timeout", init(&id).with_transaction_timeout_ms(i32::MAX)),
        ("longest_timeout", init(&side.name("long")).with_transaction_timeout_ms(900_000)),
        ("id_without_epoch", init(&id).with_producer_id(ProducerId(5))),
        ("epoch_without_id", init(&id).with_producer_epoch(5)),
        ("other_id", init(&id).with_producer_id(ProducerId(1 << 40)).with_producer_epoch(0)),
        ("no_id", init(&id).with_transactional_id(None)),
        ("no_id.epoch", init(&id).with_transactional_id(None).with_producer_id(ProducerId(5)).with_producer_epoch(1)),
    ] {
        for version in [0, 2, 3, 4, 5] {
            if version < 3 && (request.producer_id.0 >= 0 || request.producer_epoch >= 0) {
                continue;
            }
            let response = side.client.call(version, &request).await;
            let got = (response.producer_id.0 >= 0, response.producer_epoch >= 0);
            note!(side, format!("init.{case}.v{version}"), (error(response.error_code), got));
        }
    }
    let again = Producer::new(side, "epochs").await;
    let next = Producer::new(side, "epochs").await;
    note!(side, "init.next", (again.id == next.id, next.epoch - again.epoch));
    // One that knows its epoch gets the next; the one before is fenced.
    for (case, known, version) in [("known", &next, 4), ("known.older", &again, 4), ("known.older.v3", &again, 3)] {
        let request = init(&side.name("epochs")).with_producer_id(known.id).with_producer_epoch(known.epoch);
        let response = side.client.call(version, &request).await;
        let step = if response.producer_epoch < 0 { -1 } else { response.producer_epoch - known.epoch };
        note!(side, format!("init.{case}"), (error(response.error_code), response.producer_id == known.id, step));
    }
}

async fn read(side: &mut Side, case: &str, topic: &TopicName) {
    for isolation in [0, 1] {
        // Some brokers give less than there is.
        let (mut batches, mut aborted, mut ends) = (Vec::new(), Vec::new(), (0, 0));
        let mut next = 0;
        while next == 0 || next < ends.1 {
            let request = fetch(topic, 0, next).with_isolation_level(isolation).with_session_epoch(-1);
            let response = side.client.call(12, &request).await;
            let it = &response.responses[0].partitions[0];
            assert_eq!(it.error_code, 0);
            let mut records = it.records.clone().unwrap_or_default();
            while let Ok((header, size)) = split_first(&records) {
                batches.push((header.base_offset, header.is_control(), header.is_transactional()));
                next = header.next_offset();
                let _ = records.split_to(size);
            }
            aborted.extend(it.aborted_transactions.iter().flatten().map(|it| it.first_offset));
            ends = (it.high_watermark, it.last_stable_offset);
            if ends.1 == 0 {
                break;
            }
        }
        aborted.dedup();
        note!(side, format!("{case}.fetch.{isolation}"), (ends, aborted, batches));
        for time in [-1, -3, 0] {
            let asked = ListOffsetsPartition::default().with_timestamp(time).with_current_leader_epoch(-1);
            let asked = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(vec![asked]);
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(isolation)
                .with_topics(vec![asked]);
            let it = side.client.call(7, &request).await.topics[0].partitions[0].clone();
            note!(side, format!("{case}.list_offsets.{isolation}.{time}"), (error(it.error_code), it.offset));
        }
    }
}

async fn written(side: &mut Side, topic: &TopicName) {
    let producer = Producer::new(side, "written").await;
    let none = name(&side.name("none"));
    note!(side, "txn.end.before", producer.end(side, true).await);
    note!(side, "txn.send.not_added", producer.send(side, topic, 0, 0).await);
    note!(side, "txn.add.no_topic", producer.add(side, &none, vec![0]).await);
    note!(side, "txn.add.no_partition", producer.add(side, topic, vec![0, 9]).await);
    note!(side, "txn.add.epoch", producer.with_epoch(producer.epoch + 3).add(side, topic, vec![0]).await);
    note!(side, "txn.add.id", producer.with_id(producer.id.0 + 77).add(side, topic, vec![0]).await);
    let stranger = Producer { name: TransactionalId(text(&side.name("stranger"))), ..producer.clone() };
    note!(side, "txn.add.stranger", stranger.add(side, topic, vec![0]).await);
    note!(side, "txn.end.stranger", stranger.end(side, true).await);
    note!(side, "txn.add", producer.add(side, topic, vec![0]).await);
    note!(side, "txn.add.again", producer.add(side, topic, vec![0, 1]).await);
    note!(side, "txn.send", producer.send(side, topic, 0, 0).await);
    note!(side, "txn.send.twice", producer.send(side, topic, 0, 0).await);
    note!(side, "txn.send.gap", producer.send(side, topic, 0, 5).await);
    note!(side, "txn.send.epoch", producer.with_epoch(producer.epoch + 1).send(side, topic, 0, 0).await);
    // Another one, as some brokers remember what they refused.
    let other = Producer::new(side, "written-other").await;
    other.add(side, topic, vec![1]).await;
    note!(side, "txn.send.other", other.send(side, topic, 1, 0).await);
    let plain = produce(topic, 1, -1, Some(other.records(1, false)));
    let told = side.client.call(9, &plain).await.responses[0].partition_responses[0].error_code;
    note!(side, "txn.send.plain", error(told));
    let nameless = produce(topic, 1, -1, Some(other.records(1, true)));
    let told = side.client.call(9, &nameless).await.responses[0].partition_responses[0].error_code;
    note!(side, "txn.send.nameless", error(told));
    let records = other.records(1, true);
    let misnamed = produce(topic, 1, -1, Some(records)).with_transactional_id(Some(stranger.name.clone()));
    let told = side.client.call(9, &misnamed).await.responses[0].partition_responses[0].error_code;
    note!(side, "txn.send.misnamed", error(told));
    note!(side, "txn.end.other", other.end(side, false).await);
    read(side, "txn.open", topic).await;
    note!(side, "txn.end.epoch", producer.with_epoch(producer.epoch - 1).end(side, true).await);
    note!(side, "txn.end", producer.end(side, false).await);
    note!(side, "txn.end.again", producer.end(side, false).await);
    note!(side, "txn.end.otherwise", producer.end(side, true).await);
    note!(side, "txn.second.add", producer.add(side, topic, vec![0]).await);
    note!(side, "txn.second.send", producer.send(side, topic, 0, 1).await);
    note!(side, "txn.second.end", producer.end(side, true).await);
    // What has ended is there when its markers are.
    producer.add(side, topic, vec![1]).await;
    producer.end(side, true).await;
    read(side, "txn.ended", topic).await;
}

async fn fenced(side: &mut Side, topic: &TopicName) {
    let older = Producer::new(side, "fenced").await;
    note!(side, "fenced.add", older.add(side, topic, vec![1]).await);
    note!(side, "fenced.send", older.send(side, topic, 1, 0).await);
    let newer = Producer::new(side, "fenced").await;
    note!(side, "fenced.epoch", newer.epoch - older.epoch);
    note!(side, "fenced.older.add", older.add(side, topic, vec![1]).await);
    note!(side, "fenced.older.send", older.send(side, topic, 1, 1).await);
    note!(side, "fenced.older.end", older.end(side, true).await);
    let id = side.name("fenced-group");
    note!(side, "fenced.older.add_offsets", older.add_offsets(side, &id).await);
    for version in [0, 3, 4] {
        let request = EndTxnRequest::default()
            .with_transactional_id(older.name.clone())
            .with_producer_id(older.id)
            .with_producer_epoch(older.epoch)
            .with_committed(true);
        if version < 4 {
            note!(
                side,
                format!("fenced.older.end.v{version}"),
                error(side.client.call(version, &request).await.error_code)
            );
        }
        if version < 3 {
            let topic = AddPartitionsToTxnTopic::default().with_name(topic.clone()).with_partitions(vec![1]);
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(older.name.clone())
                .with_v3_and_below_producer_id(older.id)
                .with_v3_and_below_producer_epoch(older.epoch)
                .with_v3_and_below_topics(vec![topic]);
            let response = side.client.call(version, &request).await;
            let it = &response.results_by_topic_v3_and_below[0].results_by_partition[0];
            note!(side, format!("fenced.older.add.v{version}"), error(it.partition_error_code));
        }
    }
    note!(side, "fenced.newer.add", newer.add(side, topic, vec![1]).await);
    note!(side, "fenced.newer.send", newer.send(side, topic, 1, 0).await);
    note!(side, "fenced.newer.end", newer.end(side, true).await);
}

async fn offsets(side: &mut Side, topic: &TopicName) {
    let producer = Producer::new(side, "offsets").await;
    let id = side.name("offsets-group");
    let told = |response: TxnOffsetCommitResponse| {
        let all = response.topics.iter().flat_map(|it| &it.partitions);
        let mut all: Vec<_> = all.map(|it| (it.partition_index, error(it.error_code))).collect();
        all.sort();
        all
    };
    let outcome = side.client.call(3, &producer.offsets(&id, topic, 5)).await;
    note!(side, "txn_offsets.not_added", told(outcome));
    note!(side, "txn_offsets.add.no_group", producer.add_offsets(side, "").await);
    note!(side, "txn_offsets.add", producer.add_offsets(side, &id).await);
    for version in [0, 2, 3, 4] {
        let outcome = side.client.call(version, &producer.offsets(&id, topic, 5)).await;
        note!(side, format!("txn_offsets.commit.v{version}"), told(outcome));
    }
    let good = producer.offsets(&id, topic, 6);
    for (case, request) in [
        ("generation", good.clone().with_generation_id(4)),
        ("member", good.clone().with_member_id(text("nobody")).with_generation_id(1)),
        ("instance", good.clone().with_group_instance_id(Some(text("nobody"))).with_generation_id(1)),
        ("epoch", producer.with_epoch(producer.epoch - 1).offsets(&id, topic, 6)),
        ("no_group", good.clone().with_group_id(group(""))),
    ] {
        let outcome = side.client.call(3, &request).await;
        note!(side, format!("txn_offsets.{case}"), told(outcome));
    }
    for (case, stable) in [("open", false), ("open.stable", true), ("ended", false), ("ended.stable", true)] {
        if case == "ended" {
            note!(side, "txn_offsets.end", producer.end(side, true).await);
            // The marker of the group's partition is durable when the next can begin.
            producer.add(side, topic, vec![0]).await;
            producer.end(side, false).await;
        }
        let asked = OffsetFetchRequestTopics::default().with_name(topic.clone()).with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group(&id))
            .with_member_epoch(-1)
            .with_topics(Some(vec![asked]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(stable);
        let it = side.client.call(8, &request).await.groups[0].topics[0].partitions[0].clone();
        note!(side, format!("txn_offsets.fetch.{case}"), (error(it.error_code), it.committed_offset));
    }
}

async fn listed(side: &mut Side, topic: &TopicName) {
    let open = Producer::new(side, "listed").await;
    open.add(side, topic, vec![0, 1]).await;
    open.send(side, topic, 0, 0).await;
    let unknown = TransactionalId(text(&side.name("unknown")));
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![
        open.name.clone(),
        unknown,
        TransactionalId(text("")),
    ]);
    let response = side.client.call(0, &request).await;
    let shown = response.transaction_states.iter().map(|it| {
        let topics = it.topics.iter().map(|it| {
            let mut partitions = it.partitions.clone();
            partitions.sort();
            (it.topic.to_string(), partitions)
        });
        let producer = (it.producer_id == open.id, it.producer_epoch, it.transaction_timeout_ms);
        let state = (it.transaction_state.to_string(), it.transaction_start_time_ms > 0);
        (error(it.error_code), state, producer, topics.collect::<Vec<_>>())
    });
    let shown: Vec<_> = shown.collect();
    note!(side, "transactions.described", shown);
    let all = ListTransactionsRequest::default().with_duration_filter(-1);
    for (case, version, request) in [
        ("all", 0, all.clone()),
        ("all.v1", 1, all.clone()),
        ("ongoing", 1, all.clone().with_state_filters(vec![text("Ongoing")])),
        ("complete", 1, all.clone().with_state_filters(vec![text("CompleteCommit")])),
        ("odd", 1, all.clone().with_state_filters(vec![text("Odd")])),
        ("producer", 1, all.clone().with_producer_id_filters(vec![open.id])),
        ("other", 1, all.clone().with_producer_id_filters(vec![ProducerId(open.id.0 + 500)])),
        ("old", 1, all.clone().with_duration_filter(3_600_000)),
    ] {
        let response = side.client.call(version, &request).await;
        let own = response.transaction_states.iter().find(|it| it.transactional_id == open.name);
        let own = own.map(|it| (it.producer_id == open.id, it.transaction_state.to_string()));
        let unknown: Vec<_> = response.unknown_state_filters.iter().map(|it| it.to_string()).collect();
        note!(side, format!("transactions.listed.{case}"), (error(response.error_code), own, unknown));
    }
    open.end(side, false).await;
}
