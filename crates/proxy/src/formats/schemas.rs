//! The seam to a schema registry: the embedded formats that take one (Avro, JSON Schema, Protobuf).
//!
//! No registry is connected, so what has named its schema is told that; what has not is told first what it lacks, by
//! the codes of the public specification.

use serde_json::value::RawValue;

use super::Shown;
use crate::media::Format;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("Request includes keys but does not include key schema")]
    KeySchemaMissing,
    #[error("Request includes values but does not include value schema")]
    ValueSchemaMissing,
    #[error("the format {} needs a schema registry, and none is connected: use json or binary", .0.name())]
    NoRegistry(Format),
}

impl SchemaError {
    pub(crate) fn code(&self) -> u32 {
        match self {
            SchemaError::KeySchemaMissing => 42201,
            SchemaError::ValueSchemaMissing => 42202,
            SchemaError::NoRegistry(_) => 42205,
        }
    }
}

/// How a request names the schemas of its records.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Named {
    pub key: bool,
    pub value: bool,
}

/// What a request in `format` with such records has to name, before its records are looked at.
pub(crate) fn check(format: Format, named: Named, has_keys: bool, has_values: bool) -> Result<(), SchemaError> {
    match format.needs_schema() {
        false => Ok(()),
        true if has_keys && !named.key => Err(SchemaError::KeySchemaMissing),
        true if has_values && !named.value => Err(SchemaError::ValueSchemaMissing),
        true => Err(SchemaError::NoRegistry(format)),
    }
}

pub(crate) fn decode(format: Format, _data: &RawValue) -> Result<Vec<u8>, SchemaError> {
    Err(SchemaError::NoRegistry(format))
}

pub(crate) fn encode(format: Format, _bytes: &[u8]) -> Result<Shown<'_>, SchemaError> {
    Err(SchemaError::NoRegistry(format))
}
