//! `/subjects`: what is registered under which name, and the way to register it.

use std::sync::Arc;

use axum::extract::{Request, State};
use playhouse_schema::registry::{Place, Shown, VersionSpec};

use super::answer::{Answer, json, list as listed, text, write_json};
use super::refusal::Refusal;
use super::request::{Asked, read};
use super::schema::{ACCEPT_UNKNOWN, SchemaBody, Shape};
use super::{Door, RegistryDoor};

pub(super) async fn list(State(door): Door, asked: Asked) -> Answer {
    let page = asked.page(usize::MAX)?;
    let (snapshot, shown) = (door.registry.snapshot(), asked.shown()?);
    let names: Vec<Arc<str>> = match asked.subject_prefix() {
        Some(prefix) => page.of(snapshot.subjects(prefix, shown).cloned()),
        None => Vec::new(),
    };
    listed(names, write_json)
}

/// The version that a schema is.
pub(super) async fn lookup(State(door): Door, asked: Asked, request: Request) -> Answer {
    let (subject, shown) = (asked.subject()?, asked.shown()?);
    let (normalize, accept_unknown) = (asked.flag("normalize")?, accepts_unknown(&request));
    let proposal = read::<SchemaBody>(&door, request).await?.proposal(normalize, accept_unknown)?;
    let found = door.ask(move |registry| Ok(registry.snapshot().lookup(&subject, &proposal, shown)?)).await?;
    in_format(&door, &asked, &found).await
}

pub(super) async fn delete(State(door): Door, asked: Asked) -> Answer {
    let (subject, permanent) = (asked.subject()?, asked.flag("permanent")?);
    let (versions, _) = door.registry.change(move |state, _| state.delete_subject(&subject, permanent)).await?;
    json(&versions)
}

pub(super) async fn latest_with_metadata(State(door): Door, asked: Asked) -> Answer {
    let wanted: Vec<(&str, &str)> = asked.parameters("key").into_iter().zip(asked.parameters("value")).collect();
    let found = door.registry.snapshot().latest_with_metadata(&asked.subject()?, &wanted, asked.shown()?)?;
    in_format(&door, &asked, &found).await
}

pub(super) async fn versions(State(door): Door, asked: Asked) -> Answer {
    let page = asked.page(usize::MAX)?;
    let versions = door.registry.snapshot().versions(&asked.subject()?, asked.shown()?)?;
    json(&page.of(versions.into_iter()))
}

pub(super) async fn register(State(door): Door, asked: Asked, request: Request) -> Answer {
    let subject = asked.subject()?;
    let (normalize, accept_unknown) = (asked.flag("normalize")?, accepts_unknown(&request));
    let proposal = read::<SchemaBody>(&door, request).await?.proposal(normalize, accept_unknown)?;
    let of = subject.clone();
    let (outcome, snapshot) = door.registry.change(move |state, rules| state.register(rules, &of, &proposal)).await?;
    let place = snapshot.version(&subject, VersionSpec::Number(outcome.version), Shown::All)?;
    in_format(&door, &asked, &place).await
}

pub(super) async fn version(State(door): Door, asked: Asked) -> Answer {
    in_format(&door, &asked, &place(&door, &asked)?).await
}

pub(super) async fn version_text(State(door): Door, asked: Asked) -> Answer {
    let schema = place(&door, &asked)?.schema;
    text(door.other_text(&asked, &schema).await?.as_ref().unwrap_or(&schema.text))
}

pub(super) async fn delete_version(State(door): Door, asked: Asked) -> Answer {
    let (subject, version, permanent) = (asked.subject()?, asked.version()?, asked.flag("permanent")?);
    let (version, _) = door.registry.change(move |state, _| state.delete_version(&subject, version, permanent)).await?;
    json(&version)
}

/// Ids of the schemas that refer to a version.
pub(super) async fn referenced_by(State(door): Door, asked: Asked) -> Answer {
    let page = asked.page(usize::MAX)?;
    let place = place(&door, &asked)?;
    let shown = if asked.flag("deleted")? { Shown::All } else { Shown::Live };
    let ids = door.registry.snapshot().referenced_by(&place.subject, place.version, shown);
    json(&page.of(ids.into_iter()))
}

fn place(door: &RegistryDoor, asked: &Asked) -> Result<Place, Refusal> {
    let shown = if asked.flag("deleted")? { Shown::All } else { Shown::Live };
    Ok(door.registry.snapshot().version(&asked.subject()?, asked.version()?, shown)?)
}

/// A version in the format that is asked for.
async fn in_format(door: &RegistryDoor, asked: &Asked, place: &Place) -> Answer {
    let text = door.other_text(asked, &place.schema).await?;
    json(&Shape::at(place).with_text(text.as_deref()))
}

pub(super) fn accepts_unknown(request: &Request) -> bool {
    request.headers().get(ACCEPT_UNKNOWN).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}
