//! The maps, and how a change changes them.

use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};
use uuid::Uuid;

use super::Change;
use super::types::{Config, Mode, Registered, guid_of};

/// A version of a subject.
pub(super) type Use = (Arc<str>, i32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) id: i32,
    pub(super) deleted: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub(super) versions: RedBlackTreeMapSync<i32, Version>,
    /// How many of them are not deleted.
    pub(super) live: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) schema: Arc<Registered>,
    /// Versions that are this schema, deleted ones too; never empty.
    pub(super) uses: RedBlackTreeSetSync<Use>,
}

/// All that a registry knows. A clone shares everything with the original.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(super) subjects: RedBlackTreeMapSync<Arc<str>, Subject>,
    pub(super) ids: HashTrieMapSync<i32, Stored>,
    /// Imported schemas may be the same under several ids; lowest first.
    pub(super) guids: HashTrieMapSync<Uuid, Arc<[i32]>>,
    /// Ids of the schemas that refer to a version.
    pub(super) referrers: RedBlackTreeMapSync<Use, RedBlackTreeSetSync<i32>>,
    pub(super) global_config: Config,
    pub(super) global_mode: Mode,
    pub(super) configs: RedBlackTreeMapSync<Arc<str>, Config>,
    pub(super) modes: RedBlackTreeMapSync<Arc<str>, Mode>,
    /// The highest id ever given.
    pub(super) id_max: i32,
    /// Of the texts of all schemas.
    pub(super) text_bytes: usize,
}

impl State {
    /// The only way in which a state changes.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Version { subject, version, id, deleted, format, text, references, metadata, rule_set } => {
                let subject: Arc<str> = subject.into();
                let mut entry = self.subjects.get(&subject).cloned().unwrap_or_default();
                if let Some(before) = entry.versions.get(&version).copied() {
                    entry.live -= usize::from(!before.deleted);
                    if before.id != id {
                        self.forget_use(before.id, &(subject.clone(), version));
                    }
                }
                entry.live += usize::from(!deleted);
                entry.versions.insert_mut(version, Version { id, deleted });
                self.subjects.insert_mut(subject.clone(), entry);
                self.id_max = self.id_max.max(id);
                let mut stored = match self.ids.get(&id) {
                    Some(stored) => stored.clone(),
                    None => self.store(Registered {
                        id,
                        guid: guid_of(format, &text, &references, metadata.as_ref(), rule_set.as_ref()),
                        format,
                        text,
                        references,
                        metadata,
                        rule_set,
                        parsed: Default::default(),
                        used: Default::default(),
                    }),
                };
                stored.uses.insert_mut((subject, version));
                self.ids.insert_mut(id, stored);
            }
            Change::VersionGone { subject, version } => {
                let Some((subject, entry)) = self.subjects.get_key_value(subject.as_str()) else { return };
                let (subject, mut entry) = (subject.clone(), entry.clone());
                let Some(before) = entry.versions.get(&version).copied() else { return };
                entry.versions.remove_mut(&version);
                entry.live -= usize::from(!before.deleted);
                if entry.versions.is_empty() {
                    self.subjects.remove_mut(&subject);
                } else {
                    self.subjects.insert_mut(subject.clone(), entry);
                }
                self.forget_use(before.id, &(subject, version));
            }
            Change::SubjectDeleted { subject, version } => {
                let Some((subject, entry)) = self.subjects.get_key_value(subject.as_str()) else { return };
                let (subject, mut entry) = (subject.clone(), entry.clone());
                let range = entry.versions.range(..=version);
                let live: Vec<(i32, Version)> =
                    range.filter(|(_, it)| !it.deleted).map(|(version, it)| (*version, *it)).collect();
                for (version, before) in live {
                    entry.live -= 1;
                    entry.versions.insert_mut(version, Version { deleted: true, ..before });
                }
                self.subjects.insert_mut(subject, entry);
            }
            Change::Config { subject: None, config } => self.global_config = config.unwrap_or_default(),
            Change::Mode { subject: None, mode } => self.global_mode = mode.unwrap_or_default(),
            Change::Config { subject: Some(subject), config } => {
                match config {
                    Some(config) => self.configs.insert_mut(subject.into(), config),
                    None => drop(self.configs.remove_mut(subject.as_str())),
                };
            }
            Change::Mode { subject: Some(subject), mode } => {
                match mode {
                    Some(mode) => self.modes.insert_mut(subject.into(), mode),
                    None => drop(self.modes.remove_mut(subject.as_str())),
                };
            }
            Change::MaxId(id) => self.id_max = self.id_max.max(id),
        }
    }

    fn store(&mut self, schema: Registered) -> Stored {
        self.text_bytes += schema.text.len();
        for reference in &schema.references {
            let to: Use = (reference.subject.as_str().into(), reference.version);
            let mut ids = self.referrers.get(&to).cloned().unwrap_or_default();
            ids.insert_mut(schema.id);
            self.referrers.insert_mut(to, ids);
        }
        let mut same: Vec<i32> = self.guids.get(&schema.guid).map(|ids| ids.to_vec()).unwrap_or_default();
        same.push(schema.id);
        same.sort_unstable();
        self.guids.insert_mut(schema.guid, same.into());
        Stored { schema: Arc::new(schema), uses: RedBlackTreeSetSync::new_sync() }
    }

    /// A schema that no version is any more goes.
    fn forget_use(&mut self, id: i32, place: &Use) {
        let Some(stored) = self.ids.get(&id) else { return };
        let mut stored = stored.clone();
        stored.uses.remove_mut(place);
        if !stored.uses.is_empty() {
            self.ids.insert_mut(id, stored);
            return;
        }
        self.ids.remove_mut(&id);
        let schema = stored.schema;
        self.text_bytes -= schema.text.len();
        for reference in &schema.references {
            let to: Use = (reference.subject.as_str().into(), reference.version);
            let Some(ids) = self.referrers.get(&to) else { continue };
            let ids = ids.remove(&id);
            if ids.is_empty() {
                self.referrers.remove_mut(&to);
            } else {
                self.referrers.insert_mut(to, ids);
            }
        }
        let same = self.guids.get(&schema.guid).into_iter().flat_map(|ids| ids.iter().copied());
        let same: Vec<i32> = same.filter(|other| *other != id).collect();
        if same.is_empty() {
            self.guids.remove_mut(&schema.guid);
        } else {
            self.guids.insert_mut(schema.guid, same.into());
        }
    }
}
