//! SyncGroup: answered when the leader has sent the assignments.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::Request;
use crate::connection::Context;
use crate::groups::{Sync, Synced};
use crate::guard::Malformed;
use crate::wire::{Reply, code, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: SyncGroupRequest = request.decode()?;
    let call = request.call;
    let sync = Sync {
        member_id: body.member_id.to_string(),
        instance_id: body.group_instance_id.map(|id| id.to_string()),
        generation: body.generation_id,
        protocol_type: body.protocol_type.map(|it| it.to_string()),
        protocol: body.protocol_name.map(|it| it.to_string()),
        assignments: body
            .assignments
            .into_iter()
            .map(|it| (it.member_id.to_string(), Bytes::copy_from_slice(&it.assignment)))
            .collect(),
    };
    let syncing = context.shared.groups.sync(&body.group_id, sync);
    Ok(Reply::Later(Box::pin(async move {
        let synced = match syncing {
            Ok(syncing) => syncing.await.map_err(|_| ResponseError::NotCoordinator),
            Err(error) => Err(error),
        };
        let synced = synced.unwrap_or_else(|error| Synced { error: Some(error), ..Synced::default() });
        let told = |it: Option<String>| it.filter(|_| call.version >= 5).map(string);
        let response = SyncGroupResponse::default()
            .with_error_code(code(synced.error))
            .with_protocol_type(told(synced.protocol_type))
            .with_protocol_name(told(synced.protocol))
            .with_assignment(synced.assignment);
        call.encode(&response)
    })))
}
