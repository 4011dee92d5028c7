//! The embedded formats that take a schema of the registry: Avro, JSON Schema and Protobuf.
//!
//! What is produced names its schema, or brings its text, which is registered then; the record has the schema's id before its
//! payload. What is read is shown as the schema that it names says, whether it names it there or in a header.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use playhouse_registry::{ChangeError, Registry};
use playhouse_schema::Reason;
use playhouse_schema::formats::{self, Schema};
use playhouse_schema::registry::{Outcome, Proposal, Registered, RegistryError, VersionSpec};
use playhouse_schema::wire::{SchemaKey, WireError, split_path};
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::media::Format;

/// Texts that are known to be registered.
const KNOWN_BYTES_MAX: usize = 4 << 20;
const REGISTER_FIRST: &str = "where keys are asked for, register it at the schema registry first, with an admin's key";
/// Of a value that does not fit its schema.
const REASONS_TOLD: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("Request includes keys but does not include key schema")]
    KeySchemaMissing,
    #[error("Request includes values but does not include value schema")]
    ValueSchemaMissing,
    #[error("give either a schema or the id of one, not both")]
    Both,
    #[error("{0}")]
    Refused(String),
    #[error("{named} is of type {found}, not {wanted}")]
    OtherFormat { named: String, found: formats::Format, wanted: formats::Format },
    #[error("the schema could not be registered: {0}")]
    Store(String),
    #[error("{0}")]
    Data(String),
    #[error("it names no schema: read it with a consumer in the format binary")]
    Unnamed,
    #[error("it cannot be shown: {0}")]
    Unreadable(String),
}

impl SchemaError {
    /// The status and the code of the public specification.
    pub(crate) fn api(&self, message: String) -> ApiError {
        match self {
            SchemaError::KeySchemaMissing => ApiError::unprocessable(42201, message),
            SchemaError::ValueSchemaMissing => ApiError::unprocessable(42202, message),
            SchemaError::Data(_) => ApiError::unprocessable(42203, message),
            SchemaError::Store(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, 50301, message),
            _ => ApiError::unprocessable(42205, message),
        }
    }
}

impl From<RegistryError> for SchemaError {
    fn from(error: RegistryError) -> SchemaError {
        SchemaError::Refused(error.to_string())
    }
}

impl From<ChangeError> for SchemaError {
    fn from(error: ChangeError) -> SchemaError {
        match error {
            ChangeError::Refused(error) => error.into(),
            failed => SchemaError::Store(failed.to_string()),
        }
    }
}

/// The registry's name of an embedded format that takes a schema.
pub(crate) fn registered_as(format: Format) -> Option<formats::Format> {
    match format {
        Format::Binary | Format::Json => None,
        Format::Avro => Some(formats::Format::Avro),
        Format::JsonSchema => Some(formats::Format::Json),
        Format::Protobuf => Some(formats::Format::Protobuf),
    }
}

/// How a caller names the schema of keys or values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Id(i32),
    Version(VersionSpec),
    /// To be registered, if it is not yet.
    Text(formats::Format, String),
}

/// A schema for keys or values on their way in.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) id: i32,
    pub(crate) format: formats::Format,
    schema: Arc<Schema>,
}

impl Bound {
    /// The bytes of a record's key or value, with the schema's id before the payload.
    pub(crate) fn encode(&self, data: &RawValue) -> Result<Vec<u8>, SchemaError> {
        let mut bytes = Vec::with_capacity(data.get().len());
        SchemaKey::Id(self.id).put(&mut bytes);
        self.schema.encode_json(data.get(), &mut bytes).map_err(|reasons| SchemaError::Data(told(&reasons)))?;
        Ok(bytes)
    }

    pub(crate) fn of(self, wanted: formats::Format) -> Result<Bound, SchemaError> {
        same(SchemaKey::Id(self.id), self.format, wanted).map(|()| self)
    }

    pub(crate) fn record_name(&self) -> Option<String> {
        self.schema.record_name()
    }
}

pub(crate) struct Schemas {
    registry: Arc<Registry>,
    /// Not where callers show keys: schemas are an admin's to make, and whose key it is the proxy does not know.
    may_register: bool,
    known: Mutex<Known>,
}

type Text = (String, formats::Format, String);

#[derive(Default)]
struct Known {
    ids: HashMap<Text, i32>,
    bytes: usize,
}

impl Schemas {
    pub(crate) fn new(registry: Arc<Registry>, may_register: bool) -> Schemas {
        Schemas { registry, may_register, known: Mutex::default() }
    }

    /// Finds the schema; one that comes as a text is registered under the subject, if it may be.
    pub(crate) async fn bind(&self, subject: &str, named: Named) -> Result<Bound, SchemaError> {
        let schema = match named {
            Named::Id(id) => self.schema(SchemaKey::Id(id))?,
            Named::Version(VersionSpec::Latest) => {
                let latest = self.registry.latest(subject);
                latest.ok_or_else(|| RegistryError::SubjectNotFound(subject.to_owned()))?
            }
            Named::Version(version) => self.registry.snapshot().version(subject, version, Default::default())?.schema,
            Named::Text(format, text) => {
                let id = self.register(subject, format, text).await?;
                self.schema(SchemaKey::Id(id))?
            }
        };
        Ok(Bound { id: schema.id, format: schema.format, schema: self.registry.parsed(&schema)? })
    }

    /// The version of the subject that a schema is, if it is one.
    pub(crate) fn version(&self, subject: &str, id: i32) -> Option<i32> {
        let uses = self.registry.snapshot().uses(id, Default::default()).ok()?;
        uses.into_iter().filter(|(of, _)| **of == *subject).map(|(_, version)| version).next_back()
    }

    /// What the text calls the thing that it describes.
    pub(crate) fn record_name(format: formats::Format, text: &str) -> Result<Option<String>, SchemaError> {
        let parsed = Schema::parse(format, text, &[]).map_err(|error| SchemaError::Refused(error.to_string()))?;
        Ok(parsed.record_name())
    }

    async fn register(&self, subject: &str, format: formats::Format, text: String) -> Result<i32, SchemaError> {
        let text = (subject.to_owned(), format, text);
        let known = self.known().ids.get(&text).copied();
        if let Some(id) = known.filter(|id| self.registry.is_under(subject, *id)) {
            return Ok(id);
        }
        let (of, proposal) = (text.0.clone(), Proposal::new(format, text.2.clone()));
        let id = match self.may_register {
            true => {
                let registered = self.registry.change(move |state, rules| state.register(rules, &of, &proposal)).await;
                let (Outcome { id, .. }, _) = registered?;
                id
            }
            false => {
                let snapshot = self.registry.snapshot();
                // It is parsed there.
                let lookup = move || snapshot.lookup(&of, &proposal, Default::default()).map(|place| place.schema.id);
                let found = tokio::task::spawn_blocking(lookup).await;
                let found = found.map_err(|error| SchemaError::Store(error.to_string()))?;
                found.map_err(|error| SchemaError::Refused(format!("{error}; {REGISTER_FIRST}")))?
            }
        };
        let mut known = self.known();
        known.bytes += text.0.len() + text.2.len();
        if known.bytes > KNOWN_BYTES_MAX {
            *known = Known { bytes: text.0.len() + text.2.len(), ..Known::default() };
        }
        known.ids.insert(text, id);
        Ok(id)
    }

    /// A key or value as JSON of at most about `bytes_max`; `header` is the record's that names its schema.
    pub(crate) fn to_json(
        &self,
        wanted: formats::Format,
        bytes: &[u8],
        header: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Box<RawValue>, SchemaError> {
        let unread = |error: WireError| SchemaError::Unreadable(error.to_string());
        let (key, after, payload) = match header {
            Some(header) => {
                let (key, after) = SchemaKey::in_header(header).map_err(unread)?;
                (key, after, Some(bytes))
            }
            None => {
                let (key, after) = SchemaKey::split(bytes).map_err(unread)?.ok_or(SchemaError::Unnamed)?;
                (key, after, None)
            }
        };
        let schema = self.schema(key)?;
        same(key, schema.format, wanted)?;
        let (path, after) = match schema.format {
            formats::Format::Protobuf => split_path(after).map_err(unread)?,
            _ => (Vec::new(), after),
        };
        let schema = self.registry.parsed(&schema)?;
        let json = schema.to_json(&path, payload.unwrap_or(after), bytes_max);
        let json = json.map_err(|reason| SchemaError::Unreadable(told(&[reason])))?;
        RawValue::from_string(json).map_err(|error| SchemaError::Unreadable(error.to_string()))
    }

    fn schema(&self, key: SchemaKey) -> Result<Arc<Registered>, SchemaError> {
        let found = match key {
            SchemaKey::Id(id) => self.registry.schema(id),
            SchemaKey::Guid(guid) => self.registry.schema_by_guid(guid),
        };
        found.ok_or_else(|| SchemaError::Refused(format!("{key} is not registered")))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing in here is left half done by a panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Schemas {
    /// Over a registry that has none and takes none.
    pub(crate) fn none() -> Schemas {
        use playhouse_log::disk::SimulatedDisk;
        let disk = Arc::new(SimulatedDisk::new());
        let log = playhouse_log::Log::open(disk, "/data".as_ref(), Default::default()).unwrap();
        Schemas::new(Registry::open(&log, Default::default()).unwrap(), true)
    }
}

fn same(key: SchemaKey, found: formats::Format, wanted: formats::Format) -> Result<(), SchemaError> {
    match found == wanted {
        true => Ok(()),
        false => Err(SchemaError::OtherFormat { named: key.to_string(), found, wanted }),
    }
}

fn told(reasons: &[Reason]) -> String {
    let one = |Reason { path, message, .. }: &Reason| match path.is_empty() {
        true => message.clone(),
        false => format!("{path}: {message}"),
    };
    let mut text = reasons.iter().take(REASONS_TOLD).map(one).collect::<Vec<_>>().join("; ");
    if reasons.len() > REASONS_TOLD {
        text.push_str(&format!("; {} more reasons", reasons.len() - REASONS_TOLD));
    }
    text
}
