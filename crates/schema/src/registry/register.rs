//! New versions, and the question whether there is one already.

use serde_json::Value;
use uuid::Uuid;

use super::types::{Mode, Proposal, Reference, VersionSpec, cut, guid_of};
use super::{Change, Decision, ParsedCache, Place, RegistryError, Shown, State, subject_name};
use crate::formats::{Format, SCHEMA_BYTES_MAX, Schema};

/// Direct ones, of one schema.
const REFERENCES_MAX: usize = 200;
const METADATA_BYTES_MAX: usize = 64 << 10;

/// How much a registry takes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Text of all schemas, which is in memory.
    pub text_bytes: usize,
    /// Of one subject, deleted ones included.
    pub versions_per_subject: usize,
    pub subjects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { text_bytes: 256 << 20, versions_per_subject: 1000, subjects: 1_000_000 }
    }
}

/// What a decision needs beside the state.
#[derive(Debug)]
pub struct Rules<'a> {
    pub cache: &'a ParsedCache,
    pub limits: &'a Limits,
}

/// The version that a proposal has become, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub version: i32,
    pub id: i32,
}

/// A proposal, parsed.
pub(super) struct Candidate {
    pub(super) schema: Schema,
    text: String,
    references: Vec<Reference>,
    metadata: Option<Value>,
    rule_set: Option<Value>,
    guid: Uuid,
}

impl State {
    /// The version of a subject that is this schema.
    pub fn lookup(&self, subject: &str, proposal: &Proposal, shown: Shown) -> Result<Place, RegistryError> {
        if !self.has_subject(subject, shown) {
            return Err(RegistryError::SubjectNotFound(subject.to_owned()));
        }
        let candidate = self.candidate(subject, proposal)?;
        self.find(subject, candidate.guid, shown)
            .ok_or_else(|| RegistryError::SchemaNotFound(format!("under subject {subject:?}")))
    }

    pub fn register(
        &self,
        rules: &Rules<'_>,
        subject: &str,
        proposal: &Proposal,
    ) -> Result<Decision<Outcome>, RegistryError> {
        let subject = subject_name(subject)?;
        let candidate = self.candidate(subject, proposal)?;
        let unchanged = |place: &Place| {
            let answer = Outcome { version: place.version, id: place.schema.id };
            Ok(Decision { changes: Vec::new(), answer })
        };
        let same = self.find(subject, candidate.guid, Shown::Live);
        if let Some(place) = &same {
            let same_id = proposal.id.is_none_or(|id| id == place.schema.id);
            let same_version = proposal.version.is_none_or(|version| version == place.version);
            if same_id && same_version {
                return unchanged(place);
            }
        }
        let mode = self.mode(Some(subject));
        self.check_writable(subject)?;
        let answer = if mode == Mode::Import {
            self.imported(subject, proposal, candidate.guid)?
        } else {
            if let Some(id) = proposal.id {
                let reason = format!("id {id} was given, but subject {subject:?} is not in import mode");
                return Err(RegistryError::NotPermitted(reason));
            }
            let next = self.next_version(subject);
            match (&same, proposal.version) {
                (Some(place), _) => return unchanged(place),
                (None, Some(version)) if version != next => {
                    let reason = format!("version {version} is not the next one of subject {subject:?}, {next}");
                    return Err(RegistryError::NotPermitted(reason));
                }
                _ => {}
            }
            let level = self.level(subject);
            let messages = self.obstacles(rules, &candidate.schema, level, &self.demanded(subject, level))?;
            if !messages.is_empty() {
                return Err(RegistryError::Incompatible { subject: subject.to_owned(), messages });
            }
            let known = self.ids_of_guid(candidate.guid).first().copied();
            let id = known.or_else(|| self.id_max.checked_add(1));
            let id = id.ok_or_else(|| RegistryError::TooLarge("there are no more ids".to_owned()))?;
            Outcome { version: next, id }
        };
        self.check_room(rules.limits, subject, &candidate)?;
        let change = Change::Version {
            subject: subject.to_owned(),
            version: answer.version,
            id: answer.id,
            deleted: false,
            format: proposal.format,
            text: candidate.text,
            references: candidate.references,
            metadata: candidate.metadata,
            rule_set: candidate.rule_set,
        };
        Ok(Decision { changes: vec![change], answer })
    }

    /// The id and version that come with it, as far as they do not contradict what is there.
    fn imported(&self, subject: &str, proposal: &Proposal, guid: Uuid) -> Result<Outcome, RegistryError> {
        let Some(id) = proposal.id else {
            let reason = format!("subject {subject:?} is in import mode: give an id");
            return Err(RegistryError::NotPermitted(reason));
        };
        let version = proposal.version.unwrap_or_else(|| self.next_version(subject));
        if id < 1 || version < 1 {
            return Err(RegistryError::InvalidVersion(format!("id {id}, version {version}")));
        }
        if self.by_id(id).is_some_and(|other| other.guid != guid) {
            return Err(RegistryError::NotPermitted(format!("id {id} is another schema already")));
        }
        if let Some(other) = self.find(subject, guid, Shown::Live).filter(|other| other.schema.id != id) {
            return Err(RegistryError::IdMismatch { asked: id, found: other.schema.id });
        }
        match self.version(subject, VersionSpec::Number(version), Shown::All) {
            Ok(place) if place.schema.id != id => {
                let reason = format!("version {version} of subject {subject:?} is another schema already");
                Err(RegistryError::NotPermitted(reason))
            }
            _ => Ok(Outcome { version, id }),
        }
    }

    /// After all that ever were, as far as they were not deleted permanently.
    fn next_version(&self, subject: &str) -> i32 {
        let last =
            self.subjects.get(subject).and_then(|entry| entry.versions.last()).map_or(0, |(version, _)| *version);
        last.saturating_add(1)
    }

    fn check_room(&self, limits: &Limits, subject: &str, candidate: &Candidate) -> Result<(), RegistryError> {
        let versions = self.subjects.get(subject).map(|entry| entry.versions.size());
        if versions.is_none() && self.subjects.size() >= limits.subjects {
            return Err(RegistryError::TooLarge(format!("the registry has its limit of {} subjects", limits.subjects)));
        }
        if versions.is_some_and(|versions| versions >= limits.versions_per_subject) {
            let limit = limits.versions_per_subject;
            return Err(RegistryError::TooLarge(format!(
                "subject {subject:?} has its limit of {limit} versions: delete some permanently"
            )));
        }
        if self.text_bytes + candidate.text.len() > limits.text_bytes {
            let limit = limits.text_bytes;
            return Err(RegistryError::TooLarge(format!(
                "the schemas of all subjects have their limit of {limit} bytes"
            )));
        }
        Ok(())
    }

    pub(super) fn candidate(&self, subject: &str, proposal: &Proposal) -> Result<Candidate, RegistryError> {
        let Proposal { format, text, .. } = proposal;
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(RegistryError::TooLarge(format!("the schema has more than {SCHEMA_BYTES_MAX} bytes")));
        }
        if proposal.references.len() > REFERENCES_MAX {
            return Err(RegistryError::TooLarge(format!("the schema has more than {REFERENCES_MAX} references")));
        }
        let metadata = extra("metadata", proposal.metadata.as_ref())?;
        let rule_set = extra("ruleSet", proposal.rule_set.as_ref())?;
        let references = proposal.references.iter().map(|reference| self.fixed(reference));
        let references = references.collect::<Result<Vec<_>, _>>()?;
        let resolved = self.resolve(&references)?;
        let schema = Schema::parse(*format, text, &resolved)
            .map_err(|error| RegistryError::InvalidSchema { format: *format, error })?;
        let normalize = proposal.normalize || self.config(Some(subject)).normalize == Some(true);
        let text = if normalize { schema.normalized() } else { schema.canonical().to_owned() };
        let guid = guid_of(*format, &text, &references, metadata.as_ref(), rule_set.as_ref());
        Ok(Candidate { schema, text, references, metadata, rule_set, guid })
    }

    /// A reference to the latest version, to that version.
    fn fixed(&self, reference: &Reference) -> Result<Reference, RegistryError> {
        let nowhere = |_| {
            let Reference { name, subject, version } = reference;
            RegistryError::Invalid(format!(
                "the reference {:?} to version {version} of subject {:?} leads nowhere: register that first",
                cut(name),
                cut(subject)
            ))
        };
        let subject = subject_name(&reference.subject)?;
        let version =
            if reference.version == -1 { VersionSpec::Latest } else { VersionSpec::Number(reference.version) };
        let place = self.version(subject, version, Shown::Live).map_err(nowhere)?;
        Ok(Reference { name: reference.name.clone(), subject: subject.to_owned(), version: place.version })
    }

    pub(super) fn check_writable(&self, subject: &str) -> Result<(), RegistryError> {
        let mode = self.mode(Some(subject));
        if mode.is_read_only() {
            return Err(RegistryError::NotPermitted(format!("subject {subject:?} is in mode {mode}")));
        }
        Ok(())
    }
}

/// Metadata or rules without what says nothing: clients that read a schema write such members back which were not there.
fn extra(name: &str, value: Option<&Value>) -> Result<Option<Value>, RegistryError> {
    let members = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(RegistryError::Invalid(format!("{name} has to be an object"))),
    };
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    let members = members.iter().filter(|(_, value)| !says_nothing(value));
    let members: serde_json::Map<_, _> = members.map(|(key, value)| (key.clone(), value.clone())).collect();
    if members.is_empty() {
        return Ok(None);
    }
    let mut value = Value::Object(members);
    // Where another crate asks serde_json to keep the order of members, identity must not depend on it.
    value.sort_all_objects();
    if value.to_string().len() > METADATA_BYTES_MAX {
        return Err(RegistryError::TooLarge(format!("{name} has more than {METADATA_BYTES_MAX} bytes")));
    }
    Ok(Some(value))
}

impl Proposal {
    /// A schema with nothing beside it.
    pub fn new(format: Format, text: impl Into<String>) -> Proposal {
        Proposal {
            format,
            text: text.into(),
            references: Vec::new(),
            metadata: None::<Value>,
            rule_set: None,
            id: None,
            version: None,
            normalize: false,
        }
    }
}
