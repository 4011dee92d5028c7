//! OffsetFetch: committed offsets of one group, or from version 8 on of several.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

use super::Request;
use crate::connection::Context;
use crate::groups::{Committed, Groups};
use crate::guard::Malformed;
use crate::wire::{Reply, code, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: OffsetFetchRequest = request.decode()?;
    let groups = &context.shared.groups;
    if request.call.version >= 8 {
        let answers = body.groups.into_iter().map(|asked| {
            if let Err(error) = groups.may_fetch(&asked.group_id, asked.member_id.as_deref(), asked.member_epoch) {
                let refused = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
                return refused.with_error_code(error.code());
            }
            let topics = asked.topics.map(|it| it.into_iter().map(|it| (it.name, it.partition_indexes)).collect());
            let topics = look_up(context, &asked.group_id, topics).into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, it)| {
                    let (it, error) = stable(groups, body.require_stable, &asked.group_id, &name, index, it);
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_error_code(code(error))
                        .with_committed_offset(it.offset)
                        .with_committed_leader_epoch(it.leader_epoch)
                        .with_metadata(Some(string(it.metadata)))
                });
                OffsetFetchResponseTopics::default().with_partitions(partitions.collect()).with_name(name)
            });
            OffsetFetchResponseGroup::default().with_topics(topics.collect()).with_group_id(asked.group_id)
        });
        return request.call.now(&OffsetFetchResponse::default().with_groups(answers.collect()));
    }
    let with_epoch = request.call.version >= 5;
    let topics = body.topics.map(|it| it.into_iter().map(|it| (it.name, it.partition_indexes)).collect());
    let topics = look_up(context, &body.group_id, topics).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, it)| {
            let (it, error) = stable(groups, body.require_stable, &body.group_id, &name, index, it);
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code(error))
                .with_committed_offset(it.offset)
                .with_committed_leader_epoch(if with_epoch { it.leader_epoch } else { -1 })
                .with_metadata(Some(string(it.metadata)))
        });
        OffsetFetchResponseTopic::default().with_partitions(partitions.collect()).with_name(name)
    });
    request.call.now(&OffsetFetchResponse::default().with_topics(topics.collect()))
}

/// What a reader gets that wants none of an offset which an open transaction is about to change (KIP-447).
fn stable(
    groups: &Groups,
    required: bool,
    group_id: &str,
    topic: &str,
    index: i32,
    found: Committed,
) -> (Committed, Option<ResponseError>) {
    if required && groups.is_pending(group_id, &(topic.to_owned(), index)) {
        return (NONE, Some(ResponseError::UnstableOffsetCommit));
    }
    (found, None)
}

/// Never committed.
const NONE: Committed = Committed { offset: -1, leader_epoch: -1, metadata: String::new(), commit_time_ms: -1 };

type Offsets = Vec<(TopicName, Vec<(i32, Committed)>)>;

/// `None` asks for all topics that are the caller's; an offset never committed is -1.
fn look_up(context: &Context, group_id: &str, topics: Option<Vec<(TopicName, Vec<i32>)>>) -> Offsets {
    let (groups, caller) = (&context.shared.groups, &context.caller);
    let Some(topics) = topics else {
        let mut all: BTreeMap<String, Vec<(i32, Committed)>> = BTreeMap::new();
        for ((topic, index), committed) in groups.all_committed(group_id) {
            if !caller.sees(&topic) {
                continue;
            }
            all.entry(topic).or_default().push((index, committed));
        }
        return all.into_iter().map(|(topic, partitions)| (TopicName(string(topic)), partitions)).collect();
    };
    let find = |topic: &TopicName, index: i32| {
        let committed = groups.committed(group_id, &(topic.to_string(), index));
        committed.filter(|_| caller.sees(topic)).unwrap_or(NONE)
    };
    let topics = topics.into_iter().map(|(topic, indexes)| {
        let partitions = indexes.into_iter().map(|index| (index, find(&topic, index))).collect();
        (topic, partitions)
    });
    topics.collect()
}
