//! API keys: who may send events, and to which topics.
//!
//! - [`token`]: what a caller shows, and what is kept of it;
//! - [`file`]: the keys of a data directory, changed by one process at a time;
//! - [`KeyRing`]: the keys that a running server goes by, read again when the file has changed.
//!
//! A secret has 192 random bits, so nobody guesses it, and one round of SHA-256 keeps it: what makes a hash of passwords
//! slow would only slow down every request.

mod file;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

pub use file::{KeyFile, KeysError};
pub use token::{Key, NewKey};

/// Who a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's id: shown, stored and logged without harm.
    pub id: Arc<str>,
    topics: Arc<[String]>,
}

impl Principal {
    pub fn may_send_to(&self, topic: &str) -> bool {
        self.topics.iter().any(|scope| covers(scope, topic))
    }
}

/// A scope is a topic, the beginning of a topic's name and `*`, or `*`.
fn covers(scope: &str, topic: &str) -> bool {
    scope.strip_suffix('*').map_or(scope == topic, |beginning| topic.starts_with(beginning))
}

/// The keys in force.
#[derive(Debug)]
pub struct KeyRing {
    file: KeyFile,
    state: RwLock<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    /// As the file was when it was read.
    contents: Option<Vec<u8>>,
    keys: Arc<HashMap<String, (Principal, [u8; 32])>>,
}

impl KeyRing {
    /// Blocks.
    pub fn open(file: KeyFile) -> Result<KeyRing, KeysError> {
        let ring = KeyRing { file, state: RwLock::default() };
        ring.refresh()?;
        Ok(ring)
    }

    /// Reads the file again; whether it has changed. On an error the keys stay what they were. Blocks.
    pub fn refresh(&self) -> Result<bool, KeysError> {
        let contents = self.file.contents()?;
        if self.state.read().unwrap_or_else(PoisonError::into_inner).contents == contents {
            return Ok(false);
        }
        let keys = match &contents {
            Some(contents) => self.file.parse(contents)?,
            None => Vec::new(),
        };
        let by_id = keys.into_iter().map(|key| {
            let principal = Principal { id: key.id.as_str().into(), topics: key.topics.into() };
            (key.id, (principal, key.secret_sha256))
        });
        let loaded = Loaded { contents, keys: Arc::new(by_id.collect()) };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(true)
    }

    pub fn len(&self) -> usize {
        self.keys().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whose key this is; `None` for what is no key, or no longer one.
    pub fn principal(&self, token: &str) -> Option<Principal> {
        let (id, secret) = token::parse(token)?;
        let keys = self.keys();
        let (principal, kept) = keys.get(id)?;
        token::matches(secret, kept).then(|| principal.clone())
    }

    fn keys(&self) -> Arc<HashMap<String, (Principal, [u8; 32])>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).keys.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use playhouse_log::disk::{Disk, SimulatedDisk};

    use super::*;

    fn file(disk: &SimulatedDisk) -> KeyFile {
        KeyFile::new(Arc::new(disk.clone()), Path::new("/data"))
    }

    #[test]
    fn a_key_is_good_for_its_topics_from_its_making_to_its_revocation() {
        let disk = SimulatedDisk::new();
        let ring = KeyRing::open(file(&disk)).unwrap();
        assert!(ring.is_empty() && ring.principal("phk_0_0").is_none());
        let made = file(&disk).create("player", vec!["events".into(), "clicks.*".into()], 5).unwrap();
        assert!(ring.refresh().unwrap() && !ring.refresh().unwrap());

        let principal = ring.principal(&made.token).unwrap();
        assert_eq!(&*principal.id, made.key.id);
        for (topic, may) in [("events", true), ("clicks.web", true), ("clicks", false), ("events2", false), ("", false)]
        {
            assert_eq!(principal.may_send_to(topic), may, "{topic}");
        }
        let last = if made.token.ends_with('0') { '1' } else { '0' };
        let other_secret = format!("{}{last}", &made.token[..made.token.len() - 1]);
        for wrong in ["", "phk_", &made.key.id, &made.token[1..], &format!("{}0", made.token), &other_secret] {
            assert!(ring.principal(wrong).is_none(), "{wrong}");
        }

        assert!(file(&disk).revoke(&made.key.id).unwrap());
        assert!(!file(&disk).revoke(&made.key.id).unwrap());
        assert!(ring.refresh().unwrap());
        assert!(ring.principal(&made.token).is_none());
    }

    #[test]
    fn keys_survive_a_power_cut_and_their_secrets_are_not_on_disk() {
        let disk = SimulatedDisk::new();
        let made = file(&disk).create("a", vec!["*".into()], 5).unwrap();
        let after = disk.power_cut(None);
        let ring = KeyRing::open(file(&after)).unwrap();
        assert!(ring.principal(&made.token).is_some_and(|principal| principal.may_send_to("anything")));
        let kept = String::from_utf8(file(&after).contents().unwrap().unwrap()).unwrap();
        let secret = made.token.rsplit('_').next().unwrap();
        assert!(kept.contains(&made.key.id) && !kept.contains(secret), "{kept}");
        assert_eq!(file(&after).list().unwrap(), [made.key]);
    }

    #[test]
    fn a_file_that_cannot_be_read_changes_nothing() {
        let disk = SimulatedDisk::new();
        let made = file(&disk).create("a", vec!["*".into()], 5).unwrap();
        let ring = KeyRing::open(file(&disk)).unwrap();
        for broken in ["", "{}", r#"{"magic":"playhouse-keys","version":2,"keys":[]}"#] {
            let open = disk.open(Path::new("/data/keys/keys.json"), false).unwrap();
            open.set_len(0).unwrap();
            open.write_all_at(broken.as_bytes(), 0).unwrap();
            let error = ring.refresh().unwrap_err().to_string();
            assert!(error.contains("keys.json"), "{error}");
            assert!(ring.principal(&made.token).is_some());
            assert!(file(&disk).create("b", vec!["*".into()], 5).is_err(), "nor is it overwritten");
        }
    }

    #[test]
    fn names_and_scopes_are_checked() {
        let disk = SimulatedDisk::new();
        let create = |name: &str, topics: &[&str]| {
            let topics = topics.iter().map(|topic| topic.to_string()).collect();
            file(&disk).create(name, topics, 5).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(create("a", &["events", "web.*", "*"]), Ok(()));
        assert!(create("a", &["events"]).unwrap_err().contains("already"));
        assert!(create("", &["events"]).is_err() && create(&"x".repeat(101), &["events"]).is_err());
        assert!(create("b", &[]).unwrap_err().contains("topic"));
        for wrong in ["", "a b", "a*b", "**", "ä"] {
            assert!(create("b", &[wrong]).unwrap_err().contains("topic"), "{wrong}");
        }
    }
}
