//! DeleteTopics, by name or by id. The topics that the server itself lives on are kept.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use uuid::Uuid;

use super::{Request, blocking, is_internal, topic_by_id};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DeleteTopicsRequest = request.decode()?;
    let version = request.call.version;
    let named = body.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let asked: Vec<_> = named.chain(body.topics.into_iter().map(|topic| (topic.name, topic.topic_id))).collect();
    let shared = context.shared.clone();
    let responses = blocking(move || {
        let log = shared.gate.log();
        let again = |name: &TopicName| asked.iter().filter(|(it, _)| it.as_ref() == Some(name)).count() > 1;
        let delete = |(name, id): (Option<TopicName>, Uuid)| {
            let topic = match &name {
                Some(_) if id != Uuid::nil() => Err(ResponseError::InvalidRequest),
                None if id == Uuid::nil() => Err(ResponseError::InvalidRequest),
                Some(name) if again(name) => Err(ResponseError::InvalidRequest),
                Some(name) => log.topic(name).ok_or(ResponseError::UnknownTopicOrPartition),
                None => topic_by_id(log, id).ok_or(ResponseError::UnknownTopicId),
            };
            let refused = |error| match error {
                ResponseError::InvalidRequest => (error, "a topic is named once, by its name or by its id".to_owned()),
                _ => (error, "no such topic".to_owned()),
            };
            let deleted = topic.map_err(refused).and_then(|topic| {
                if is_internal(topic.name()) || shared.is_needed(topic.name()) {
                    let message = format!("topic {:?} is one the server needs", topic.name());
                    return Err((ResponseError::PolicyViolation, message));
                }
                match log.delete_topic(topic.name()) {
                    Ok(true) => {
                        shared.groups.forget_topic(topic.name());
                        Ok(topic)
                    }
                    Ok(false) => Err((ResponseError::UnknownTopicOrPartition, "no such topic".to_owned())),
                    Err(error) => Err((ResponseError::KafkaStorageError, error.to_string())),
                }
            });
            match deleted {
                Ok(topic) => DeletableTopicResult::default()
                    .with_name(Some(TopicName(string(topic.name()))))
                    .with_topic_id(if version >= 6 { topic.id() } else { Uuid::nil() }),
                Err((error, message)) => DeletableTopicResult::default()
                    .with_name(name)
                    .with_topic_id(id)
                    .with_error_code(error.code())
                    .with_error_message((version >= 5).then(|| string(message))),
            }
        };
        let mut answered = BTreeSet::new();
        let once = asked.iter().filter(|it| answered.insert((*it).clone())).cloned();
        once.map(delete).collect()
    })
    .await?;
    request.call.now(&DeleteTopicsResponse::default().with_responses(responses))
}
