//! TxnOffsetCommit: offsets that count once the transaction is committed. Answered when they are durable.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use playhouse_log::Appended;

use super::Request;
use crate::connection::Context;
use crate::groups::{Committed, Groups, KNOWS_MEMBER_EPOCHS, OFFSETS_PLACE, TopicPartition, unix_ms};
use crate::guard::Malformed;
use crate::server::Shared;
use crate::transactions::Producer;
use crate::wire::{Reply, code};

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: TxnOffsetCommitRequest = request.decode()?;
    let call = request.call;
    let shared = context.shared.clone();
    let log = shared.gate.log();
    let now_ms = unix_ms();
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let known = log.topic(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let metadata = partition.committed_metadata.as_deref().unwrap_or("");
            let error = if !context.caller.may_read(&topic.name) {
                Some(ResponseError::TopicAuthorizationFailed)
            } else if known.as_ref().and_then(|it| it.partition(index)).is_none() {
                Some(ResponseError::UnknownTopicOrPartition)
            } else if !Groups::metadata_fits(metadata) {
                Some(ResponseError::OffsetMetadataTooLarge)
            } else {
                let committed = Committed {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                    commit_time_ms: now_ms,
                };
                offsets.push(((topic.name.to_string(), index), committed));
                None
            };
            partitions.push((index, error));
        }
        topics.push((topic.name.clone(), partitions));
    }
    let staged = stage(&shared, &body, offsets).await;
    Ok(Reply::Later(Box::pin(async move {
        let failed = match staged {
            Ok(Some(appended)) => shared.groups.durable(appended).await.err(),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let topics = topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, error)| {
                let error = code(error.or(failed));
                TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error)
            });
            TxnOffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        call.encode(&TxnOffsetCommitResponse::default().with_topics(topics.collect()))
    })))
}

async fn stage(
    shared: &Shared,
    body: &TxnOffsetCommitRequest,
    offsets: Vec<(TopicPartition, Committed)>,
) -> Result<Option<Appended>, ResponseError> {
    let producer = Producer { id: body.producer_id.0, epoch: body.producer_epoch };
    if body.group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    let (topic, partition) = OFFSETS_PLACE;
    let _open = shared.transactions.writing(&body.transactional_id, producer, &(topic.to_owned(), partition)).await?;
    // Before version 3 a producer says nothing of the member it commits for.
    if body.generation_id >= 0 || !body.member_id.is_empty() {
        let instance_id = body.group_instance_id.as_deref();
        let allowed = shared.groups.may_commit(
            &body.group_id,
            &body.member_id,
            instance_id,
            body.generation_id,
            KNOWS_MEMBER_EPOCHS,
        );
        allowed?;
    }
    shared.groups.stage(&body.group_id, (producer.id, producer.epoch), offsets)
}
