//! What clients and consoles ask about the registry itself.

use axum::extract::State;
use serde_json::json;

use super::Door;
use super::answer::{Answer, json};
use super::request::Asked;

pub(super) async fn root() -> Answer {
    json(&json!({}))
}

/// There is the default one.
pub(super) async fn contexts(asked: Asked) -> Answer {
    let page = asked.page(usize::MAX)?;
    json(&page.of(std::iter::once(".")))
}

pub(super) async fn cluster(State(door): Door) -> Answer {
    let clusters = json!({"kafka-cluster": door.cluster_id, "schema-registry-cluster": "schema-registry"});
    json(&json!({"scope": {"path": [], "clusters": clusters}, "id": ""}))
}

pub(super) async fn version() -> Answer {
    json(&json!({"version": env!("CARGO_PKG_VERSION"), "commitId": ""}))
}
