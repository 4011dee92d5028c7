//! ConsumerGroupDescribe (KIP-848): groups of the newer protocol; classic ones are left to DescribeGroups.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, TopicName};
use playhouse_log::Log;
use uuid::Uuid;

use super::{Operations, Request};
use crate::connection::Context;
use crate::groups::consumer::{Member, Places};
use crate::guard::Malformed;
use crate::wire::{Reply, string};

/// `MemberType`: this protocol's own, not a classic one in transition.
const CONSUMER: i8 = 1;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: ConsumerGroupDescribeRequest = request.decode()?;
    let version = request.call.version;
    let names: BTreeMap<Uuid, String> = names(context.shared.gate.log());
    let groups = body.group_ids.into_iter().map(|group_id| {
        let described = context.shared.groups.describe_newer(&group_id);
        let refused = |error: ResponseError, message: &'static str| {
            DescribedGroup::default()
                .with_authorized_operations(Operations::Group.told(false))
                .with_error_code(error.code())
                .with_error_message(Some(string(message)))
        };
        let described = match described {
            Some(it) => DescribedGroup::default()
                .with_authorized_operations(Operations::Group.told(body.include_authorized_operations))
                .with_group_state(string(it.state))
                .with_group_epoch(it.epoch)
                .with_assignment_epoch(it.epoch)
                .with_assignor_name(string(it.assignor))
                .with_members(it.members.into_iter().map(|(id, member)| show(id, member, &names, version)).collect()),
            None if group_id.is_empty() => refused(ResponseError::InvalidGroupId, "the group id is empty"),
            None => refused(ResponseError::GroupIdNotFound, "no such group of the consumer protocol"),
        };
        described.with_group_id(group_id)
    });
    request.call.now(&ConsumerGroupDescribeResponse::default().with_groups(groups.collect()))
}

fn show(id: String, member: Member, names: &BTreeMap<Uuid, String>, version: i16) -> DescribedMember {
    DescribedMember::default()
        .with_member_id(string(id))
        .with_instance_id(member.instance_id.map(string))
        .with_rack_id(member.rack_id.map(string))
        .with_member_epoch(member.epoch)
        .with_client_id(string(member.client_id))
        .with_client_host(string(member.client_host))
        .with_subscribed_topic_names(member.topics.into_iter().map(|name| TopicName(string(name))).collect())
        .with_subscribed_topic_regex(member.regex.map(string))
        .with_assignment(assignment(&member.assigned, names))
        .with_target_assignment(assignment(&member.target, names))
        .with_member_type(if version >= 1 { CONSUMER } else { -1 })
}

fn assignment(places: &Places, names: &BTreeMap<Uuid, String>) -> Assignment {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(*topic).or_default().push(*partition);
    }
    // A topic deleted since has no name any more.
    let topics = topics.into_iter().filter_map(|(topic, partitions)| {
        let name = TopicName(string(names.get(&topic)?.as_str()));
        Some(TopicPartitions::default().with_topic_id(topic).with_topic_name(name).with_partitions(partitions))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}

fn names(log: &Log) -> BTreeMap<Uuid, String> {
    log.topics().iter().map(|topic| (topic.id(), topic.name().to_owned())).collect()
}
