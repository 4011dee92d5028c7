//! `/v3/clusters/{cluster}/topics/{topic}/configs`: the settings of a topic.

use std::collections::BTreeMap;

use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use playhouse_client::topics::{Setting, Source};
use serde::Deserialize;
use serde_json::{Value, json};

use super::topics::path;
use super::{Cluster, body, open, refused};
use crate::caller::Served;
use crate::error::ApiError;
use crate::request::json as answer;
use crate::{Proxy, media};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alter {
    data: Vec<Change>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    operation: Option<Operation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Operation {
    Set,
    Delete,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    value: Option<String>,
}

pub(super) async fn list(
    Served(proxy): Served,
    Path((named, topic)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, settings) = settings(&proxy, &named, &topic, &headers).await?;
    let data = settings.iter().map(|setting| describe(&cluster, &topic, setting)).collect();
    Ok(answer(media::JSON, &cluster.list("KafkaTopicConfigList", &format!("{}/configs", path(&topic)), data)))
}

pub(super) async fn show(
    Served(proxy): Served,
    Path((named, topic, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, settings) = settings(&proxy, &named, &topic, &headers).await?;
    let missing = || ApiError::new(StatusCode::NOT_FOUND, 404, format!("Config {name} cannot be found."));
    let setting = settings.iter().find(|setting| setting.name == name).ok_or_else(missing)?;
    Ok(answer(media::JSON, &describe(&cluster, &topic, setting)))
}

pub(super) async fn alter(
    Served(proxy): Served,
    Path((named, topic)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (headers, wanted): (_, Alter) = body(&proxy, request).await?;
    let mut changes = BTreeMap::new();
    for change in wanted.data {
        let value = match change.operation {
            Some(Operation::Delete) => None,
            Some(Operation::Set) | None => change.value,
        };
        changes.insert(change.name, value);
    }
    change(&proxy, &named, &topic, &headers, &changes).await
}

pub(super) async fn set(
    Served(proxy): Served,
    Path((named, topic, name)): Path<(String, String, String)>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (headers, wanted): (_, Update) = body(&proxy, request).await?;
    change(&proxy, &named, &topic, &headers, &BTreeMap::from([(name, wanted.value)])).await
}

pub(super) async fn reset(
    Served(proxy): Served,
    Path((named, topic, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    change(&proxy, &named, &topic, &headers, &BTreeMap::from([(name, None)])).await
}

async fn change(
    proxy: &Proxy,
    named: &str,
    topic: &str,
    headers: &HeaderMap,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<StatusCode, ApiError> {
    let (mut link, _) = open(proxy, headers, Some(named)).await?;
    let changed = link.client.alter_settings(topic, changes).await;
    link.give_back();
    changed.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn settings(
    proxy: &Proxy,
    named: &str,
    topic: &str,
    headers: &HeaderMap,
) -> Result<(Cluster, Vec<Setting>), ApiError> {
    let (mut link, cluster) = open(proxy, headers, Some(named)).await?;
    let settings = link.client.settings(topic).await;
    link.give_back();
    Ok((cluster, settings.map_err(refused)?))
}

fn describe(cluster: &Cluster, topic: &str, setting: &Setting) -> Value {
    let name = &setting.name;
    let synonyms =
        setting.synonyms.iter().map(|it| json!({"name": it.name, "value": it.value, "source": source(it.source)}));
    let members = json!({
        "topic_name": topic,
        "name": name,
        "value": setting.value,
        "is_default": setting.source == Source::Default,
        "is_read_only": setting.read_only,
        "is_sensitive": setting.sensitive,
        "source": source(setting.source),
        "synonyms": synonyms.collect::<Vec<_>>(),
    });
    let path = format!("{}/configs/{name}", path(topic));
    cluster.resource("KafkaTopicConfig", &path, &format!("/topic={topic}/config={name}"), members)
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Topic => "DYNAMIC_TOPIC_CONFIG",
        Source::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        Source::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        Source::StaticBroker => "STATIC_BROKER_CONFIG",
        Source::Default => "DEFAULT_CONFIG",
        Source::Unknown => "UNKNOWN",
    }
}
