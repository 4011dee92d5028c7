//! Produce: batches go to the gate as they came; the answer waits until they are durable, whatever `acks` beyond 0.
//!
//! Appending happens in the order of requests, before the next request is read, so that an idempotent producer's
//! sequence holds with several requests under way. Only the wait for the disk is left to the reply.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use playhouse_gate::{Origin, ProduceError, Reason, Rejected};
use playhouse_log::batch::{BatchError, Compression, split_first};
use playhouse_log::{AppendError, Partition, TimestampType, Topic};

use super::{Request, is_internal, topic_by_id};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::quotas::Kind;
use crate::transactions::{Producer, Writing};
use crate::wire::{Reply, string};

/// How long a client that hit a budget is asked to wait.
const THROTTLE: Duration = Duration::from_millis(500);
const REASONS_SHOWN: usize = 10;
const ZSTD_SINCE: i16 = 7;
/// An answer has up to a thousand of them.
const RECORD_MESSAGE_BYTES_MAX: usize = 1024;

struct Appending {
    /// Awaited until `next_offset` is durable.
    wait: Option<(Arc<Partition>, i64)>,
    response: PartitionProduceResponse,
}

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: ProduceRequest = request.decode()?;
    let acks = body.acks;
    let refusal = (!(-1..=1).contains(&acks)).then_some(ResponseError::InvalidRequiredAcks);
    let origin = Origin { protocol: "kafka", address: Some(context.peer.ip().to_canonical()), user_agent: None };
    let (mut throttled, mut size) = (false, 0);
    let mut topics = Vec::with_capacity(body.topic_data.len());
    for data in body.topic_data {
        let by_id = request.call.version >= 13;
        let topic = if by_id {
            topic_by_id(context.shared.gate.log(), data.topic_id)
        } else {
            context.shared.gate.log().topic(&data.name)
        };
        let name = topic.as_ref().map_or_else(|| data.name.to_string(), |topic| topic.name().to_owned());
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let (index, records) = (partition.index, partition.records.unwrap_or_default());
            size += records.len();
            let refused = match refusal {
                Some(error) => Some(error),
                // An id that was good once: the client asks for the topic's new one.
                None if by_id && topic.is_none() => Some(ResponseError::UnknownTopicId),
                None if !context.caller.may_send_to(&name) => Some(ResponseError::TopicAuthorizationFailed),
                // Made for an admin only.
                None if topic.is_none() && !context.caller.is_admin() => Some(ResponseError::UnknownTopicOrPartition),
                None if is_internal(&name) => Some(ResponseError::InvalidTopicException),
                // A topic is made when a client asks where it is; one that was deleted does not come back by itself.
                None if topic.is_none() => Some(ResponseError::UnknownTopicOrPartition),
                None => check(&records, request.call.version).err(),
            };
            // Held until the batch is appended: its transaction does not end before.
            let writing = match refused {
                Some(error) => Err(error),
                None => {
                    writing(context, body.transactional_id.as_ref().map(|id| id.as_str()), &records, &name, index).await
                }
            };
            let result = match &writing {
                Err(error) => Err(failed(index, *error, None)),
                Ok(_) => match context.shared.gate.produce(&name, index, records, &origin).await {
                    Ok(produced) => {
                        let topic = topic.clone().or_else(|| context.shared.gate.log().topic(&name));
                        Ok((produced.appended, topic))
                    }
                    Err(error) => Err(refuse(index, error, &name, &mut throttled)),
                },
            };
            partitions.push(match result {
                Err(response) => Appending { wait: None, response },
                Ok((appended, topic)) => {
                    let stamped = topic.as_ref().is_some_and(|topic| stamps(topic));
                    let place = topic.and_then(|topic| topic.partition(index).cloned());
                    let response = PartitionProduceResponse::default()
                        .with_index(index)
                        .with_base_offset(appended.base_offset)
                        .with_log_append_time_ms(if stamped { appended.append_time_ms } else { -1 })
                        .with_log_start_offset(place.as_ref().map_or(-1, |place| place.log_start_offset()));
                    Appending { wait: place.map(|place| (place, appended.next_offset)), response }
                }
            });
        }
        topics.push((data.name, data.topic_id, partitions));
    }
    if acks == 0 {
        context.throttle.charge(Kind::Produce, &request.client_id, size);
        // Nobody reads an answer: a failure is told by closing, as Kafka does.
        let failed = topics.iter().flat_map(|(.., partitions)| partitions).any(|it| it.response.error_code != 0);
        return if failed { Err(Malformed("a batch sent with acks=0 was refused")) } else { Ok(Reply::Silent) };
    }
    let call = request.call;
    let quota_ms = context.throttle.charge(Kind::Produce, &request.client_id, size);
    Ok(Reply::Later(Box::pin(async move {
        let mut responses = Vec::with_capacity(topics.len());
        for (name, id, partitions) in topics {
            let mut answers = Vec::with_capacity(partitions.len());
            for Appending { wait, mut response } in partitions {
                if let Some((partition, next_offset)) = wait
                    && let Err(error) = partition.durable(next_offset).await
                {
                    tracing::error!(topic = partition.topic(), partition = partition.index(), %error, "not durable");
                    response = failed(response.index, ResponseError::KafkaStorageError, Some(error.to_string()));
                }
                answers.push(response);
            }
            responses.push(
                TopicProduceResponse::default().with_name(name).with_topic_id(id).with_partition_responses(answers),
            );
        }
        let throttle_ms = if throttled { quota_ms.max(THROTTLE.as_millis() as i32) } else { quota_ms };
        call.encode(&ProduceResponse::default().with_responses(responses).with_throttle_time_ms(throttle_ms))
    })))
}

/// Batches of a transaction go only where their producer has said they would, and while it is open. What cannot be read is
/// left to the log, and control batches as well: only a broker writes them.
async fn writing(
    context: &Context,
    transactional_id: Option<&str>,
    mut records: &[u8],
    topic: &str,
    partition: i32,
) -> Result<Option<Writing>, ResponseError> {
    let mut producer = None;
    while let Ok((header, length)) = split_first(records) {
        if header.is_control() {
            return Err(ResponseError::InvalidRecord);
        }
        if header.is_transactional() {
            let this = Producer { id: header.producer_id, epoch: header.producer_epoch };
            if producer.replace(this).is_some_and(|other| other != this) {
                return Err(ResponseError::InvalidRecord);
            }
        }
        records = &records[length..];
    }
    let Some(producer) = producer else { return Ok(None) };
    let id = transactional_id.ok_or(ResponseError::TransactionalIdAuthorizationFailed)?;
    let place = (topic.to_owned(), partition);
    context.shared.transactions.writing(id, producer, &place).await.map(Some)
}

/// One whole batch, and nothing that came after this version of the API.
fn check(records: &[u8], version: i16) -> Result<(), ResponseError> {
    match split_first(records) {
        Ok((_, size)) if size < records.len() => Err(ResponseError::InvalidRecord),
        Ok((header, _)) if version < ZSTD_SINCE && header.compression().is_ok_and(|it| it == Compression::Zstd) => {
            Err(ResponseError::UnsupportedCompressionType)
        }
        // Too short to be one; what else is wrong the log says.
        Err(BatchError::Truncated { .. }) => Err(ResponseError::InvalidRecord),
        _ => Ok(()),
    }
}

fn stamps(topic: &Topic) -> bool {
    topic.settings().timestamp_type == TimestampType::LogAppendTime
}

fn failed(index: i32, error: ResponseError, message: Option<String>) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(error.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_error_message(message.map(string))
}

fn refuse(index: i32, error: ProduceError, topic: &str, throttled: &mut bool) -> PartitionProduceResponse {
    let message = error.to_string();
    let kafka = match error {
        ProduceError::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
        // Every client retries NOT_ENOUGH_REPLICAS and knows that nothing was written; the throttle time makes it wait.
        // THROTTLING_QUOTA_EXCEEDED would say it better, but older librdkafka gives the message up on it.
        ProduceError::Busy(_) | ProduceError::Append(AppendError::DiskBudget(_)) => {
            *throttled = true;
            ResponseError::NotEnoughReplicas
        }
        ProduceError::Invalid(reasons) => return invalid(index, &reasons),
        ProduceError::Rejected(rejected) => return reject(index, &rejected, message),
        ProduceError::Append(AppendError::Corrupt(_)) => ResponseError::CorruptMessage,
        ProduceError::Append(AppendError::Invalid(_) | AppendError::UnsupportedFormat(_)) => {
            ResponseError::InvalidRecord
        }
        ProduceError::Append(AppendError::Timestamp { .. }) => {
            return failed(index, ResponseError::InvalidTimestamp, Some(message.clone()))
                .with_record_errors(vec![record_error(0, message)]);
        }
        ProduceError::Append(AppendError::KeysMissing(records)) => {
            let errors = records.into_iter().map(|record| record_error(record, message.clone())).collect();
            return failed(index, ResponseError::InvalidRecord, Some(message)).with_record_errors(errors);
        }
        ProduceError::Append(AppendError::TooLarge { .. }) => ResponseError::MessageTooLarge,
        ProduceError::Append(AppendError::OutOfOrderSequence { .. }) => ResponseError::OutOfOrderSequenceNumber,
        ProduceError::Append(AppendError::ProducerFenced { .. }) => ResponseError::InvalidProducerEpoch,
        ProduceError::Append(AppendError::InTransaction(_)) => ResponseError::InvalidTxnState,
        ProduceError::Append(AppendError::Failed(_) | AppendError::Io(_)) => {
            tracing::error!(topic, partition = index, error = message, "cannot append");
            ResponseError::KafkaStorageError
        }
    };
    failed(index, kafka, Some(message))
}

fn invalid(index: i32, reasons: &[Reason]) -> PartitionProduceResponse {
    let show = |reason: &Reason| format!("{}: {} ({})", reason.path, reason.message, reason.keyword);
    let shown: Vec<String> = reasons.iter().take(REASONS_SHOWN).map(show).collect();
    let message = shown.join("; ");
    failed(index, ResponseError::InvalidRecord, Some(message.clone()))
        .with_record_errors(vec![record_error(0, message)])
}

fn record_error(record: i32, message: String) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage::default().with_batch_index(record).with_batch_index_error_message(Some(string(message)))
}

/// What is wrong with each record, by its index in the batch (KIP-467). Clients fail these with their messages, and the others
/// of the batch with one that says so.
fn reject(index: i32, rejected: &Rejected, message: String) -> PartitionProduceResponse {
    let errors = rejected.records.iter().map(|record| {
        let mut shown = record.to_string();
        shown.truncate(shown.floor_char_boundary(RECORD_MESSAGE_BYTES_MAX));
        record_error(record.index, shown)
    });
    failed(index, ResponseError::InvalidRecord, Some(message)).with_record_errors(errors.collect())
}
