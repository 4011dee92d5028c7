//! Version 3 of the API: clusters, topics, partitions, settings, and records as a stream.
//!
//! Resources name themselves and others by URLs, which are made of the `Host` that the caller used.

mod brokers;
mod configs;
mod data;
mod records;
mod split;
mod topics;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::brokers::Lent;
use crate::caller::Served;
use crate::error::{Api, ApiError, Refused};
use crate::produce::link;
use crate::request::{host, json as answer, parse, whole};
use crate::{Proxy, media};

pub(crate) fn routes() -> Router<Arc<Proxy>> {
    Router::new()
        .route("/v3/clusters", get(clusters))
        .route("/v3/clusters/{cluster}", get(cluster))
        .route("/v3/clusters/{cluster}/brokers", get(brokers::list))
        .route("/v3/clusters/{cluster}/brokers/{broker}", get(brokers::show))
        .route("/v3/clusters/{cluster}/topics", get(topics::list).post(topics::create))
        .route(
            "/v3/clusters/{cluster}/topics/{topic}",
            get(topics::show).delete(topics::delete).patch(topics::add_partitions),
        )
        .route("/v3/clusters/{cluster}/topics/{topic}/partitions", get(topics::partitions))
        .route("/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}", get(topics::partition))
        .route("/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/replicas", get(topics::replicas))
        .route("/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/replicas/{broker}", get(topics::replica))
        .route("/v3/clusters/{cluster}/topics/{topic}/configs", get(configs::list))
        .route("/v3/clusters/{cluster}/topics/{topic}/configs:alter", post(configs::alter))
        .route(
            "/v3/clusters/{cluster}/topics/{topic}/configs/{name}",
            get(configs::show).put(configs::set).delete(configs::reset),
        )
        .route("/v3/clusters/{cluster}/topics/{topic}/records", post(records::produce))
        .layer(map_response(errors_in_json))
}

async fn errors_in_json(mut response: Response) -> Response {
    if response.extensions().get::<Refused>().is_some() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media::JSON));
    }
    response
}

/// The cluster that a request is about, and how it is named.
pub(super) struct Cluster {
    pub id: String,
    /// `http://host:port/v3/clusters/<id>`
    url: String,
}

impl Cluster {
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(super) fn related(&self, path: &str) -> Value {
        json!({"related": self.url(path)})
    }

    /// A resource: its kind, its names, and what it has besides.
    pub(super) fn resource(&self, kind: &str, path: &str, name: &str, mut members: Value) -> Value {
        members["kind"] = kind.into();
        members["metadata"] =
            json!({"self": self.url(path), "resource_name": format!("crn:///kafka={}{name}", self.id)});
        members["cluster_id"] = self.id.as_str().into();
        members
    }

    pub(super) fn list(&self, kind: &str, path: &str, data: Vec<Value>) -> Value {
        json!({"kind": kind, "metadata": {"self": self.url(path), "next": null}, "data": data})
    }
}

/// A connection, and the cluster as the path names it.
pub(super) async fn open<'a>(
    proxy: &'a Proxy,
    headers: &HeaderMap,
    named: Option<&str>,
) -> Result<(Lent<'a>, Cluster), ApiError> {
    if !media::accepts_json(headers) {
        return Err(ApiError::plain(StatusCode::NOT_ACCEPTABLE));
    }
    let lent = proxy.brokers.lend().await.map_err(|error| link(&error, Api::V3))?;
    // What brokers of before Kafka 0.10.1 do not tell.
    let id = lent.client.cluster_id().unwrap_or("unknown").to_owned();
    if let Some(named) = named.filter(|named| **named != *id) {
        lent.give_back();
        return Err(ApiError::new(StatusCode::NOT_FOUND, 404, format!("Cluster {named} cannot be found.")));
    }
    let url = format!("http://{}/v3/clusters/{id}", host(proxy, headers));
    Ok((lent, Cluster { id, url }))
}

pub(super) fn refused(error: playhouse_client::Error) -> ApiError {
    ApiError::of(&error, Api::V3)
}

/// The JSON body of a request.
pub(super) async fn body<T: DeserializeOwned>(proxy: &Proxy, request: Request) -> Result<(HeaderMap, T), ApiError> {
    media::is_json(request.headers())?;
    let (headers, body) = whole(proxy, request).await?;
    // Whatever is wrong with a document is 400 in this version.
    let parsed = parse(&body.bytes).map_err(|error| ApiError::malformed(error.message));
    Ok((headers, parsed?))
}

async fn clusters(Served(proxy): Served, headers: HeaderMap) -> Result<Response, ApiError> {
    let (link, cluster) = open(&proxy, &headers, None).await?;
    let described = describe(&cluster, link.client.controller());
    link.give_back();
    let this = format!("http://{}/v3/clusters", host(&proxy, &headers));
    let metadata = json!({"self": this, "next": null});
    Ok(answer(media::JSON, &json!({"kind": "KafkaClusterList", "metadata": metadata, "data": [described]})))
}

async fn cluster(
    Served(proxy): Served,
    axum::extract::Path(named): axum::extract::Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (link, cluster) = open(&proxy, &headers, Some(&named)).await?;
    let described = describe(&cluster, link.client.controller());
    link.give_back();
    Ok(answer(media::JSON, &described))
}

fn describe(cluster: &Cluster, controller: i32) -> Value {
    let members = json!({
        "controller": cluster.related(&format!("/brokers/{controller}")),
        "acls": cluster.related("/acls"),
        "brokers": cluster.related("/brokers"),
        "broker_configs": cluster.related("/broker-configs"),
        "consumer_groups": cluster.related("/consumer-groups"),
        "topics": cluster.related("/topics"),
        "partition_reassignments": cluster.related("/topics/-/partitions/-/reassignment"),
    });
    cluster.resource("KafkaCluster", "", "", members)
}
