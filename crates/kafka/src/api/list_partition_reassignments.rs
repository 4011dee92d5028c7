//! ListPartitionReassignments: with one node nothing ever moves.

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::Request;
use crate::guard::Malformed;
use crate::wire::Reply;

pub(super) fn handle(mut request: Request) -> Result<Reply, Malformed> {
    request.decode::<ListPartitionReassignmentsRequest>()?;
    request.call.now(&ListPartitionReassignmentsResponse::default())
}
