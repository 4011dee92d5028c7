//! EndTxn: answered when the end is durable in every partition of the transaction.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::{Request, fenced_since, to_the_end};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::transactions::Producer;
use crate::wire::{Reply, code};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: EndTxnRequest = request.decode()?;
    let call = request.call;
    let transactions = context.shared.transactions.clone();
    let producer = Producer { id: body.producer_id.0, epoch: body.producer_epoch };
    Ok(Reply::Later(Box::pin(async move {
        let ended = to_the_end(transactions.end(body.transactional_id.to_string(), producer, body.committed)).await?;
        let error = ended.err().map(|error| fenced_since(2, call.version, error));
        call.encode(&EndTxnResponse::default().with_error_code(code(error)))
    })))
}
