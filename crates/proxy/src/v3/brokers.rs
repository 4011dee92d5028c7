//! `/v3/clusters/{cluster}/brokers`.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::{Cluster, open, refused};
use crate::caller::Served;
use crate::error::ApiError;
use crate::request::json as answer;
use crate::{Proxy, media};

pub(super) async fn list(
    Served(proxy): Served,
    Path(named): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, brokers) = brokers(&proxy, &named, &headers).await?;
    let data = brokers.iter().map(|(id, address)| describe(&cluster, *id, address)).collect();
    Ok(answer(media::JSON, &cluster.list("KafkaBrokerList", "/brokers", data)))
}

pub(super) async fn show(
    Served(proxy): Served,
    Path((named, broker)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (cluster, brokers) = brokers(&proxy, &named, &headers).await?;
    let found = brokers.iter().find(|(id, _)| id.to_string() == broker);
    let missing = || ApiError::new(StatusCode::NOT_FOUND, 404, format!("Broker {broker} cannot be found."));
    let (id, address) = found.ok_or_else(missing)?;
    Ok(answer(media::JSON, &describe(&cluster, *id, address)))
}

/// By number.
async fn brokers(proxy: &Proxy, named: &str, headers: &HeaderMap) -> Result<(Cluster, Vec<(i32, String)>), ApiError> {
    let (mut link, cluster) = open(proxy, headers, Some(named)).await?;
    let looked = link.client.look_around().await;
    let mut brokers: Vec<_> = link.client.brokers().map(|(id, address)| (id, address.to_owned())).collect();
    link.give_back();
    looked.map_err(refused)?;
    brokers.sort_unstable();
    Ok((cluster, brokers))
}

fn describe(cluster: &Cluster, id: i32, address: &str) -> Value {
    let path = format!("/brokers/{id}");
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let members = json!({
        "broker_id": id,
        "host": host,
        "port": port.parse::<u16>().ok(),
        "rack": null,
        "configs": cluster.related(&format!("{path}/configs")),
        "partition_replicas": cluster.related(&format!("{path}/partition-replicas")),
    });
    cluster.resource("KafkaBroker", &path, &format!("/broker={id}"), members)
}
