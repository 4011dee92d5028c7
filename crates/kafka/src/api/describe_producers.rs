//! DescribeProducers: who writes to a partition with a producer id, and where its open transaction begins.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DescribeProducersRequest = request.decode()?;
    let log = context.shared.gate.log();
    let topics = body.topics.into_iter().map(|asked| {
        let missing = ResponseError::UnknownTopicOrPartition;
        let topic = context.caller.readable(log.topic(&asked.name), &asked.name, missing);
        let partitions = asked.partition_indexes.iter().map(|index| {
            let response = PartitionResponse::default().with_partition_index(*index);
            let partition = match &topic {
                Ok(topic) => topic.partition(*index).ok_or((missing, "no such topic or partition")),
                Err(error) if *error == missing => Err((missing, "no such topic or partition")),
                Err(error) => Err((*error, "this API key may not read the topic")),
            };
            let partition = match partition {
                Ok(partition) => partition,
                Err((error, message)) => {
                    return response.with_error_code(error.code()).with_error_message(Some(string(message)));
                }
            };
            let producers = partition.producers().into_iter().map(|producer| {
                ProducerState::default()
                    .with_producer_id(ProducerId(producer.producer_id))
                    .with_producer_epoch(producer.producer_epoch.into())
                    .with_last_sequence(producer.last_sequence)
                    .with_last_timestamp(producer.last_timestamp_ms)
                    .with_coordinator_epoch(producer.coordinator_epoch)
                    .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
            });
            response.with_active_producers(producers.collect())
        });
        TopicResponse::default().with_partitions(partitions.collect()).with_name(asked.name)
    });
    request.call.now(&DescribeProducersResponse::default().with_topics(topics.collect()))
}
