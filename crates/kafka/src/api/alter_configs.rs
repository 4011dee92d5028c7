//! AlterConfigs, the older way: the settings named are set, all others that were set go back to their defaults.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::incremental_alter_configs::alter;
use super::{Request, blocking};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::topic_configs;
use crate::wire::{Reply, string};

pub(super) async fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: AlterConfigsRequest = request.decode()?;
    let shared = context.shared.clone();
    let responses = blocking(move || {
        let resources = body.resources.into_iter().map(|resource| {
            let configs: BTreeMap<&str, Option<&str>> =
                resource.configs.iter().map(|it| (it.name.as_str(), it.value.as_deref())).collect();
            let names: Vec<&str> = configs.keys().copied().collect();
            let defaults = shared.topic_defaults(&resource.resource_name);
            let place = (resource.resource_type, resource.resource_name.as_str());
            let altered = alter(&shared, place, &names, body.validate_only, |settings| {
                topic_configs::replace(settings, &defaults, &configs)
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
    request.call.now(&AlterConfigsResponse::default().with_responses(responses))
}
