//! Where the schemas come from that values are checked against.
//!
//! A [`SchemaSource`] finds a schema by what names it on the wire, and the latest of a subject. The registry is one
//! (`registered`); the schemas that the configuration names are another, for as long as the registry has none for the same
//! subject.

use std::collections::HashMap;
use std::sync::Arc;

use playhouse_schema::Reason;
use playhouse_schema::formats::{Format, Schema};
use playhouse_schema::wire::SchemaKey;
use uuid::Uuid;

/// A schema to check payloads against.
#[derive(Debug, Clone)]
pub struct FoundSchema {
    /// The registry's id of it, where it has one.
    pub id: Option<i32>,
    pub format: Format,
    /// Or why it cannot be read: then no payload is valid.
    pub parsed: Result<Arc<Schema>, String>,
}

impl FoundSchema {
    pub fn new(id: Option<i32>, schema: Arc<Schema>) -> FoundSchema {
        FoundSchema { id, format: schema.format(), parsed: Ok(schema) }
    }

    /// The payload comes without the name of the schema. `path` leads to the message within a Protobuf file, and is empty for
    /// other formats; `max_depth` are the levels that JSON may have.
    pub(crate) fn check(&self, payload: &[u8], path: &[usize], max_depth: usize) -> Result<(), Vec<Reason>> {
        let schema = match &self.parsed {
            Ok(schema) => schema,
            Err(reason) => return Err(vec![Reason::whole("schema_id", reason)]),
        };
        match schema.json_validator() {
            Some(validator) => validator.check_within(max_depth, payload).map(drop),
            None if path.is_empty() => schema.validate(payload),
            None => schema.validate_message(path, payload),
        }
    }

    /// Where it is a JSON Schema.
    pub(crate) fn json(&self) -> Option<&Arc<Schema>> {
        self.parsed.as_ref().ok().filter(|_| self.format == Format::Json)
    }
}

/// Finds schemas. It is asked for every batch, and for every record that names another schema than the one before: answers
/// come from memory, without waiting.
pub trait SchemaSource: Send + Sync {
    fn by_id(&self, id: i32) -> Option<FoundSchema>;
    fn by_guid(&self, guid: Uuid) -> Option<FoundSchema>;
    fn latest(&self, subject: &str) -> Option<FoundSchema>;
    /// Whether what `key` names is a version of the subject.
    fn is_under(&self, subject: &str, key: SchemaKey) -> bool;
}

/// The schemas of the configuration, by subject.
#[derive(Debug, Default)]
pub(crate) struct Configured(pub(crate) HashMap<String, FoundSchema>);

impl SchemaSource for Configured {
    fn by_id(&self, id: i32) -> Option<FoundSchema> {
        self.0.values().find(|schema| schema.id == Some(id)).cloned()
    }

    fn by_guid(&self, _guid: Uuid) -> Option<FoundSchema> {
        None
    }

    fn latest(&self, subject: &str) -> Option<FoundSchema> {
        self.0.get(subject).cloned()
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

    pub(crate) fn find(&self, key: SchemaKey) -> Option<FoundSchema> {
        self.sources().find_map(|source| match key {
            SchemaKey::Id(id) => source.by_id(id),
            SchemaKey::Guid(guid) => source.by_guid(guid),
        })
    }

    pub(crate) fn is_under(&self, subject: &str, key: SchemaKey) -> bool {
        self.sources().any(|source| source.is_under(subject, key))
    }

    pub(crate) fn latest(&self, subject: &str) -> Option<FoundSchema> {
        self.sources().find_map(|source| source.latest(subject))
    }
}
