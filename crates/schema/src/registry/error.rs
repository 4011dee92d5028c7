//! Refusals, with the error codes of Confluent's registry.

use crate::formats::{Format, SchemaError};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RegistryError {
    #[error("subject {0:?} not found")]
    SubjectNotFound(String),
    #[error("version {1} of subject {0:?} not found")]
    VersionNotFound(String, String),
    #[error("schema {0} not found")]
    SchemaNotFound(String),
    #[error("subject {0:?} was soft deleted: set permanent=true to delete it permanently")]
    SubjectSoftDeleted(String),
    #[error("subject {0:?} was not deleted first: delete it without permanent=true before")]
    SubjectNotSoftDeleted(String),
    #[error("version {1} of subject {0:?} was soft deleted: set permanent=true to delete it permanently")]
    VersionSoftDeleted(String, i32),
    #[error("version {1} of subject {0:?} was not deleted first: delete it without permanent=true before")]
    VersionNotSoftDeleted(String, i32),
    #[error("subject {0:?} has no compatibility level of its own: ask with defaultToGlobal=true, or set one")]
    NoConfig(String),
    #[error("subject {0:?} has no mode of its own: ask with defaultToGlobal=true, or set one")]
    NoMode(String),
    #[error("the schema is incompatible with an earlier one of subject {subject:?}: {}", messages.join("; "))]
    Incompatible { subject: String, messages: Vec<String> },
    #[error("invalid schema of type {format}: {error}")]
    InvalidSchema { format: Format, error: SchemaError },
    #[error("invalid schema: {0}")]
    Invalid(String),
    #[error("{0:?} is no version: use a number from 1 to 2147483647, or \"latest\"")]
    InvalidVersion(String),
    #[error(
        "{0:?} is no compatibility level: use NONE, BACKWARD, FORWARD, FULL, BACKWARD_TRANSITIVE, FORWARD_TRANSITIVE or FULL_TRANSITIVE"
    )]
    InvalidLevel(String),
    #[error("{0:?} is no mode: use READWRITE, READONLY, READONLY_OVERRIDE, FORWARD or IMPORT")]
    InvalidMode(String),
    #[error("not permitted: {0}")]
    NotPermitted(String),
    #[error("version {1} of subject {0:?} is referenced by the schemas {2:?}: delete those first")]
    Referenced(String, i32, Vec<i32>),
    #[error("the schema is registered with id {found}, not {asked}")]
    IdMismatch { asked: i32, found: i32 },
    #[error("subject {subject:?} is not valid: {reason}")]
    InvalidSubject { subject: String, reason: &'static str },
    #[error("too large: {0}")]
    TooLarge(String),
}

impl RegistryError {
    /// Confluent's code. Its first three digits are the HTTP status.
    pub fn code(&self) -> u32 {
        match self {
            RegistryError::SubjectNotFound(_) => 40401,
            RegistryError::VersionNotFound(..) => 40402,
            RegistryError::SchemaNotFound(_) => 40403,
            RegistryError::SubjectSoftDeleted(_) => 40404,
            RegistryError::SubjectNotSoftDeleted(_) => 40405,
            RegistryError::VersionSoftDeleted(..) => 40406,
            RegistryError::VersionNotSoftDeleted(..) => 40407,
            RegistryError::NoConfig(_) => 40408,
            RegistryError::NoMode(_) => 40409,
            RegistryError::Incompatible { .. } => 409,
            RegistryError::InvalidSchema { error: SchemaError::TooLarge { .. }, .. } => 42209,
            RegistryError::InvalidSchema { .. } | RegistryError::Invalid(_) => 42201,
            RegistryError::InvalidVersion(_) => 42202,
            RegistryError::InvalidLevel(_) => 42203,
            RegistryError::InvalidMode(_) => 42204,
            RegistryError::NotPermitted(_) => 42205,
            RegistryError::Referenced(..) => 42206,
            RegistryError::IdMismatch { .. } => 42207,
            RegistryError::InvalidSubject { .. } => 42208,
            RegistryError::TooLarge(_) => 42209,
        }
    }
}
