//! Registered schemas, parsed: their text as a registry stores it, and whether a payload is theirs.
//!
//! Everything is a pure function of the text and of the texts it refers to; nothing is fetched. Avro is read whole. JSON
//! Schema and Protobuf are refused as [`SchemaError::Unsupported`]; events are checked against JSON Schema by
//! [`Validator`](crate::Validator), which no registry is needed for.

pub(crate) mod avro;
mod datum;
mod node;

use std::fmt;
use std::str::FromStr;

use crate::Reason;
pub(crate) use node::Node;

/// Text of a schema, and of everything it refers to.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    Avro,
    Json,
    Protobuf,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Format::Avro => "AVRO",
            Format::Json => "JSON",
            Format::Protobuf => "PROTOBUF",
        })
    }
}

impl FromStr for Format {
    type Err = SchemaError;

    fn from_str(name: &str) -> Result<Format, SchemaError> {
        match name {
            "AVRO" => Ok(Format::Avro),
            "JSON" => Ok(Format::Json),
            "PROTOBUF" => Ok(Format::Protobuf),
            _ => Err(SchemaError::UnknownFormat(name.to_owned())),
        }
    }
}

/// A resolved reference: `name` as the referrer writes it. Dependencies come first, transitively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSchema {
    pub name: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SchemaError {
    #[error("unknown schema type {0:?}; use AVRO, JSON or PROTOBUF")]
    UnknownFormat(String),
    #[error("schemas of type {0} are not supported yet")]
    Unsupported(Format),
    #[error("the schema and its references take {size} bytes, more than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("the schema is not JSON: {0}")]
    Json(String),
    #[error("the schema is not valid: {0}")]
    Invalid(String),
    #[error("unknown type {0:?}; define it before its use, or register it as a reference")]
    UnknownName(String),
    #[error("the record {0:?} contains itself without a way out, so no value of it ends; make the inner one optional")]
    Endless(String),
    #[error("the reference {name:?}: {error}")]
    Reference { name: String, error: Box<SchemaError> },
}

/// A parsed schema.
#[derive(Debug)]
pub struct Schema {
    avro: avro::Avro,
    canonical: String,
}

impl Schema {
    /// Parses a schema whose references are resolved.
    pub fn parse(format: Format, text: &str, references: &[NamedSchema]) -> Result<Schema, SchemaError> {
        let size = references.iter().fold(text.len(), |size, reference| size.saturating_add(reference.text.len()));
        if size > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLarge { size, limit: SCHEMA_BYTES_MAX });
        }
        match format {
            Format::Avro => {
                let avro = avro::Avro::parse(text, references)?;
                Ok(Schema { canonical: avro.text().to_string(), avro })
            }
            other => Err(SchemaError::Unsupported(other)),
        }
    }

    pub fn format(&self) -> Format {
        Format::Avro
    }

    /// The text to store: compact, attributes in the order in which Avro's Java library prints them.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The text by which schemas are one that differ only in the order of attributes that Avro does not define.
    pub fn normalized(&self) -> String {
        self.avro.normalized().to_string()
    }

    /// Whether `payload` is one value of this schema: a binary datum, without the header of a registry's client.
    pub fn validate(&self, payload: &[u8]) -> Result<(), Vec<Reason>> {
        datum::check(&self.avro, payload).map_err(|reason| vec![reason])
    }

    pub(crate) fn avro(&self) -> &avro::Avro {
        &self.avro
    }
}
