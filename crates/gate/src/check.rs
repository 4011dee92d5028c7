//! How the values of one topic are checked, for the length of one request: what its settings want, and the schemas of its
//! subject as they are then.

use std::sync::Arc;

use playhouse_log::Topic;
use playhouse_log::batch::Headers;
use playhouse_schema::Reason;
use playhouse_schema::formats::Format;
use playhouse_schema::wire::{SchemaKey, VALUE_SCHEMA_HEADER, WireError, split_path};

use crate::Stage;
use crate::binding::{Binding, OnInvalid, Validation, value_subject};
use crate::gate::Gate;
use crate::schemas::{PayloadValidator, Schemas};
use crate::split::too_large;

/// Why a value is not taken.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) stage: Stage,
    pub(crate) reasons: Vec<Reason>,
    /// Of the schema that it was checked against.
    pub(crate) schema_id: Option<i32>,
}

impl Refusal {
    /// What its reasons take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.reasons.iter().map(|reason| size_of::<Reason>() + reason.path.len() + reason.message.len()).sum()
    }

    fn decode(reason: Reason) -> Refusal {
        Refusal { stage: Stage::Decode, reasons: vec![reason], schema_id: None }
    }

    fn validate(keyword: &str, message: impl Into<String>) -> Refusal {
        Refusal { stage: Stage::Validate, reasons: vec![Reason::whole(keyword, message)], schema_id: None }
    }
}

/// Checks values against the schemas of a topic's subject.
pub(crate) struct Check<'a> {
    schemas: &'a Schemas,
    binding: Binding,
    latest: Option<Arc<dyn PayloadValidator>>,
    /// The schema that the value before named.
    named: Option<(SchemaKey, Arc<dyn PayloadValidator>)>,
    takes_tombstones: bool,
    max_event_bytes: usize,
}

/// What is to be done with the values of a topic.
pub(crate) enum Checking<'a> {
    /// Nothing: any bytes are taken.
    Nothing,
    /// They are JSON under the schema that is configured for the topic, which can be decided while they are split.
    Configured(Check<'a>),
    /// Anything else.
    Subject(Check<'a>),
}

impl Gate {
    pub(crate) fn checking<'a>(&'a self, topic: &Topic) -> Checking<'a> {
        let settings = topic.settings_in_force();
        let binding = Binding::of(topic.name(), &settings.notes, self.default_validation(topic.name()));
        if binding.validation == Validation::None {
            return Checking::Nothing;
        }
        let latest = binding.subject.as_ref().and_then(|subject| self.schemas.latest(subject));
        let is_configured = binding.validation == Validation::Full
            && self.subject(topic.name()).schema.is_some()
            && binding.subject.as_ref().is_some_and(|subject| *subject == value_subject(topic.name()))
            && latest.as_ref().is_some_and(|(_, is_registered)| !is_registered);
        let check = Check {
            schemas: &self.schemas,
            binding,
            latest: latest.map(|(schema, _)| schema),
            named: None,
            // They are how a key is deleted there.
            takes_tombstones: settings.cleanup.compacts(),
            max_event_bytes: self.config.max_event_bytes,
        };
        if is_configured { Checking::Configured(check) } else { Checking::Subject(check) }
    }
}

impl<'a> Checking<'a> {
    pub(crate) fn into_check(self) -> Option<Check<'a>> {
        match self {
            Checking::Nothing => None,
            Checking::Configured(check) | Checking::Subject(check) => Some(check),
        }
    }
}

impl Check<'_> {
    /// Whether the value begins with the name of a schema.
    pub(crate) fn names_schema(value: &[u8]) -> bool {
        !matches!(SchemaKey::split(value), Ok(None))
    }

    pub(crate) fn on_invalid(&self) -> OnInvalid {
        self.binding.on_invalid
    }

    /// The schema of values that name none.
    pub(crate) fn latest_id(&self) -> Option<i32> {
        self.latest.as_ref().and_then(|latest| latest.id())
    }

    /// Whether a value that names no schema has to be JSON.
    pub(crate) fn wants_json(&self) -> bool {
        self.binding.validation == Validation::Full
            && self.latest.as_ref().is_some_and(|latest| latest.format() == Format::Json)
    }

    /// `header` is the one that names the value's schema, where the record has it.
    pub(crate) fn judge(&mut self, value: Option<&[u8]>, header: Option<&[u8]>) -> Result<(), Refusal> {
        let Some(value) = value else {
            return match self.takes_tombstones {
                true => Ok(()),
                false => Err(Refusal::validate("type", "a record without a value (a tombstone) is no event")),
            };
        };
        if value.len() > self.max_event_bytes {
            return Err(Refusal::decode(too_large(value.len(), self.max_event_bytes)));
        }
        match name(value, header).map_err(|error| Refusal::decode(Reason::whole("schema_id", error.to_string())))? {
            Some(named) => self.judge_named(named),
            None => self.judge_bare(value),
        }
    }

    fn judge_named(&mut self, named: Named<'_>) -> Result<(), Refusal> {
        let schema = self.schema(named.key)?;
        if self.binding.validation == Validation::Id {
            return Ok(());
        }
        let refused = |reasons| refused(schema.id(), reasons);
        let (payload, message) = match schema.format() {
            Format::Protobuf => {
                let in_path = |error: WireError| refused(vec![Reason::whole("schema_id", error.to_string())]);
                let (path, rest) = split_path(named.after).map_err(in_path)?;
                (named.payload.unwrap_or(rest), path)
            }
            _ => (named.payload.unwrap_or(named.after), Vec::new()),
        };
        schema.check(payload, &message).map_err(refused)
    }

    /// What `key` names, if the topic takes it.
    fn schema(&mut self, key: SchemaKey) -> Result<Arc<dyn PayloadValidator>, Refusal> {
        if let Some((_, schema)) = self.named.as_ref().filter(|(named, _)| *named == key) {
            return Ok(schema.clone());
        }
        let found = self.schemas.find(key);
        let schema = found.ok_or_else(|| Refusal::validate("schema_id", format!("{key} is not registered")))?;
        if let Some(subject) = &self.binding.subject
            && !self.schemas.is_under(subject, key)
        {
            let message = format!("{key} is none of the subject {subject:?}, whose schemas this topic takes");
            return Err(Refusal { schema_id: schema.id(), ..Refusal::validate("schema_id", message) });
        }
        self.named = Some((key, schema.clone()));
        Ok(schema)
    }

    fn judge_bare(&self, value: &[u8]) -> Result<(), Refusal> {
        let what = "the value names no schema";
        let how =
            format!("send the schema's id before it (a byte 0, four bytes) or in the header {VALUE_SCHEMA_HEADER}");
        let missing = |message: String| Err(Refusal::validate("schema_id", message));
        let subject = match (&self.binding.subject, self.binding.validation) {
            (Some(subject), Validation::Full) => subject,
            _ => return missing(format!("{what}: {how}")),
        };
        match &self.latest {
            None => {
                let message = format!("no schema is registered under the subject {subject:?}: register one first");
                Err(Refusal::validate("subject", message))
            }
            Some(latest) if latest.format() != Format::Json => {
                missing(format!("{what}, and those of the subject {subject:?} are {}: {how}", latest.format()))
            }
            Some(latest) => latest.check(value, &[]).map_err(|reasons| refused(latest.id(), reasons)),
        }
    }
}

/// A value that names its schema.
struct Named<'a> {
    key: SchemaKey,
    /// What follows the name where it stands.
    after: &'a [u8],
    /// Where the name stands in a header, all of the value.
    payload: Option<&'a [u8]>,
}

/// The header that names a value's schema: the last of that name, as it is for the clients.
pub(crate) fn schema_header(headers: Headers<'_>) -> Option<&[u8]> {
    let (_, value) = headers.filter(|(name, _)| *name == VALUE_SCHEMA_HEADER).last()?;
    Some(value.unwrap_or_default())
}

/// A header goes before a prefix.
fn name<'a>(value: &'a [u8], header: Option<&'a [u8]>) -> Result<Option<Named<'a>>, WireError> {
    if let Some(header) = header {
        let (key, after) = SchemaKey::in_header(header)?;
        return Ok(Some(Named { key, after, payload: Some(value) }));
    }
    Ok(SchemaKey::split(value)?.map(|(key, after)| Named { key, after, payload: None }))
}

fn refused(schema_id: Option<i32>, reasons: Vec<Reason>) -> Refusal {
    Refusal { stage: stage_of(&reasons), reasons, schema_id }
}

/// What cannot be read at all is told from what reads, and is not what the schema wants.
pub(crate) fn stage_of(reasons: &[Reason]) -> Stage {
    let unread = ["json", "encoding", "depth", "avro", "protobuf", "schema_id"];
    let decode = reasons.iter().any(|reason| unread.contains(&&*reason.keyword));
    if decode { Stage::Decode } else { Stage::Validate }
}
