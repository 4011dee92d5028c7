//! AddOffsetsToTxn: the offsets of a group become part of the transaction, by way of the partition that holds them.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::{Request, fenced_since, to_the_end};
use crate::connection::Context;
use crate::groups::OFFSETS_PLACE;
use crate::guard::Malformed;
use crate::transactions::Producer;
use crate::wire::{Reply, code};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: AddOffsetsToTxnRequest = request.decode()?;
    let call = request.call;
    let transactions = context.shared.transactions.clone();
    let producer = Producer { id: body.producer_id.0, epoch: body.producer_epoch };
    let (topic, partition) = OFFSETS_PLACE;
    Ok(Reply::Later(Box::pin(async move {
        let places = vec![(topic.to_owned(), partition)];
        let added = to_the_end(transactions.add(body.transactional_id.to_string(), producer, places)).await?;
        let error = added.err().map(|error| fenced_since(2, call.version, error));
        call.encode(&AddOffsetsToTxnResponse::default().with_error_code(code(error)))
    })))
}
