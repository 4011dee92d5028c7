//! ListTransactions: all transactional ids, by state, producer and age. Patterns (version 2, RE2 syntax) are not served.

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId};

use super::Request;
use crate::connection::Context;
use crate::groups::unix_ms;
use crate::guard::Malformed;
use crate::transactions::Status;
use crate::wire::{Reply, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: ListTransactionsRequest = request.decode()?;
    let call = request.call;
    let transactions = context.shared.transactions.clone();
    Ok(Reply::Later(Box::pin(async move {
        let now_ms = unix_ms();
        let known = |name: &str| Status::ALL.iter().any(|status| status.name() == name);
        let unknown: Vec<_> = body.state_filters.iter().filter(|name| !known(name)).cloned().collect();
        let wanted = |status: Status| {
            body.state_filters.is_empty() || body.state_filters.iter().any(|name| name.as_str() == status.name())
        };
        let listed = transactions.list().await.into_iter().filter(|(_, state)| {
            let producer = ProducerId(state.producer.id);
            let old =
                body.duration_filter < 0 || (state.started_ms >= 0 && now_ms - state.started_ms > body.duration_filter);
            wanted(state.status)
                && old
                && (body.producer_id_filters.is_empty() || body.producer_id_filters.contains(&producer))
        });
        let states = listed.map(|(id, state)| {
            TransactionState::default()
                .with_transactional_id(TransactionalId(string(id)))
                .with_producer_id(ProducerId(state.producer.id))
                .with_transaction_state(string(state.status.name()))
        });
        let response = ListTransactionsResponse::default().with_transaction_states(states.collect());
        call.encode(&response.with_unknown_state_filters(unknown))
    })))
}
