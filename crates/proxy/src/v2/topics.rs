//! `/topics`, their partitions, and `/brokers`.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use playhouse_client::offsets::At;
use playhouse_client::topics::{Partition, Topic};
use serde_json::{Value, json};

use crate::Proxy;
use crate::brokers::Lent;
use crate::caller::Served;
use crate::error::{Api, ApiError};
use crate::media;
use crate::produce::link;
use crate::request::json as answer;

pub(super) async fn brokers(Served(proxy): Served, headers: HeaderMap) -> Result<Response, ApiError> {
    let media = media::accepted(&headers)?;
    let mut link = lend(&proxy).await?;
    let looked = link.client.look_around().await;
    let mut brokers: Vec<i32> = link.client.brokers().map(|(id, _)| id).collect();
    link.give_back();
    looked.map_err(refused)?;
    brokers.sort_unstable();
    Ok(answer(media, &json!({"brokers": brokers})))
}

pub(super) async fn list(Served(proxy): Served, headers: HeaderMap) -> Result<Response, ApiError> {
    let media = media::accepted(&headers)?;
    let mut link = lend(&proxy).await?;
    let topics = link.client.topics().await;
    link.give_back();
    let names: Vec<String> = topics.map_err(refused)?.into_iter().map(|topic| topic.name).collect();
    Ok(answer(media, &names))
}

pub(super) async fn show(
    Served(proxy): Served,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let media = media::accepted(&headers)?;
    let mut link = lend(&proxy).await?;
    let topic = link.client.topic(&name).await;
    let settings = link.client.settings(&name).await;
    link.give_back();
    let (topic, settings) = (topic.map_err(refused)?, settings.map_err(refused)?);
    // What was set on the topic itself.
    let configs: BTreeMap<String, Option<String>> =
        settings.into_iter().filter(|it| it.set).map(|it| (it.name, it.value)).collect();
    let partitions: Vec<Value> = topic.partitions.iter().map(described).collect();
    Ok(answer(media, &json!({"name": topic.name, "configs": configs, "partitions": partitions})))
}

pub(super) async fn partitions(
    Served(proxy): Served,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let media = media::accepted(&headers)?;
    let topic = topic(&proxy, &name).await?;
    Ok(answer(media, &topic.partitions.iter().map(described).collect::<Vec<_>>()))
}

pub(super) async fn partition(
    Served(proxy): Served,
    Path((name, partition)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let media = media::accepted(&headers)?;
    let index = index(&partition)?;
    let topic = topic(&proxy, &name).await?;
    let partition = topic.partitions.iter().find(|it| it.index == index).ok_or_else(ApiError::partition_not_found)?;
    Ok(answer(media, &described(partition)))
}

pub(super) async fn offsets(
    Served(proxy): Served,
    Path((name, partition)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let media = media::accepted(&headers)?;
    let index = index(&partition)?;
    let mut link = lend(&proxy).await?;
    let earliest = link.client.offsets(&name, At::Earliest).await;
    let latest = link.client.offsets(&name, At::Latest).await;
    link.give_back();
    let (earliest, latest) = (earliest.map_err(refused)?, latest.map_err(refused)?);
    let (Some(beginning), Some(end)) = (earliest.get(&index), latest.get(&index)) else {
        return Err(ApiError::partition_not_found());
    };
    Ok(answer(media, &json!({"beginning_offset": beginning, "end_offset": end})))
}

/// The number of a partition in a path.
pub(super) fn index(text: &str) -> Result<i32, ApiError> {
    text.parse().map_err(|_| ApiError::plain(StatusCode::NOT_FOUND))
}

async fn topic(proxy: &Proxy, name: &str) -> Result<Topic, ApiError> {
    let mut link = lend(proxy).await?;
    let topic = link.client.topic(name).await;
    link.give_back();
    topic.map_err(refused)
}

async fn lend(proxy: &Proxy) -> Result<Lent<'_>, ApiError> {
    proxy.brokers.lend().await.map_err(|error| link(&error, Api::V2))
}

fn refused(error: playhouse_client::Error) -> ApiError {
    ApiError::of(&error, Api::V2)
}

fn described(partition: &Partition) -> Value {
    let replicas = partition.replicas.iter().map(|broker| {
        json!({
            "broker": broker,
            "leader": *broker == partition.leader,
            "in_sync": partition.in_sync.contains(broker),
        })
    });
    json!({"partition": partition.index, "leader": partition.leader, "replicas": replicas.collect::<Vec<_>>()})
}
