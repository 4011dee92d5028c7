//! JSON Schemas, drafts 4 to 2020-12. What compiles is a schema; what a registry knows it by is its text, compact.

use super::{NamedSchema, Node, SchemaError};
use crate::document::Document;
use crate::{Fields, Validator, validator};

/// As deep as the reference parser goes.
const DEPTH_MAX: usize = 127;

#[derive(Debug)]
pub(crate) struct JsonSchema {
    pub(crate) document: Document,
    pub(crate) validator: Validator,
    text: Node,
}

impl JsonSchema {
    pub(crate) fn parse(text: &str, references: &[NamedSchema]) -> Result<JsonSchema, SchemaError> {
        let node = node(text)?;
        for reference in references {
            node_of(reference)?;
        }
        let document = validator::read(text, references)?;
        let validator = Validator::of(&document, &Fields::default(), DEPTH_MAX)?;
        Ok(JsonSchema { document, validator, text: node })
    }

    /// As it was written, without white space.
    pub(crate) fn text(&self) -> &Node {
        &self.text
    }

    /// The order of keywords and properties means nothing.
    pub(crate) fn normalized(&self) -> Node {
        self.text.sorted()
    }
}

fn node(text: &str) -> Result<Node, SchemaError> {
    serde_json::from_str(text).map_err(|error| SchemaError::Json(error.to_string()))
}

fn node_of(reference: &NamedSchema) -> Result<Node, SchemaError> {
    node(&reference.text)
        .map_err(|error| SchemaError::Reference { name: reference.name.clone(), error: Box::new(error) })
}

impl From<validator::SchemaError> for SchemaError {
    fn from(error: validator::SchemaError) -> SchemaError {
        match error {
            validator::SchemaError::Json(error) => SchemaError::Json(error.to_string()),
            validator::SchemaError::Invalid(reason) => SchemaError::Invalid(reason),
            validator::SchemaError::TooLarge { size, limit } => SchemaError::TooLarge { size, limit },
            validator::SchemaError::Remote(address) => SchemaError::Remote(address),
            validator::SchemaError::Reference { name, error } => {
                SchemaError::Reference { name, error: Box::new(SchemaError::from(*error)) }
            }
            refused @ (validator::SchemaError::Pattern { .. }
            | validator::SchemaError::Circular(_)
            | validator::SchemaError::TooLong(_)
            | validator::SchemaError::TooBranched(_)) => SchemaError::Refused(refused.to_string()),
        }
    }
}
