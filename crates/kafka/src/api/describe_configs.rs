//! DescribeConfigs: every setting of a topic, of the broker, and of consumer groups, with where each comes from.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use playhouse_log::TopicSettings;

use super::Request;
use crate::broker_configs;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::topic_configs::{self, DEFINITIONS, Definition, Kind};
use crate::wire::{Reply, string};

/// `ConfigSource`: set on this topic, in this broker's configuration, or nowhere.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
/// `ConfigResource.Type`.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const GROUP: i8 = 32;

/// A setting with where it comes from, most specific first: name, value and source.
pub(super) struct Described {
    name: &'static str,
    kind: Kind,
    read_only: bool,
    about: &'static str,
    sources: Vec<(&'static str, String, i8)>,
}

impl Described {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn value_and_source(self) -> (String, i8) {
        self.sources.into_iter().next().map(|(_, value, source)| (value, source)).unwrap_or_default()
    }
}

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DescribeConfigsRequest = request.decode()?;
    let version = request.call.version;
    let show = |it: Described| {
        let synonyms = it.sources.iter().filter(|_| body.include_synonyms).map(|(name, value, source)| {
            DescribeConfigsSynonym::default()
                .with_name(string(*name))
                .with_value(Some(string(value.as_str())))
                .with_source(*source)
        });
        let synonyms = synonyms.collect();
        let result = DescribeConfigsResourceResult::default()
            .with_name(string(it.name))
            .with_read_only(it.read_only)
            .with_synonyms(synonyms)
            .with_config_type(if version >= 3 { it.kind as i8 } else { 0 })
            .with_documentation((version >= 3 && body.include_documentation).then(|| string(it.about)));
        let (value, source) = it.value_and_source();
        result.with_value(Some(string(value))).with_config_source(source)
    };
    let results = body.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match configs(context, &resource) {
            Ok(configs) => {
                // Null or none asks for all.
                let asked = resource.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
                let wanted = |name: &str| asked.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
                result.with_configs(configs.into_iter().filter(|it| wanted(it.name)).map(show).collect())
            }
            Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(string(message))),
        }
    });
    request.call.now(&DescribeConfigsResponse::default().with_results(results.collect()))
}

fn configs(context: &Context, resource: &DescribeConfigsResource) -> Result<Vec<Described>, (ResponseError, String)> {
    let name = resource.resource_name.as_str();
    let config = &context.shared.config;
    match resource.resource_type {
        TOPIC => {
            if name.is_empty() {
                return Err((ResponseError::InvalidTopicException, "the topic's name is empty".to_owned()));
            }
            let topic = context.caller.visible(context.shared.gate.log().topic(name), name);
            let topic = topic.map_err(|error| match error {
                ResponseError::TopicAuthorizationFailed => (error, "this API key is for other topics".to_owned()),
                _ => (error, "no such topic".to_owned()),
            })?;
            Ok(of_topic(&topic.settings(), &context.shared.topic_defaults(name)))
        }
        // The empty name asks for what is set for all brokers at run time: nothing.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER if name == config.node_id.to_string() => {
            let directory = context.shared.gate.log().directory().display().to_string();
            let described = broker_configs::describe(config, &directory).into_iter().map(|it| Described {
                name: it.name,
                kind: it.kind,
                read_only: true,
                about: it.about,
                sources: from_broker(it.name, it.value, it.default),
            });
            Ok(described.collect())
        }
        BROKER => Err((ResponseError::InvalidRequest, format!("this broker is {}, not {name:?}", config.node_id))),
        GROUP => {
            let described = [
                ("consumer.heartbeat.interval.ms", config.groups.consumer_heartbeat_interval, "5000"),
                ("consumer.session.timeout.ms", config.groups.consumer_session_timeout, "45000"),
            ];
            let described = described.map(|(name, value, default)| Described {
                name,
                kind: Kind::Int,
                read_only: true,
                about: "Of all groups: the broker's setting.",
                sources: from_broker(name, value.as_millis().to_string(), default),
            });
            Ok(described.into())
        }
        other => Err((ResponseError::InvalidRequest, format!("resource type {other} has no settings here"))),
    }
}

fn from_broker(name: &'static str, value: String, default: &str) -> Vec<(&'static str, String, i8)> {
    let own = (value != default).then_some((name, value, SOURCE_BROKER));
    own.into_iter().chain([(name, default.to_owned(), SOURCE_DEFAULT)]).collect()
}

/// Every setting of a topic, by name.
pub(super) fn of_topic(settings: &TopicSettings, defaults: &TopicSettings) -> Vec<Described> {
    let describe = |it: &'static Definition| {
        let own = topic_configs::is_set(it, settings, defaults);
        let own = own.then(|| (it.name, it.value(settings, defaults), SOURCE_TOPIC));
        Described {
            name: it.name,
            kind: it.kind,
            read_only: false,
            about: it.about,
            sources: own
                .into_iter()
                .chain(from_broker(it.broker, it.value(defaults, defaults), it.kafka_default()))
                .collect(),
        }
    };
    DEFINITIONS.iter().map(describe).collect()
}
