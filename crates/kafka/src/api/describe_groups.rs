//! DescribeGroups: state and members.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::{Operations, Request};
use crate::connection::Context;
use crate::groups::MemberDescription;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DescribeGroupsRequest = request.decode()?;
    let version = request.call.version;
    let member = |member: MemberDescription| {
        DescribedGroupMember::default()
            .with_member_id(string(member.id))
            .with_group_instance_id(member.instance_id.filter(|_| version >= 4).map(string))
            .with_client_id(string(member.client_id))
            .with_client_host(string(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    };
    let groups = body.groups.into_iter().map(|group_id| {
        let described = context.shared.groups.describe(&group_id);
        let group = DescribedGroup::default().with_group_id(group_id);
        match described {
            Some(it) => group
                .with_group_state(string(it.state))
                .with_protocol_type(string(it.protocol_type))
                .with_protocol_data(string(it.protocol))
                .with_members(it.members.into_iter().map(member).collect())
                .with_authorized_operations(Operations::Group.told(body.include_authorized_operations)),
            // KIP-1043: an error from version 6 on, a dead group before.
            None if version >= 6 => group
                .with_group_state(string("Dead"))
                .with_error_code(ResponseError::GroupIdNotFound.code())
                .with_error_message(Some(string("no such group"))),
            None => group
                .with_group_state(string("Dead"))
                .with_authorized_operations(Operations::Group.told(body.include_authorized_operations)),
        }
    });
    request.call.now(&DescribeGroupsResponse::default().with_groups(groups.collect()))
}
