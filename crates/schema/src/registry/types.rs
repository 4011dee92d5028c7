//! The words of a registry.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::RegistryError;
use crate::formats::{Format, Schema};

const SUBJECT_BYTES_MAX: usize = 1024;

/// What a new version has to be able to do with the data of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    None,
    #[default]
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Level {
    const ALL: [(Level, &'static str); 7] = [
        (Level::None, "NONE"),
        (Level::Backward, "BACKWARD"),
        (Level::BackwardTransitive, "BACKWARD_TRANSITIVE"),
        (Level::Forward, "FORWARD"),
        (Level::ForwardTransitive, "FORWARD_TRANSITIVE"),
        (Level::Full, "FULL"),
        (Level::FullTransitive, "FULL_TRANSITIVE"),
    ];

    /// The new schema reads what the old ones wrote.
    pub(super) fn is_backward(self) -> bool {
        matches!(self, Level::Backward | Level::BackwardTransitive | Level::Full | Level::FullTransitive)
    }

    /// The old schemas read what the new one writes.
    pub(super) fn is_forward(self) -> bool {
        matches!(self, Level::Forward | Level::ForwardTransitive | Level::Full | Level::FullTransitive)
    }

    /// All old versions count, not only the latest.
    pub(super) fn is_transitive(self) -> bool {
        matches!(self, Level::BackwardTransitive | Level::ForwardTransitive | Level::FullTransitive)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Level::ALL.iter().find(|(level, _)| level == self).map_or("", |(_, name)| name);
        formatter.write_str(name)
    }
}

impl FromStr for Level {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Level, RegistryError> {
        let found = Level::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(level, _)| *level).ok_or_else(|| RegistryError::InvalidLevel(cut(text)))
    }
}

/// What may be done to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    #[default]
    Readwrite,
    Readonly,
    /// As the global mode it binds subjects with a mode of their own too.
    #[serde(rename = "READONLY_OVERRIDE")]
    ReadonlyOverride,
    /// Writes would go to another registry; there is none, so there are no writes.
    Forward,
    /// Versions come with the ids they had elsewhere, and are not compared.
    Import,
}

impl Mode {
    const ALL: [(Mode, &'static str); 5] = [
        (Mode::Readwrite, "READWRITE"),
        (Mode::Readonly, "READONLY"),
        (Mode::ReadonlyOverride, "READONLY_OVERRIDE"),
        (Mode::Forward, "FORWARD"),
        (Mode::Import, "IMPORT"),
    ];

    pub(super) fn is_read_only(self) -> bool {
        matches!(self, Mode::Readonly | Mode::ReadonlyOverride | Mode::Forward)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Mode::ALL.iter().find(|(mode, _)| mode == self).map_or("", |(_, name)| name);
        formatter.write_str(name)
    }
}

impl FromStr for Mode {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Mode, RegistryError> {
        let found = Mode::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(mode, _)| *mode).ok_or_else(|| RegistryError::InvalidMode(cut(text)))
    }
}

/// Settings of a subject or of all; what is absent falls to the wider one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(rename = "compatibilityLevel", skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// As the referring schema writes it: a full name, a URL, an import.
    pub name: String,
    pub subject: String,
    pub version: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionSpec {
    Latest,
    Number(i32),
}

impl FromStr for VersionSpec {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<VersionSpec, RegistryError> {
        match text.parse::<i32>() {
            _ if text == "latest" => Ok(VersionSpec::Latest),
            Ok(-1) => Ok(VersionSpec::Latest),
            Ok(number) if number > 0 => Ok(VersionSpec::Number(number)),
            _ => Err(RegistryError::InvalidVersion(cut(text))),
        }
    }
}

impl fmt::Display for VersionSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionSpec::Latest => formatter.write_str("latest"),
            VersionSpec::Number(number) => write!(formatter, "{number}"),
        }
    }
}

/// A schema as somebody sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub format: Format,
    pub text: String,
    /// Version -1 stands for the latest.
    pub references: Vec<Reference>,
    /// What clients keep beside a schema; part of its identity, and not looked into.
    pub metadata: Option<Value>,
    pub rule_set: Option<Value>,
    /// Only for an import.
    pub id: Option<i32>,
    pub version: Option<i32>,
    pub normalize: bool,
}

/// A schema with an id. Any number of versions of any subjects may be this one.
#[derive(Debug)]
pub struct Registered {
    pub id: i32,
    pub guid: Uuid,
    pub format: Format,
    pub text: String,
    pub references: Vec<Reference>,
    pub metadata: Option<Value>,
    pub rule_set: Option<Value>,
    /// See [`super::ParsedCache`].
    pub(super) parsed: ArcSwapOption<Schema>,
    pub(super) used: AtomicBool,
}

/// Who has the same content has the same guid, on every node and after every restart.
pub(super) fn guid_of(
    format: Format,
    text: &str,
    references: &[Reference],
    metadata: Option<&Value>,
    rule_set: Option<&Value>,
) -> Uuid {
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    part(format.to_string().as_bytes());
    part(text.as_bytes());
    for reference in references {
        part(reference.name.as_bytes());
        part(reference.subject.as_bytes());
        part(&reference.version.to_be_bytes());
    }
    for extra in [metadata, rule_set] {
        part(extra.map(Value::to_string).unwrap_or_default().as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The subject that a name stands for. There is one context, the default one, which may be written out (`:.:subject`).
pub fn subject_name(name: &str) -> Result<&str, RegistryError> {
    let refuse = |reason| Err(RegistryError::InvalidSubject { subject: cut(name), reason });
    let subject = name.strip_prefix(":.:").unwrap_or(name);
    if subject.starts_with(":.") || subject.starts_with(":*:") {
        return refuse("there is no context but the default one");
    }
    if subject.is_empty() {
        return refuse("it is empty");
    }
    if subject.len() > SUBJECT_BYTES_MAX {
        return refuse("it has more than 1024 bytes");
    }
    if subject.chars().any(char::is_control) {
        return refuse("it holds control characters");
    }
    if subject == "__GLOBAL" || subject == "__EMPTY" {
        return refuse("the name is reserved");
    }
    Ok(subject)
}

/// What a message repeats of the input.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
