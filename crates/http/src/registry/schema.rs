//! Schemas as JSON.

use std::str::FromStr;

use playhouse_schema::formats::{Format, SchemaError};
use playhouse_schema::registry::{Place, Proposal, Reference, Registered, RegistryError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// With this header, members of a body that are not known are passed over.
pub(super) const ACCEPT_UNKNOWN: &str = "confluent-accept-unknown-properties";

/// A schema as somebody proposes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaBody {
    schema: Option<String>,
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
    metadata: Option<Value>,
    rule_set: Option<Value>,
    id: Option<i32>,
    version: Option<i32>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl SchemaBody {
    pub(super) fn proposal(self, normalize: bool, accept_unknown: bool) -> Result<Proposal, Refusal> {
        if !accept_unknown {
            refuse_unknown(&self.more)?;
        }
        let format = self.schema_type.filter(|name| !name.is_empty());
        let format = format.map_or(Ok(Format::Avro), |name| Format::from_str(&name)).map_err(|error| match error {
            SchemaError::UnknownFormat(_) => RegistryError::Invalid(error.to_string()),
            error => RegistryError::Invalid(format!("schemaType: {error}")),
        })?;
        let text = self.schema.filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| RegistryError::Invalid("the body has no \"schema\"".to_owned()))?;
        Ok(Proposal {
            references: self.references.unwrap_or_default(),
            metadata: self.metadata,
            rule_set: self.rule_set,
            // Clients that do not mean one send what stands for none.
            id: self.id.filter(|id| *id >= 0),
            version: self.version.filter(|version| *version > 0),
            normalize,
            ..Proposal::new(format, text)
        })
    }
}

/// Members without a value mean nothing, whoever knows them.
pub(super) fn refuse_unknown(members: &Map<String, Value>) -> Result<(), Refusal> {
    match members.iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(Refusal::unprocessable(format!("unrecognized field {name:?}"))),
        None => Ok(()),
    }
}

/// A registered schema, as answers show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shape<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i32>,
    guid: String,
    /// Absent for Avro.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_type: Option<String>,
    #[serde(skip_serializing_if = "<[Reference]>::is_empty")]
    references: &'a [Reference],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_set: Option<&'a Value>,
    schema: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_id: Option<i32>,
}

impl<'a> Shape<'a> {
    /// By itself.
    pub(super) fn of(schema: &'a Registered) -> Shape<'a> {
        Shape {
            subject: None,
            version: None,
            id: None,
            guid: schema.guid.to_string(),
            schema_type: (schema.format != Format::Avro).then(|| schema.format.to_string()),
            references: &schema.references,
            metadata: schema.metadata.as_ref(),
            rule_set: schema.rule_set.as_ref(),
            schema: &schema.text,
            max_id: None,
        }
    }

    /// With the text in another format than the registered one, if there is one.
    pub(super) fn with_text(self, text: Option<&'a str>) -> Shape<'a> {
        Shape { schema: text.unwrap_or(self.schema), ..self }
    }

    /// With the highest id there is.
    pub(super) fn with_max_id(self, max_id: Option<i32>) -> Shape<'a> {
        Shape { max_id, ..self }
    }

    /// As a version of a subject.
    pub(super) fn at(place: &'a Place) -> Shape<'a> {
        let subject = Some(&*place.subject);
        Shape { subject, version: Some(place.version), id: Some(place.schema.id), ..Shape::of(&place.schema) }
    }
}
