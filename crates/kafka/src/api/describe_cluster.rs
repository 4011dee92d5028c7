//! DescribeCluster: one broker, which is the controller too.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::{Operations, Request};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DescribeClusterRequest = request.decode()?;
    if body.endpoint_type != BROKERS {
        let error = match body.endpoint_type {
            CONTROLLERS => ResponseError::MismatchedEndpointType,
            _ => ResponseError::UnsupportedEndpointType,
        };
        let response = DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(string("this is a broker: ask for brokers")));
        return request.call.now(&response);
    }
    let broker = BrokerId(context.shared.config.node_id);
    let endpoint = DescribeClusterBroker::default()
        .with_broker_id(broker)
        .with_host(string(&*context.host))
        .with_port(context.port);
    let response = DescribeClusterResponse::default()
        .with_cluster_id(string(context.shared.gate.log().id().to_string()))
        .with_controller_id(broker)
        .with_cluster_authorized_operations(Operations::Cluster.told(body.include_cluster_authorized_operations))
        .with_brokers(vec![endpoint]);
    request.call.now(&response)
}
