//! Where the schemas come from that values are checked against.
//!
//! A [`SchemaSource`] finds a schema by what names it on the wire, and the latest of a subject. A registry is one; the
//! schemas that the configuration names are another, for as long as the registry has none for the same subject.

use std::collections::HashMap;
use std::sync::Arc;

use playhouse_schema::formats::{Format, Schema};
use playhouse_schema::wire::SchemaKey;
use playhouse_schema::{Reason, Validator};
use uuid::Uuid;

/// A schema, ready to check payloads. Payloads come without the name of the schema.
pub trait PayloadValidator: Send + Sync {
    /// The registry's id of the schema, where it has one.
    fn id(&self) -> Option<i32>;
    fn format(&self) -> Format;
    /// `message` is the path to the message within a Protobuf file, and empty for other formats.
    fn check(&self, payload: &[u8], message: &[i32]) -> Result<(), Vec<Reason>>;
}

/// Finds schemas. It is asked for every batch, and for every record that names another schema than the one before: answers
/// come from memory, without waiting.
pub trait SchemaSource: Send + Sync {
    fn by_id(&self, id: i32) -> Option<Arc<dyn PayloadValidator>>;
    fn by_guid(&self, guid: Uuid) -> Option<Arc<dyn PayloadValidator>>;
    fn latest(&self, subject: &str) -> Option<Arc<dyn PayloadValidator>>;
    /// Whether what `key` names is a version of the subject.
    fn is_under(&self, subject: &str, key: SchemaKey) -> bool;
}

/// JSON under a JSON Schema.
#[derive(Debug)]
pub struct JsonPayloads {
    pub id: Option<i32>,
    pub validator: Validator,
}

impl PayloadValidator for JsonPayloads {
    fn id(&self) -> Option<i32> {
        self.id
    }

    fn format(&self) -> Format {
        Format::Json
    }

    fn check(&self, payload: &[u8], _message: &[i32]) -> Result<(), Vec<Reason>> {
        self.validator.check(payload).map(drop)
    }
}

/// Avro data, each decoded whole.
#[derive(Debug)]
pub struct AvroPayloads {
    pub id: Option<i32>,
    pub schema: Arc<Schema>,
}

impl PayloadValidator for AvroPayloads {
    fn id(&self) -> Option<i32> {
        self.id
    }

    fn format(&self) -> Format {
        Format::Avro
    }

    fn check(&self, payload: &[u8], _message: &[i32]) -> Result<(), Vec<Reason>> {
        self.schema.validate(payload)
    }
}

/// The schemas of the configuration, by subject.
#[derive(Debug, Default)]
pub(crate) struct Configured(pub(crate) HashMap<String, Arc<JsonPayloads>>);

impl SchemaSource for Configured {
    fn by_id(&self, id: i32) -> Option<Arc<dyn PayloadValidator>> {
        let found = self.0.values().find(|schema| schema.id == Some(id))?;
        Some(found.clone())
    }

    fn by_guid(&self, _guid: Uuid) -> Option<Arc<dyn PayloadValidator>> {
        None
    }

    fn latest(&self, subject: &str) -> Option<Arc<dyn PayloadValidator>> {
        let found = self.0.get(subject)?;
        Some(found.clone())
    }

    fn is_under(&self, subject: &str, key: SchemaKey) -> bool {
        self.0.get(subject).and_then(|schema| schema.id).is_some_and(|id| key == SchemaKey::Id(id))
    }
}

/// The registry, where there is one, and behind it what is configured.
pub(crate) struct Schemas {
    pub(crate) registry: Option<Arc<dyn SchemaSource>>,
    pub(crate) configured: Configured,
}

impl Schemas {
    fn sources(&self) -> impl Iterator<Item = &dyn SchemaSource> {
        self.registry.as_deref().into_iter().chain([&self.configured as &dyn SchemaSource])
    }

    pub(crate) fn find(&self, key: SchemaKey) -> Option<Arc<dyn PayloadValidator>> {
        self.sources().find_map(|source| match key {
            SchemaKey::Id(id) => source.by_id(id),
            SchemaKey::Guid(guid) => source.by_guid(guid),
        })
    }

    pub(crate) fn is_under(&self, subject: &str, key: SchemaKey) -> bool {
        self.sources().any(|source| source.is_under(subject, key))
    }

    /// The subject's latest, and whether the registry has it.
    pub(crate) fn latest(&self, subject: &str) -> Option<(Arc<dyn PayloadValidator>, bool)> {
        let registered = self.registry.as_ref().and_then(|registry| registry.latest(subject));
        match registered {
            Some(schema) => Some((schema, true)),
            None => self.configured.latest(subject).map(|schema| (schema, false)),
        }
    }
}
