//! Whether a schema fits those that a subject has.

use std::sync::Arc;

use super::register::Rules;
use super::types::{Level, Proposal, VersionSpec};
use super::{Place, RegistryError, Shown, State};
use crate::compatibility::incompatibilities;
use crate::formats::Schema;

/// What an answer tells at most.
const MESSAGES_MAX: usize = 100;

/// What a schema is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// As many versions as the level in force demands.
    Level,
    /// One, in the directions of the level in force.
    Version(VersionSpec),
}

impl State {
    /// Why the subject would not take the proposal; empty if it would.
    pub fn compare(
        &self,
        rules: &Rules<'_>,
        subject: &str,
        proposal: &Proposal,
        against: Against,
    ) -> Result<Vec<String>, RegistryError> {
        let candidate = self.candidate(subject, proposal)?;
        let level = self.level(subject);
        let versions = match against {
            Against::Level => self.demanded(subject, level),
            Against::Version(version) => match self.version(subject, version, Shown::Live) {
                Ok(place) => vec![place],
                // Where there is nothing yet, everything fits.
                Err(_) if version == VersionSpec::Latest => Vec::new(),
                Err(error) => return Err(error),
            },
        };
        self.obstacles(rules, &candidate.schema, level, &versions)
    }

    pub(super) fn level(&self, subject: &str) -> Level {
        self.config(Some(subject)).level.unwrap_or_default()
    }

    /// The versions that a new one has to fit.
    pub(super) fn demanded(&self, subject: &str, level: Level) -> Vec<Place> {
        match level {
            Level::None => Vec::new(),
            level if level.is_transitive() => self.live_newest_first(subject),
            _ => self.version(subject, VersionSpec::Latest, Shown::Live).into_iter().collect(),
        }
    }

    pub(super) fn obstacles(
        &self,
        rules: &Rules<'_>,
        new: &Schema,
        level: Level,
        versions: &[Place],
    ) -> Result<Vec<String>, RegistryError> {
        let mut messages = Vec::new();
        if level == Level::None {
            return Ok(messages);
        }
        for place in versions {
            let old: Arc<Schema> = rules.cache.get(self, &place.schema)?;
            let tail = format!("{{oldSchemaVersion: {}, compatibility: '{level}'}}", place.version);
            if new.format() != old.format() {
                let (new, old) = (new.format(), old.format());
                messages.push(format!("a schema of type {new} cannot follow one of type {old}; {tail}"));
                continue;
            }
            let backward = if level.is_backward() { incompatibilities(new, &old) } else { Vec::new() };
            let forward = if level.is_forward() { incompatibilities(&old, new) } else { Vec::new() };
            let sides = [
                ("the new schema cannot read the old data", backward),
                ("the old schema cannot read new data", forward),
            ];
            for (side, found) in sides {
                messages.extend(found.iter().map(|it| format!("{side}: {it}; {tail}")));
            }
            if messages.len() >= MESSAGES_MAX {
                messages.truncate(MESSAGES_MAX);
                break;
            }
        }
        Ok(messages)
    }
}
