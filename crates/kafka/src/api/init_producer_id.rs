//! InitProducerId: an id for an idempotent producer, or the next epoch of a transactional one.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Request, fenced_since, to_the_end};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::transactions::Producer;
use crate::wire::Reply;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: InitProducerIdRequest = request.decode()?;
    let call = request.call;
    let transactions = context.shared.transactions.clone();
    let named = body.producer_id.0 >= 0;
    if named != (body.producer_epoch >= 0) {
        let response = InitProducerIdResponse::default().with_error_code(ResponseError::InvalidRequest.code());
        return call.now(&response.with_producer_id(ProducerId(-1)).with_producer_epoch(-1));
    }
    let expected = named.then_some(Producer { id: body.producer_id.0, epoch: body.producer_epoch });
    Ok(Reply::Later(Box::pin(async move {
        let work = async move {
            match body.transactional_id {
                Some(id) => transactions.init(id.to_string(), expected, body.transaction_timeout_ms).await,
                // Always a new id at epoch 0, also for a producer that asks to have its epoch raised.
                None => transactions.producer_id().await.map(|id| Producer { id, epoch: 0 }),
            }
        };
        let response = InitProducerIdResponse::default();
        call.encode(&match to_the_end(work).await? {
            Ok(Producer { id, epoch }) => response.with_producer_id(ProducerId(id)).with_producer_epoch(epoch),
            Err(error) => response
                .with_error_code(fenced_since(4, call.version, error).code())
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1),
        })
    })))
}
