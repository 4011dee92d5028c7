//! `/v3/clusters/{cluster}/topics`, their partitions and replicas.

use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use playhouse_client::topics::{NewTopic, Partition, Topic};
use playhouse_client::{Error, ResponseError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cluster, body, open, refused};
use crate::caller::Served;
use crate::error::ApiError;
use crate::request::{json as answer, segment};
use crate::{Proxy, media};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    topic_name: String,
    #[serde(default)]
    partitions_count: Option<i32>,
    #[serde(default)]
    replication_factor: Option<i16>,
    #[serde(default)]
    replicas_assignments: Option<Value>,
    #[serde(default)]
    configs: Vec<Config>,
    #[serde(default)]
    validate_only: bool,
}

#[derive(Debug, Deserialize)]
struct Config {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raise {
    partitions_count: i32,
}

pub(super) async fn list(
    Served(proxy): Served,
    Path(named): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (mut link, cluster) = open(&proxy, &headers, Some(&named)).await?;
    let topics = link.client.topics().await;
    link.give_back();
    let data = topics.map_err(refused)?.iter().map(|topic| describe(&cluster, topic)).collect();
    Ok(answer(media::JSON, &cluster.list("KafkaTopicList", "/topics", data)))
}

pub(super) async fn create(
    Served(proxy): Served,
    Path(named): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (headers, wanted): (_, Create) = body(&proxy, request).await?;
    if wanted.replicas_assignments.is_some() {
        return Err(ApiError::malformed("replicas_assignments is not supported: say partitions_count"));
    }
    let configs = wanted.configs.into_iter().filter_map(|config| Some((config.name, config.value?)));
    let new = NewTopic {
        name: wanted.topic_name,
        partitions: wanted.partitions_count,
        replication_factor: wanted.replication_factor,
        settings: configs.collect(),
        only_checked: wanted.validate_only,
    };
    let (mut link, cluster) = open(&proxy, &headers, Some(&named)).await?;
    let made = link.client.create_topic(&new).await;
    if new.only_checked || made.is_err() {
        link.give_back();
        made.map_err(refused)?;
        // What it would be.
        let partitions = vec![
            Partition { index: 0, leader: -1, replicas: Vec::new(), in_sync: Vec::new() };
            usize::try_from(new.partitions.unwrap_or(0)).unwrap_or(0).min(10_000)
        ];
        return Ok(answer(media::JSON, &describe(&cluster, &Topic { name: new.name, internal: false, partitions })));
    }
    let topic = link.client.topic_or_new(&new.name).await;
    link.give_back();
    let described = describe(&cluster, &topic.map_err(refused)?);
    let location = HeaderValue::try_from(cluster.url(&path(&new.name)));
    let mut response = (StatusCode::CREATED, answer(media::JSON, &described)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn show(
    Served(proxy): Served,
    Path((named, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, topic) = topic(&proxy, &named, &name, &headers).await?;
    Ok(answer(media::JSON, &describe(&cluster, &topic)))
}

pub(super) async fn delete(
    Served(proxy): Served,
    Path((named, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let (mut link, _) = open(&proxy, &headers, Some(&named)).await?;
    let deleted = link.client.delete_topic(&name).await;
    link.give_back();
    deleted.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn add_partitions(
    Served(proxy): Served,
    Path((named, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (headers, wanted): (_, Raise) = body(&proxy, request).await?;
    let (mut link, cluster) = open(&proxy, &headers, Some(&named)).await?;
    let raised = link.client.add_partitions(&name, wanted.partitions_count).await;
    let topic = link.client.topic(&name).await;
    link.give_back();
    raised.map_err(refused)?;
    Ok(answer(media::JSON, &describe(&cluster, &topic.map_err(refused)?)))
}

pub(super) async fn partitions(
    Served(proxy): Served,
    Path((named, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, topic) = topic(&proxy, &named, &name, &headers).await?;
    let data = topic.partitions.iter().map(|partition| describe_partition(&cluster, &name, partition)).collect();
    Ok(answer(media::JSON, &cluster.list("KafkaPartitionList", &format!("{}/partitions", path(&name)), data)))
}

pub(super) async fn partition(
    Served(proxy): Served,
    Path((named, name, index)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, topic) = topic(&proxy, &named, &name, &headers).await?;
    Ok(answer(media::JSON, &describe_partition(&cluster, &name, found(&topic, &index)?)))
}

pub(super) async fn replicas(
    Served(proxy): Served,
    Path((named, name, index)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, topic) = topic(&proxy, &named, &name, &headers).await?;
    let partition = found(&topic, &index)?;
    let data = partition.replicas.iter().map(|broker| describe_replica(&cluster, &name, partition, *broker)).collect();
    let path = format!("{}/partitions/{}/replicas", path(&name), partition.index);
    Ok(answer(media::JSON, &cluster.list("KafkaReplicaList", &path, data)))
}

pub(super) async fn replica(
    Served(proxy): Served,
    Path((named, name, index, broker)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, topic) = topic(&proxy, &named, &name, &headers).await?;
    let partition = found(&topic, &index)?;
    let found = partition.replicas.iter().find(|replica| replica.to_string() == broker);
    let missing = || ApiError::new(StatusCode::NOT_FOUND, 404, format!("Replica {broker} cannot be found."));
    Ok(answer(media::JSON, &describe_replica(&cluster, &name, partition, *found.ok_or_else(missing)?)))
}

async fn topic(proxy: &Proxy, named: &str, name: &str, headers: &HeaderMap) -> Result<(Cluster, Topic), ApiError> {
    let (mut link, cluster) = open(proxy, headers, Some(named)).await?;
    let topic = link.client.topic(name).await;
    link.give_back();
    Ok((cluster, topic.map_err(refused)?))
}

fn found<'a>(topic: &'a Topic, index: &str) -> Result<&'a Partition, ApiError> {
    let missing = || {
        let code = ResponseError::UnknownTopicOrPartition;
        refused(Error::Refused { what: format!("partition {index}"), code, message: None })
    };
    topic.partitions.iter().find(|partition| partition.index.to_string() == index).ok_or_else(missing)
}

pub(super) fn path(topic: &str) -> String {
    format!("/topics/{}", segment(topic))
}

fn describe(cluster: &Cluster, topic: &Topic) -> Value {
    let path = path(&topic.name);
    let members = json!({
        "topic_name": topic.name,
        "is_internal": topic.internal,
        "replication_factor": topic.partitions.first().map_or(0, |partition| partition.replicas.len()),
        "partitions_count": topic.partitions.len(),
        "partitions": cluster.related(&format!("{path}/partitions")),
        "configs": cluster.related(&format!("{path}/configs")),
        "partition_reassignments": cluster.related(&format!("{path}/partitions/-/reassignment")),
        "authorized_operations": [],
    });
    cluster.resource("KafkaTopic", &path, &format!("/topic={}", topic.name), members)
}

fn describe_partition(cluster: &Cluster, topic: &str, partition: &Partition) -> Value {
    let path = format!("{}/partitions/{}", path(topic), partition.index);
    let leader = (partition.leader >= 0).then(|| cluster.related(&format!("{path}/replicas/{}", partition.leader)));
    let members = json!({
        "topic_name": topic,
        "partition_id": partition.index,
        "leader": leader,
        "replicas": cluster.related(&format!("{path}/replicas")),
        "reassignment": cluster.related(&format!("{path}/reassignment")),
    });
    cluster.resource("KafkaPartition", &path, &format!("/topic={topic}/partition={}", partition.index), members)
}

fn describe_replica(cluster: &Cluster, topic: &str, partition: &Partition, broker: i32) -> Value {
    let path = format!("{}/partitions/{}/replicas/{broker}", path(topic), partition.index);
    let members = json!({
        "topic_name": topic,
        "partition_id": partition.index,
        "broker_id": broker,
        "is_leader": partition.leader == broker,
        "is_in_sync": partition.in_sync.contains(&broker),
        "broker": cluster.related(&format!("/brokers/{broker}")),
    });
    let name = format!("/topic={topic}/partition={}/replica={broker}", partition.index);
    cluster.resource("KafkaReplica", &path, &name, members)
}
