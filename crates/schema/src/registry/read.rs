//! Questions to a state.

use std::ops::Bound;
use std::sync::Arc;

use uuid::Uuid;

use super::RegistryError;
use super::state::{State, Subject, Version};
use super::types::{Config, Level, Mode, Reference, Registered, VersionSpec, cut};
use crate::formats::{NamedSchema, SCHEMA_BYTES_MAX};

/// Chains and numbers of references beyond these are not followed.
const REFERENCE_DEPTH_MAX: usize = 64;
const REFERENCES_MAX: usize = 1000;

/// Which of live and deleted versions a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown {
    #[default]
    Live,
    All,
    Deleted,
}

impl Shown {
    fn has(self, version: &Version) -> bool {
        match self {
            Shown::Live => !version.deleted,
            Shown::All => true,
            Shown::Deleted => version.deleted,
        }
    }
}

/// A version of a subject, with its schema.
#[derive(Debug, Clone)]
pub struct Place {
    pub subject: Arc<str>,
    pub version: i32,
    pub schema: Arc<Registered>,
}

impl State {
    pub fn by_id(&self, id: i32) -> Option<&Arc<Registered>> {
        self.ids.get(&id).map(|stored| &stored.schema)
    }

    /// The lowest id, if an import has left several.
    pub fn by_guid(&self, guid: Uuid) -> Option<&Arc<Registered>> {
        self.by_id(*self.guids.get(&guid)?.first()?)
    }

    pub fn ids_of_guid(&self, guid: Uuid) -> &[i32] {
        self.guids.get(&guid).map_or(&[], |ids| ids)
    }

    pub fn id_max(&self) -> i32 {
        self.id_max
    }

    pub fn schema_count(&self) -> usize {
        self.ids.size()
    }

    pub fn subject_count(&self) -> usize {
        self.subjects.size()
    }

    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Names that begin so, in order; those with at least one version that is shown.
    pub fn subjects<'a>(&'a self, prefix: &'a str, shown: Shown) -> impl Iterator<Item = &'a Arc<str>> {
        self.entries(prefix)
            .filter(move |(_, entry)| match shown {
                Shown::Live => entry.live > 0,
                Shown::All => true,
                // Deleted as a whole.
                Shown::Deleted => entry.live == 0,
            })
            .map(|(name, _)| name)
    }

    /// Versions of all subjects whose names begin so, in order.
    pub fn schemas<'a>(&'a self, prefix: &'a str, shown: Shown, latest_only: bool) -> impl Iterator<Item = Place> + 'a {
        self.entries(prefix).flat_map(move |(name, entry)| {
            let latest =
                entry.versions.iter().rev().find(|(_, version)| shown.has(version)).map(|(version, _)| *version);
            let seen = entry.versions.iter().filter(move |(_, version)| shown.has(version));
            seen.filter(move |(version, _)| !latest_only || latest == Some(**version))
                .filter_map(|(version, it)| self.place(name, *version, it))
        })
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Arc<str>, &'a Subject)> {
        let range = (Bound::Included(prefix), Bound::Unbounded);
        self.subjects.range::<str, _>(range).take_while(move |(name, _)| name.starts_with(prefix))
    }

    pub fn has_subject(&self, subject: &str, shown: Shown) -> bool {
        self.subjects.get(subject).is_some_and(|entry| match shown {
            Shown::Live => entry.live > 0,
            Shown::All => true,
            Shown::Deleted => entry.live < entry.versions.size(),
        })
    }

    pub fn versions(&self, subject: &str, shown: Shown) -> Result<Vec<i32>, RegistryError> {
        let versions = self.subjects.get(subject).into_iter().flat_map(|entry| entry.versions.iter());
        let versions: Vec<i32> = versions.filter(|(_, it)| shown.has(it)).map(|(version, _)| *version).collect();
        if versions.is_empty() { Err(RegistryError::SubjectNotFound(subject.to_owned())) } else { Ok(versions) }
    }

    pub fn version(&self, subject: &str, version: VersionSpec, shown: Shown) -> Result<Place, RegistryError> {
        let not_found = || {
            if self.has_subject(subject, shown) {
                RegistryError::VersionNotFound(subject.to_owned(), version.to_string())
            } else {
                RegistryError::SubjectNotFound(subject.to_owned())
            }
        };
        let (name, entry) = self.subjects.get_key_value(subject).ok_or_else(not_found)?;
        let found = match version {
            VersionSpec::Latest => entry.versions.iter().rev().find(|(_, it)| shown.has(it)),
            VersionSpec::Number(number) => entry.versions.get_key_value(&number).filter(|(_, it)| shown.has(it)),
        };
        found.and_then(|(version, it)| self.place(name, *version, it)).ok_or_else(not_found)
    }

    /// The schema of the newest live version.
    pub fn latest(&self, subject: &str) -> Option<&Arc<Registered>> {
        let entry = self.subjects.get(subject)?;
        let (_, version) = entry.versions.iter().rev().find(|(_, version)| !version.deleted)?;
        self.by_id(version.id)
    }

    /// The newest live version whose metadata has all of these properties.
    pub fn latest_with_metadata(
        &self,
        subject: &str,
        wanted: &[(&str, &str)],
        shown: Shown,
    ) -> Result<Place, RegistryError> {
        let versions = self.versions(subject, shown)?;
        let matches = |place: &Place| {
            let properties = place.schema.metadata.as_ref().map(|metadata| &metadata["properties"]);
            wanted.iter().all(|(key, value)| properties.is_some_and(|it| it[*key].as_str() == Some(value)))
        };
        let newest_first = versions.iter().rev();
        newest_first
            .filter_map(|version| self.version(subject, VersionSpec::Number(*version), shown).ok())
            .find(matches)
            .ok_or_else(|| RegistryError::VersionNotFound(subject.to_owned(), "with such metadata".to_owned()))
    }

    /// Live versions, newest first.
    pub(super) fn live_newest_first(&self, subject: &str) -> Vec<Place> {
        let Some((name, entry)) = self.subjects.get_key_value(subject) else { return Vec::new() };
        let live = entry.versions.iter().rev().filter(|(_, it)| !it.deleted);
        live.filter_map(|(version, it)| self.place(name, *version, it)).collect()
    }

    fn place(&self, subject: &Arc<str>, version: i32, it: &Version) -> Option<Place> {
        Some(Place { subject: subject.clone(), version, schema: self.by_id(it.id)?.clone() })
    }

    pub(super) fn is_deleted(&self, subject: &str, version: i32) -> bool {
        let version = self.subjects.get(subject).and_then(|entry| entry.versions.get(&version));
        version.is_some_and(|version| version.deleted)
    }

    /// Versions that are this schema.
    pub fn uses(&self, id: i32, shown: Shown) -> Result<Vec<(Arc<str>, i32)>, RegistryError> {
        let stored = self.ids.get(&id).ok_or_else(|| RegistryError::SchemaNotFound(id.to_string()))?;
        let shown = |(subject, version): &&(Arc<str>, i32)| {
            shown.has(&Version { id, deleted: self.is_deleted(subject, *version) })
        };
        Ok(stored.uses.iter().filter(shown).cloned().collect())
    }

    /// Whether the schema is a version of the subject, deleted or not: data written with it may still come.
    pub fn is_under(&self, subject: &str, id: i32) -> bool {
        let Some((name, _)) = self.subjects.get_key_value(subject) else { return false };
        let range = (name.clone(), 0)..=(name.clone(), i32::MAX);
        self.ids.get(&id).is_some_and(|stored| stored.uses.range(range).next().is_some())
    }

    /// Ids of the schemas that refer to a version, in order.
    pub fn referenced_by(&self, subject: &str, version: i32, shown: Shown) -> Vec<i32> {
        let ids = self.referrers.get(&(Arc::from(subject), version)).into_iter().flat_map(|ids| ids.iter().copied());
        ids.filter(|id| self.uses(*id, shown).is_ok_and(|uses| !uses.is_empty())).collect()
    }

    /// The newest version of a subject with this content.
    pub(super) fn find(&self, subject: &str, guid: Uuid, shown: Shown) -> Option<Place> {
        let (name, entry) = self.subjects.get_key_value(subject)?;
        let ids = self.ids_of_guid(guid).iter().filter_map(|id| self.ids.get(id));
        let range = (name.clone(), 0)..=(name.clone(), i32::MAX);
        let found = ids.flat_map(|stored| stored.uses.range(range.clone())).map(|(_, version)| *version);
        let newest = found.filter(|version| entry.versions.get(version).is_some_and(|it| shown.has(it))).max()?;
        self.place(name, newest, entry.versions.get(&newest)?)
    }

    /// None if the subject has no settings of its own.
    pub fn own_config(&self, subject: &str) -> Option<Config> {
        self.configs.get(subject).copied()
    }

    /// With what the subject leaves open filled in.
    pub fn config(&self, subject: Option<&str>) -> Config {
        let own = subject.and_then(|subject| self.own_config(subject)).unwrap_or_default();
        Config {
            level: own.level.or(self.global_config.level).or(Some(Level::default())),
            normalize: own.normalize.or(self.global_config.normalize),
        }
    }

    pub fn own_mode(&self, subject: &str) -> Option<Mode> {
        self.modes.get(subject).copied()
    }

    /// The mode in force.
    pub fn mode(&self, subject: Option<&str>) -> Mode {
        match (self.global_mode, subject.and_then(|subject| self.own_mode(subject))) {
            (Mode::ReadonlyOverride, _) | (_, None) => self.global_mode,
            (_, Some(own)) => own,
        }
    }

    /// The texts that references stand for, dependencies first. Of two that call different versions by one name, the one
    /// met first stands for both.
    pub(super) fn resolve(&self, references: &[Reference]) -> Result<Vec<NamedSchema>, RegistryError> {
        let mut resolved = Vec::new();
        self.resolve_into(references, 0, &mut resolved, &mut 0)?;
        Ok(resolved)
    }

    fn resolve_into(
        &self,
        references: &[Reference],
        depth: usize,
        resolved: &mut Vec<NamedSchema>,
        bytes: &mut usize,
    ) -> Result<(), RegistryError> {
        if depth > REFERENCE_DEPTH_MAX {
            return Err(RegistryError::Invalid(format!("references go deeper than {REFERENCE_DEPTH_MAX} levels")));
        }
        for reference in references {
            if resolved.iter().any(|known| known.name == reference.name) {
                continue;
            }
            let version = VersionSpec::Number(reference.version);
            let place = self.version(&reference.subject, version, Shown::All).map_err(|_| {
                RegistryError::Invalid(format!(
                    "the reference {:?} to version {} of subject {:?} leads nowhere: register that first",
                    cut(&reference.name),
                    reference.version,
                    cut(&reference.subject)
                ))
            })?;
            self.resolve_into(&place.schema.references, depth + 1, resolved, bytes)?;
            *bytes += place.schema.text.len();
            if *bytes > SCHEMA_BYTES_MAX || resolved.len() >= REFERENCES_MAX {
                return Err(RegistryError::TooLarge(format!(
                    "references lead to more than {SCHEMA_BYTES_MAX} bytes or {REFERENCES_MAX} schemas"
                )));
            }
            resolved.push(NamedSchema { name: reference.name.clone(), text: place.schema.text.clone() });
        }
        Ok(())
    }
}
