//! Deletion: soft first (no longer offered, still found by id), then permanent.

use super::types::VersionSpec;
use super::{Change, Decision, RegistryError, Shown, State};

impl State {
    /// The answer lists the versions that went.
    pub fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Decision<Vec<i32>>, RegistryError> {
        self.check_writable(subject)?;
        let all = self.versions(subject, Shown::All)?;
        let live = self.versions(subject, Shown::Live).unwrap_or_default();
        if permanent && !live.is_empty() {
            return Err(RegistryError::SubjectNotSoftDeleted(subject.to_owned()));
        }
        if !permanent && live.is_empty() {
            return Err(RegistryError::SubjectSoftDeleted(subject.to_owned()));
        }
        let answer = if permanent { all } else { live };
        answer.iter().try_for_each(|version| self.check_unreferenced(subject, *version, permanent))?;
        let changes = if permanent {
            self.gone(subject, &answer)
        } else {
            let mut changes = self.without_settings(subject);
            let last = answer.last().copied().unwrap_or_default();
            changes.insert(0, Change::SubjectDeleted { subject: subject.to_owned(), version: last });
            changes
        };
        Ok(Decision { changes, answer })
    }

    pub fn delete_version(
        &self,
        subject: &str,
        version: VersionSpec,
        permanent: bool,
    ) -> Result<Decision<i32>, RegistryError> {
        self.check_writable(subject)?;
        // The latest is the latest that can go this way.
        let shown = match (version, permanent) {
            (VersionSpec::Number(_), _) => Shown::All,
            (VersionSpec::Latest, true) => Shown::Deleted,
            (VersionSpec::Latest, false) => Shown::Live,
        };
        let place = self.version(subject, version, shown)?;
        let answer = place.version;
        let deleted = self.is_deleted(subject, answer);
        if permanent && !deleted {
            return Err(RegistryError::VersionNotSoftDeleted(subject.to_owned(), answer));
        }
        if !permanent && deleted {
            return Err(RegistryError::VersionSoftDeleted(subject.to_owned(), answer));
        }
        self.check_unreferenced(subject, answer, permanent)?;
        let changes = if permanent {
            self.gone(subject, &[answer])
        } else {
            let schema = &place.schema;
            let mut changes = vec![Change::Version {
                subject: subject.to_owned(),
                version: answer,
                id: schema.id,
                deleted: true,
                format: schema.format,
                text: schema.text.clone(),
                references: schema.references.clone(),
                metadata: schema.metadata.clone(),
                rule_set: schema.rule_set.clone(),
            }];
            if self.versions(subject, Shown::Live).is_ok_and(|live| live == [answer]) {
                changes.extend(self.without_settings(subject));
            }
            changes
        };
        Ok(Decision { changes, answer })
    }

    /// Tombstones. Compaction forgets them, so what remains says which ids were given.
    fn gone(&self, subject: &str, versions: &[i32]) -> Vec<Change> {
        let gone =
            versions.iter().map(|version| Change::VersionGone { subject: subject.to_owned(), version: *version });
        std::iter::once(Change::MaxId(self.id_max)).chain(gone).collect()
    }

    /// A subject without live versions has no settings.
    fn without_settings(&self, subject: &str) -> Vec<Change> {
        let name = || Some(subject.to_owned());
        let config = self.own_config(subject).map(|_| Change::Config { subject: name(), config: None });
        let mode = self.own_mode(subject).map(|_| Change::Mode { subject: name(), mode: None });
        config.into_iter().chain(mode).collect()
    }

    fn check_unreferenced(&self, subject: &str, version: i32, permanent: bool) -> Result<(), RegistryError> {
        // What is deleted softly is still found by id, and needs what it refers to.
        let referrers = self.referenced_by(subject, version, if permanent { Shown::All } else { Shown::Live });
        if referrers.is_empty() {
            return Ok(());
        }
        Err(RegistryError::Referenced(subject.to_owned(), version, referrers))
    }
}
