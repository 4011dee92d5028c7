//! DescribeConfigs: every setting of a topic, and what there is to tell of the broker.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::topic_configs::{self, Config, Kind};
use crate::wire::{Reply, string};

/// `ConfigSource`: set on this topic, set for this broker, or the default.
pub(super) const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 4;
pub(super) const SOURCE_DEFAULT: i8 = 5;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DescribeConfigsRequest = request.decode()?;
    let version = request.call.version;
    let results = body.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match configs(context, &resource) {
            Ok(configs) => {
                // Null or none asks for all.
                let asked = resource.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
                let wanted = |name: &str| asked.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
                let shown = configs.into_iter().filter(|(config, _)| wanted(config.name)).map(|(config, source)| {
                    DescribeConfigsResourceResult::default()
                        .with_name(string(config.name))
                        .with_value(Some(string(config.value)))
                        .with_read_only(resource.resource_type == BROKER)
                        .with_config_source(source)
                        .with_config_type(if version >= 3 { config.kind as i8 } else { 0 })
                });
                result.with_configs(shown.collect())
            }
            Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(string(message))),
        }
    });
    request.call.now(&DescribeConfigsResponse::default().with_results(results.collect()))
}

fn configs(
    context: &Context,
    resource: &DescribeConfigsResource,
) -> Result<Vec<(Config, i8)>, (ResponseError, String)> {
    match resource.resource_type {
        TOPIC => {
            let topic = context.shared.gate.log().topic(&resource.resource_name);
            let topic = topic.ok_or((ResponseError::UnknownTopicOrPartition, "no such topic".to_owned()))?;
            let defaults = topic_configs::describe(&context.shared.config.new_topic);
            let described = topic_configs::describe(&topic.settings()).into_iter().zip(defaults);
            let source =
                |own: &Config, default: &Config| if own.value == default.value { SOURCE_DEFAULT } else { SOURCE_TOPIC };
            Ok(described
                .map(|(own, default)| {
                    let source = source(&own, &default);
                    (own, source)
                })
                .collect())
        }
        BROKER => {
            let config = &context.shared.config;
            let own = [
                ("auto.create.topics.enable", config.auto_create_topics.to_string(), Kind::Boolean),
                ("broker.id", config.node_id.to_string(), Kind::Int),
                ("default.replication.factor", "1".to_owned(), Kind::Int),
                ("fetch.max.bytes", config.fetch_bytes_max.to_string(), Kind::Int),
                ("group.max.size", config.groups.members_max.to_string(), Kind::Int),
                ("num.partitions", config.new_topic.partitions.to_string(), Kind::Int),
                ("offsets.retention.minutes", (config.groups.offsets_retention.as_secs() / 60).to_string(), Kind::Int),
                ("socket.request.max.bytes", config.frame_bytes_max.to_string(), Kind::Int),
            ];
            Ok(own.into_iter().map(|(name, value, kind)| (Config { name, value, kind }, SOURCE_BROKER)).collect())
        }
        other => Err((ResponseError::InvalidRequest, format!("resource type {other} has no settings here"))),
    }
}
