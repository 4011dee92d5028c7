//! Changes as records: JSON keys and values in the format of Confluent's registry (its topic `_schemas`), so that tools made
//! for that topic can read ours. Keys written here keep their order of members, by which compaction tells them apart.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::types::{Config, Mode, Reference};
use crate::formats::Format;

#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A version is this schema, and deleted or not.
    Version {
        subject: String,
        version: i32,
        id: i32,
        deleted: bool,
        format: Format,
        text: String,
        references: Vec<Reference>,
        metadata: Option<Value>,
        rule_set: Option<Value>,
    },
    /// A version never was.
    VersionGone {
        subject: String,
        version: i32,
    },
    /// All versions up to this one are deleted.
    SubjectDeleted {
        subject: String,
        version: i32,
    },
    /// Of a subject or, without one, of all.
    Config {
        subject: Option<String>,
        config: Option<Config>,
    },
    Mode {
        subject: Option<String>,
        mode: Option<Mode>,
    },
    /// Ids up to this one are not given again, though their schemas are gone.
    MaxId(i32),
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the key is not one of a schema registry: {0}")]
    Key(serde_json::Error),
    #[error("the value of {key} is not one of a schema registry: {reason}")]
    Value { key: String, reason: String },
}

#[derive(Debug, Serialize, Deserialize)]
struct Key {
    keytype: String,
    #[serde(default, skip_serializing_if = "Absent::is_absent")]
    subject: Absent,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    magic: i32,
}

/// Settings of all have `"subject":null` in their key; a `NOOP` has no such member.
#[derive(Debug, Default)]
enum Absent {
    #[default]
    Absent,
    Given(Option<String>),
}

impl Absent {
    fn is_absent(&self) -> bool {
        matches!(self, Absent::Absent)
    }

    fn into_name(self) -> Option<String> {
        if let Absent::Given(name) = self { name } else { None }
    }
}

impl Serialize for Absent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Absent::Given(name) = self else { return serializer.serialize_none() };
        name.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Absent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Absent, D::Error> {
        Option::deserialize(deserializer).map(Absent::Given)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionValue {
    subject: String,
    version: i32,
    id: i32,
    /// Absent for Avro.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    references: Option<Vec<Reference>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule_set: Option<Value>,
    schema: String,
    #[serde(default)]
    deleted: bool,
}

#[derive(Serialize, Deserialize)]
struct DeletedValue {
    subject: String,
    version: i32,
}

#[derive(Serialize, Deserialize)]
struct ModeValue {
    mode: Mode,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MaxIdValue {
    max_id: i32,
}

impl Change {
    pub fn key(&self) -> Vec<u8> {
        let key = |keytype: &str, subject: Absent, version, magic| {
            let key = Key { keytype: keytype.to_owned(), subject, version, magic };
            json(&key)
        };
        let of = |subject: &String| Absent::Given(Some(subject.clone()));
        match self {
            Change::Version { subject, version, .. } | Change::VersionGone { subject, version } => {
                key("SCHEMA", of(subject), Some(*version), 1)
            }
            Change::SubjectDeleted { subject, .. } => key("DELETE_SUBJECT", of(subject), None, 0),
            Change::Config { subject, .. } => key("CONFIG", Absent::Given(subject.clone()), None, 0),
            Change::Mode { subject, .. } => key("MODE", Absent::Given(subject.clone()), None, 0),
            Change::MaxId(_) => key("NOOP", Absent::Absent, None, 0),
        }
    }

    /// None is a tombstone.
    pub fn value(&self) -> Option<Vec<u8>> {
        match self.clone() {
            Change::VersionGone { .. } => None,
            Change::Version { subject, version, id, deleted, format, text, references, metadata, rule_set } => {
                Some(json(&VersionValue {
                    subject,
                    version,
                    id,
                    schema_type: (format != Format::Avro).then(|| format.to_string()),
                    references: Some(references).filter(|references| !references.is_empty()),
                    metadata,
                    rule_set,
                    schema: text,
                    deleted,
                }))
            }
            Change::SubjectDeleted { subject, version } => Some(json(&DeletedValue { subject, version })),
            Change::Config { config, .. } => config.map(|config| json(&config)),
            Change::Mode { mode, .. } => mode.map(|mode| json(&ModeValue { mode })),
            Change::MaxId(max_id) => Some(json(&MaxIdValue { max_id })),
        }
    }

    /// None for a record of a kind that has nothing to do with this state.
    pub fn read(key: &[u8], value: Option<&[u8]>) -> Result<Option<Change>, RecordError> {
        let parsed: Key = serde_json::from_slice(key).map_err(RecordError::Key)?;
        let wrong = |reason: String| RecordError::Value { key: String::from_utf8_lossy(key).into_owned(), reason };
        fn parse<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, String> {
            serde_json::from_slice(value).map_err(|error| error.to_string())
        }
        let Key { keytype, subject, version, .. } = parsed;
        let subject = subject.into_name();
        let change = match (keytype.as_str(), value) {
            ("SCHEMA", None) => match (subject, version) {
                (Some(subject), Some(version)) => Change::VersionGone { subject, version },
                _ => return Err(wrong("the key names no version".to_owned())),
            },
            ("SCHEMA", Some(value)) => version_change(parse(value).map_err(wrong)?).map_err(wrong)?,
            ("DELETE_SUBJECT", Some(value)) => {
                let DeletedValue { subject, version } = parse(value).map_err(wrong)?;
                Change::SubjectDeleted { subject, version }
            }
            ("CONFIG", value) => {
                Change::Config { subject, config: value.map(parse::<Config>).transpose().map_err(wrong)? }
            }
            ("MODE", value) => {
                let mode = value.map(parse::<ModeValue>).transpose().map_err(wrong)?;
                Change::Mode { subject, mode: mode.map(|value| value.mode) }
            }
            // Confluent's have no value that means anything.
            ("NOOP", Some(value)) => match parse::<MaxIdValue>(value) {
                Ok(value) => Change::MaxId(value.max_id),
                Err(_) => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(change))
    }
}

fn version_change(value: VersionValue) -> Result<Change, String> {
    let format = match value.schema_type {
        None => Format::Avro,
        Some(name) => name.parse().map_err(|error: crate::formats::SchemaError| error.to_string())?,
    };
    if value.id < 1 || value.version < 1 {
        return Err(format!("id {} and version {} are not both above 0", value.id, value.version));
    }
    Ok(Change::Version {
        subject: value.subject,
        version: value.version,
        id: value.id,
        deleted: value.deleted,
        format,
        text: value.schema,
        references: value.references.unwrap_or_default(),
        metadata: value.metadata,
        rule_set: value.rule_set,
    })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs with text keys are JSON")
}
