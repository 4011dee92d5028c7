//! Consumer groups of the newer protocol (KIP-848) over a socket, and what shows and trims groups of either kind.

mod support;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use support::{Broker, Client, PARTITIONS, TOPIC, batch};
use uuid::Uuid;

const GROUP: &str = "readers";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn join(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(GROUP))
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(10_000)
        .with_subscribed_topic_names(Some(vec![name(TOPIC)]))
        .with_topic_partitions(Some(Vec::new()))
}

fn stay(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(GROUP))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

async fn beat(client: &mut Client, request: &ConsumerGroupHeartbeatRequest) -> (i32, Option<Vec<(Uuid, Vec<i32>)>>) {
    let answer = client.call(1, request).await;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let topics = |it: consumer_group_heartbeat_response::Assignment| {
        it.topic_partitions.into_iter().map(|it| (it.topic_id, it.partitions)).collect()
    };
    (answer.member_epoch, answer.assignment.map(topics))
}

async fn commit(client: &mut Client, member: &str, epoch: i32, partition: i32) -> i16 {
    let it = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(5)
        .with_committed_metadata(Some(text("here")));
    let it = OffsetCommitRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![it]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(GROUP))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(epoch)
        .with_topics(vec![it]);
    client.call(9, &request).await.topics[0].partitions[0].error_code
}

async fn fetched(client: &mut Client, member: Option<&str>, epoch: i32) -> Result<Vec<i64>, i16> {
    let topics = OffsetFetchRequestTopics::default().with_name(name(TOPIC)).with_partition_indexes(vec![0, 1]);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group(GROUP))
        .with_member_id(member.map(text))
        .with_member_epoch(epoch)
        .with_topics(Some(vec![topics]));
    let answer = client.call(9, &OffsetFetchRequest::default().with_groups(vec![asked])).await;
    let group = &answer.groups[0];
    if group.error_code != 0 {
        return Err(group.error_code);
    }
    Ok(group.topics[0].partitions.iter().map(|it| it.committed_offset).collect())
}

async fn listed(client: &mut Client, kind: &str) -> Vec<(String, String)> {
    let request = ListGroupsRequest::default().with_types_filter(vec![text(kind)]);
    let groups = client.call(5, &request).await.groups;
    groups.iter().map(|it| (it.group_id.to_string(), it.group_state.to_string())).collect()
}

#[tokio::test]
async fn members_share_the_partitions_and_go_on_after_a_restart() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic = broker.log.topic(TOPIC).unwrap().id();
    let (epoch, assignment) = beat(&mut client, &join("a")).await;
    assert_eq!((epoch, assignment), (1, Some(vec![(topic, (0..PARTITIONS).collect())])));
    assert_eq!(beat(&mut client, &join("b")).await, (2, Some(vec![])));
    let (epoch, kept) = beat(&mut client, &stay("a", 1)).await;
    let kept = kept.unwrap();
    assert_eq!((epoch, kept[0].1.len()), (1, 1));
    let owned = TopicPartitions::default().with_topic_id(topic).with_partitions(kept[0].1.clone());
    let released = stay("a", 1).with_topic_partitions(Some(vec![owned]));
    assert_eq!(beat(&mut client, &released).await, (2, None));
    let (epoch, given) = beat(&mut client, &stay("b", 2)).await;
    assert_eq!((epoch, given), (2, Some(vec![(topic, vec![1 - kept[0].1[0]])])));

    assert_eq!(commit(&mut client, "a", 1, 0).await, ResponseError::StaleMemberEpoch.code());
    assert_eq!(commit(&mut client, "nobody", 1, 0).await, ResponseError::UnknownMemberId.code());
    assert_eq!(commit(&mut client, "a", 2, 0).await, 0);
    assert_eq!(fetched(&mut client, Some("a"), 1).await, Err(ResponseError::StaleMemberEpoch.code()));
    assert_eq!(fetched(&mut client, Some("a"), 2).await, Ok(vec![5, -1]));
    assert_eq!(fetched(&mut client, None, -1).await, Ok(vec![5, -1]));

    let broker = broker.restart().await;
    let mut client = broker.client().await;
    // Nobody joins again, nothing moves; only the epoch may.
    let (epoch, assignment) = beat(&mut client, &stay("a", 2)).await;
    assert_eq!(assignment, None);
    assert_eq!(commit(&mut client, "a", epoch, 0).await, 0);
    let described = client
        .call(1, &ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(GROUP), group("nobody's")]))
        .await;
    let [readers, nobody] = &described.groups[..] else { panic!("{described:?}") };
    assert_eq!((readers.error_code, readers.assignor_name.as_str(), readers.members.len()), (0, "uniform", 2));
    let member = &readers.members[0];
    assert_eq!((member.member_id.as_str(), member.subscribed_topic_names[0].as_str()), ("a", TOPIC));
    assert_eq!(member.assignment.topic_partitions[0].topic_name.as_str(), TOPIC);
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(nobody.error_code, ResponseError::GroupIdNotFound.code());
}

#[tokio::test]
async fn groups_of_both_kinds_are_listed_apart_and_do_not_mix() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    beat(&mut client, &join("a")).await;
    let mine = |state: &str| vec![(GROUP.to_owned(), state.to_owned())];
    assert_eq!((listed(&mut client, "consumer").await, listed(&mut client, "Classic").await), (mine("Stable"), vec![]));
    // DescribeGroups sends who asks for such a group to the other API.
    let described = client.call(6, &DescribeGroupsRequest::default().with_groups(vec![group(GROUP)])).await;
    assert_eq!(described.groups[0].error_code, ResponseError::GroupIdNotFound.code());
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let classic = JoinGroupRequest::default()
        .with_group_id(group(GROUP))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    assert_eq!(client.call(2, &classic).await.error_code, ResponseError::InconsistentGroupProtocol.code());
    assert_eq!(commit(&mut client, "a", 1, 0).await, 0);
    assert_eq!(client.call(1, &stay("a", -1)).await.error_code, 0);
    assert_eq!(listed(&mut client, "consumer").await, mine("Empty"));
    // Empty, it may become a classic one; its offsets stay. A classic group with members does not turn back.
    assert_eq!(client.call(2, &classic).await.error_code, 0);
    assert_eq!(listed(&mut client, "consumer").await, vec![]);
    assert_eq!(fetched(&mut client, None, -1).await, Ok(vec![5, -1]));
    assert_eq!(client.call(1, &join("a")).await.error_code, ResponseError::GroupIdNotFound.code());
}

#[tokio::test]
async fn committed_offsets_of_partitions_that_nobody_reads_are_deleted() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let partitions = [0, 1].map(|index| OffsetDeleteRequestPartition::default().with_partition_index(index));
    let topic = OffsetDeleteRequestTopic::default().with_name(name(TOPIC)).with_partitions(partitions.to_vec());
    let request = OffsetDeleteRequest::default().with_group_id(group(GROUP)).with_topics(vec![topic]);
    assert_eq!(client.call(0, &request).await.error_code, ResponseError::GroupIdNotFound.code());
    beat(&mut client, &join("a")).await;
    assert_eq!(commit(&mut client, "a", 1, 0).await, 0);
    let refused = client.call(0, &request).await;
    assert_eq!(refused.topics[0].partitions[0].error_code, ResponseError::GroupSubscribedToTopic.code());
    client.call(1, &stay("a", -1)).await;
    let deleted = client.call(0, &request).await;
    assert!(deleted.topics[0].partitions.iter().all(|it| it.error_code == 0), "{deleted:?}");
    assert_eq!(fetched(&mut client, None, -1).await, Ok(vec![-1, -1]));
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let (mut cursor, mut seen) = (None::<Cursor>, Vec::new());
    loop {
        let topics = [TOPIC, "missing"].map(|it| TopicRequest::default().with_name(name(it)));
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(topics.to_vec())
            .with_response_partition_limit(1)
            .with_cursor(cursor);
        let page = client.call(0, &request).await;
        for topic in page.topics {
            let indexes: Vec<i32> = topic.partitions.iter().map(|it| it.partition_index).collect();
            seen.push((topic.name.unwrap().to_string(), topic.error_code, indexes));
        }
        cursor = match page.next_cursor {
            Some(it) => Some(Cursor::default().with_topic_name(it.topic_name).with_partition_index(it.partition_index)),
            None => break,
        };
    }
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    let expected =
        [(TOPIC.to_owned(), 0, vec![0]), (TOPIC.to_owned(), 0, vec![1]), ("missing".to_owned(), unknown, vec![])];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_log_directory_tells_what_partitions_take() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let data = produce_request::PartitionProduceData::default().with_index(1).with_records(Some(batch(&["a", "b"])));
    let topic = produce_request::TopicProduceData::default().with_name(name(TOPIC)).with_partition_data(vec![data]);
    client.call(9, &ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic])).await;
    let asked =
        describe_log_dirs_request::DescribableLogDirTopic::default().with_topic(name(TOPIC)).with_partitions(vec![1]);
    let answer = client.call(4, &DescribeLogDirsRequest::default().with_topics(Some(vec![asked]))).await;
    let [directory] = &answer.results[..] else { panic!("{answer:?}") };
    let [partition] = &directory.topics[0].partitions[..] else { panic!("{directory:?}") };
    assert_eq!((partition.partition_index, partition.partition_size), (1, batch(&["a", "b"]).len() as i64));
    let moving = client.call(0, &ListPartitionReassignmentsRequest::default()).await;
    assert_eq!((moving.error_code, moving.topics.len()), (0, 0));
}
