//! Why a schema cannot read what another wrote. Which versions are compared in which direction is a registry's business.

mod avro;
mod json;
mod protobuf;

use std::fmt;

use crate::formats::{Parsed, Schema};

/// One obstacle, told as Avro's Java library and Confluent's registry name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatibility {
    /// `READER_FIELD_MISSING_DEFAULT_VALUE`, `TYPE_MISMATCH`, …
    pub kind: String,
    /// JSON pointer into the reader's schema, types expanded where they are named. Of JSON Schema it
    /// begins with `#`; so does the path of Protobuf, which names messages and numbers fields.
    pub path: String,
    pub message: String,
    /// What is at fault: the field, the symbols, both types.
    pub detail: String,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Incompatibility { kind, message, detail, .. } = self;
        write!(formatter, "{{errorType:'{kind}', description:'{message}'")?;
        if !detail.is_empty() {
            write!(formatter, ", additionalInfo:'{detail}'")?;
        }
        formatter.write_str("}")
    }
}

/// Why `reader` cannot read what `writer` wrote; empty if it can.
pub fn incompatibilities(reader: &Schema, writer: &Schema) -> Vec<Incompatibility> {
    match (reader.parsed(), writer.parsed()) {
        (Parsed::Avro(reader), Parsed::Avro(writer)) => avro::incompatibilities(reader, writer),
        (Parsed::Json(reader), Parsed::Json(writer)) => json::incompatibilities(&reader.document, &writer.document),
        (Parsed::Protobuf(reader), Parsed::Protobuf(writer)) => protobuf::incompatibilities(reader, writer),
        _ => {
            let (mine, theirs) = (reader.format(), writer.format());
            vec![Incompatibility {
                kind: "SCHEMA_TYPE_CHANGED".to_owned(),
                path: String::new(),
                message: "The schemas are not of the same type".to_owned(),
                detail: format!("reader type: {mine} not compatible with writer type: {theirs}"),
            }]
        }
    }
}
