//! InitProducerId: an id for an idempotent producer. Transactional ids are refused: there are no transactions yet.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Request, blocking};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::Reply;

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: InitProducerIdRequest = request.decode()?;
    let allocated = if body.transactional_id.is_some() {
        Err(ResponseError::TransactionalIdAuthorizationFailed)
    } else {
        let log = context.shared.gate.log().clone();
        blocking(move || log.allocate_producer_id()).await?.map_err(|error| {
            tracing::error!(%error, "cannot allocate a producer id");
            ResponseError::CoordinatorNotAvailable
        })
    };
    let response = InitProducerIdResponse::default();
    request.call.now(&match allocated {
        // Always a new id at epoch 0, also for a producer that asks to have its epoch raised.
        Ok(id) => response.with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => response.with_error_code(error.code()).with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
    })
}
