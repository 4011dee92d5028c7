//! Classic consumer groups: joining, being refused, offsets, administration.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use crate::{Side, error, group, name, text};

pub async fn ask(side: &mut Side) {
    joined(side).await;
    members(side).await;
    static_members(side).await;
    offsets(side).await;
    administered(side).await;
}

fn join(side: &Side, group_id: &str) -> JoinGroupRequest {
    let protocol = |name: &str| {
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(Bytes::from_static(b"\0\0"))
    };
    let group_id = if group_id.is_empty() { String::new() } else { side.name(group_id) };
    JoinGroupRequest::default()
        .with_group_id(group(&group_id))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range"), protocol("roundrobin")])
}

/// Joins at version 9, twice where the first answer says under which name.
async fn enter(side: &mut Side, mut request: JoinGroupRequest) -> JoinGroupResponse {
    let response = side.client.call(9, &request).await;
    if error(response.error_code) != "MemberIdRequired" {
        return response;
    }
    request.member_id = response.member_id;
    side.client.call(9, &request).await
}

async fn joined(side: &mut Side) {
    for version in 0..=9 {
        let mut request = join(side, &format!("join-{version}"));
        let first = side.client.call(version, &request).await;
        let named = !first.member_id.is_empty();
        note!(side, format!("join.first.v{version}"), (error(first.error_code), first.generation_id, named));
        if error(first.error_code) == "MemberIdRequired" {
            request.member_id = first.member_id;
            let second = side.client.call(version, &request).await;
            let leads = second.leader == second.member_id && second.members.len() == 1;
            let protocol =
                (second.protocol_type.map(|it| it.to_string()), second.protocol_name.map(|it| it.to_string()));
            let shown = (error(second.error_code), second.generation_id, leads, protocol, second.skip_assignment);
            note!(side, format!("join.second.v{version}"), shown);
        }
    }
    let good = join(side, "refused");
    for (case, request) in [
        ("no_group", join(side, "")),
        ("short_session", good.clone().with_session_timeout_ms(5)),
        ("long_session", good.clone().with_session_timeout_ms(86_400_000)),
        ("no_protocols", good.clone().with_protocols(Vec::new())),
        ("no_type", good.clone().with_protocol_type(StrBytes::default())),
        ("unknown_member", good.clone().with_member_id(text("nobody"))),
    ] {
        for version in [3, 9] {
            let response = side.client.call(version, &request).await;
            note!(side, format!("join.{case}.v{version}"), error(response.error_code));
        }
    }
    let one = enter(side, join(side, "typed")).await;
    note!(side, "join.typed", error(one.error_code));
    let other = join(side, "typed").with_protocol_type(text("connect"));
    note!(side, "join.other_type", error(side.client.call(5, &other).await.error_code));
    let strange = vec![JoinGroupRequestProtocol::default().with_name(text("strange"))];
    let other = join(side, "typed").with_protocols(strange);
    note!(side, "join.other_protocols", error(side.client.call(5, &other).await.error_code));
    let unknown = join(side, "typed").with_member_id(text("nobody"));
    note!(side, "join.other_member", error(side.client.call(9, &unknown).await.error_code));
}

fn sync(group_id: GroupId, member: StrBytes, generation: i32) -> SyncGroupRequest {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(b"mine"));
    SyncGroupRequest::default()
        .with_group_id(group_id)
        .with_generation_id(generation)
        .with_member_id(member)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(vec![assignment])
}

async fn members(side: &mut Side) {
    let request = join(side, "members");
    let id = request.group_id.clone();
    let joined = enter(side, request).await;
    let member = joined.member_id.clone();
    let none = group(&side.name("no-such-group"));
    let good = sync(id.clone(), member.clone(), 1);
    for (case, request) in [
        ("no_group", sync(group(""), member.clone(), 1)),
        ("unknown_group", sync(none.clone(), member.clone(), 1)),
        ("generation", sync(id.clone(), member.clone(), 7)),
        ("member", sync(id.clone(), text("nobody"), 1)),
        ("type", good.clone().with_protocol_type(Some(text("connect")))),
        ("protocol", good.clone().with_protocol_name(Some(text("strange")))),
        ("good", good.clone()),
        ("again", good),
    ] {
        let response = side.client.call(5, &request).await;
        note!(side, format!("sync.{case}"), (error(response.error_code), response.assignment));
    }
    let heartbeat = |id: &GroupId, member: &StrBytes, generation: i32| {
        HeartbeatRequest::default()
            .with_group_id(id.clone())
            .with_member_id(member.clone())
            .with_generation_id(generation)
    };
    let nobody = text("nobody");
    for (case, request) in [
        ("good", heartbeat(&id, &member, 1)),
        ("generation", heartbeat(&id, &member, 2)),
        ("earlier", heartbeat(&id, &member, 0)),
        ("member", heartbeat(&id, &nobody, 1)),
        ("no_member", heartbeat(&id, &StrBytes::default(), 1)),
        ("unknown_group", heartbeat(&none, &member, 1)),
        ("no_group", heartbeat(&group(""), &member, 1)),
    ] {
        for version in [0, 3, 4] {
            let response = side.client.call(version, &request).await;
            note!(side, format!("heartbeat.{case}.v{version}"), error(response.error_code));
        }
    }
    // A second one makes them rebalance: the first is told so, and both get the next generation.
    let mut other = side.another().await;
    let mut request = join(side, "members");
    request.member_id = other.call(9, &request).await.member_id;
    other.send(9, &request).await;
    let told = loop {
        let told = error(side.client.call(4, &heartbeat(&id, &member, 1)).await.error_code);
        if told != "none" {
            break told;
        }
    };
    note!(side, "rebalance.heartbeat", told);
    let commit = commit(&id, &member, 1, &name(&side.name("none")), 1, None);
    note!(side, "rebalance.sync", error(side.client.call(5, &sync(id.clone(), member.clone(), 1)).await.error_code));
    let told = side.client.call(8, &commit).await;
    note!(side, "rebalance.commit", error(told.topics[0].partitions[0].error_code));
    let again = join(side, "members").with_member_id(member.clone());
    let again = side.client.call(9, &again).await;
    let (_, second) = other.receive::<JoinGroupRequest>(9).await;
    let leads = again.leader == member;
    note!(side, "rebalance.leader", (error(again.error_code), again.generation_id, leads, again.members.len()));
    let follows = second.leader == member;
    note!(side, "rebalance.follower", (error(second.error_code), second.generation_id, follows, second.members.len()));
    let follow = sync(id.clone(), second.member_id.clone(), 2).with_assignments(Vec::new());
    other.send(5, &follow).await;
    let mut both = sync(id.clone(), member.clone(), 2);
    both.assignments.push(
        SyncGroupRequestAssignment::default()
            .with_member_id(second.member_id.clone())
            .with_assignment(Bytes::from_static(b"yours")),
    );
    let first = side.client.call(5, &both).await;
    let (_, answer) = other.receive::<SyncGroupRequest>(5).await;
    note!(side, "rebalance.assigned", (first.assignment, answer.assignment, error(answer.error_code)));

    for version in 0..=6 {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![id.clone(), none.clone()])
            .with_include_authorized_operations(version >= 3);
        let response = side.client.call(version, &request).await;
        let shown = response.groups.iter().map(|it| {
            let mut assignments: Vec<_> = it.members.iter().map(|it| it.member_assignment.clone()).collect();
            assignments.sort();
            let protocol = (it.protocol_type.to_string(), it.protocol_data.to_string());
            let told = (error(it.error_code), it.error_message.is_some(), it.authorized_operations);
            (it.group_state.to_string(), protocol, told, assignments)
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        note!(side, format!("describe_groups.v{version}"), shown);
    }
    for version in 0..=5 {
        for (case, states, types) in [
            ("all", vec![], vec![]),
            ("stable", vec!["Stable"], vec![]),
            ("lower_case", vec!["stable"], vec![]),
            ("empty", vec!["Empty"], vec![]),
            ("odd", vec!["Odd"], vec![]),
            ("classic", vec![], vec!["classic"]),
            ("capital", vec![], vec!["Classic"]),
            ("consumer", vec![], vec!["consumer"]),
            ("odd_type", vec![], vec!["odd"]),
        ] {
            if version < 4 && !states.is_empty() || version < 5 && !types.is_empty() {
                continue;
            }
            let request = ListGroupsRequest::default()
                .with_states_filter(states.iter().map(|it| text(it)).collect())
                .with_types_filter(types.iter().map(|it| text(it)).collect());
            let response = side.client.call(version, &request).await;
            let own = response.groups.iter().find(|it| it.group_id == id);
            let own =
                own.map(|it| (it.protocol_type.to_string(), it.group_state.to_string(), it.group_type.to_string()));
            note!(side, format!("list_groups.{case}.v{version}"), (error(response.error_code), own));
        }
    }
    let request = DeleteGroupsRequest::default().with_groups_names(vec![id.clone(), none.clone()]);
    let response = side.client.call(2, &request).await;
    let shown = response.results.iter().map(|it| (it.group_id.to_string(), error(it.error_code)));
    let mut shown: Vec<_> = shown.collect();
    shown.sort();
    note!(side, "delete_groups.live", shown);
    let leave = |members: Vec<&StrBytes>| {
        let members = members.into_iter().map(|it| MemberIdentity::default().with_member_id(it.clone()));
        LeaveGroupRequest::default().with_group_id(id.clone()).with_members(members.collect())
    };
    for (case, request) in [
        ("unknown", leave(vec![&nobody])),
        ("unknown_group", leave(vec![&member]).with_group_id(none)),
        ("no_group", leave(vec![&member]).with_group_id(group(""))),
        ("both", leave(vec![&member, &second.member_id])),
        ("again", leave(vec![&member])),
    ] {
        let response = side.client.call(5, &request).await;
        let members: Vec<_> = response.members.iter().map(|it| error(it.error_code)).collect();
        note!(side, format!("leave.{case}"), (error(response.error_code), members));
    }
    let empty = side.client.call(5, &DescribeGroupsRequest::default().with_groups(vec![id])).await;
    note!(side, "describe_groups.empty", (error(empty.groups[0].error_code), empty.groups[0].group_state.to_string()));
}

async fn static_members(side: &mut Side) {
    let (topic, _) = side.topic("static", 1, &[]).await;
    let named = |side: &Side, instance: &str| join(side, "static").with_group_instance_id(Some(text(instance)));
    let first = side.client.call(9, &named(side, "one")).await;
    note!(side, "static.first", (error(first.error_code), first.generation_id, first.member_id.starts_with("one-")));
    let id = group(&side.name("static"));
    let synced = sync(id.clone(), first.member_id.clone(), 1).with_group_instance_id(Some(text("one")));
    note!(side, "static.synced", error(side.client.call(5, &synced).await.error_code));
    // The same instance again: under another member id, in the same generation, with the assignment it had.
    let again = side.client.call(9, &named(side, "one")).await;
    let same = (again.member_id == first.member_id, again.leader == again.member_id);
    note!(side, "static.again", (error(again.error_code), again.generation_id, same, again.skip_assignment));
    let synced =
        sync(id.clone(), again.member_id.clone(), again.generation_id).with_group_instance_id(Some(text("one")));
    let synced = side.client.call(5, &synced).await;
    note!(side, "static.again.synced", (error(synced.error_code), synced.assignment));
    for (case, member, instance) in [
        ("fenced", &first.member_id, Some("one")),
        ("other", &again.member_id, Some("two")),
        ("without", &first.member_id, None),
        ("good", &again.member_id, Some("one")),
    ] {
        let instance = instance.map(text);
        let request = HeartbeatRequest::default()
            .with_group_id(id.clone())
            .with_member_id(member.clone())
            .with_generation_id(again.generation_id)
            .with_group_instance_id(instance.clone());
        note!(side, format!("static.heartbeat.{case}"), error(side.client.call(4, &request).await.error_code));
        let request =
            commit(&id, member, again.generation_id, &topic, 1, None).with_group_instance_id(instance.clone());
        let told = side.client.call(8, &request).await.topics[0].partitions.clone();
        let told = told.iter().find(|it| it.partition_index == 0).map(|it| error(it.error_code));
        note!(side, format!("static.commit.{case}"), told);
        let mut request = sync(id.clone(), member.clone(), again.generation_id);
        request.group_instance_id = instance;
        note!(side, format!("static.sync.{case}"), error(side.client.call(5, &request).await.error_code));
    }
    let fenced = named(side, "one").with_member_id(first.member_id.clone());
    note!(side, "static.join.fenced", error(side.client.call(9, &fenced).await.error_code));
    let identity = |instance: &str, member: &StrBytes| {
        MemberIdentity::default().with_member_id(member.clone()).with_group_instance_id(Some(text(instance)))
    };
    for (case, identity) in [
        ("fenced", identity("one", &first.member_id)),
        ("unknown", identity("nine", &StrBytes::default())),
        ("good", identity("one", &StrBytes::default())),
    ] {
        let request = LeaveGroupRequest::default().with_group_id(id.clone()).with_members(vec![identity]);
        let response = side.client.call(5, &request).await;
        let members: Vec<_> = response.members.iter().map(|it| error(it.error_code)).collect();
        note!(side, format!("static.leave.{case}"), (error(response.error_code), members));
    }
}

fn commit(
    id: &GroupId,
    member: &StrBytes,
    generation: i32,
    topic: &TopicName,
    offset: i64,
    metadata: Option<String>,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(metadata.map(StrBytes::from_string));
    let asked = OffsetCommitRequestTopic::default()
        .with_name(topic.clone())
        .with_partitions(vec![partition.clone(), partition.with_partition_index(9)]);
    OffsetCommitRequest::default()
        .with_group_id(id.clone())
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![asked])
}

async fn offsets(side: &mut Side) {
    let (topic, _) = side.topic("offsets", 1, &[]).await;
    let id = group(&side.name("offsets"));
    let (nobody, somebody) = (StrBytes::default(), text("somebody"));
    let none = name(&side.name("none"));
    for (case, request) in [
        ("simple", commit(&id, &nobody, -1, &topic, 5, Some("kept".to_owned()))),
        ("null_metadata", commit(&id, &nobody, -1, &topic, 6, None)),
        ("long_metadata", commit(&id, &nobody, -1, &topic, 7, Some("x".repeat(5000)))),
        ("no_topic", commit(&id, &nobody, -1, &none, 7, None)),
        ("generation", commit(&id, &nobody, 3, &topic, 7, None)),
        ("member", commit(&id, &somebody, -1, &topic, 7, None)),
        ("member.generation", commit(&id, &somebody, 3, &topic, 7, None)),
        ("unknown_group", commit(&group(&side.name("new")), &somebody, 3, &topic, 7, None)),
        ("no_group", commit(&group(""), &nobody, -1, &topic, 7, None)),
        ("negative", commit(&id, &nobody, -1, &topic, -5, None)),
    ] {
        for version in [2, 5, 8, 9] {
            let response = side.client.call(version, &request).await;
            let shown = response.topics.iter().flat_map(|it| &it.partitions);
            let mut shown: Vec<_> = shown.map(|it| (it.partition_index, error(it.error_code))).collect();
            shown.sort();
            note!(side, format!("commit.{case}.v{version}"), shown);
        }
    }
    let unknown = group(&side.name("no-such-group"));
    for version in 1..=9 {
        for (case, id) in [("known", &id), ("unknown", &unknown), ("no_group", &group(""))] {
            for all in [false, true] {
                // What was committed to the group without a name in an earlier run may be there.
                if all && (version < 2 || case == "no_group") {
                    continue;
                }
                let case = format!("offset_fetch.{case}.{}v{version}", if all { "all." } else { "" });
                if version >= 8 {
                    let asked = [&topic, &none].map(|it| {
                        OffsetFetchRequestTopics::default().with_name(it.clone()).with_partition_indexes(vec![0, 9])
                    });
                    let asked = (!all).then(|| asked.to_vec());
                    let asked = OffsetFetchRequestGroup::default()
                        .with_group_id(id.clone())
                        .with_member_epoch(-1)
                        .with_topics(asked);
                    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
                    let response = side.client.call(version, &request).await;
                    let it = &response.groups[0];
                    let shown = it.topics.iter().flat_map(|it| it.partitions.iter().map(|p| (it.name.to_string(), p)));
                    let shown = shown.map(|(topic, it)| {
                        let metadata = it.metadata.as_ref().map(|it| it.to_string());
                        (
                            topic,
                            it.partition_index,
                            it.committed_offset,
                            it.committed_leader_epoch,
                            metadata,
                            error(it.error_code),
                        )
                    });
                    let shown: Vec<_> = shown.collect();
                    note!(side, case, (error(it.error_code), shown));
                } else {
                    let asked = [&topic, &none].map(|it| {
                        OffsetFetchRequestTopic::default().with_name(it.clone()).with_partition_indexes(vec![0, 9])
                    });
                    let request = OffsetFetchRequest::default()
                        .with_group_id(id.clone())
                        .with_topics((!all).then(|| asked.to_vec()));
                    let it = side.client.call(version, &request).await;
                    let shown = it.topics.iter().flat_map(|it| it.partitions.iter().map(|p| (it.name.to_string(), p)));
                    let shown = shown.map(|(topic, it)| {
                        let metadata = it.metadata.as_ref().map(|it| it.to_string());
                        (
                            topic,
                            it.partition_index,
                            it.committed_offset,
                            it.committed_leader_epoch,
                            metadata,
                            error(it.error_code),
                        )
                    });
                    let shown: Vec<_> = shown.collect();
                    note!(side, case, (error(it.error_code), shown));
                }
            }
        }
    }
}

async fn administered(side: &mut Side) {
    let (topic, _) = side.topic("administered", 2, &[]).await;
    let id = group(&side.name("administered"));
    let delete = |id: &GroupId, topic: &TopicName, partition: i32| {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
        let topic = OffsetDeleteRequestTopic::default().with_name(topic.clone()).with_partitions(vec![partition]);
        OffsetDeleteRequest::default().with_group_id(id.clone()).with_topics(vec![topic])
    };
    let unknown = group(&side.name("no-such-group"));
    let none = name(&side.name("none"));
    side.client.call(8, &commit(&id, &StrBytes::default(), -1, &topic, 5, None)).await;
    // What its member is subscribed to cannot be deleted.
    let subscription = kafka_protocol::messages::ConsumerProtocolSubscription::default()
        .with_topics(vec![StrBytes::from_string(topic.to_string())]);
    let mut metadata = bytes::BytesMut::from(&[0, 0][..]);
    kafka_protocol::protocol::Encodable::encode(&subscription, &mut metadata, 0).unwrap();
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata.freeze());
    let request = join(side, "administered").with_protocols(vec![protocol]);
    let joined = enter(side, request).await;
    side.client.call(5, &sync(id.clone(), joined.member_id.clone(), joined.generation_id)).await;
    for (case, request) in [
        ("subscribed", delete(&id, &topic, 0)),
        ("not_subscribed", delete(&id, &none, 0)),
        ("unknown_group", delete(&unknown, &topic, 0)),
        ("no_group", delete(&group(""), &topic, 0)),
    ] {
        let response = side.client.call(0, &request).await;
        let shown: Vec<_> =
            response.topics.iter().flat_map(|it| &it.partitions).map(|it| error(it.error_code)).collect();
        note!(side, format!("offset_delete.{case}"), (error(response.error_code), shown));
    }
    let leave = LeaveGroupRequest::default()
        .with_group_id(id.clone())
        .with_members(vec![MemberIdentity::default().with_member_id(joined.member_id)]);
    side.client.call(5, &leave).await;
    for (case, request) in [
        ("empty", delete(&id, &topic, 0)),
        ("empty.again", delete(&id, &topic, 0)),
        ("empty.no_partition", delete(&id, &topic, 9)),
        ("empty.no_topic", delete(&id, &none, 0)),
    ] {
        let response = side.client.call(0, &request).await;
        let shown: Vec<_> =
            response.topics.iter().flat_map(|it| &it.partitions).map(|it| error(it.error_code)).collect();
        note!(side, format!("offset_delete.{case}"), (error(response.error_code), shown));
    }
    // One that nobody was ever in, and whose only offset goes.
    let simple = group(&side.name("simple"));
    side.client.call(8, &commit(&simple, &StrBytes::default(), -1, &topic, 5, None)).await;
    for case in ["committed", "deleted"] {
        let response = side.client.call(5, &ListGroupsRequest::default()).await;
        let listed = response.groups.iter().find(|it| it.group_id == simple);
        let listed =
            listed.map(|it| (it.protocol_type.to_string(), it.group_state.to_string(), it.group_type.to_string()));
        let described = side.client.call(6, &DescribeGroupsRequest::default().with_groups(vec![simple.clone()])).await;
        let it = &described.groups[0];
        let described = (error(it.error_code), it.group_state.to_string(), it.protocol_type.to_string());
        note!(side, format!("simple_group.{case}"), (listed, described));
        side.client.call(0, &delete(&simple, &topic, 0)).await;
    }
    let response = side.client.call(2, &DeleteGroupsRequest::default().with_groups_names(vec![simple])).await;
    note!(side, "simple_group.delete", error(response.results[0].error_code));
    side.client.call(8, &commit(&id, &StrBytes::default(), -1, &topic, 5, None)).await;
    for case in ["good", "again"] {
        let response = side.client.call(2, &DeleteGroupsRequest::default().with_groups_names(vec![id.clone()])).await;
        note!(side, format!("delete_groups.{case}"), error(response.results[0].error_code));
    }
}
