//! DescribeTransactions: the state of transactional ids.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DescribeTransactionsRequest = request.decode()?;
    let call = request.call;
    let transactions = context.shared.transactions.clone();
    Ok(Reply::Later(Box::pin(async move {
        let mut states = Vec::with_capacity(body.transactional_ids.len());
        for id in body.transactional_ids {
            let Some(state) = transactions.describe(&id).await else {
                let error = match id.is_empty() {
                    true => ResponseError::InvalidRequest.code(),
                    false => ResponseError::TransactionalIdNotFound.code(),
                };
                states.push(TransactionState::default().with_transactional_id(id).with_error_code(error));
                continue;
            };
            let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for (topic, partition) in state.partitions {
                topics.entry(topic).or_default().push(partition);
            }
            let topics = topics.into_iter().map(|(topic, partitions)| {
                TopicData::default().with_topic(TopicName(string(topic))).with_partitions(partitions)
            });
            states.push(
                TransactionState::default()
                    .with_transactional_id(id)
                    .with_transaction_state(string(state.status.name()))
                    .with_transaction_timeout_ms(state.timeout_ms)
                    .with_transaction_start_time_ms(state.started_ms)
                    .with_producer_id(ProducerId(state.producer.id))
                    .with_producer_epoch(state.producer.epoch)
                    .with_topics(topics.collect()),
            );
        }
        call.encode(&DescribeTransactionsResponse::default().with_transaction_states(states))
    })))
}
