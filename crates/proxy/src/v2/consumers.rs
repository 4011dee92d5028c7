//! `/consumers`: instances, what they are subscribed to or assigned, positions and commits.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use playhouse_client::fetch::Place;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Proxy;
use crate::caller::Served;
use crate::consumers::{Body, ConsumerError, CreateError, Entered, Settings, Subscribe, Where};
use crate::error::{Api, ApiError};
use crate::media;
use crate::produce::link;
use crate::request::{host, json as answer, parse_plain, segment, whole};

/// Group and name of an instance.
pub(super) type Named = Path<(String, String)>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscription {
    topics: Option<BTreeSet<String>>,
    topic_pattern: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Partitions {
    partitions: Option<Vec<Partition>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Partition {
    topic: String,
    partition: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offsets {
    offsets: Option<Vec<Offset>>,
}

#[derive(Debug, Deserialize)]
struct Offset {
    topic: String,
    partition: i32,
    offset: i64,
}

pub(super) async fn create(
    Served(proxy): Served,
    Path(group): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let media = media::accepted(request.headers()).map_err(ApiError::closing)?;
    let (headers, body) = whole(&proxy, request).await?;
    let body: Body = parse_plain(&headers, &body.bytes)?;
    let settings = Settings::try_from(body).map_err(|error| ApiError::unprocessable(42204, error.to_string()))?;
    let name = proxy.consumers.create(&group, settings, &proxy.brokers).map_err(|error| match &error {
        CreateError::Exists => ApiError::new(StatusCode::CONFLICT, 40902, error.to_string()),
        CreateError::TooMany(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, 50301, error.to_string()),
    })?;
    let host = host(&proxy, &headers);
    let base_uri = format!("http://{host}/consumers/{}/instances/{}", segment(&group), segment(&name));
    Ok(answer(media, &json!({"instance_id": name, "base_uri": base_uri})))
}

pub(super) async fn remove(Served(proxy): Served, named: Named) -> Result<StatusCode, ApiError> {
    let Path((group, name)) = named;
    if proxy.consumers.remove(&group, &name, &proxy.brokers).await {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(not_found())
    }
}

pub(super) async fn subscribe(Served(proxy): Served, named: Named, request: Request) -> Result<StatusCode, ApiError> {
    let (consumer, body): (_, Subscription) = entered(&proxy, named, request).await?;
    let to = match (body.topics, body.topic_pattern) {
        (Some(_), Some(_)) => return Err(refused(&ConsumerError::Exclusive)),
        (Some(topics), None) if !topics.is_empty() => Subscribe::Topics(topics),
        (None, Some(pattern)) => Subscribe::Pattern(pattern),
        _ => return Err(ApiError::unprocessable(422, "topics or topic_pattern may not be empty")),
    };
    consumer.subscribe(to).map_err(|error| refused(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn subscription(
    Served(proxy): Served,
    named: Named,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let media = media::accepted(&headers)?;
    let consumer = enter(&proxy, named)?;
    Ok(answer(media, &json!({"topics": consumer.subscription()})))
}

pub(super) async fn unsubscribe(Served(proxy): Served, named: Named) -> Result<StatusCode, ApiError> {
    enter(&proxy, named)?.unsubscribe().await;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn assign(Served(proxy): Served, named: Named, request: Request) -> Result<StatusCode, ApiError> {
    let (consumer, body): (_, Partitions) = entered(&proxy, named, request).await?;
    let places = body.partitions.ok_or_else(|| ApiError::unprocessable(422, "partitions may not be null"))?;
    consumer.assign(places.into_iter().map(Partition::place).collect()).map_err(|error| refused(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn assignments(Served(proxy): Served, named: Named, headers: HeaderMap) -> Result<Response, ApiError> {
    let media = media::accepted(&headers)?;
    let consumer = enter(&proxy, named)?;
    let places = consumer.assignment().into_iter();
    let partitions = places.map(|(topic, partition)| json!({"topic": topic, "partition": partition}));
    Ok(answer(media, &json!({"partitions": partitions.collect::<Vec<_>>()})))
}

pub(super) async fn seek(Served(proxy): Served, named: Named, request: Request) -> Result<StatusCode, ApiError> {
    let (consumer, body): (_, Offsets) = entered(&proxy, named, request).await?;
    let to = offsets(body)?.ok_or_else(|| ApiError::unprocessable(422, "offsets may not be empty"))?;
    let to = to.into_iter().map(|(place, offset)| (place, Where::Offset(offset))).collect();
    consumer.seek(to).await.map_err(|error| refused(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn seek_to_beginning(
    Served(proxy): Served,
    named: Named,
    request: Request,
) -> Result<StatusCode, ApiError> {
    seek_to(&proxy, named, request, Where::Beginning).await
}

pub(super) async fn seek_to_end(Served(proxy): Served, named: Named, request: Request) -> Result<StatusCode, ApiError> {
    seek_to(&proxy, named, request, Where::End).await
}

async fn seek_to(proxy: &Proxy, named: Named, request: Request, to: Where) -> Result<StatusCode, ApiError> {
    let (consumer, body): (_, Partitions) = entered(proxy, named, request).await?;
    let places = body.partitions.ok_or_else(|| ApiError::unprocessable(422, "partitions may not be null"))?;
    let to = places.into_iter().map(|partition| (partition.place(), to)).collect();
    consumer.seek(to).await.map_err(|error| refused(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// An empty body commits all that was read. What a body names is the offset of the last record that is done with, so
/// the next one is committed: the specification's examples commit 20 and see 21.
pub(super) async fn commit(Served(proxy): Served, named: Named, request: Request) -> Result<StatusCode, ApiError> {
    let (consumer, body): (_, Offsets) = entered(&proxy, named, request).await?;
    let committed = match offsets(body)? {
        Some(offsets) => {
            let next = offsets.into_iter().map(|(place, offset)| (place, offset.saturating_add(1))).collect();
            consumer.commit(&next).await
        }
        None => consumer.commit_consumed().await,
    };
    committed.map_err(|error| refused(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Without partitions in the body, which some clients cannot send with GET, those it holds.
pub(super) async fn committed(Served(proxy): Served, named: Named, request: Request) -> Result<Response, ApiError> {
    let media = media::accepted(request.headers()).map_err(ApiError::closing)?;
    let (consumer, body): (_, Partitions) = entered(&proxy, named, request).await?;
    let of: BTreeSet<Place> = match body.partitions {
        Some(partitions) => partitions.into_iter().map(Partition::place).collect(),
        None => consumer.assignment().into_iter().collect(),
    };
    let committed = consumer.committed(&of).await.map_err(|error| refused(&error))?;
    let offsets: Vec<Value> = committed
        .into_iter()
        .map(|((topic, partition), it)| {
            json!({"topic": topic, "partition": partition, "offset": it.offset, "metadata": it.metadata})
        })
        .collect();
    Ok(answer(media, &json!({"offsets": offsets})))
}

pub(super) fn enter(proxy: &Proxy, Path((group, name)): Named) -> Result<Entered, ApiError> {
    proxy.consumers.enter(&group, &name, &proxy.brokers).ok_or_else(not_found)
}

/// The instance and the body of a request to it.
async fn entered<T: for<'a> Deserialize<'a> + Default>(
    proxy: &Proxy,
    named: Named,
    request: Request,
) -> Result<(Entered, T), ApiError> {
    let consumer = enter(proxy, named).map_err(ApiError::closing)?;
    let (headers, body) = whole(proxy, request).await?;
    Ok((consumer, parse_plain(&headers, &body.bytes)?))
}

pub(super) fn refused(error: &ConsumerError) -> ApiError {
    match error {
        ConsumerError::Exclusive | ConsumerError::NotSubscribed | ConsumerError::NotAssigned(_) => {
            ApiError::new(StatusCode::CONFLICT, 40903, error.to_string())
        }
        ConsumerError::Pattern(_) => ApiError::unprocessable(422, error.to_string()),
        ConsumerError::NoPartition(_) => ApiError::partition_not_found(),
        ConsumerError::Closed => not_found(),
        ConsumerError::NoOffset(_) => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, 50002, format!("Kafka error: {error}"))
        }
        ConsumerError::Rebalancing => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, 50003, format!("Retriable Kafka error: {error}"))
        }
        ConsumerError::Link(error) => link(error, Api::V2),
        ConsumerError::Client(error) => ApiError::of(error, Api::V2),
    }
}

fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, 40403, "Consumer instance not found.")
}

fn offsets(body: Offsets) -> Result<Option<BTreeMap<Place, i64>>, ApiError> {
    let Some(offsets) = body.offsets else { return Ok(None) };
    let mut wanted = BTreeMap::new();
    for Offset { topic, partition, offset } in offsets {
        if offset < 0 {
            return Err(ApiError::unprocessable(422, format!("offset {offset} is negative")));
        }
        wanted.insert((topic, partition), offset);
    }
    Ok(Some(wanted))
}

impl Partition {
    fn place(self) -> Place {
        (self.topic, self.partition)
    }
}
