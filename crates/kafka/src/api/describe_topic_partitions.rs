//! DescribeTopicPartitions (KIP-966): topics page by page, in the order of their names.

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};

use super::{LEADER_EPOCH, Operations, Request, is_internal};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

/// As Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DescribeTopicPartitionsRequest = request.decode()?;
    let log = context.shared.gate.log();
    let broker = BrokerId(context.shared.config.node_id);
    let mut names: Vec<String> = body.topics.iter().map(|topic| topic.name.to_string()).collect();
    if names.is_empty() {
        let topics = log.topics();
        names = topics.iter().map(|topic| topic.name().to_owned()).filter(|name| context.caller.sees(name)).collect();
    }
    names.sort();
    names.dedup();
    let (first, from) = match &body.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), cursor.partition_index),
        None => (String::new(), 0),
    };
    if from < 0 {
        return Err(Malformed("its cursor is negative"));
    }
    let mut room = usize::try_from(body.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut topics = Vec::new();
    let mut next = None;
    for name in names.into_iter().filter(|name| *name >= first) {
        if room == 0 {
            next = Some(Cursor::default().with_topic_name(TopicName(string(name))).with_partition_index(0));
            break;
        }
        let described = DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(TopicName(string(name.as_str()))))
            .with_is_internal(is_internal(&name))
            .with_topic_authorized_operations(Operations::Topic.told(true));
        let topic = match context.caller.visible(log.topic(&name), &name) {
            Ok(topic) => topic,
            Err(error) => {
                topics.push(described.with_error_code(error.code()));
                continue;
            }
        };
        let from = if name == first { from as usize } else { 0 };
        let partitions = topic.partitions().iter().skip(from).take(room).map(|partition| {
            DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(partition.index())
                .with_leader_id(broker)
                .with_leader_epoch(LEADER_EPOCH)
                .with_replica_nodes(vec![broker])
                .with_isr_nodes(vec![broker])
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        let partitions: Vec<_> = partitions.collect();
        room -= partitions.len();
        let reached = from + partitions.len();
        topics.push(described.with_topic_id(topic.id()).with_partitions(partitions));
        if reached < topic.partitions().len() {
            let name = TopicName(string(name));
            next = Some(Cursor::default().with_topic_name(name).with_partition_index(reached as i32));
            break;
        }
    }
    request.call.now(&DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(next))
}
