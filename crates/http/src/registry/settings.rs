//! `/config` and `/mode`, of a subject or of all.

use axum::extract::{Request, State};
use playhouse_schema::registry::{Config, ConfigUpdate, Mode, RegistryError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Door;
use super::answer::{Answer, json};
use super::refusal::Refusal;
use super::request::{Asked, read};
use super::schema::refuse_unknown;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigBody {
    compatibility: Option<String>,
    /// Some clients write what they read.
    compatibility_level: Option<String>,
    normalize: Option<bool>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// As it was put.
#[derive(Serialize)]
struct ConfigPut {
    #[serde(skip_serializing_if = "Option::is_none")]
    compatibility: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalize: Option<bool>,
}

#[derive(Deserialize)]
struct ModeBody {
    mode: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Serialize)]
struct ModeShown {
    mode: Mode,
}

pub(super) async fn config(State(door): Door, asked: Asked) -> Answer {
    let snapshot = door.registry.snapshot();
    let config: Config = match asked.subject_if_named()? {
        Some(subject) if !asked.flag("defaultToGlobal")? => {
            let own = snapshot.own_config(&subject);
            own.ok_or_else(|| RegistryError::NoConfig(subject.clone())).map(|_| snapshot.config(Some(&subject)))?
        }
        subject => snapshot.config(subject.as_deref()),
    };
    json(&config)
}

/// Settings that are not there are refused whatever the client says: nobody should believe in rules that nobody applies.
pub(super) async fn set_config(State(door): Door, asked: Asked, request: Request) -> Answer {
    let subject = asked.subject_if_named()?;
    let body: ConfigBody = read(&door, request).await?;
    refuse_unknown(&body.more)?;
    let level = body.compatibility.or(body.compatibility_level);
    let level = level.map(|name| name.parse()).transpose()?;
    let update = ConfigUpdate { level, normalize: body.normalize };
    if level.is_none() && body.normalize.is_none() {
        return Err(RegistryError::InvalidLevel(String::new()).into());
    }
    door.registry.change(move |state, _| state.set_config(subject.as_deref(), update)).await?;
    json(&ConfigPut { compatibility: level.map(|level| level.to_string()), normalize: body.normalize })
}

pub(super) async fn delete_config(State(door): Door, asked: Asked) -> Answer {
    let subject = asked.subject_if_named()?;
    let (before, _) = door.registry.change(move |state, _| state.delete_config(subject.as_deref())).await?;
    json(&before)
}

pub(super) async fn mode(State(door): Door, asked: Asked) -> Answer {
    let snapshot = door.registry.snapshot();
    let mode = match asked.subject_if_named()? {
        Some(subject) if !asked.flag("defaultToGlobal")? => {
            snapshot.own_mode(&subject).ok_or(RegistryError::NoMode(subject))?
        }
        subject => snapshot.mode(subject.as_deref()),
    };
    json(&ModeShown { mode })
}

pub(super) async fn set_mode(State(door): Door, asked: Asked, request: Request) -> Answer {
    let (subject, force) = (asked.subject_if_named()?, asked.flag("force")?);
    let body: ModeBody = read(&door, request).await?;
    refuse_unknown(&body.more)?;
    let mode: Mode = body.mode.unwrap_or_default().parse().map_err(Refusal::from)?;
    let (mode, _) = door.registry.change(move |state, _| state.set_mode(subject.as_deref(), mode, force)).await?;
    json(&ModeShown { mode })
}

pub(super) async fn delete_mode(State(door): Door, asked: Asked) -> Answer {
    let subject = asked.subject_if_named()?;
    let (mode, _) = door.registry.change(move |state, _| state.delete_mode(subject.as_deref())).await?;
    json(&ModeShown { mode })
}
