//! CreateTopics. One node keeps one replica: any replication factor asked for is accepted, and answered with 1.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use playhouse_log::{CreateTopicError, Log, TopicSettings};
use uuid::Uuid;

use super::describe_configs::of_topic;
use super::{Request, blocking, is_internal};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::topic_configs;
use crate::wire::{Reply, string};

type Refused = (ResponseError, String);

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: CreateTopicsRequest = request.decode()?;
    let version = request.call.version;
    let log = context.shared.gate.log().clone();
    let defaults = context.shared.config.new_topic.clone();
    let response = blocking(move || {
        let topics = body.topics.iter().map(|asked| {
            let result = CreatableTopicResult::default().with_name(asked.name.clone());
            match create(&log, asked, &defaults, body.validate_only) {
                Ok((id, settings)) => describe(result.with_topic_id(id), &settings, &defaults, version),
                Err((error, message)) => result
                    .with_error_code(error.code())
                    .with_error_message(Some(string(message)))
                    .with_num_partitions(-1)
                    .with_replication_factor(-1),
            }
        });
        CreateTopicsResponse::default().with_topics(topics.collect())
    })
    .await?;
    request.call.now(&response)
}

fn create(
    log: &Log,
    asked: &CreatableTopic,
    defaults: &TopicSettings,
    validate_only: bool,
) -> Result<(Uuid, TopicSettings), Refused> {
    let name = asked.name.as_str();
    if is_internal(name) {
        return Err((ResponseError::InvalidTopicException, "names that begin with __ are reserved".to_owned()));
    }
    let mut settings = defaults.clone();
    settings.partitions = match (asked.num_partitions, asked.assignments.len()) {
        (-1, 0) => settings.partitions,
        (-1, assigned) => assigned as i32,
        (partitions, _) => partitions,
    };
    for config in &asked.configs {
        topic_configs::apply(&mut settings, defaults, &config.name, config.value.as_deref())
            .map_err(|message| (ResponseError::InvalidConfig, message))?;
    }
    if asked.replication_factor == 0 || asked.replication_factor < -1 {
        let message = format!("replication factor {} is neither -1 nor positive", asked.replication_factor);
        return Err((ResponseError::InvalidReplicationFactor, message));
    }
    if validate_only {
        return match log.topic(name) {
            Some(_) => Err(refuse(CreateTopicError::Exists(name.to_owned()))),
            None => Ok((Uuid::nil(), settings)),
        };
    }
    let topic = log.create_topic(name, settings).map_err(refuse)?;
    Ok((topic.id(), topic.settings()))
}

fn refuse(error: CreateTopicError) -> Refused {
    let kafka = match &error {
        CreateTopicError::Exists(_) => ResponseError::TopicAlreadyExists,
        CreateTopicError::InvalidName(_) => ResponseError::InvalidTopicException,
        CreateTopicError::InvalidPartitions(_) => ResponseError::InvalidPartitions,
        CreateTopicError::Io(_) => ResponseError::KafkaStorageError,
    };
    (kafka, error.to_string())
}

fn describe(
    result: CreatableTopicResult,
    settings: &TopicSettings,
    defaults: &TopicSettings,
    version: i16,
) -> CreatableTopicResult {
    if version < 5 {
        return result;
    }
    let configs = of_topic(settings, defaults).into_iter().map(|it| {
        let name = it.name();
        let (value, source) = it.value_and_source();
        CreatableTopicConfigs::default()
            .with_name(string(name))
            .with_value(Some(string(value)))
            .with_config_source(source)
    });
    result.with_num_partitions(settings.partitions).with_replication_factor(1).with_configs(Some(configs.collect()))
}
