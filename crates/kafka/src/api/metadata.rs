//! Metadata: the broker, and the topics asked for; makes missing ones where both sides allow it.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use playhouse_log::{CreateTopicError, Topic};

use super::{LEADER_EPOCH, Operations, Request, blocking, is_internal, topic_by_id};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: MetadataRequest = request.decode()?;
    let version = request.call.version;
    let config = &context.shared.config;
    let broker = BrokerId(config.node_id);
    let log = context.shared.gate.log();
    let told = Operations::Topic.told(body.include_topic_authorized_operations);
    // Version 0 knows no null: an empty list asks for all.
    let asked = body.topics.filter(|topics| version > 0 || !topics.is_empty());
    let topics = match asked {
        None => {
            let topics = log.topics();
            let seen = topics.iter().filter(|topic| context.caller.sees(topic.name()));
            seen.map(|topic| describe(topic, broker).with_topic_authorized_operations(told)).collect()
        }
        Some(asked) => {
            let create = config.auto_create_topics
                && context.caller.is_admin()
                && (version < 4 || body.allow_auto_topic_creation);
            let mut described = Vec::with_capacity(asked.len());
            for topic in asked {
                let found = match find(context, &topic, create).await? {
                    Ok(found) => describe(&found, broker),
                    Err(error) => MetadataResponseTopic::default()
                        .with_error_code(error.code())
                        // Null only from version 12 on, and where the topic was asked for by its id.
                        .with_name(match version {
                            12.. => topic.name.filter(|_| topic.topic_id.is_nil()),
                            _ => Some(topic.name.unwrap_or_default()),
                        })
                        .with_topic_id(topic.topic_id),
                };
                described.push(found.with_topic_authorized_operations(told));
            }
            described
        }
    };
    let endpoint = MetadataResponseBroker::default()
        .with_node_id(broker)
        .with_host(string(&*context.host))
        .with_port(context.port);
    let response = MetadataResponse::default()
        .with_brokers(vec![endpoint])
        .with_cluster_id(Some(string(log.id().to_string())))
        .with_controller_id(broker)
        .with_cluster_authorized_operations(Operations::Cluster.told(body.include_cluster_authorized_operations))
        .with_topics(topics);
    request.call.now(&response)
}

async fn find(
    context: &Context,
    asked: &MetadataRequestTopic,
    create: bool,
) -> Result<Result<Arc<Topic>, ResponseError>, Malformed> {
    let log = context.shared.gate.log();
    // Java's administration client sends an empty name beside the id.
    let name = match &asked.name {
        Some(name) if asked.topic_id.is_nil() => name,
        _ => {
            let found = topic_by_id(log, asked.topic_id).filter(|topic| context.caller.sees(topic.name()));
            return Ok(found.ok_or(ResponseError::UnknownTopicId));
        }
    };
    if !context.caller.sees(name) {
        return Ok(Err(ResponseError::TopicAuthorizationFailed));
    }
    if let Some(topic) = log.topic(name) {
        return Ok(Ok(topic));
    }
    if let Err(CreateTopicError::InvalidName(_)) = log.check_topic(name, &context.shared.config.new_topic) {
        return Ok(Err(ResponseError::InvalidTopicException));
    }
    if !create || is_internal(name) {
        return Ok(Err(ResponseError::UnknownTopicOrPartition));
    }
    let (log, name, settings) = (log.clone(), name.to_string(), context.shared.config.new_topic.clone());
    let made = blocking(move || log.ensure_topic(&name, settings)).await?;
    Ok(made.map_err(|error| match error {
        CreateTopicError::InvalidName(_) => ResponseError::InvalidTopicException,
        CreateTopicError::InvalidPartitions(_) => ResponseError::InvalidPartitions,
        CreateTopicError::Exists(_) => ResponseError::LeaderNotAvailable,
        CreateTopicError::Io(error) => {
            tracing::error!(%error, "cannot create a topic");
            ResponseError::KafkaStorageError
        }
    }))
}

fn describe(topic: &Topic, broker: BrokerId) -> MetadataResponseTopic {
    let partition = |index: i32| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(broker)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![broker])
            .with_isr_nodes(vec![broker])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(string(topic.name()))))
        .with_topic_id(topic.id())
        .with_is_internal(is_internal(topic.name()))
        .with_partitions(topic.partitions().iter().map(|it| partition(it.index())).collect())
}
