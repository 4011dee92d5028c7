use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::*;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::fetch_request::*;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::*;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::*;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::*;
use kafka_protocol::messages::offset_for_leader_epoch_request::*;
use kafka_protocol::messages::produce_request::*;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(text("topic"))
}

fn group() -> GroupId {
    GroupId(text("group"))
}

/// Encoded requests of every API and version served, each array with two elements where that is possible.
fn bodies() -> Vec<(ApiKey, i16, Vec<u8>)> {
    let mut out = Vec::new();
    let mut add = |key, versions: std::ops::RangeInclusive<i16>, encode: &dyn Fn(i16) -> Vec<u8>| {
        out.extend(versions.map(|version| (key, version, encode(version))));
    };
    fn bytes<T: Encodable>(request: T, version: i16) -> Vec<u8> {
        let mut out = BytesMut::new();
        request.encode(&mut out, version).unwrap();
        out.to_vec()
    }
    let twice = |it: &dyn Fn() -> StrBytes| vec![it(), it()];
    let id = Uuid::from_u128(7);
    add(ApiKey::Produce, 3..=13, &|v| {
        let records = Some(Bytes::from_static(b"records"));
        let partition = PartitionProduceData::default().with_index(1).with_records(records);
        let data = TopicProduceData::default().with_partition_data(vec![partition.clone(), partition]);
        let data = if v >= 13 { data.with_topic_id(id) } else { data.with_name(topic()) };
        bytes(ProduceRequest::default().with_acks(-1).with_topic_data(vec![data.clone(), data]), v)
    });
    add(ApiKey::SaslHandshake, 0..=1, &|v| bytes(SaslHandshakeRequest::default().with_mechanism(text("PLAIN")), v));
    add(ApiKey::SaslAuthenticate, 0..=2, &|v| {
        bytes(SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0user\0key")), v)
    });
    add(ApiKey::Fetch, 4..=16, &|v| {
        let partition = FetchPartition::default().with_fetch_offset(9).with_partition_max_bytes(1 << 30);
        let it = FetchTopic::default().with_partitions(vec![partition.clone(), partition]);
        let it = if v >= 13 { it.with_topic_id(id) } else { it.with_topic(topic()) };
        let mut request = FetchRequest::default().with_max_bytes(i32::MAX).with_topics(vec![it.clone(), it]);
        if v >= 7 {
            let gone = ForgottenTopic::default().with_partitions(vec![1, 2]);
            let gone = if v >= 13 { gone.with_topic_id(id) } else { gone.with_topic(topic()) };
            request = request.with_forgotten_topics_data(vec![gone.clone(), gone]);
        }
        if v >= 12 {
            request = request.with_cluster_id(Some(text("cluster")));
        }
        bytes(if v >= 11 { request.with_rack_id(text("rack")) } else { request }, v)
    });
    add(ApiKey::ListOffsets, 1..=9, &|v| {
        let it = ListOffsetsPartition::default().with_timestamp(-1);
        let it = ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![it.clone(), it]);
        bytes(ListOffsetsRequest::default().with_topics(vec![it.clone(), it]), v)
    });
    add(ApiKey::Metadata, 0..=13, &|v| {
        let it = MetadataRequestTopic::default().with_name(Some(topic()));
        bytes(MetadataRequest::default().with_topics(Some(vec![it.clone(), it])), v)
    });
    add(ApiKey::OffsetCommit, 2..=9, &|v| {
        let it = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("metadata")));
        let it = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![it.clone(), it]);
        bytes(OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![it.clone(), it]), v)
    });
    add(ApiKey::OffsetFetch, 1..=9, &|v| {
        if v >= 8 {
            let it = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![1, 2]);
            let it = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![it.clone(), it]));
            return bytes(OffsetFetchRequest::default().with_groups(vec![it.clone(), it]), v);
        }
        let it = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![1, 2]);
        bytes(OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![it.clone(), it])), v)
    });
    add(ApiKey::FindCoordinator, 0..=6, &|v| {
        let request = FindCoordinatorRequest::default();
        bytes(
            if v >= 4 {
                request.with_coordinator_keys(twice(&|| text("group")))
            } else {
                request.with_key(text("group"))
            },
            v,
        )
    });
    add(ApiKey::JoinGroup, 0..=9, &|v| {
        let it = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
        let request = JoinGroupRequest::default().with_group_id(group()).with_protocols(vec![it.clone(), it]);
        let request = if v >= 5 { request.with_group_instance_id(Some(text("instance"))) } else { request };
        bytes(if v >= 8 { request.with_reason(Some(text("reason"))) } else { request }, v)
    });
    add(ApiKey::SyncGroup, 0..=5, &|v| {
        let it = SyncGroupRequestAssignment::default().with_assignment(Bytes::from_static(b"a"));
        let request = SyncGroupRequest::default().with_group_id(group()).with_assignments(vec![it.clone(), it]);
        bytes(if v >= 5 { request.with_protocol_name(Some(text("range"))) } else { request }, v)
    });
    add(ApiKey::Heartbeat, 0..=4, &|v| bytes(HeartbeatRequest::default().with_group_id(group()), v));
    add(ApiKey::LeaveGroup, 0..=5, &|v| {
        let request = LeaveGroupRequest::default().with_group_id(group());
        if v < 3 {
            return bytes(request.with_member_id(text("member")), v);
        }
        let it = MemberIdentity::default().with_group_instance_id(Some(text("instance")));
        bytes(request.with_members(vec![it.clone(), it]), v)
    });
    add(ApiKey::DescribeGroups, 0..=6, &|v| {
        bytes(DescribeGroupsRequest::default().with_groups(vec![group(), group()]), v)
    });
    add(ApiKey::ListGroups, 0..=5, &|v| {
        let request = ListGroupsRequest::default();
        let request = if v >= 4 { request.with_states_filter(twice(&|| text("Stable"))) } else { request };
        bytes(if v >= 5 { request.with_types_filter(twice(&|| text("classic"))) } else { request }, v)
    });
    add(ApiKey::DeleteGroups, 0..=2, &|v| {
        bytes(DeleteGroupsRequest::default().with_groups_names(vec![group(), group()]), v)
    });
    add(ApiKey::ApiVersions, 0..=4, &|v| {
        let request = ApiVersionsRequest::default();
        bytes(if v >= 3 { request.with_client_software_name(text("client")) } else { request }, v)
    });
    add(ApiKey::AlterConfigs, 0..=2, &|v| {
        let it = alter_configs_request::AlterableConfig::default().with_value(Some(text("1")));
        let it = alter_configs_request::AlterConfigsResource::default().with_configs(vec![it.clone(), it]);
        bytes(AlterConfigsRequest::default().with_resources(vec![it.clone(), it]), v)
    });
    add(ApiKey::IncrementalAlterConfigs, 0..=1, &|v| {
        let it = incremental_alter_configs_request::AlterableConfig::default().with_value(Some(text("1")));
        let it = incremental_alter_configs_request::AlterConfigsResource::default().with_configs(vec![it.clone(), it]);
        bytes(IncrementalAlterConfigsRequest::default().with_resources(vec![it.clone(), it]), v)
    });
    add(ApiKey::CreatePartitions, 0..=3, &|v| {
        let it = create_partitions_request::CreatePartitionsAssignment::default()
            .with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
        let it = create_partitions_request::CreatePartitionsTopic::default()
            .with_name(topic())
            .with_assignments(Some(vec![it.clone(), it]));
        bytes(CreatePartitionsRequest::default().with_topics(vec![it.clone(), it]), v)
    });
    add(ApiKey::DescribeLogDirs, 1..=4, &|v| {
        let it = DescribableLogDirTopic::default().with_topic(topic()).with_partitions(vec![1, 2]);
        bytes(DescribeLogDirsRequest::default().with_topics(Some(vec![it.clone(), it])), v)
    });
    add(ApiKey::ListPartitionReassignments, 0..=0, &|v| {
        let it = ListPartitionReassignmentsTopics::default().with_name(topic()).with_partition_indexes(vec![1, 2]);
        bytes(ListPartitionReassignmentsRequest::default().with_topics(Some(vec![it.clone(), it])), v)
    });
    add(ApiKey::OffsetDelete, 0..=0, &|v| {
        let it = OffsetDeleteRequestPartition::default().with_partition_index(1);
        let it = OffsetDeleteRequestTopic::default().with_name(topic()).with_partitions(vec![it.clone(), it]);
        bytes(OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![it.clone(), it]), v)
    });
    add(ApiKey::ConsumerGroupHeartbeat, 0..=1, &|v| {
        let owned = consumer_group_heartbeat_request::TopicPartitions::default().with_partitions(vec![1, 2]);
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(text("member"))
            .with_instance_id(Some(text("instance")))
            .with_subscribed_topic_names(Some(vec![topic(), topic()]))
            .with_topic_partitions(Some(vec![owned.clone(), owned]));
        bytes(if v >= 1 { request.with_subscribed_topic_regex(Some(text("a.*"))) } else { request }, v)
    });
    add(ApiKey::ConsumerGroupDescribe, 0..=1, &|v| {
        bytes(ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(), group()]), v)
    });
    add(ApiKey::DescribeTopicPartitions, 0..=0, &|v| {
        let it = TopicRequest::default().with_name(topic());
        let cursor = Cursor::default().with_topic_name(topic());
        bytes(DescribeTopicPartitionsRequest::default().with_topics(vec![it.clone(), it]).with_cursor(Some(cursor)), v)
    });
    add(ApiKey::DeleteRecords, 0..=2, &|v| {
        let it = delete_records_request::DeleteRecordsPartition::default().with_partition_index(1);
        let it = delete_records_request::DeleteRecordsTopic::default()
            .with_name(topic())
            .with_partitions(vec![it.clone(), it]);
        bytes(DeleteRecordsRequest::default().with_topics(vec![it.clone(), it]), v)
    });
    add(ApiKey::AddPartitionsToTxn, 0..=3, &|v| {
        let it = AddPartitionsToTxnTopic::default().with_name(topic()).with_partitions(vec![1, 2]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text("transaction")))
            .with_v3_and_below_topics(vec![it.clone(), it]);
        bytes(request, v)
    });
    add(ApiKey::AddOffsetsToTxn, 0..=4, &|v| bytes(AddOffsetsToTxnRequest::default().with_group_id(group()), v));
    add(ApiKey::EndTxn, 0..=4, &|v| {
        bytes(EndTxnRequest::default().with_transactional_id(TransactionalId(text("transaction"))), v)
    });
    add(ApiKey::TxnOffsetCommit, 0..=4, &|v| {
        let it = TxnOffsetCommitRequestPartition::default().with_committed_metadata(Some(text("note")));
        let it = TxnOffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![it.clone(), it]);
        let request = TxnOffsetCommitRequest::default().with_group_id(group()).with_topics(vec![it.clone(), it]);
        bytes(if v >= 3 { request.with_member_id(text("member")) } else { request }, v)
    });
    add(ApiKey::DescribeProducers, 0..=0, &|v| {
        let it = describe_producers_request::TopicRequest::default().with_name(topic());
        let it = it.with_partition_indexes(vec![1, 2]);
        bytes(DescribeProducersRequest::default().with_topics(vec![it.clone(), it]), v)
    });
    add(ApiKey::DescribeTransactions, 0..=0, &|v| {
        let ids = vec![TransactionalId(text("transaction")), TransactionalId(text("other"))];
        bytes(DescribeTransactionsRequest::default().with_transactional_ids(ids), v)
    });
    add(ApiKey::ListTransactions, 0..=1, &|v| {
        let request = ListTransactionsRequest::default()
            .with_state_filters(twice(&|| text("Ongoing")))
            .with_producer_id_filters(vec![ProducerId(1), ProducerId(2)]);
        bytes(if v >= 1 { request.with_duration_filter(5) } else { request }, v)
    });
    add(ApiKey::InitProducerId, 0..=5, &|v| bytes(InitProducerIdRequest::default(), v));
    add(ApiKey::CreateTopics, 2..=7, &|v| {
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
        let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("1")));
        let it = CreatableTopic::default()
            .with_name(topic())
            .with_assignments(vec![assignment.clone(), assignment])
            .with_configs(vec![config.clone(), config]);
        bytes(CreateTopicsRequest::default().with_topics(vec![it.clone(), it]), v)
    });
    add(ApiKey::DeleteTopics, 1..=6, &|v| {
        let request = DeleteTopicsRequest::default();
        let state = || DeleteTopicState::default().with_name(Some(topic()));
        let named = || vec![topic(), topic()];
        bytes(if v >= 6 { request.with_topics(vec![state(), state()]) } else { request.with_topic_names(named()) }, v)
    });
    add(ApiKey::DescribeConfigs, 1..=4, &|v| {
        let it = DescribeConfigsResource::default().with_configuration_keys(Some(twice(&|| text("retention.ms"))));
        bytes(DescribeConfigsRequest::default().with_resources(vec![it.clone(), it]), v)
    });
    add(ApiKey::DescribeCluster, 0..=2, &|v| bytes(DescribeClusterRequest::default(), v));
    add(ApiKey::OffsetForLeaderEpoch, 2..=4, &|v| {
        let it = OffsetForLeaderPartition::default().with_partition(1);
        let it = OffsetForLeaderTopic::default().with_topic(topic()).with_partitions(vec![it.clone(), it]);
        bytes(OffsetForLeaderEpochRequest::default().with_topics(vec![it.clone(), it]), v)
    });
    out
}

fn decode(key: ApiKey, version: i16, mut body: Bytes) {
    let body = &mut body;
    match key {
        ApiKey::Produce => drop(ProduceRequest::decode(body, version)),
        ApiKey::Fetch => drop(FetchRequest::decode(body, version)),
        ApiKey::ListOffsets => drop(ListOffsetsRequest::decode(body, version)),
        ApiKey::Metadata => drop(MetadataRequest::decode(body, version)),
        ApiKey::OffsetCommit => drop(OffsetCommitRequest::decode(body, version)),
        ApiKey::OffsetFetch => drop(OffsetFetchRequest::decode(body, version)),
        ApiKey::FindCoordinator => drop(FindCoordinatorRequest::decode(body, version)),
        ApiKey::JoinGroup => drop(JoinGroupRequest::decode(body, version)),
        ApiKey::SyncGroup => drop(SyncGroupRequest::decode(body, version)),
        ApiKey::Heartbeat => drop(HeartbeatRequest::decode(body, version)),
        ApiKey::LeaveGroup => drop(LeaveGroupRequest::decode(body, version)),
        ApiKey::DescribeGroups => drop(DescribeGroupsRequest::decode(body, version)),
        ApiKey::ListGroups => drop(ListGroupsRequest::decode(body, version)),
        ApiKey::DeleteGroups => drop(DeleteGroupsRequest::decode(body, version)),
        ApiKey::ApiVersions => drop(ApiVersionsRequest::decode(body, version)),
        ApiKey::InitProducerId => drop(InitProducerIdRequest::decode(body, version)),
        ApiKey::CreateTopics => drop(CreateTopicsRequest::decode(body, version)),
        ApiKey::DeleteTopics => drop(DeleteTopicsRequest::decode(body, version)),
        ApiKey::DescribeConfigs => drop(DescribeConfigsRequest::decode(body, version)),
        ApiKey::DescribeCluster => drop(DescribeClusterRequest::decode(body, version)),
        ApiKey::OffsetForLeaderEpoch => drop(OffsetForLeaderEpochRequest::decode(body, version)),
        ApiKey::AlterConfigs => drop(AlterConfigsRequest::decode(body, version)),
        ApiKey::IncrementalAlterConfigs => drop(IncrementalAlterConfigsRequest::decode(body, version)),
        ApiKey::CreatePartitions => drop(CreatePartitionsRequest::decode(body, version)),
        ApiKey::DescribeLogDirs => drop(DescribeLogDirsRequest::decode(body, version)),
        ApiKey::ListPartitionReassignments => drop(ListPartitionReassignmentsRequest::decode(body, version)),
        ApiKey::OffsetDelete => drop(OffsetDeleteRequest::decode(body, version)),
        ApiKey::ConsumerGroupHeartbeat => drop(ConsumerGroupHeartbeatRequest::decode(body, version)),
        ApiKey::ConsumerGroupDescribe => drop(ConsumerGroupDescribeRequest::decode(body, version)),
        ApiKey::DescribeTopicPartitions => drop(DescribeTopicPartitionsRequest::decode(body, version)),
        ApiKey::DeleteRecords => drop(DeleteRecordsRequest::decode(body, version)),
        ApiKey::AddPartitionsToTxn => drop(AddPartitionsToTxnRequest::decode(body, version)),
        ApiKey::AddOffsetsToTxn => drop(AddOffsetsToTxnRequest::decode(body, version)),
        ApiKey::EndTxn => drop(EndTxnRequest::decode(body, version)),
        ApiKey::TxnOffsetCommit => drop(TxnOffsetCommitRequest::decode(body, version)),
        ApiKey::DescribeProducers => drop(DescribeProducersRequest::decode(body, version)),
        ApiKey::DescribeTransactions => drop(DescribeTransactionsRequest::decode(body, version)),
        ApiKey::ListTransactions => drop(ListTransactionsRequest::decode(body, version)),
        ApiKey::SaslHandshake => drop(SaslHandshakeRequest::decode(body, version)),
        ApiKey::SaslAuthenticate => drop(SaslAuthenticateRequest::decode(body, version)),
        other => panic!("{other:?} is not served"),
    }
}

#[test]
fn every_shape_covers_its_request_to_the_last_byte() {
    let bodies = bodies();
    for (key, version, body) in &bodies {
        let rest = walk_body(*key, *version, body).unwrap_or_else(|error| panic!("{key:?} v{version}: {error}"));
        assert!(rest.is_empty(), "{key:?} v{version}: {} bytes left", rest.len());
        for cut in 0..body.len() {
            assert!(check_body(*key, *version, &body[..cut]).is_err(), "{key:?} v{version} cut at {cut}");
        }
    }
    for &(key, lowest, highest) in crate::api::SUPPORTED {
        for version in lowest..=highest {
            assert!(bodies.iter().any(|it| (it.0, it.1) == (key, version)), "{key:?} v{version} is not tested");
        }
    }
}

#[test]
fn a_count_beyond_the_request_is_refused() {
    let mut body = BytesMut::new();
    body.put_i32(i32::MAX);
    body.put_slice(&[0; 40]);
    assert!(check_body(ApiKey::Metadata, 1, &body).is_err());
    // Compact: 2^32 - 1.
    assert!(check_body(ApiKey::Metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0]).is_err());
    let mut many = BytesMut::new();
    many.put_i32(ELEMENTS_MAX as i32 + 1);
    many.put_bytes(0, 2 * (ELEMENTS_MAX + 1));
    assert!(check_body(ApiKey::Metadata, 1, &many).is_err());
}

#[test]
fn a_header_is_read_with_and_without_tags() {
    for (flexible, tags) in [(false, &b""[..]), (true, &b"\x01\x05\x02zz"[..])] {
        let mut frame = BytesMut::new();
        frame.put_i16(3);
        frame.put_i16(9);
        frame.put_i32(77);
        frame.put_i16(4);
        frame.put_slice(b"test");
        frame.put_slice(tags);
        frame.put_slice(b"body");
        let mut frame = frame.freeze();
        let header = read_header(&mut frame, flexible).unwrap();
        assert_eq!((header.correlation_id, header.client_id.as_str(), &frame[..]), (77, "test", &b"body"[..]));
    }
}

proptest! {
    /// Whatever passes the guard is decoded without a panic and without a failed (process-ending) allocation.
    #[test]
    fn damaged_requests_never_bring_the_codec_down(pick in any::<prop::sample::Index>(),
                                                   edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let bodies = bodies();
        let (key, version, mut body) = bodies[pick.index(bodies.len())].clone();
        for (at, byte) in edits {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        if check_body(key, version, &body).is_ok() {
            decode(key, version, Bytes::from(body));
        }
    }
}
