//! IncrementalAlterConfigs (KIP-339): sets, deletes, appends to and subtracts from single settings of topics.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use playhouse_log::{AlterTopicError, TopicSettings};

use super::describe_configs::{BROKER, TOPIC};
use super::{Request, blocking, is_internal};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::server::Shared;
use crate::topic_configs::{self, Change};
use crate::wire::{Reply, string};

type Refused = (ResponseError, String);

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: IncrementalAlterConfigsRequest = request.decode()?;
    let shared = context.shared.clone();
    let responses = blocking(move || {
        let resources = body.resources.into_iter().map(|resource| {
            let names: Vec<&str> = resource.configs.iter().map(|it| it.name.as_str()).collect();
            let defaults = shared.topic_defaults(&resource.resource_name);
            let place = (resource.resource_type, resource.resource_name.as_str());
            let altered = alter(&shared, place, &names, body.validate_only, |settings| {
                resource.configs.iter().try_for_each(|it| {
                    let change = match it.config_operation {
                        0 => Change::Set,
                        1 => Change::Delete,
                        2 => Change::Append,
                        3 => Change::Subtract,
                        other => return Err(format!("{other} is no operation on a setting")),
                    };
                    topic_configs::change(settings, &defaults, &it.name, change, it.value.as_deref())
                })
            });
            let response = AlterConfigsResourceResponse::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            match altered {
                Ok(()) => response,
                Err((error, message)) => {
                    response.with_error_code(error.code()).with_error_message(Some(string(message)))
                }
            }
        });
        resources.collect()
    })
    .await?;
    request.call.now(&IncrementalAlterConfigsResponse::default().with_responses(responses))
}

/// Changes the settings of one resource (its type and name), or says why not. Blocks on the disk.
pub(super) fn alter(
    shared: &Shared,
    (kind, name): (i8, &str),
    changed: &[&str],
    validate_only: bool,
    change: impl FnOnce(&mut TopicSettings) -> Result<(), String>,
) -> Result<(), Refused> {
    match kind {
        TOPIC => {}
        BROKER => {
            let message = "settings of the broker are in its configuration file, and change with a restart";
            return Err((ResponseError::InvalidRequest, message.to_owned()));
        }
        other => {
            return Err((ResponseError::InvalidRequest, format!("resource type {other} has no settings to alter")));
        }
    }
    if is_internal(name) {
        return Err((ResponseError::PolicyViolation, format!("topic {name:?} is the server's own")));
    }
    // A pipeline's event times are measured against append times, and its input is not to be compacted away.
    let fixed = ["message.timestamp.type", "cleanup.policy"];
    if let Some(setting) = changed.iter().find(|it| fixed.contains(it))
        && shared.is_needed(name)
    {
        return Err((ResponseError::PolicyViolation, format!("the server relies on {setting} of topic {name:?}")));
    }
    let log = shared.gate.log();
    let topic = log.topic(name).ok_or((ResponseError::UnknownTopicOrPartition, "no such topic".to_owned()))?;
    let mut settings = topic.settings();
    change(&mut settings).map_err(|message| (ResponseError::InvalidConfig, message))?;
    if validate_only {
        return Ok(());
    }
    log.alter_topic(name, settings).map_err(|error| {
        let kafka = match &error {
            AlterTopicError::Unknown(_) => ResponseError::UnknownTopicOrPartition,
            AlterTopicError::InvalidPartitions { .. } => ResponseError::InvalidPartitions,
            AlterTopicError::Io(_) => ResponseError::KafkaStorageError,
        };
        (kafka, error.to_string())
    })
}
