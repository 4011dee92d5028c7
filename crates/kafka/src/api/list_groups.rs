//! ListGroups: live ones and those with committed offsets.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

/// KIP-848's names for the two protocols.
const CLASSIC: &str = "classic";
const NEWER: &str = "consumer";

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: ListGroupsRequest = request.decode()?;
    let version = request.call.version;
    let state_wanted = |state: &str| {
        body.states_filter.is_empty() || body.states_filter.iter().any(|it| it.eq_ignore_ascii_case(state))
    };
    let type_wanted =
        |kind: &str| body.types_filter.is_empty() || body.types_filter.iter().any(|it| it.eq_ignore_ascii_case(kind));
    let kind = |newer: bool| if newer { NEWER } else { CLASSIC };
    let listed = context.shared.groups.list().into_iter();
    let listed = listed.filter(|it| type_wanted(kind(it.newer)) && state_wanted(it.state));
    let groups = listed.map(|it| {
        ListedGroup::default()
            .with_group_id(GroupId(string(it.id)))
            .with_protocol_type(string(it.protocol_type))
            .with_group_state(string(if version >= 4 { it.state } else { "" }))
            .with_group_type(string(if version >= 5 { kind(it.newer) } else { "" }))
    });
    request.call.now(&ListGroupsResponse::default().with_groups(groups.collect()))
}
