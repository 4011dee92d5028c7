//! ListOffsets: the first, the last, the first at or after a time, the one with the newest time.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use playhouse_log::{Log, Partition, ReadError};

use super::fetch::READ_COMMITTED;
use super::{LEADER_EPOCH, Request, blocking, check_leader_epoch, read_error};
use crate::access::Caller;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::Reply;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST_TIME: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: ListOffsetsRequest = request.decode()?;
    let call = request.call;
    let log = context.shared.gate.log().clone();
    let caller = context.caller.clone();
    Ok(Reply::Later(Box::pin(async move {
        let response = blocking(move || answer(&log, &caller, body, call.version)).await?;
        call.encode(&response)
    })))
}

fn answer(log: &Log, caller: &Caller, body: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let committed = body.isolation_level == READ_COMMITTED;
    let topics = body.topics.into_iter().map(|asked| {
        let topic = caller.visible(log.topic(&asked.name), &asked.name);
        let partitions = asked.partitions.iter().map(|asked| {
            let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            if !is_known(asked.timestamp, version) {
                let error = ResponseError::UnsupportedVersion.code();
                return response.with_error_code(error).with_offset(-1).with_timestamp(-1);
            }
            let partition = topic
                .as_ref()
                .map_err(|error| *error)
                .and_then(|topic| topic.partition(asked.partition_index).ok_or(ResponseError::UnknownTopicOrPartition));
            let found = partition.and_then(|it| find(it, asked, committed));
            match found {
                Ok((offset, timestamp)) => {
                    let epoch = if offset < 0 || version < 4 { -1 } else { LEADER_EPOCH };
                    response.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
                }
                Err(error) => response.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
            }
        });
        ListOffsetsTopicResponse::default().with_partitions(partitions.collect()).with_name(asked.name)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Whether a client of this version may ask for it.
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        NEWEST_TIME => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        other => other >= EARLIEST,
    }
}

fn find(partition: &Partition, asked: &ListOffsetsPartition, committed: bool) -> Result<(i64, i64), ResponseError> {
    check_leader_epoch(asked.current_leader_epoch)?;
    let end = if committed { partition.last_stable_offset() } else { partition.high_watermark() };
    let found = match asked.timestamp {
        LATEST => Ok(Some((end, -1))),
        EARLIEST | EARLIEST_LOCAL => Ok(Some((partition.log_start_offset(), -1))),
        LATEST_TIERED => Ok(None),
        // What is not stable is not there yet.
        NEWEST_TIME => newest(partition).map(|found| found.filter(|(offset, _)| *offset < end)),
        time if time >= 0 => partition.offset_at(time).map(|found| found.filter(|(offset, _)| *offset < end)),
        _ => return Err(ResponseError::InvalidRequest),
    };
    found.map(|found| found.unwrap_or((-1, -1))).map_err(|error| read_error(&error))
}

/// The largest time that some record is at or after, found by halving.
fn newest(partition: &Partition) -> Result<Option<(i64, i64)>, ReadError> {
    let Some(mut best) = partition.offset_at(0)? else { return Ok(None) };
    let mut beyond = i64::MAX;
    while best.1 < beyond.saturating_sub(1) {
        let middle = best.1 + (beyond - best.1) / 2;
        match partition.offset_at(middle)? {
            Some(found) => best = found,
            None => beyond = middle,
        }
    }
    Ok(Some(best))
}
