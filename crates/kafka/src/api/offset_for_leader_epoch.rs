//! OffsetForLeaderEpoch (KIP-320): there is one leader epoch, and it ends at the high watermark.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{LEADER_EPOCH, Request, check_leader_epoch};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::Reply;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: OffsetForLeaderEpochRequest = request.decode()?;
    let log = context.shared.gate.log();
    let topics = body.topics.into_iter().map(|asked| {
        let topic = context.caller.visible(log.topic(&asked.topic), &asked.topic);
        let partitions = asked.partitions.iter().map(|asked| {
            let found = topic
                .as_ref()
                .map_err(|error| *error)
                .and_then(|topic| topic.partition(asked.partition).ok_or(ResponseError::UnknownTopicOrPartition));
            let found = found.and_then(|it| check_leader_epoch(asked.current_leader_epoch).map(|()| it));
            let end = EpochEndOffset::default().with_partition(asked.partition);
            match found {
                Ok(partition) if asked.leader_epoch == LEADER_EPOCH => {
                    end.with_leader_epoch(LEADER_EPOCH).with_end_offset(partition.high_watermark())
                }
                Ok(_) => end.with_leader_epoch(-1).with_end_offset(-1),
                Err(error) => end.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1),
            }
        });
        OffsetForLeaderTopicResult::default().with_partitions(partitions.collect()).with_topic(asked.topic)
    });
    request.call.now(&OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}
