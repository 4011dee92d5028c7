//! Registered schemas, parsed: their text as a registry stores it, whether a payload is theirs, and payloads as JSON.
//!
//! Everything is a pure function of the text and of the texts it refers to; nothing is fetched.

pub(crate) mod avro;
mod avro_json;
mod datum;
pub(crate) mod json;
mod node;
pub(crate) mod protobuf;

use std::fmt;
use std::str::FromStr;

use crate::wire::{WireError, put_path, split_path};
use crate::{Reason, Validator};
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
    #[error("the schema and its references take {size} bytes, more than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("the schema is not JSON: {0}")]
    Json(String),
    #[error("the schema is not valid: {0}")]
    Invalid(String),
    #[error(
        "the schema refers to {0:?}, which is not among its references: nothing is fetched, register it and refer to it by this name"
    )]
    Remote(String),
    /// It is valid, but could keep a reader busy for ever.
    #[error("{0}")]
    Refused(String),
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
    parsed: Parsed,
    canonical: String,
}

#[derive(Debug)]
pub(crate) enum Parsed {
    Avro(avro::Avro),
    Json(Box<json::JsonSchema>),
    Protobuf(protobuf::Protobuf),
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
                Ok(Schema { canonical: avro.text().to_string(), parsed: Parsed::Avro(avro) })
            }
            Format::Json => {
                let json = json::JsonSchema::parse(text, references)?;
                Ok(Schema { canonical: json.text().to_string(), parsed: Parsed::Json(Box::new(json)) })
            }
            Format::Protobuf => {
                let protobuf = protobuf::Protobuf::parse(text, references)?;
                Ok(Schema { canonical: protobuf.text(), parsed: Parsed::Protobuf(protobuf) })
            }
        }
    }

    pub fn format(&self) -> Format {
        match &self.parsed {
            Parsed::Avro(_) => Format::Avro,
            Parsed::Json(_) => Format::Json,
            Parsed::Protobuf(_) => Format::Protobuf,
        }
    }

    /// The text to store. JSON is compact: Avro's attributes are in the order in which its Java library prints them, those of
    /// JSON Schema in the order in which they came. Protobuf is a `.proto` file without comments, whatever form it came in.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The text by which schemas are one that differ only in an order that means nothing.
    pub fn normalized(&self) -> String {
        match &self.parsed {
            Parsed::Avro(avro) => avro.normalized().to_string(),
            Parsed::Json(json) => json.normalized().to_string(),
            Parsed::Protobuf(protobuf) => protobuf.normalized(),
        }
    }

    /// A `FileDescriptorProto` in base64, for a registry's `format=serialized`. Only Protobuf has it.
    pub fn serialized(&self) -> Option<String> {
        match &self.parsed {
            Parsed::Protobuf(protobuf) => Some(protobuf.serialized()),
            _ => None,
        }
    }

    /// Whether `payload` is one value of this schema, behind the id that a registry's client writes before it: a binary datum of
    /// Avro, the text of a JSON document, or the path to a Protobuf message ([`split_path`]) and a message of that type.
    pub fn validate(&self, payload: &[u8]) -> Result<(), Vec<Reason>> {
        match &self.parsed {
            Parsed::Avro(avro) => datum::check(avro, payload).map_err(|reason| vec![reason]),
            Parsed::Json(json) => json.validator.check(payload).map(|_| ()),
            Parsed::Protobuf(_) => {
                let no_path = |error: WireError| vec![Reason::whole("schema_id", error.to_string())];
                let (path, message) = split_path(payload).map_err(no_path)?;
                self.validate_message(&path, message)
            }
        }
    }

    /// The same where the path to the Protobuf message was read already, or stands in a header; other formats have none.
    pub fn validate_message(&self, path: &[usize], payload: &[u8]) -> Result<(), Vec<Reason>> {
        match &self.parsed {
            Parsed::Protobuf(protobuf) => protobuf.check(path, payload).map_err(|reason| vec![reason]),
            _ => self.validate(payload),
        }
    }

    /// A payload as JSON of at most about `bytes_max`: that of Avro and Protobuf in their own mappings. `path` leads to the
    /// Protobuf message, and is empty for other formats.
    pub fn to_json(&self, path: &[usize], payload: &[u8], bytes_max: usize) -> Result<String, Reason> {
        match &self.parsed {
            Parsed::Avro(avro) => avro_json::to_json(avro, payload, bytes_max),
            Parsed::Protobuf(protobuf) => protobuf.to_json(path, payload, bytes_max),
            Parsed::Json(_) => {
                let text = std::str::from_utf8(payload).map_err(|error| crate::not_utf8(&error))?;
                match serde_json::from_str::<&serde_json::value::RawValue>(text) {
                    Ok(_) if text.len() <= bytes_max => Ok(text.to_owned()),
                    Ok(_) => Err(Reason::whole("size", "more than can be shown")),
                    Err(error) => Err(Reason::whole("json", error.to_string())),
                }
            }
        }
    }

    /// Appends the payload that a JSON value stands for, as [`Schema::validate`] takes it. That of Protobuf is of the file's
    /// first message type.
    pub fn encode_json(&self, json: &str, out: &mut Vec<u8>) -> Result<(), Vec<Reason>> {
        match &self.parsed {
            Parsed::Avro(avro) => {
                let value =
                    serde_json::from_str(json).map_err(|error| vec![Reason::whole("json", error.to_string())])?;
                avro_json::from_json(avro, &value, out).map_err(|reason| vec![reason])
            }
            Parsed::Json(schema) => {
                schema.validator.check(json.as_bytes())?;
                out.extend_from_slice(json.as_bytes());
                Ok(())
            }
            Parsed::Protobuf(protobuf) => {
                put_path(&[0], out);
                protobuf.encode_json(json, out).map_err(|reason| vec![reason])
            }
        }
    }

    /// What the schema calls the thing that it describes: the full name of a named type of Avro or of the first message type of
    /// a Protobuf file, the title of a JSON Schema.
    pub fn record_name(&self) -> Option<String> {
        match &self.parsed {
            Parsed::Avro(avro) => match avro.root {
                avro::Type::Named(at) => Some(avro.named[at].full()),
                _ => None,
            },
            Parsed::Json(_) => Some(self.json_text()?.get("title")?.as_str()?.to_owned()),
            Parsed::Protobuf(protobuf) => Some(protobuf.first()?.full_name().to_owned()),
        }
    }

    /// The full name of a message type by the path to it.
    pub fn message_name(&self, indexes: &[usize]) -> Option<String> {
        match &self.parsed {
            Parsed::Protobuf(protobuf) => protobuf.message_name(indexes),
            _ => None,
        }
    }

    /// The path to a message type by its full name.
    pub fn message_path(&self, name: &str) -> Option<Vec<usize>> {
        match &self.parsed {
            Parsed::Protobuf(protobuf) => protobuf.message_path(name),
            _ => None,
        }
    }

    /// The validator of a JSON Schema, which has the scanner in front of it.
    pub fn json_validator(&self) -> Option<&Validator> {
        match &self.parsed {
            Parsed::Json(json) => Some(&json.validator),
            _ => None,
        }
    }

    /// A JSON Schema as JSON.
    pub fn json_text(&self) -> Option<&serde_json::Value> {
        match &self.parsed {
            Parsed::Json(json) => Some(json.document.root().ok()?.schema),
            _ => None,
        }
    }

    pub(crate) fn parsed(&self) -> &Parsed {
        &self.parsed
    }
}
