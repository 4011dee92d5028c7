//! Groups of the newer protocol (KIP-848): what a member is told, and when it is refused.

use std::time::Duration;

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::{Side, error, group, text};

fn beat(id: &GroupId, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(id.clone())
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}

fn first(id: &GroupId, member: &str, topic: &TopicName) -> ConsumerGroupHeartbeatRequest {
    beat(id, member, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(vec![topic.clone()]))
        .with_topic_partitions(Some(Vec::new()))
}

fn shown(response: &ConsumerGroupHeartbeatResponse) -> (String, bool, i32, Option<Vec<i32>>) {
    let assigned = response.assignment.as_ref().map(|it| {
        let mut all: Vec<i32> = it.topic_partitions.iter().flat_map(|it| it.partitions.clone()).collect();
        all.sort();
        all
    });
    (error(response.error_code), response.member_id.is_some(), response.member_epoch, assigned)
}

/// Goes on until it has so many partitions, and owns them.
async fn settle(
    side: &mut Side,
    id: &GroupId,
    topic: Uuid,
    member: &str,
    told: &ConsumerGroupHeartbeatResponse,
    wanted: usize,
) -> ConsumerGroupHeartbeatResponse {
    let mut epoch = told.member_epoch;
    let partitions = |it: &ConsumerGroupHeartbeatResponse| {
        let assigned = it.assignment.as_ref()?.topic_partitions.iter();
        Some(assigned.flat_map(|it| it.partitions.clone()).collect::<Vec<i32>>())
    };
    let mut owned = partitions(told).unwrap_or_default();
    for _ in 0..400 {
        let owns = TopicPartitions::default().with_topic_id(topic).with_partitions(owned.clone());
        let owns = if owned.is_empty() { Vec::new() } else { vec![owns] };
        let response = side.client.call(1, &beat(id, member, epoch).with_topic_partitions(Some(owns))).await;
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        let moved = response.member_epoch != epoch;
        epoch = response.member_epoch;
        let now = partitions(&response).unwrap_or_else(|| owned.clone());
        if owned.len() == wanted && now.len() == wanted && !moved {
            return response.with_assignment(told.assignment.clone());
        }
        owned = now;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{member} gets no {wanted} partitions");
}

pub async fn ask(side: &mut Side) {
    let (topic, topic_id) = side.topic("newer", 4, &[]).await;
    let id = group(&side.name("newer"));
    let one = Uuid::new_v4().to_string();
    let good = first(&id, &one, &topic);
    let none = group(&side.name("no-such-group"));
    for (case, request) in [
        ("no_group", first(&group(""), &one, &topic)),
        ("no_member", first(&id, "", &topic)),
        ("no_timeout", good.clone().with_rebalance_timeout_ms(-1)),
        ("no_subscription", good.clone().with_subscribed_topic_names(None)),
        ("no_owned", good.clone().with_topic_partitions(None)),
        ("owned", {
            let owns = TopicPartitions::default().with_topic_id(topic_id).with_partitions(vec![0]);
            good.clone().with_topic_partitions(Some(vec![owns]))
        }),
        ("assignor", good.clone().with_server_assignor(Some(text("mine")))),
        ("no_assignor", good.clone().with_server_assignor(Some(StrBytes::default()))),
        ("pattern", good.clone().with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text("(")))),
        ("no_instance", good.clone().with_instance_id(Some(StrBytes::default()))),
        ("no_rack", good.clone().with_rack_id(Some(StrBytes::default()))),
        ("unknown_group", beat(&none, &one, 1)),
        ("unknown_group.leave", beat(&none, &one, -1)),
        ("negative_epoch", beat(&id, &one, -5)),
    ] {
        let response = side.client.call(1, &request).await;
        note!(side, format!("newer.refused.{case}"), error(response.error_code));
    }
    let response = side.client.call(1, &good).await;
    note!(side, "newer.first", (error(response.error_code), response.member_epoch > 0, response.heartbeat_interval_ms));
    let settled = settle(side, &id, topic_id, &one, &response, 4).await;
    let epoch = settled.member_epoch;
    for (case, request) in [
        ("known", beat(&id, &one, epoch)),
        ("stranger", beat(&id, "stranger", epoch)),
        ("stranger.leave", beat(&id, "stranger", -1)),
        ("later", beat(&id, &one, epoch + 5)),
    ] {
        let response = side.client.call(1, &request).await;
        let told = shown(&response);
        note!(side, format!("newer.beat.{case}"), (told.0, told.3));
    }
    offsets(side, &id, &one, epoch, &topic).await;
    // Two share, one leaves.
    let two = Uuid::new_v4().to_string();
    let response = side.client.call(1, &first(&id, &two, &topic)).await;
    note!(side, "newer.second", (error(response.error_code), shown(&response).3));
    let first_epoch = settle(side, &id, topic_id, &one, &settled, 2).await.member_epoch;
    let second_epoch = settle(side, &id, topic_id, &two, &response, 2).await.member_epoch;
    note!(side, "newer.shared", (first_epoch == second_epoch, first_epoch > epoch));
    let response = side.client.call(1, &beat(&id, &one, 1)).await;
    note!(side, "newer.beat.earlier", shown(&response));
    described(side, &id, &none).await;
    note!(side, "newer.delete.live", {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![id.clone()]);
        error(side.client.call(2, &request).await.results[0].error_code)
    });
    for (case, member) in [("one", &one), ("two", &two)] {
        let response = side.client.call(1, &beat(&id, member, -1)).await;
        note!(side, format!("newer.left.{case}"), shown(&response));
    }
    described(side, &id, &none).await;
    static_members(side, &topic, topic_id).await;
    note!(side, "newer.delete", {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![id.clone()]);
        error(side.client.call(2, &request).await.results[0].error_code)
    });
}

async fn offsets(side: &mut Side, id: &GroupId, member: &str, epoch: i32, topic: &TopicName) {
    for (case, member, epoch) in [
        ("good", member, epoch),
        ("later", member, epoch + 1),
        ("earlier", member, epoch - 1),
        ("stranger", "stranger", epoch),
        ("nobody", "", -1),
        ("negative", member, -1),
    ] {
        for version in [8, 9] {
            let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
            let asked = OffsetCommitRequestTopic::default().with_name(topic.clone()).with_partitions(vec![partition]);
            let request = OffsetCommitRequest::default()
                .with_group_id(id.clone())
                .with_member_id(text(member))
                .with_generation_id_or_member_epoch(epoch)
                .with_topics(vec![asked]);
            let response = side.client.call(version, &request).await;
            let told = response.topics[0].partitions[0].error_code;
            note!(side, format!("newer.commit.{case}.v{version}"), error(told));
        }
        let asked = OffsetFetchRequestTopics::default().with_name(topic.clone()).with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(id.clone())
            .with_member_id(Some(text(member)))
            .with_member_epoch(epoch)
            .with_topics(Some(vec![asked]));
        let response = side.client.call(9, &OffsetFetchRequest::default().with_groups(vec![asked])).await;
        note!(side, format!("newer.fetch.{case}"), error(response.groups[0].error_code));
    }
}

async fn described(side: &mut Side, id: &GroupId, none: &GroupId) {
    for version in 0..=1 {
        let request = ConsumerGroupDescribeRequest::default()
            .with_group_ids(vec![id.clone(), none.clone(), group("")])
            .with_include_authorized_operations(true);
        let response = side.client.call(version, &request).await;
        let shown = response.groups.iter().map(|it| {
            let members = it.members.iter().map(|it| {
                let count = |it: &consumer_group_describe_response::Assignment| {
                    it.topic_partitions.iter().map(|it| it.partitions.len()).sum::<usize>()
                };
                (it.member_type, count(&it.assignment), count(&it.target_assignment))
            });
            let told = (error(it.error_code), it.group_state.to_string(), it.assignor_name.to_string());
            (told, it.authorized_operations, members.collect::<Vec<_>>())
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        note!(side, format!("newer.described.v{version}"), shown);
    }
    // By the classic call it is not there.
    let response = side.client.call(5, &DescribeGroupsRequest::default().with_groups(vec![id.clone()])).await;
    let it = &response.groups[0];
    note!(side, "newer.described.classic", (error(it.error_code), it.group_state.to_string(), it.members.len()));
    let response = side.client.call(6, &DescribeGroupsRequest::default().with_groups(vec![id.clone()])).await;
    note!(side, "newer.described.classic.v6", error(response.groups[0].error_code));
    let response = side.client.call(5, &ListGroupsRequest::default()).await;
    let own = response.groups.iter().find(|it| it.group_id == *id);
    let own = own.map(|it| (it.protocol_type.to_string(), it.group_state.to_string(), it.group_type.to_string()));
    note!(side, "newer.listed", own);
}

async fn static_members(side: &mut Side, topic: &TopicName, topic_id: Uuid) {
    let id = group(&side.name("newer-static"));
    let (one, two) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let named = |it: ConsumerGroupHeartbeatRequest| it.with_instance_id(Some(text("instance")));
    let response = side.client.call(1, &named(first(&id, &one, topic))).await;
    note!(side, "newer.static.first", error(response.error_code));
    let epoch = settle(side, &id, topic_id, &one, &response, 4).await.member_epoch;
    let response = side.client.call(1, &named(first(&id, &two, topic))).await;
    note!(side, "newer.static.taken", error(response.error_code));
    let response = side.client.call(1, &named(beat(&id, &two, epoch))).await;
    note!(side, "newer.static.fenced", error(response.error_code));
    // For a while: it comes back under another member id, to what it had.
    let response = side.client.call(1, &named(beat(&id, &one, -2))).await;
    note!(side, "newer.static.left", shown(&response));
    let response = side.client.call(1, &named(first(&id, &two, topic))).await;
    let told = shown(&response);
    note!(side, "newer.static.back", (told.0, told.3));
}
