//! `/schemas`: schemas by what identifies them, whatever subjects they belong to.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use playhouse_schema::formats::Format;
use playhouse_schema::registry::{Place, Registered, RegistryError, Shown};
use serde_json::json;
use uuid::Uuid;

use super::answer::{Answer, json, list as listed, text, write_json};
use super::refusal::Refusal;
use super::request::Asked;
use super::schema::Shape;
use super::{Door, RegistryDoor};

/// Whole schemas are long: so many at once, in any case.
const PAGE_MAX: usize = 1000;

pub(super) async fn list(State(door): Door, asked: Asked) -> Answer {
    let (page, shown) = (asked.page(PAGE_MAX)?, asked.shown()?);
    let latest_only = asked.flag("latestOnly")?;
    let snapshot = door.registry.snapshot();
    let places: Vec<Place> = match asked.subject_prefix() {
        Some(prefix) => page.of(snapshot.schemas(prefix, shown, latest_only)),
        None => Vec::new(),
    };
    listed(places, |place, out| write_json(&Shape::at(place), out))
}

pub(super) async fn types() -> Answer {
    json(&[Format::Json, Format::Protobuf, Format::Avro].map(|format| format.to_string()))
}

pub(super) async fn by_id(State(door): Door, asked: Asked) -> Answer {
    let schema = schema(&door, &asked)?;
    let max_id = asked.flag("fetchMaxId")?.then(|| door.registry.snapshot().id_max());
    let text = door.other_text(&asked, &schema).await?;
    json(&Shape::of(&schema).with_text(text.as_deref()).with_max_id(max_id))
}

pub(super) async fn text_by_id(State(door): Door, asked: Asked) -> Answer {
    let schema = schema(&door, &asked)?;
    text(door.other_text(&asked, &schema).await?.as_ref().unwrap_or(&schema.text))
}

pub(super) async fn subjects(State(door): Door, asked: Asked) -> Answer {
    let page = asked.page(usize::MAX)?;
    let mut names: Vec<Arc<str>> = uses(&door, &asked)?.into_iter().map(|(subject, _)| subject).collect();
    names.dedup();
    listed(page.of(names.into_iter()), write_json)
}

pub(super) async fn versions(State(door): Door, asked: Asked) -> Answer {
    let page = asked.page(usize::MAX)?;
    let uses = page.of(uses(&door, &asked)?.into_iter());
    listed(uses, |(subject, version), out| write_json(&json!({"subject": **subject, "version": version}), out))
}

pub(super) async fn by_guid(State(door): Door, asked: Asked) -> Answer {
    let snapshot = door.registry.snapshot();
    let schema = guid(&asked).and_then(|guid| snapshot.by_guid(guid)).ok_or_else(|| no_guid(&asked))?;
    let text = door.other_text(&asked, schema).await?;
    json(&Shape::of(schema).with_text(text.as_deref()))
}

pub(super) async fn ids_of_guid(State(door): Door, asked: Asked) -> Answer {
    let snapshot = door.registry.snapshot();
    let ids = guid(&asked).map(|guid| snapshot.ids_of_guid(guid)).unwrap_or_default();
    if ids.is_empty() {
        return Err(no_guid(&asked));
    }
    let ids: Vec<_> = ids.iter().map(|id| json!({"context": ".", "id": id})).collect();
    json(&ids)
}

fn id(asked: &Asked) -> Result<i32, Refusal> {
    let id = asked.name("id");
    id.parse().map_err(|_| Refusal::new(StatusCode::NOT_FOUND, format!("{id:?} is no id of a schema")))
}

fn schema(door: &RegistryDoor, asked: &Asked) -> Result<Arc<Registered>, Refusal> {
    let id = id(asked)?;
    Ok(door.registry.schema(id).ok_or_else(|| RegistryError::SchemaNotFound(id.to_string()))?)
}

/// In the order of the names; of one subject, if one is named.
fn uses(door: &RegistryDoor, asked: &Asked) -> Result<Vec<(Arc<str>, i32)>, Refusal> {
    let shown = if asked.flag("deleted")? { Shown::All } else { Shown::Live };
    let mut uses = door.registry.snapshot().uses(id(asked)?, shown)?;
    if let Some(subject) = asked.parameter("subject").filter(|subject| !subject.is_empty()) {
        let subject = playhouse_schema::registry::subject_name(subject)?;
        uses.retain(|(name, _)| **name == *subject);
    }
    Ok(uses)
}

fn guid(asked: &Asked) -> Option<Uuid> {
    Uuid::parse_str(asked.name("guid")).ok()
}

fn no_guid(asked: &Asked) -> Refusal {
    RegistryError::SchemaNotFound(asked.name("guid").chars().take(100).collect()).into()
}
