//! Why a schema cannot read what another wrote. Which versions are compared in which direction is a registry's business.

mod avro;

use std::fmt;

use crate::formats::Schema;

/// One obstacle, told as Avro's Java library and Confluent's registry name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatibility {
    /// `READER_FIELD_MISSING_DEFAULT_VALUE`, `TYPE_MISMATCH`, …
    pub kind: String,
    /// JSON pointer into the reader's schema, types expanded where they are named.
    pub path: String,
    pub message: String,
    /// What is at fault: the field, the symbols, both types.
    pub detail: String,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Incompatibility { kind, message, detail, .. } = self;
        write!(formatter, "{{errorType:'{kind}', description:'{message}', additionalInfo:'{detail}'}}")
    }
}

/// Why `reader` cannot read what `writer` wrote; empty if it can.
pub fn incompatibilities(reader: &Schema, writer: &Schema) -> Vec<Incompatibility> {
    avro::incompatibilities(reader.avro(), writer.avro())
}
