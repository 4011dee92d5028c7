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
        let topic = log.topic(&asked.name);
        let partitions = asked.partition_indexes.iter().map(|index| {
            let response = PartitionResponse::default().with_partition_index(*index);
            let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(*index)) else {
                return response
                    .with_error_code(ResponseError::UnknownTopicOrPartition.code())
                    .with_error_message(Some(string("no such topic or partition")));
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
