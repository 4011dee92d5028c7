//! LeaveGroup: one member, or from version 3 on several (KIP-345).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, code};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: LeaveGroupRequest = request.decode()?;
    let groups = &context.shared.groups;
    if request.call.version < 3 {
        let left = groups.leave(&body.group_id, &body.member_id, None);
        return request.call.now(&LeaveGroupResponse::default().with_error_code(code(left.err())));
    }
    if body.group_id.is_empty() {
        let error = ResponseError::InvalidGroupId.code();
        return request.call.now(&LeaveGroupResponse::default().with_error_code(error));
    }
    let members = body.members.into_iter().map(|member| {
        let left = groups.leave(&body.group_id, &member.member_id, member.group_instance_id.as_deref());
        MemberResponse::default()
            .with_error_code(code(left.err()))
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
    });
    request.call.now(&LeaveGroupResponse::default().with_members(members.collect()))
}
