//! CreateTopics. One node keeps one replica: any replication factor asked for is accepted, and answered with 1.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, CreateTopicsResponse};
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
    let node_id = BrokerId(context.shared.config.node_id);
    let response = blocking(move || {
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        body.topics.iter().for_each(|asked| *named.entry(asked.name.as_str()).or_default() += 1);
        // One that is asked for twice is answered once.
        let mut answered = BTreeSet::new();
        let topics = body.topics.iter().filter(|asked| answered.insert(asked.name.as_str())).map(|asked| {
            let result = CreatableTopicResult::default().with_name(asked.name.clone()).with_error_message(None);
            let made = match named.get(asked.name.as_str()) {
                Some(1) => create(&log, asked, &defaults, node_id, body.validate_only),
                _ => Err((ResponseError::InvalidRequest, "the topic is asked for more than once".to_owned())),
            };
            match made {
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
    node_id: BrokerId,
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
    if !asked.assignments.is_empty() {
        check_assignments(asked, node_id)?;
    }
    for config in &asked.configs {
        if config.value.is_none() {
            return Err((ResponseError::InvalidConfig, format!("{} has no value", config.name.as_str())));
        }
        topic_configs::apply(&mut settings, defaults, &config.name, config.value.as_deref())
            .map_err(|message| (ResponseError::InvalidConfig, message))?;
    }
    if asked.replication_factor == 0 || asked.replication_factor < -1 {
        let message = format!("replication factor {} is neither -1 nor positive", asked.replication_factor);
        return Err((ResponseError::InvalidReplicationFactor, message));
    }
    if validate_only {
        log.check_topic(name, &settings).map_err(refuse)?;
        return Ok((Uuid::nil(), settings));
    }
    let topic = log.create_topic(name, settings).map_err(refuse)?;
    Ok((topic.id(), topic.settings()))
}

/// Replicas placed by hand: this broker is the only place.
fn check_assignments(asked: &CreatableTopic, node_id: BrokerId) -> Result<(), Refused> {
    if asked.num_partitions != -1 || asked.replication_factor != -1 {
        let message = "assignments say how many partitions and replicas there are: give -1 for both";
        return Err((ResponseError::InvalidRequest, message.to_owned()));
    }
    let mut partitions: Vec<i32> = asked.assignments.iter().map(|it| it.partition_index).collect();
    partitions.sort_unstable();
    let here = asked.assignments.iter().all(|it| it.broker_ids == [node_id]);
    if !here || !partitions.into_iter().eq(0..asked.assignments.len() as i32) {
        let message = format!("each partition from 0 on is to be assigned once, to broker {}", node_id.0);
        return Err((ResponseError::InvalidReplicaAssignment, message));
    }
    Ok(())
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
