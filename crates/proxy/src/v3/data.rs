//! The key or value of a record, of one of the plain types (`BINARY`, `JSON`, `STRING`) or with a schema of the registry
//! (`AVRO`, `JSONSCHEMA`, `PROTOBUF`).
//!
//! The schema is given as a text, with its type, and registered then; by its id; by a version of its subject; or not at all,
//! which stands for the latest version. The subject is given too, or follows from a strategy: of the topic, of the record, or
//! of both.

use std::fmt;

use playhouse_schema::formats;
use playhouse_schema::registry::VersionSpec;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::formats::schemas::{Bound, Named, SchemaError, Schemas};
use crate::formats::{FormatError, Way, decode};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data<'a> {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    subject_name_strategy: Option<String>,
    #[serde(default)]
    schema_id: Option<i32>,
    #[serde(default)]
    schema_version: Option<i32>,
    #[serde(default)]
    schema: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Key,
    Value,
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Side::Key => "key",
            Side::Value => "value",
        })
    }
}

/// What a record's report says of its key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: &'static str,
    pub(super) size: usize,
    pub(super) schema: Option<Used>,
}

/// The schema that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Used {
    subject: String,
    id: i32,
    /// Under that subject, if it is there.
    version: Option<i32>,
}

impl Part {
    pub(super) fn json(&self) -> Value {
        let mut told = json!({"type": self.kind, "size": self.size});
        if let Some(Used { subject, id, version }) = &self.schema {
            told["subject"] = json!(subject);
            told["schema_id"] = json!(id);
            told["schema_version"] = json!(version);
        }
        told
    }
}

/// The bytes, and what to say of them.
pub(super) async fn bytes(
    schemas: &Schemas,
    topic: &str,
    side: Side,
    data: Option<Data<'_>>,
) -> Result<(Option<Vec<u8>>, Option<Part>), ApiError> {
    let Some(data) = data else { return Ok((None, None)) };
    let wrong = |error: FormatError| match &error {
        FormatError::Schema(SchemaError::Data(_)) => ApiError::malformed(format!("{side}: {error}")),
        FormatError::Schema(schema) => schema.api(format!("{side}: {error}")),
        _ => ApiError::malformed(format!("{side}: {error}")),
    };
    let text = data.data.filter(|data| data.get() != "null");
    let plain = match data.r#type.as_deref() {
        Some("BINARY") => Some(("BINARY", decode(Way::Binary, text).map_err(wrong)?)),
        Some("JSON") => Some(("JSON", decode(Way::Json, text).map_err(wrong)?)),
        Some("STRING") => {
            let text = text.map(|data| serde_json::from_str::<String>(data.get())).transpose();
            let text = text.map_err(|error| ApiError::malformed(format!("{side}: {error}")))?;
            Some(("STRING", text.map(String::into_bytes)))
        }
        _ => None,
    };
    if let Some((kind, bytes)) = plain {
        if data.names_schema() {
            return Err(ApiError::malformed(format!("{side}: data of type {kind} has no schema")));
        }
        let size = bytes.as_ref().map_or(0, Vec::len);
        return Ok((bytes, Some(Part { kind, size, schema: None })));
    }
    let wanted = data.r#type.as_deref().map(|name| schema_type(side, name)).transpose()?;
    let Some(text) = text else { return Ok((None, None)) };
    let (bound, used) = data.bind(schemas, topic, side, wanted).await?;
    let bytes = decode(Way::Schema(&bound), Some(text)).map_err(wrong)?;
    let kind = match bound.format {
        formats::Format::Avro => "AVRO",
        formats::Format::Json => "JSONSCHEMA",
        formats::Format::Protobuf => "PROTOBUF",
    };
    let size = bytes.as_ref().map_or(0, Vec::len);
    Ok((bytes, Some(Part { kind, size, schema: Some(used) })))
}

fn schema_type(side: Side, name: &str) -> Result<formats::Format, ApiError> {
    match name {
        "AVRO" => Ok(formats::Format::Avro),
        "JSONSCHEMA" => Ok(formats::Format::Json),
        "PROTOBUF" => Ok(formats::Format::Protobuf),
        other => {
            let kinds = "BINARY, JSON, STRING, AVRO, JSONSCHEMA or PROTOBUF";
            Err(ApiError::malformed(format!("{side}: type {other:?} is none of {kinds}")))
        }
    }
}

impl Data<'_> {
    fn names_schema(&self) -> bool {
        let texts = [&self.subject, &self.subject_name_strategy, &self.schema];
        texts.into_iter().any(Option::is_some) || self.schema_id.is_some() || self.schema_version.is_some()
    }

    async fn bind(
        self,
        schemas: &Schemas,
        topic: &str,
        side: Side,
        wanted: Option<formats::Format>,
    ) -> Result<(Bound, Used), ApiError> {
        let malformed = |reason: &str| ApiError::malformed(format!("{side}: {reason}"));
        let refused = |error: SchemaError| error.api(format!("{side}: {error}"));
        let by_record = match self.subject_name_strategy.as_deref() {
            None | Some("TOPIC_NAME") => None,
            Some("RECORD_NAME") => Some(String::new()),
            Some("TOPIC_RECORD_NAME") => Some(format!("{topic}-")),
            Some(other) => {
                let known = "TOPIC_NAME, RECORD_NAME or TOPIC_RECORD_NAME";
                return Err(malformed(&format!("subject_name_strategy {other:?} is none of {known}")));
            }
        };
        if self.subject.is_some() && self.subject_name_strategy.is_some() {
            return Err(malformed("give either a subject or a strategy for its name, not both"));
        }
        let named = match (self.schema, self.schema_id, self.schema_version) {
            (Some(text), None, None) => {
                let format = wanted.ok_or_else(|| malformed("a schema's text needs its type"))?;
                Named::Text(format, text)
            }
            (None, Some(id), None) => Named::Id(id),
            (None, None, Some(version)) if version > 0 => Named::Version(VersionSpec::Number(version)),
            (None, None, Some(_)) => return Err(malformed("versions count from 1")),
            (None, None, None) => Named::Version(VersionSpec::Latest),
            _ => return Err(malformed("give one of schema, schema_id and schema_version")),
        };
        // What knows its schema only by the subject cannot have the subject by the schema.
        let record_name = match (&by_record, &named) {
            (None, _) => None,
            (Some(_), Named::Version(_)) => return Err(malformed("by the name of a record no version is found")),
            (Some(_), Named::Text(format, text)) => Schemas::record_name(*format, text).map_err(refused)?,
            (Some(_), Named::Id(_)) => schemas.bind("", named.clone()).await.map_err(refused)?.record_name(),
        };
        let subject = match (self.subject, by_record, record_name) {
            (Some(subject), ..) => subject,
            (None, None, _) => format!("{topic}-{side}"),
            (None, Some(before), Some(name)) => format!("{before}{name}"),
            (None, Some(_), None) => return Err(malformed("the schema has no name to make a subject of")),
        };
        let mut bound = schemas.bind(&subject, named).await.map_err(refused)?;
        if let Some(wanted) = wanted {
            bound = bound.of(wanted).map_err(refused)?;
        }
        let (id, version) = (bound.id, schemas.version(&subject, bound.id));
        Ok((bound, Used { subject, id, version }))
    }
}
