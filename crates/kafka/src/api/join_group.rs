//! JoinGroup: answered when the rebalance has all its members.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use uuid::Uuid;

use super::Request;
use crate::connection::Context;
use crate::groups::{Join, Joined};
use crate::guard::Malformed;
use crate::wire::{Reply, code, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: JoinGroupRequest = request.decode()?;
    let call = request.call;
    let session_timeout_ms = body.session_timeout_ms.max(0) as u64;
    let rebalance_timeout_ms =
        if call.version == 0 { session_timeout_ms } else { body.rebalance_timeout_ms.max(0) as u64 };
    let instance_id = body.group_instance_id.map(|id| id.to_string());
    let label = instance_id.as_deref().unwrap_or(&request.client_id);
    let join = Join {
        member_id: body.member_id.to_string(),
        fresh_member_id: format!("{label}-{}", Uuid::new_v4()),
        member_id_required: call.version >= 4,
        skips_assignment: call.version >= 9,
        instance_id,
        client_id: request.client_id,
        client_host: format!("/{}", context.peer.ip().to_canonical()),
        session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: body.protocol_type.to_string(),
        // Copied, so that a member does not keep the whole request alive.
        protocols: body
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
    };
    let member_id = join.member_id.clone();
    let joining = context.shared.groups.join(&body.group_id, join);
    Ok(Reply::Later(Box::pin(async move {
        let joined = match joining {
            Ok(joining) => joining.await.map_err(|_| ResponseError::NotCoordinator),
            Err(error) => Err(error),
        };
        let joined = joined.unwrap_or_else(|error| Joined {
            error: Some(error),
            generation: -1,
            member_id,
            ..Joined::default()
        });
        let members = joined.members.into_iter().map(|(id, instance_id, metadata)| {
            JoinGroupResponseMember::default()
                .with_member_id(string(id))
                .with_group_instance_id(instance_id.filter(|_| call.version >= 5).map(string))
                .with_metadata(metadata)
        });
        // Not nullable before version 7.
        let protocol = if call.version >= 7 { joined.protocol } else { Some(joined.protocol.unwrap_or_default()) };
        let response = JoinGroupResponse::default()
            .with_error_code(code(joined.error))
            .with_generation_id(joined.generation)
            .with_protocol_type(joined.protocol_type.filter(|_| call.version >= 7).map(string))
            .with_protocol_name(protocol.map(string))
            .with_leader(string(joined.leader))
            .with_member_id(string(joined.member_id))
            .with_skip_assignment(joined.skip_assignment)
            .with_members(members.collect());
        call.encode(&response)
    })))
}
