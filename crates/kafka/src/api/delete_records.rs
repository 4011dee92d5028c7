//! DeleteRecords: moves the start of a partition. What a reader of the server still needs is not deleted.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use playhouse_log::{DeleteRecordsError, Partition};

use super::{Request, blocking, is_internal};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::Reply;

/// As the offset: everything.
const HIGH_WATERMARK: i64 = -1;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DeleteRecordsRequest = request.decode()?;
    let call = request.call;
    let log = context.shared.gate.log().clone();
    Ok(Reply::Later(Box::pin(async move {
        let delete = move || {
            let topics = body.topics.into_iter().map(|asked| {
                let topic = log.topic(&asked.name);
                let partitions = asked.partitions.iter().map(|asked| {
                    let place = topic.as_ref().and_then(|topic| topic.partition(asked.partition_index));
                    let deleted = match place {
                        Some(partition) if is_internal(partition.topic()) => Err(ResponseError::InvalidTopicException),
                        // What is left of a key may be all there is.
                        Some(_) if topic.as_ref().is_some_and(|it| !it.settings_in_force().cleanup.deletes()) => {
                            Err(ResponseError::PolicyViolation)
                        }
                        Some(partition) => delete(partition, asked.offset),
                        None => Err(ResponseError::UnknownTopicOrPartition),
                    };
                    let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
                    match deleted {
                        Ok(start) => result.with_low_watermark(start),
                        Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
                    }
                });
                DeleteRecordsTopicResult::default().with_partitions(partitions.collect()).with_name(asked.name)
            });
            DeleteRecordsResponse::default().with_topics(topics.collect())
        };
        call.encode(&blocking(delete).await?)
    })))
}

fn delete(partition: &Partition, offset: i64) -> Result<i64, ResponseError> {
    let before = if offset == HIGH_WATERMARK { partition.high_watermark() } else { offset };
    partition.delete_records(before).map_err(|error| match error {
        DeleteRecordsError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        DeleteRecordsError::Held { .. } => {
            tracing::warn!(topic = partition.topic(), partition = partition.index(), %error, "records are not deleted");
            ResponseError::PolicyViolation
        }
        DeleteRecordsError::Failed(_) | DeleteRecordsError::Io(_) => {
            tracing::error!(topic = partition.topic(), partition = partition.index(), %error, "cannot delete records");
            ResponseError::KafkaStorageError
        }
    })
}
