//! Heartbeat: keeps a member's session alive and tells it of a rebalance.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, code};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: HeartbeatRequest = request.decode()?;
    let instance_id = body.group_instance_id.as_deref();
    let alive = context.shared.groups.heartbeat(&body.group_id, &body.member_id, instance_id, body.generation_id);
    request.call.now(&HeartbeatResponse::default().with_error_code(code(alive.err())))
}
