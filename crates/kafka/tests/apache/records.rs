//! Records: produced, fetched, found by time, deleted.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use playhouse_log::batch::{BatchBuilder, Compression, split_first};
use uuid::Uuid;

use crate::{Side, error, name};

pub fn produce(topic: &TopicName, partition: i32, acks: i16, records: Option<Bytes>) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let topic = TopicProduceData::default().with_name(topic.clone()).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

pub fn fetch(topic: &TopicName, partition: i32, offset: i64) -> FetchRequest {
    let wanted =
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic.clone()).with_partitions(vec![wanted]);
    FetchRequest::default().with_max_bytes(50 << 20).with_topics(vec![topic])
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A batch of `count` records, timestamps a second apart from this one on.
fn batch_at(first_ms: i64, count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    for number in 0..count {
        builder.push(first_ms + 1000 * number as i64, Some(b"key"), Some(format!("{number}").as_bytes()), &[]);
    }
    builder.build()
}

fn batch(count: usize) -> Vec<u8> {
    batch_at(now_ms() - 3_600_000, count)
}

fn keyless() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(now_ms(), None, Some(b"value"), &[]);
    builder.build()
}

fn sequenced(producer: i64, epoch: i16, sequence: i32, count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer, epoch, sequence);
    for _ in 0..count {
        builder.push(now_ms(), Some(b"key"), Some(b"value"), &[]);
    }
    builder.build()
}

/// With other bytes at `at`, and the checksum renewed.
fn changed(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// A message of format 1, as clients before 0.11 sent it: only its shape counts.
fn old_format() -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 1, 0];
    message.extend_from_slice(&1_000_i64.to_be_bytes());
    message.extend_from_slice(&(-1_i32).to_be_bytes());
    message.extend_from_slice(&1_i32.to_be_bytes());
    message.push(b'v');
    let mut set = 0_i64.to_be_bytes().to_vec();
    set.extend_from_slice(&(message.len() as i32).to_be_bytes());
    set.extend_from_slice(&message);
    set
}

const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const RECORD_COUNT: usize = 57;

async fn send(side: &mut Side, case: &str, topic: &TopicName, partition: i32, acks: i16, records: Option<Vec<u8>>) {
    let request = produce(topic, partition, acks, records.map(Bytes::from));
    let response = side.client.call(9, &request).await;
    let it = &response.responses[0].partition_responses[0];
    let shown = (error(it.error_code), it.base_offset, it.record_errors.len());
    note!(side, format!("produce.{case}"), shown);
}

pub async fn ask(side: &mut Side) {
    let (topic, id) = side.topic("records", 2, &[]).await;
    produced(side, &topic, id).await;
    sequences(side).await;
    fetched(side, &topic, id).await;
    found(side).await;
    deleted(side).await;
}

async fn produced(side: &mut Side, topic: &TopicName, id: Uuid) {
    for acks in [1, -1] {
        send(side, &format!("acks.{acks}"), topic, 0, acks, Some(batch(3))).await;
    }
    for acks in [2, -2] {
        send(side, &format!("acks.{acks}"), topic, 0, acks, Some(batch(3))).await;
    }
    send(side, "no_partition", topic, 9, -1, Some(batch(1))).await;
    let none = name(&side.name("none"));
    send(side, "no_topic", &none, 0, -1, Some(batch(1))).await;
    send(side, "empty", topic, 0, -1, Some(Vec::new())).await;
    let mut damaged = batch(1);
    *damaged.last_mut().unwrap() ^= 1;
    send(side, "crc", topic, 0, -1, Some(damaged)).await;
    send(side, "truncated", topic, 0, -1, Some(batch(3)[..80].to_vec())).await;
    send(side, "old_format", topic, 0, -1, Some(old_format())).await;
    send(side, "unknown_codec", topic, 0, -1, Some(changed(batch(1), ATTRIBUTES, &[0, 7]))).await;
    send(side, "control", topic, 0, -1, Some(changed(batch(1), ATTRIBUTES, &[0, 0x20]))).await;
    send(side, "transactional", topic, 0, -1, Some(changed(batch(1), ATTRIBUTES, &[0, 0x10]))).await;
    send(side, "count", topic, 0, -1, Some(changed(batch(2), RECORD_COUNT, &[0, 0, 0, 3]))).await;
    send(side, "offset_deltas", topic, 0, -1, Some(changed(batch(2), LAST_OFFSET_DELTA, &[0, 0, 0, 9]))).await;
    send(side, "two_batches", topic, 0, -1, Some([batch(1), batch(1)].concat())).await;
    let internal = name("__consumer_offsets");
    send(side, "internal", &internal, 0, -1, Some(batch(1))).await;

    let (small, _) = side.topic("small", 1, &[("max.message.bytes", "200")]).await;
    send(side, "too_large", &small, 0, -1, Some(batch(40))).await;
    let (compacted, _) = side.topic("compacted", 1, &[("cleanup.policy", "compact")]).await;
    send(side, "keyless", &compacted, 0, -1, Some(keyless())).await;
    send(side, "keyed", &compacted, 0, -1, Some(batch(1))).await;
    let (stamped, _) = side.topic("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let response = side.client.call(9, &produce(&stamped, 0, -1, Some(batch(1).into()))).await;
    let time = response.responses[0].partition_responses[0].log_append_time_ms;
    note!(side, "produce.log_append_time", (time - now_ms()).abs() < 60_000);
    for (setting, times) in [
        ("message.timestamp.after.max.ms", [10_000, 3_600_000]),
        ("message.timestamp.before.max.ms", [-10_000, -3_600_000]),
    ] {
        let (bound, _) = side.topic(&setting[18..20], 1, &[(setting, "60000")]).await;
        for time in times {
            let case = format!("{}.{}", &setting[18..], time / 1000);
            send(side, &case, &bound, 0, -1, Some(batch_at(now_ms() + time, 1))).await;
        }
    }
    send(side, "a_day_ahead", topic, 0, -1, Some(batch_at(now_ms() + 86_400_000, 1))).await;
    send(side, "long_ago", topic, 0, -1, Some(batch_at(1, 1))).await;

    for version in 3..=13 {
        let mut request = produce(topic, 1, -1, Some(batch(1).into()));
        if version >= 13 {
            request.topic_data[0].name = TopicName::default();
            request.topic_data[0].topic_id = id;
        }
        let response = side.client.call(version, &request).await;
        let it = &response.responses[0];
        let answer = &it.partition_responses[0];
        let named = (it.name == *topic, it.topic_id == id);
        note!(side, format!("produce.v{version}"), (named, error(answer.error_code), answer.base_offset));
        // Zstandard came with version 7.
        let mut zstd = BatchBuilder::new(Compression::Zstd);
        zstd.push(now_ms(), None, Some(b"value"), &[]);
        request.topic_data[0].partition_data[0].records = Some(zstd.build().into());
        let response = side.client.call(version, &request).await;
        note!(side, format!("produce.v{version}.zstd"), error(response.responses[0].partition_responses[0].error_code));
    }
    let mut unknown = produce(topic, 0, -1, Some(batch(1).into()));
    unknown.topic_data[0].name = TopicName::default();
    unknown.topic_data[0].topic_id = Uuid::from_u128(77);
    let response = side.client.call(13, &unknown).await;
    note!(side, "produce.no_topic_id", error(response.responses[0].partition_responses[0].error_code));
}

async fn sequences(side: &mut Side) {
    let (topic, _) = side.topic("sequences", 1, &[]).await;
    let made = side.client.call(4, &InitProducerIdRequest::default().with_transactional_id(None)).await;
    let id = made.producer_id.0;
    note!(side, "sequence.init", (error(made.error_code), made.producer_epoch, id >= 0));
    let steps: [(&str, i16, i32, usize); 14] = [
        ("first", 0, 0, 2),
        ("again", 0, 0, 2),
        ("next", 0, 2, 1),
        ("gap", 0, 7, 1),
        ("behind", 0, 1, 1),
        ("overlap", 0, 2, 2),
        ("more", 0, 3, 1),
        ("more.2", 0, 4, 1),
        ("more.3", 0, 5, 1),
        ("more.4", 0, 6, 1),
        ("sixth_before", 0, 0, 2),
        ("epoch.not_zero", 1, 7, 1),
        ("epoch", 1, 0, 1),
        ("older_epoch", 0, 7, 1),
    ];
    for (step, epoch, sequence, count) in steps {
        send(side, &format!("sequence.{step}"), &topic, 0, -1, Some(sequenced(id, epoch, sequence, count))).await;
    }
    send(side, "sequence.unknown_producer", &topic, 0, -1, Some(sequenced(id + 500_000, 0, 5, 1))).await;
    send(side, "sequence.two_batches", &topic, 0, -1, {
        Some([sequenced(id + 500_001, 0, 0, 1), sequenced(id + 500_001, 0, 1, 1)].concat())
    })
    .await;
    send(side, "sequence.none", &topic, 0, -1, Some(sequenced(id, 1, -1, 1))).await;
    let asked =
        describe_producers_request::TopicRequest::default().with_name(topic.clone()).with_partition_indexes(vec![0, 5]);
    let response = side.client.call(0, &DescribeProducersRequest::default().with_topics(vec![asked])).await;
    let described = response.topics[0].partitions.iter().map(|it| {
        let own = it.active_producers.iter().filter(|it| it.producer_id.0 == id);
        let own = own.map(|it| {
            let transaction = it.current_txn_start_offset;
            (it.producer_epoch, it.last_sequence, it.coordinator_epoch, transaction, it.last_timestamp > 0)
        });
        (it.partition_index, error(it.error_code), own.collect::<Vec<_>>())
    });
    let described: Vec<_> = described.collect();
    note!(side, "sequence.described", described);
}

async fn read(side: &mut Side, case: &str, version: i16, request: &FetchRequest) {
    let response = side.client.call(version, request).await;
    let told = error(response.error_code);
    let partitions = response.responses.iter().flat_map(|it| &it.partitions).map(|it| {
        let mut records = it.records.clone().unwrap_or_default();
        let mut batches = Vec::new();
        while let Ok((header, size)) = split_first(&records) {
            batches.push((header.base_offset, header.last_offset()));
            let _ = records.split_to(size);
        }
        let ends = (it.high_watermark, it.last_stable_offset, it.log_start_offset);
        let aborted = it.aborted_transactions.as_ref().filter(|_| it.error_code == 0).map(Vec::len);
        (it.partition_index, error(it.error_code), ends, aborted, batches)
    });
    let partitions: Vec<_> = partitions.collect();
    note!(side, format!("fetch.{case}"), (told, response.session_id == 0, partitions));
}

async fn fetched(side: &mut Side, _: &TopicName, _: Uuid) {
    let (topic, id) = side.topic("fetched", 1, &[]).await;
    for _ in 0..3 {
        send(side, "fetched", &topic, 0, -1, Some(batch(10))).await;
    }
    // The epoch 0 asks for a full fetch outside of any session, as clients without sessions do: -1.
    for version in 4..=16 {
        let mut request = fetch(&topic, 0, 12).with_session_epoch(-1);
        if version >= 13 {
            request.topics[0].topic = TopicName::default();
            request.topics[0].topic_id = id;
        }
        read(side, &format!("middle.v{version}"), version, &request).await;
        read(side, &format!("committed.v{version}"), version, &request.clone().with_isolation_level(1)).await;
    }
    let fetch = |partition, offset| fetch(&topic, partition, offset).with_session_epoch(-1);
    for offset in [-1, 30, 31] {
        read(side, &format!("at.{offset}"), 12, &fetch(0, offset)).await;
    }
    read(side, "no_partition", 12, &fetch(9, 0)).await;
    let mut request = fetch(0, 0);
    request.topics[0].topic = name(&side.name("none"));
    read(side, "no_topic", 12, &request).await;
    let mut request = fetch(0, 0);
    request.topics[0].topic = TopicName::default();
    request.topics[0].topic_id = Uuid::from_u128(77);
    read(side, "no_topic_id", 13, &request).await;
    let mut request = fetch(0, 5);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    read(side, "small_partition", 12, &request).await;
    read(side, "small", 12, &fetch(0, 5).with_max_bytes(1)).await;
    for epoch in [0, 1] {
        let mut request = fetch(0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        read(side, &format!("leader_epoch.{epoch}"), 12, &request).await;
    }
    read(side, "no_session", 12, &fetch(0, 0).with_session_id(12345).with_session_epoch(1)).await;
    for (epoch, wanted) in [("none", -1), ("current", 0), ("later", 3)] {
        for version in [2, 3, 4] {
            let partition = OffsetForLeaderPartition::default().with_leader_epoch(0).with_current_leader_epoch(wanted);
            let asked = OffsetForLeaderTopic::default().with_topic(topic.clone());
            let asked = asked.with_partitions(vec![partition.clone(), partition.with_partition(7)]);
            let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
            let response = side.client.call(version, &request).await;
            let shown = response.topics[0].partitions.iter();
            let shown: Vec<_> = shown.map(|it| (error(it.error_code), it.leader_epoch, it.end_offset)).collect();
            note!(side, format!("leader_epoch.{epoch}.v{version}"), shown);
        }
    }
    for epoch in [-1, 1, 9] {
        let partition = OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(-1);
        let asked = OffsetForLeaderTopic::default().with_topic(topic.clone()).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let it = side.client.call(4, &request).await.topics[0].partitions[0].clone();
        note!(side, format!("leader_epoch.of.{epoch}"), (error(it.error_code), it.leader_epoch, it.end_offset));
    }
}

async fn found(side: &mut Side) {
    let (topic, _) = side.topic("times", 2, &[]).await;
    let start = now_ms() - 86_400_000;
    for hour in [3, 1, 2] {
        send(side, "times", &topic, 0, -1, Some(batch_at(start + hour * 3_600_000, 3))).await;
    }
    let times = [-1, -2, -3, -4, -5, -7, 0, start, start + 3_600_000, start + 3_601_000, start + 7_200_000, now_ms()];
    for (case, time) in times.into_iter().enumerate() {
        for version in [1, 4, 5, 7, 8, 9] {
            let asked =
                |partition| ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(time);
            let asked = vec![asked(0), asked(1), asked(7)];
            let asked = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(asked);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
            let response = side.client.call(version, &request).await;
            let shown = response.topics[0].partitions.iter().map(|it| {
                let time = if it.timestamp < 0 { it.timestamp } else { it.timestamp - start };
                (it.partition_index, error(it.error_code), it.offset, time, it.leader_epoch)
            });
            let mut shown: Vec<_> = shown.collect();
            shown.sort();
            let case = if time < 0 { time.to_string() } else { format!("time_{case}") };
            note!(side, format!("list_offsets.{case}.v{version}"), shown);
        }
    }
    for epoch in [0, 4] {
        let asked = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(epoch);
        let asked = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let it = side.client.call(7, &request).await.topics[0].partitions[0].clone();
        note!(side, format!("list_offsets.leader_epoch.{epoch}"), (error(it.error_code), it.offset));
    }
}

async fn deleted(side: &mut Side) {
    let (topic, _) = side.topic("deleted", 1, &[]).await;
    send(side, "deleted", &topic, 0, -1, Some(batch(10))).await;
    let (compacted, _) = side.topic("not-deleted", 1, &[("cleanup.policy", "compact")]).await;
    let none = name(&side.name("none"));
    let offsets = name("__consumer_offsets");
    for (case, topic, partition, offset) in [
        ("some", &topic, 0, 4),
        ("fewer", &topic, 0, 2),
        ("beyond", &topic, 0, 11),
        ("negative", &topic, 0, -2),
        ("all", &topic, 0, -1),
        ("no_partition", &topic, 9, 0),
        ("no_topic", &none, 0, 0),
        ("compacted", &compacted, 0, 0),
        ("internal", &offsets, 0, 0),
    ] {
        let asked = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let asked = DeleteRecordsTopic::default().with_name(topic.clone()).with_partitions(vec![asked]);
        let request = DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![asked]);
        let it = side.client.call(2, &request).await.topics[0].partitions[0].clone();
        note!(side, format!("delete_records.{case}"), (error(it.error_code), it.low_watermark));
    }
    read(side, "deleted", 12, &fetch(&topic, 0, 3).with_session_epoch(-1)).await;
}
