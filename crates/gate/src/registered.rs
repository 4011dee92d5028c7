//! The registry as a source of schemas.

use std::sync::Arc;

use playhouse_registry::Registry;
use playhouse_schema::registry::Registered;
use playhouse_schema::wire::SchemaKey;
use uuid::Uuid;

use crate::schemas::{FoundSchema, SchemaSource};

impl SchemaSource for Registry {
    fn by_id(&self, id: i32) -> Option<FoundSchema> {
        self.schema(id).map(|schema| found(self, &schema))
    }

    fn by_guid(&self, guid: Uuid) -> Option<FoundSchema> {
        self.schema_by_guid(guid).map(|schema| found(self, &schema))
    }

    fn latest(&self, subject: &str) -> Option<FoundSchema> {
        Registry::latest(self, subject).map(|schema| found(self, &schema))
    }

    fn is_under(&self, subject: &str, key: SchemaKey) -> bool {
        match key {
            SchemaKey::Id(id) => Registry::is_under(self, subject, id),
            SchemaKey::Guid(guid) => self.guid_is_under(subject, guid),
        }
    }
}

/// What was registered was parsed then. It is parsed again by the first who asks after a start, or after the registry's memory
/// had room for others only.
fn found(registry: &Registry, schema: &Arc<Registered>) -> FoundSchema {
    let unread = |error| format!("schema id {} cannot be read: {error}", schema.id);
    FoundSchema { id: Some(schema.id), format: schema.format, parsed: registry.parsed(schema).map_err(unread) }
}
