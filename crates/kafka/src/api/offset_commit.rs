//! OffsetCommit: answered when the offsets are durable.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::Request;
use crate::connection::Context;
use crate::groups::{Committed, Groups, unix_ms};
use crate::guard::Malformed;
use crate::wire::{Reply, code};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: OffsetCommitRequest = request.decode()?;
    let call = request.call;
    let groups = context.shared.groups.clone();
    let log = context.shared.gate.log();
    let allowed = groups.may_commit(
        &body.group_id,
        &body.member_id,
        body.group_instance_id.as_deref(),
        body.generation_id_or_member_epoch,
        call.version,
    );
    let now_ms = unix_ms();
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in body.topics {
        let known = log.topic(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let metadata = partition.committed_metadata.as_deref().unwrap_or("");
            let error = match allowed {
                _ if !context.caller.may_read(&topic.name) => Some(ResponseError::TopicAuthorizationFailed),
                _ if known.as_ref().and_then(|it| it.partition(index)).is_none() => {
                    Some(ResponseError::UnknownTopicOrPartition)
                }
                Err(error) => Some(error),
                Ok(()) if !Groups::metadata_fits(metadata) => Some(ResponseError::OffsetMetadataTooLarge),
                Ok(()) => {
                    let committed = Committed {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: metadata.to_owned(),
                        commit_time_ms: now_ms,
                    };
                    offsets.push(((topic.name.to_string(), index), committed));
                    None
                }
            };
            partitions.push((index, error));
        }
        topics.push((topic.name, partitions));
    }
    let appended = groups.commit(&body.group_id, offsets);
    Ok(Reply::Later(Box::pin(async move {
        let failed = match appended {
            Ok(Some(appended)) => groups.durable(appended).await.err(),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let topics = topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, error)| {
                let error = code(error.or(failed));
                OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error)
            });
            OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        call.encode(&OffsetCommitResponse::default().with_topics(topics.collect()))
    })))
}
