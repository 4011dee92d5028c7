//! FindCoordinator: this broker, for every group and every transactional id.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: FindCoordinatorRequest = request.decode()?;
    let refused = match body.key_type {
        GROUP | TRANSACTION => None,
        _ => Some((ResponseError::InvalidRequest, "unknown coordinator type")),
    };
    let node_id = BrokerId(context.shared.config.node_id);
    if request.call.version >= 4 {
        let coordinators = body.coordinator_keys.into_iter().map(|key| {
            let coordinator = Coordinator::default().with_key(key);
            match refused {
                None => coordinator.with_node_id(node_id).with_host(string(&*context.host)).with_port(context.port),
                Some((error, message)) => coordinator
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(error.code())
                    .with_error_message(Some(string(message))),
            }
        });
        return request.call.now(&FindCoordinatorResponse::default().with_coordinators(coordinators.collect()));
    }
    let response = FindCoordinatorResponse::default();
    request.call.now(&match refused {
        None => response.with_node_id(node_id).with_host(string(&*context.host)).with_port(context.port),
        Some((error, message)) => response
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message((request.call.version >= 1).then(|| string(message))),
    })
}
