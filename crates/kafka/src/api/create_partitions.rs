//! CreatePartitions: more of them for a topic, never fewer.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use playhouse_gate::BAD_EVENTS_TOPIC;
use playhouse_log::AlterTopicError;

use super::{Request, blocking, is_internal};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::server::Shared;
use crate::wire::{Reply, string};

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: CreatePartitionsRequest = request.decode()?;
    let shared = context.shared.clone();
    let results = blocking(move || {
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        body.topics.iter().for_each(|asked| *named.entry(asked.name.as_str()).or_default() += 1);
        // One that is asked for twice is answered once.
        let mut answered = BTreeSet::new();
        let results = body.topics.iter().filter(|asked| answered.insert(asked.name.as_str())).map(|asked| {
            let result = CreatePartitionsTopicResult::default().with_name(asked.name.clone());
            let grown = match named.get(asked.name.as_str()) {
                Some(1) => grow(&shared, asked, body.validate_only),
                _ => Err((ResponseError::InvalidRequest, "the topic is asked for more than once".to_owned())),
            };
            match grown {
                Ok(()) => result,
                Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(string(message))),
            }
        });
        results.collect()
    })
    .await?;
    request.call.now(&CreatePartitionsResponse::default().with_results(results))
}

fn grow(shared: &Shared, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), (ResponseError, String)> {
    let name = asked.name.as_str();
    if is_internal(name) || name == BAD_EVENTS_TOPIC {
        let message = "the server writes this topic itself, into the partitions that it has";
        return Err((ResponseError::PolicyViolation, message.to_owned()));
    }
    let log = shared.gate.log();
    let topic = log.topic(name).ok_or((ResponseError::UnknownTopicOrPartition, "no such topic".to_owned()))?;
    let current = topic.partitions().len() as i32;
    if asked.count <= current {
        let message = format!("{} partitions: the topic has {current}, and the number can only grow", asked.count);
        return Err((ResponseError::InvalidPartitions, message));
    }
    let node_id = shared.config.node_id;
    if let Some(assignments) = asked.assignments.as_ref().filter(|it| !it.is_empty())
        && (i64::from(asked.count) != i64::from(current) + assignments.len() as i64
            || assignments.iter().any(|it| it.broker_ids != [node_id]))
    {
        let message = format!("each of the new partitions {current} to {} is on broker {node_id}", asked.count - 1);
        return Err((ResponseError::InvalidReplicaAssignment, message));
    }
    if validate_only {
        return Ok(());
    }
    match log.add_partitions(name, asked.count) {
        Ok(_) => Ok(()),
        Err(error) => Err(match &error {
            AlterTopicError::Unknown(_) => (ResponseError::UnknownTopicOrPartition, error.to_string()),
            AlterTopicError::InvalidPartitions { .. } => (ResponseError::InvalidPartitions, error.to_string()),
            AlterTopicError::Io(_) => (ResponseError::KafkaStorageError, error.to_string()),
        }),
    }
}
