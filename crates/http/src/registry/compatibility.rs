//! `/compatibility`: would a subject take this schema?

use axum::extract::{Request, State};
use playhouse_schema::registry::Against;
use serde::Serialize;

use super::Door;
use super::answer::{Answer, json};
use super::request::{Asked, read};
use super::schema::SchemaBody;
use super::subjects::accepts_unknown;

#[derive(Serialize)]
struct Verdict {
    is_compatible: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<String>>,
}

pub(super) async fn with_level(door: Door, asked: Asked, request: Request) -> Answer {
    compare(door, asked, request, Against::Level).await
}

pub(super) async fn with_version(door: Door, asked: Asked, request: Request) -> Answer {
    let version = asked.version()?;
    compare(door, asked, request, Against::Version(version)).await
}

async fn compare(State(door): Door, asked: Asked, request: Request, against: Against) -> Answer {
    let (subject, verbose) = (asked.subject()?, asked.flag("verbose")?);
    let (normalize, accept_unknown) = (asked.flag("normalize")?, accepts_unknown(&request));
    let proposal = read::<SchemaBody>(&door, request).await?.proposal(normalize, accept_unknown)?;
    let question = move |registry: &playhouse_registry::Registry| {
        Ok(registry.snapshot().compare(&registry.rules(), &subject, &proposal, against)?)
    };
    let messages = door.ask(question).await?;
    json(&Verdict { is_compatible: messages.is_empty(), messages: verbose.then_some(messages) })
}
