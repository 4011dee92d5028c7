//! DeleteGroups: empty groups and their committed offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, code};

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DeleteGroupsRequest = request.decode()?;
    let mut results = Vec::with_capacity(body.groups_names.len());
    for group_id in body.groups_names {
        let error = code(context.shared.groups.delete(&group_id).await.err());
        results.push(DeletableGroupResult::default().with_group_id(group_id).with_error_code(error));
    }
    request.call.now(&DeleteGroupsResponse::default().with_results(results))
}
