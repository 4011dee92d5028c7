//! OffsetDelete (KIP-496): forgets committed offsets of single partitions, unless members of the group read them.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::Request;
use crate::connection::Context;
use crate::groups::TopicPartition;
use crate::guard::Malformed;
use crate::wire::{Reply, code};

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: OffsetDeleteRequest = request.decode()?;
    let places: Vec<TopicPartition> = body
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|it| (topic.name.to_string(), it.partition_index)))
        .collect();
    let log = context.shared.gate.log();
    let outcomes = match context.shared.groups.delete_offsets(&body.group_id, &places).await {
        Ok(outcomes) => outcomes,
        Err(error) => return request.call.now(&OffsetDeleteResponse::default().with_error_code(error.code())),
    };
    let mut outcomes = outcomes.into_iter();
    let topics = body.topics.into_iter().map(|topic| {
        let known = log.topic(&topic.name);
        let partitions = topic.partitions.into_iter().zip(&mut outcomes).map(|(asked, outcome)| {
            let is_known = known.as_ref().is_some_and(|it| it.partition(asked.partition_index).is_some());
            let outcome = if is_known { outcome } else { Err(ResponseError::UnknownTopicOrPartition) };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(outcome.err()))
        });
        OffsetDeleteResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    });
    request.call.now(&OffsetDeleteResponse::default().with_topics(topics.collect()))
}
