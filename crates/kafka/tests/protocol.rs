//! The protocol over a socket, with the codec as the client: every API at every version, and what clients rely on.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use support::{Broker, Client, PARTITIONS, TOPIC, api_versions, batch, sequenced, values};

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn group(text: &str) -> GroupId {
    GroupId(StrBytes::from_string(text.to_owned()))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn produce(acks: i16, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(TOPIC)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

fn fetch(partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let wanted =
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(TOPIC)).with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_topics(vec![topic])
}

async fn fetch_values(client: &mut Client, offset: i64) -> Vec<String> {
    let response = client.call(11, &fetch(0, offset, 0)).await;
    values(response.responses[0].partitions[0].records.clone().unwrap())
}

async fn produce_ok(client: &mut Client, records: Bytes) -> i64 {
    let response = client.call(9, &produce(-1, 0, records)).await;
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
    partition.base_offset
}

fn committed(group_id: &str, member: &str, generation: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    let topic = OffsetCommitRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(group_id))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

async fn commit(client: &mut Client, group_id: &str, member: &str, generation: i32, offset: i64) -> i16 {
    let response = client.call(8, &committed(group_id, member, generation, offset)).await;
    response.topics[0].partitions[0].error_code
}

async fn committed_offset(client: &mut Client, group_id: &str) -> (i64, String) {
    let topic = OffsetFetchRequestTopic::default().with_name(name(TOPIC)).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group(group_id)).with_topics(Some(vec![topic]));
    let response = client.call(5, &request).await;
    let partition = &response.topics[0].partitions[0];
    (partition.committed_offset, partition.metadata.as_ref().unwrap().to_string())
}

#[tokio::test]
async fn every_api_answers_at_every_version() {
    let broker = Broker::start().await;
    let client = &mut broker.client().await;
    let id = broker.log.topic(TOPIC).unwrap().id();
    for v in 0..=4 {
        let response = client.call(v, &api_versions()).await;
        let produce = response.api_keys.iter().find(|it| it.api_key == ApiKey::Produce as i16).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
    for v in 0..=13 {
        let topic = MetadataRequestTopic::default().with_name(Some(name(TOPIC)));
        let response = client.call(v, &MetadataRequest::default().with_topics(Some(vec![topic]))).await;
        let described = &response.topics[0];
        assert_eq!((described.error_code, described.partitions.len() as i32), (0, PARTITIONS), "v{v}");
        assert_eq!(response.brokers[0].port, i32::from(broker.address.port()));
        if v >= 10 {
            assert_eq!(described.topic_id, id);
        }
    }
    for v in 3..=13 {
        let mut request = produce(-1, 1, batch(&["a"]));
        if v >= 13 {
            request.topic_data[0].name = TopicName::default();
            request.topic_data[0].topic_id = id;
        }
        let response = client.call(v, &request).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, i64::from(v - 3)), "v{v}");
        let mut unknown = produce(-1, 77, batch(&["a"]));
        if v < 13 {
            unknown.topic_data[0].name = name("-unknown/");
        } else {
            unknown.topic_data[0].name = TopicName::default();
        }
        assert_ne!(client.call(v, &unknown).await.responses[0].partition_responses[0].error_code, 0, "v{v}");
    }
    for v in 4..=16 {
        let mut request = fetch(1, 0, 0);
        if v >= 13 {
            request.topics[0].topic = TopicName::default();
            request.topics[0].topic_id = id;
        }
        let response = client.call(v, &request).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 11), "v{v}");
        assert_eq!(values(partition.records.clone().unwrap()).len(), 11, "v{v}");
    }
    for v in 1..=9 {
        let partition = ListOffsetsPartition::default().with_partition_index(1).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        let response = client.call(v, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
        assert_eq!(response.topics[0].partitions[0].offset, 11, "v{v}");
    }
    for v in 0..=6 {
        let request = FindCoordinatorRequest::default();
        let request = if v >= 4 { request.with_coordinator_keys(vec![text("g")]) } else { request.with_key(text("g")) };
        let response = client.call(v, &request.clone()).await;
        let port = if v >= 4 { response.coordinators[0].port } else { response.port };
        assert_eq!(port, i32::from(broker.address.port()), "v{v}");
        if v >= 1 {
            for (key_type, expected) in [(1, 0), (2, ResponseError::InvalidRequest.code())] {
                let response = client.call(v, &request.clone().with_key_type(key_type)).await;
                let error = if v >= 4 { response.coordinators[0].error_code } else { response.error_code };
                assert_eq!(error, expected, "v{v}");
            }
        }
    }
    for v in 0..=9 {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let mut request = JoinGroupRequest::default()
            .with_group_id(group(&format!("join-{v}")))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(if v >= 1 { 10_000 } else { -1 })
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let mut response = client.call(v, &request).await;
        if v >= 4 {
            assert_eq!(response.error_code, ResponseError::MemberIdRequired.code(), "v{v}");
            request.member_id = response.member_id;
            response = client.call(v, &request).await;
        }
        assert_eq!((response.error_code, response.generation_id), (0, 1), "v{v}");
        assert_eq!(response.leader, response.member_id);
        let gone = client.call(v, &request.with_member_id(text("nobody"))).await;
        assert_eq!(gone.error_code, ResponseError::UnknownMemberId.code(), "v{v}");
        let (group_id, member) = (group(&format!("join-{v}")), response.member_id);
        for v in 0..=5 {
            let assignment = SyncGroupRequestAssignment::default()
                .with_member_id(member.clone())
                .with_assignment(Bytes::from_static(b"mine"));
            let request = SyncGroupRequest::default()
                .with_group_id(group_id.clone())
                .with_generation_id(1)
                .with_member_id(member.clone())
                .with_assignments(vec![assignment]);
            let response = client.call(v, &request).await;
            assert_eq!((response.error_code, &response.assignment[..]), (0, &b"mine"[..]), "v{v}");
        }
        for v in 0..=4 {
            let request = HeartbeatRequest::default().with_group_id(group_id.clone()).with_member_id(member.clone());
            assert_eq!(client.call(v, &request.clone().with_generation_id(1)).await.error_code, 0, "v{v}");
            let stale = client.call(v, &request.with_generation_id(7)).await;
            assert_eq!(stale.error_code, ResponseError::IllegalGeneration.code(), "v{v}");
        }
        for v in 0..=6 {
            let request = DescribeGroupsRequest::default().with_groups(vec![group_id.clone(), group("none")]);
            let response = client.call(v, &request).await;
            assert_eq!(response.groups[0].group_state.as_str(), "Stable", "v{v}");
            assert_eq!(&response.groups[0].members[0].member_assignment[..], b"mine", "v{v}");
            assert_eq!(response.groups[1].group_state.as_str(), "Dead", "v{v}");
        }
        let request = LeaveGroupRequest::default().with_group_id(group_id);
        let leave = v.min(5);
        let response = if leave < 3 {
            client.call(leave, &request.with_member_id(member)).await.error_code
        } else {
            let members = vec![MemberIdentity::default().with_member_id(member)];
            client.call(leave, &request.with_members(members)).await.members[0].error_code
        };
        assert_eq!(response, 0, "v{leave}");
    }
    for v in 2..=9 {
        let response = client.call(v, &committed("offsets", "", -1, i64::from(v))).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 0, "v{v}");
    }
    for v in 1..=9 {
        let offset = if v >= 8 {
            let topic = OffsetFetchRequestTopics::default().with_name(name(TOPIC)).with_partition_indexes(vec![0]);
            let asked =
                OffsetFetchRequestGroup::default().with_group_id(group("offsets")).with_topics(Some(vec![topic]));
            let response = client.call(v, &OffsetFetchRequest::default().with_groups(vec![asked])).await;
            response.groups[0].topics[0].partitions[0].committed_offset
        } else {
            let topic = OffsetFetchRequestTopic::default().with_name(name(TOPIC)).with_partition_indexes(vec![0]);
            let request = OffsetFetchRequest::default().with_group_id(group("offsets")).with_topics(Some(vec![topic]));
            client.call(v, &request).await.topics[0].partitions[0].committed_offset
        };
        assert_eq!(offset, 9, "v{v}");
    }
    for v in 0..=5 {
        let response = client.call(v, &ListGroupsRequest::default()).await;
        assert!(response.groups.iter().any(|it| it.group_id == group("offsets")), "v{v}");
    }
    for v in 0..=2 {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group("offsets")]);
        let expected = if v == 0 { 0 } else { ResponseError::GroupIdNotFound.code() };
        assert_eq!(client.call(v, &request).await.results[0].error_code, expected, "v{v}");
    }
    let mut ids = Vec::new();
    for v in 0..=5 {
        let response = client.call(v, &InitProducerIdRequest::default().with_transactional_id(None)).await;
        assert_eq!(response.error_code, 0, "v{v}");
        ids.push(response.producer_id.0);
        let transactional = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("t"))));
        let without_timeout = client.call(v, &transactional).await.error_code;
        assert_eq!(without_timeout, ResponseError::InvalidTransactionTimeout.code(), "v{v}");
    }
    ids.dedup();
    assert_eq!(ids.len(), 6);
    for v in 2..=7 {
        let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("5000")));
        let topic = CreatableTopic::default()
            .with_name(name(&format!("made-{v}")))
            .with_num_partitions(3)
            .with_replication_factor(-1)
            .with_configs(vec![config]);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        assert_eq!(client.call(v, &request).await.topics[0].error_code, 0, "v{v}");
        let again = client.call(v, &request).await;
        assert_eq!(again.topics[0].error_code, ResponseError::TopicAlreadyExists.code(), "v{v}");
    }
    for v in 1..=4 {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("made-2"))
            .with_configuration_keys(None);
        let response = client.call(v, &DescribeConfigsRequest::default().with_resources(vec![resource])).await;
        let configs = &response.results[0].configs;
        let retention = configs.iter().find(|it| it.name.as_str() == "retention.ms").unwrap();
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5000"), 1), "v{v}");
    }
    for v in 1..=6 {
        let request = DeleteTopicsRequest::default();
        let state = |topic: &str| DeleteTopicState::default().with_name(Some(name(topic)));
        let (gone, kept) = (format!("made-{}", v + 1), TOPIC);
        let request = if v >= 6 {
            request.with_topics(vec![state(&gone), state(kept)])
        } else {
            request.with_topic_names(vec![name(&gone), name(kept)])
        };
        let response = client.call(v, &request).await;
        let codes: Vec<i16> = response.responses.iter().map(|it| it.error_code).collect();
        assert_eq!(codes, [0, ResponseError::PolicyViolation.code()], "v{v}");
        assert!(broker.log.topic(&gone).is_none());
    }
    for v in 0..=2 {
        let response = client.call(v, &DescribeClusterRequest::default()).await;
        assert_eq!(response.brokers[0].port, i32::from(broker.address.port()), "v{v}");
    }
    for v in 2..=4 {
        let partition = OffsetForLeaderPartition::default().with_partition(1).with_leader_epoch(0);
        let topic = OffsetForLeaderTopic::default().with_topic(name(TOPIC)).with_partitions(vec![partition]);
        let response = client.call(v, &OffsetForLeaderEpochRequest::default().with_topics(vec![topic])).await;
        assert_eq!(response.topics[0].partitions[0].end_offset, 11, "v{v}");
    }
    broker.stop().await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_at_version_0() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.send_frame(&[0, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'x', 0, 0]).await;
    let (id, response) = client.receive::<ApiVersionsRequest>(0).await;
    assert_eq!((id, response.error_code), (5, ResponseError::UnsupportedVersion.code()));
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!(client.call(3, &api_versions()).await.error_code, 0);
}

#[tokio::test]
async fn requests_are_read_ahead_and_answered_in_order() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let mut sent = Vec::new();
    for sequence in 0..50 {
        sent.push(client.send(9, &produce(-1, 0, sequenced(7, sequence, &["a"]))).await);
    }
    for (expected, id) in sent.into_iter().enumerate() {
        let (answered, response) = client.receive::<ProduceRequest>(9).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((answered, partition.error_code, partition.base_offset), (id, 0, expected as i64));
    }
}

#[tokio::test]
async fn a_batch_sent_twice_is_stored_once_and_a_gap_is_refused() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    assert_eq!(produce_ok(&mut client, sequenced(7, 0, &["a", "b"])).await, 0);
    assert_eq!(produce_ok(&mut client, sequenced(7, 0, &["a", "b"])).await, 0);
    let gap = client.call(9, &produce(-1, 0, sequenced(7, 5, &["c"]))).await;
    let error = gap.responses[0].partition_responses[0].error_code;
    assert_eq!(error, ResponseError::OutOfOrderSequenceNumber.code());
    assert_eq!(fetch_values(&mut client, 0).await, ["a", "b"]);
}

/// The low byte of the attributes, set; the checksum comes too late to matter.
fn with_attributes(batch: Bytes, attributes: u8) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[22] = attributes;
    Bytes::from(bytes)
}

#[tokio::test]
async fn bad_batches_are_refused_with_their_own_errors() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let mut corrupt = batch(&["a"]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    for (records, expected) in [
        (Bytes::from(corrupt), ResponseError::CorruptMessage),
        (batch(&["a"]).slice(..20), ResponseError::InvalidRecord),
        (Bytes::new(), ResponseError::InvalidRecord),
        (with_attributes(batch(&["a"]), 0x10), ResponseError::TransactionalIdAuthorizationFailed),
        (with_attributes(batch(&["a"]), 0x20), ResponseError::InvalidRecord),
    ] {
        let response = client.call(9, &produce(-1, 0, records)).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, expected.code(), "{:?}", partition.error_message);
    }
    let internal = PartitionProduceData::default().with_records(Some(batch(&["a"])));
    let internal =
        TopicProduceData::default().with_name(name("__consumer_offsets")).with_partition_data(vec![internal]);
    let response = client.call(9, &ProduceRequest::default().with_acks(1).with_topic_data(vec![internal])).await;
    let error = response.responses[0].partition_responses[0].error_code;
    assert_eq!(error, ResponseError::InvalidTopicException.code());
    let response = client.call(9, &produce(2, 0, batch(&["a"]))).await;
    let error = response.responses[0].partition_responses[0].error_code;
    assert_eq!(error, ResponseError::InvalidRequiredAcks.code());
    assert!(fetch_values(&mut client, 0).await.is_empty());
}

#[tokio::test]
async fn a_full_disk_asks_producers_to_wait_and_try_again() {
    let broker = Broker::start_with_disk_budget(16 << 10).await;
    let mut client = broker.client().await;
    let large = "x".repeat(1 << 10);
    let refused = loop {
        let response = client.call(9, &produce(-1, 0, batch(&[&large]))).await;
        let partition = &response.responses[0].partition_responses[0];
        if partition.error_code != 0 {
            assert!(partition.error_message.as_ref().unwrap().contains("disk budget"));
            break (partition.error_code, response.throttle_time_ms);
        }
        assert!(partition.base_offset < 100);
    };
    assert_eq!(refused.0, ResponseError::NotEnoughReplicas.code());
    assert!(refused.1 > 0);
    assert!(!fetch_values(&mut client, 0).await.is_empty());
}

#[tokio::test]
async fn acks_0_has_no_answer_and_closes_on_failure() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.send(9, &produce(0, 0, batch(&["a"]))).await;
    let id = client.send(3, &api_versions()).await;
    assert_eq!(client.receive::<ApiVersionsRequest>(3).await.0, id);
    let response = client.call(11, &fetch(0, 0, 5_000)).await;
    assert_eq!(values(response.responses[0].partitions[0].records.clone().unwrap()), ["a"]);
    client.send(9, &produce(0, 99, batch(&["a"]))).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_parked_fetch_wakes_on_a_record_and_otherwise_waits_its_time() {
    let broker = Broker::start().await;
    let (mut consumer, mut producer) = (broker.client().await, broker.client().await);
    let began = Instant::now();
    consumer.send(11, &fetch(0, 0, 30_000)).await;
    produce_ok(&mut producer, batch(&["a"])).await;
    let (_, response) = consumer.receive::<FetchRequest>(11).await;
    assert_eq!(values(response.responses[0].partitions[0].records.clone().unwrap()), ["a"]);
    assert!(began.elapsed() < Duration::from_secs(20));
    let began = Instant::now();
    let response = consumer.call(11, &fetch(0, 1, 200)).await;
    assert!(response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn fetches_give_whole_batches_and_name_offsets_out_of_range() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for _ in 0..3 {
        produce_ok(&mut client, batch(&["a", "b", "c"])).await;
    }
    // From the middle of a batch: the whole batch. A limit below one batch: one batch all the same.
    assert_eq!(fetch_values(&mut client, 4).await.len(), 6);
    let mut small = fetch(0, 4, 0);
    small.topics[0].partitions[0].partition_max_bytes = 1;
    let response = client.call(11, &small).await;
    assert_eq!(values(response.responses[0].partitions[0].records.clone().unwrap()).len(), 3);
    let response = client.call(11, &fetch(0, 100, 5_000)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ResponseError::OffsetOutOfRange.code());
    let session = client.call(11, &fetch(0, 0, 0).with_session_id(9).with_session_epoch(1)).await;
    assert_eq!(session.error_code, ResponseError::FetchSessionIdNotFound.code());
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for _ in 0..3 {
        produce_ok(&mut client, batch(&["a"])).await;
    }
    for (timestamp, expected) in [(-1, 3), (-2, 0), (-3, 0), (-4, 0), (-5, -1), (0, 0), (1_000, 0), (1_001, -1)] {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        let response = client.call(8, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
        assert_eq!(response.topics[0].partitions[0].offset, expected, "time {timestamp}");
    }
}

#[tokio::test]
async fn committed_offsets_survive_a_restart() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    assert_eq!(commit(&mut client, "g", "", -1, 1).await, 0);
    assert_eq!(commit(&mut client, "g", "", -1, 42).await, 0);
    assert_eq!(commit(&mut client, "gone", "", -1, 5).await, 0);
    client.call(2, &DeleteGroupsRequest::default().with_groups_names(vec![group("gone")])).await;
    let broker = broker.restart().await;
    let mut client = broker.client().await;
    assert_eq!(committed_offset(&mut client, "g").await, (42, "note".to_owned()));
    assert_eq!(committed_offset(&mut client, "gone").await.0, -1);
    let listed = client.call(4, &ListGroupsRequest::default()).await;
    let listed: Vec<_> = listed.groups.iter().map(|it| (it.group_id.to_string(), it.group_state.to_string())).collect();
    assert_eq!(listed, [("g".to_owned(), "Empty".to_owned())]);
    // A member of before the restart has to join again.
    assert_eq!(commit(&mut client, "g", "old", 3, 50).await, ResponseError::UnknownMemberId.code());
}

#[tokio::test]
async fn a_deleted_topic_takes_its_committed_offsets_along() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let ask = MetadataRequestTopic::default().with_name(Some(name("brief")));
    client.call(9, &MetadataRequest::default().with_topics(Some(vec![ask]))).await;
    let mut request = committed("g", "", -1, 7);
    request.topics[0].name = name("brief");
    assert_eq!(client.call(8, &request).await.topics[0].partitions[0].error_code, 0);
    client.call(4, &DeleteTopicsRequest::default().with_topic_names(vec![name("brief")])).await;
    let all = OffsetFetchRequest::default().with_group_id(group("g")).with_topics(None);
    assert!(client.call(5, &all).await.topics.is_empty());
}

#[tokio::test]
async fn metadata_makes_topics_only_where_both_sides_allow_it() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let ask = |topic: &str| {
        MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]))
    };
    let response = client.call(9, &ask("fresh").with_allow_auto_topic_creation(false)).await;
    assert_eq!(response.topics[0].error_code, ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(client.call(9, &ask("fresh")).await.topics[0].error_code, 0);
    let response = client.call(9, &ask("not/a/name")).await;
    assert_eq!(response.topics[0].error_code, ResponseError::InvalidTopicException.code());
    let all = client.call(9, &MetadataRequest::default().with_topics(None)).await;
    assert!(all.topics.iter().any(|it| it.name.as_ref().unwrap().as_str() == "fresh"));
    assert!(client.call(9, &MetadataRequest::default().with_topics(Some(Vec::new()))).await.topics.is_empty());
}

#[tokio::test]
async fn topics_are_refused_with_a_reason() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic = |topic: &str, partitions: i32| {
        CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(1)
    };
    let config = |key: &str, value: &str| {
        vec![CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))]
    };
    let request = CreateTopicsRequest::default().with_topics(vec![
        topic("a b", 1),
        topic("__mine", 1),
        topic("none", 0),
        topic("shrunk", 1).with_configs(config("cleanup.policy", "shrink")),
        topic("misspelt", 1).with_configs(config("retention.mss", "1")),
        topic("plain", 1).with_configs(config("cleanup.policy", "delete")),
    ]);
    let response = client.call(5, &request).await;
    let codes: Vec<i16> = response.topics.iter().map(|it| it.error_code).collect();
    use ResponseError::*;
    let expected = [InvalidTopicException, InvalidTopicException, InvalidPartitions, InvalidConfig, InvalidConfig];
    assert_eq!(codes[..5], expected.map(|error| error.code()));
    assert_eq!(codes[5], 0);
    assert!(response.topics[4].error_message.as_ref().unwrap().contains("retention.mss"));
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset() {
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for value in ["a", "b", "c"] {
        produce_ok(&mut client, batch(&[value])).await;
    }
    let delete = async |client: &mut Client, topic: &str, offset: i64| {
        let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let response = client.call(2, &DeleteRecordsRequest::default().with_topics(vec![topic])).await;
        let partition = &response.topics[0].partitions[0];
        (partition.low_watermark, partition.error_code)
    };
    assert_eq!(delete(&mut client, TOPIC, 2).await, (2, 0));
    assert_eq!(fetch_values(&mut client, 2).await, ["c"]);
    let response = client.call(11, &fetch(0, 1, 0)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ResponseError::OffsetOutOfRange.code());
    assert_eq!(delete(&mut client, TOPIC, 4).await, (-1, ResponseError::OffsetOutOfRange.code()));
    assert_eq!(delete(&mut client, "none", 0).await, (-1, ResponseError::UnknownTopicOrPartition.code()));
    let internal = ResponseError::InvalidTopicException.code();
    assert_eq!(delete(&mut client, "__consumer_offsets", 0).await, (-1, internal));
    broker.log.topic(TOPIC).unwrap().partitions()[0].hold("engine", 2);
    assert_eq!(delete(&mut client, TOPIC, -1).await, (-1, ResponseError::PolicyViolation.code()));
    broker.log.topic(TOPIC).unwrap().partitions()[0].release("engine");
    assert_eq!(delete(&mut client, TOPIC, -1).await, (3, 0));
}
