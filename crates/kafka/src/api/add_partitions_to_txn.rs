//! AddPartitionsToTxn, by clients: from now on batches of the transaction may go there. Brokers' versions (4 and later, for
//! other brokers to verify) are not served.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::{Request, fenced_since, is_internal, to_the_end};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::transactions::{Place, Producer};
use crate::wire::{Reply, code};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: AddPartitionsToTxnRequest = request.decode()?;
    let call = request.call;
    let log = context.shared.gate.log().clone();
    let transactions = context.shared.transactions.clone();
    let producer = Producer { id: body.v3_and_below_producer_id.0, epoch: body.v3_and_below_producer_epoch };
    let id = body.v3_and_below_transactional_id.to_string();
    let caller = context.caller.clone();
    let refusal = |(topic, partition): &Place| match log.topic(topic) {
        _ if !caller.may_send_to(topic) => Some(ResponseError::TopicAuthorizationFailed),
        Some(_) if is_internal(topic) => Some(ResponseError::InvalidTopicException),
        Some(topic) if topic.partition(*partition).is_some() => None,
        _ => Some(ResponseError::UnknownTopicOrPartition),
    };
    let topics = body.v3_and_below_topics;
    let asked: Vec<Place> = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.to_string(), *partition)))
        .collect();
    let refusals: Vec<_> = asked.iter().map(refusal).collect();
    Ok(Reply::Later(Box::pin(async move {
        // All or nothing.
        let outcome = if refusals.iter().any(Option::is_some) {
            Err(ResponseError::OperationNotAttempted)
        } else {
            to_the_end(transactions.add(id, producer, asked)).await?
        };
        let failed = outcome.err().map(|error| fenced_since(2, call.version, error));
        let mut refusals = refusals.into_iter();
        let results = topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let error = refusals.next().flatten().or(failed);
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(partition)
                    .with_partition_error_code(code(error))
            });
            AddPartitionsToTxnTopicResult::default()
                .with_results_by_partition(partitions.collect())
                .with_name(topic.name)
        });
        call.encode(&AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect()))
    })))
}
