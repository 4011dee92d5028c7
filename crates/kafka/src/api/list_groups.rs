//! ListGroups: live ones and those with committed offsets.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

const CLASSIC: &str = "classic";

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: ListGroupsRequest = request.decode()?;
    let version = request.call.version;
    let state_wanted = |state: &str| {
        body.states_filter.is_empty() || body.states_filter.iter().any(|it| it.eq_ignore_ascii_case(state))
    };
    let type_wanted =
        body.types_filter.is_empty() || body.types_filter.iter().any(|it| it.eq_ignore_ascii_case(CLASSIC));
    let listed = context.shared.groups.list().into_iter().filter(|(_, _, state)| type_wanted && state_wanted(state));
    let groups = listed.map(|(id, protocol_type, state)| {
        ListedGroup::default()
            .with_group_id(GroupId(string(id)))
            .with_protocol_type(string(protocol_type))
            .with_group_state(string(if version >= 4 { state } else { "" }))
            .with_group_type(string(if version >= 5 { CLASSIC } else { "" }))
    });
    request.call.now(&ListGroupsResponse::default().with_groups(groups.collect()))
}
