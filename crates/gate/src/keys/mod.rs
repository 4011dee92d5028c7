//! API keys: who may send, read and administer, and which topics.
//!
//! - [`token`]: what a caller shows, and what is kept of it; [`shown`]: how it is shown in an `Authorization` header;
//! - [`grant`]: what a key is good for;
//! - [`file`]: the keys of a data directory, changed by one process at a time;
//! - [`KeyRing`]: the keys that a running server goes by, read again when the file has changed.
//!
//! A secret has 192 random bits, so nobody guesses it, and one round of SHA-256 keeps it: what makes a hash of passwords
//! slow would only slow down every request.

mod file;
mod grant;
mod shown;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

pub use file::{KeyFile, KeysError};
pub use grant::{Grant, GrantError, Right};
pub use shown::Shown;
pub use token::{Key, NewKey};

/// What a caller of a door has to show.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Nothing: whoever reaches the door may use it.
    #[default]
    None,
    Keys(Arc<KeyRing>),
}

/// Who a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's id: shown, stored and logged without harm.
    pub id: Arc<str>,
    grant: Arc<Grant>,
}

impl Principal {
    pub fn may_send_to(&self, topic: &str) -> bool {
        self.grant.may(Right::Send) && self.grant.covers(topic)
    }

    pub fn may_read(&self, topic: &str) -> bool {
        self.grant.may(Right::Read) && self.grant.covers(topic)
    }

    /// Whether it may know of a topic.
    pub fn sees(&self, topic: &str) -> bool {
        self.grant.covers(topic)
    }

    /// Whether it may send anything anywhere.
    pub fn sends(&self) -> bool {
        self.grant.may(Right::Send)
    }

    /// Whether it may read anything anywhere.
    pub fn reads(&self) -> bool {
        self.grant.may(Right::Read)
    }

    /// Whether it may read everything, whatever topics there will be.
    pub fn reads_all(&self) -> bool {
        self.reads() && self.grant.topics.iter().any(|scope| scope == "*")
    }

    pub fn is_admin(&self) -> bool {
        self.grant.is_admin()
    }
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
            let principal = Principal { id: key.id.as_str().into(), grant: Arc::new(key.grant) };
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

    /// Whether a key is still what it was when its principal was found.
    pub fn is_in_force(&self, principal: &Principal) -> bool {
        self.keys().get(&*principal.id).is_some_and(|(current, _)| current == principal)
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
        let made = file(&disk).create("player", Grant::send(["events", "clicks.*"]), 5).unwrap();
        assert!(ring.refresh().unwrap() && !ring.refresh().unwrap());

        let principal = ring.principal(&made.token).unwrap();
        assert_eq!(&*principal.id, made.key.id);
        for (topic, may) in [("events", true), ("clicks.web", true), ("clicks", false), ("events2", false), ("", false)]
        {
            assert_eq!(principal.may_send_to(topic), may, "{topic}");
            assert_eq!(principal.sees(topic), may, "{topic}");
            assert!(!principal.may_read(topic));
        }
        assert!(ring.is_in_force(&principal));
        let last = if made.token.ends_with('0') { '1' } else { '0' };
        let other_secret = format!("{}{last}", &made.token[..made.token.len() - 1]);
        for wrong in ["", "phk_", &made.key.id, &made.token[1..], &format!("{}0", made.token), &other_secret] {
            assert!(ring.principal(wrong).is_none(), "{wrong}");
        }

        assert!(file(&disk).revoke(&made.key.id).unwrap());
        assert!(!file(&disk).revoke(&made.key.id).unwrap());
        assert!(ring.refresh().unwrap());
        assert!(ring.principal(&made.token).is_none() && !ring.is_in_force(&principal));
    }

    #[test]
    fn rights_are_apart_and_an_admin_has_all() {
        let disk = SimulatedDisk::new();
        let made = |name: &str, grant: Grant| file(&disk).create(name, grant, 5).unwrap().token;
        let [send, read, admin] =
            [made("send", Grant::send(["web.*"])), made("read", Grant::read(["web.*"])), made("admin", Grant::admin())];
        let ring = KeyRing::open(file(&disk)).unwrap();
        let rights = |token: &str| {
            let it = ring.principal(token).unwrap();
            (it.may_send_to("web.a"), it.may_read("web.a"), it.sees("other"), it.reads_all(), it.is_admin())
        };
        assert_eq!(rights(&send), (true, false, false, false, false));
        assert_eq!(rights(&read), (false, true, false, false, false));
        assert_eq!(rights(&admin), (true, true, true, true, true));
    }

    #[test]
    fn a_key_of_before_there_were_rights_may_send() {
        let digest = "00".repeat(32);
        let kept = format!(
            r#"{{"magic":"playhouse-keys","version":1,"keys":[{{"id":"a","name":"a","topics":["t"],"created_ms":1,"secret_sha256":"{digest}"}}]}}"#
        );
        let keys = file(&SimulatedDisk::new()).parse(kept.as_bytes()).unwrap();
        assert_eq!(keys[0].grant, Grant::send(["t"]));
    }

    #[test]
    fn keys_survive_a_power_cut_and_their_secrets_are_not_on_disk() {
        let disk = SimulatedDisk::new();
        let made = file(&disk).create("a", Grant::send(["*"]), 5).unwrap();
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
        let made = file(&disk).create("a", Grant::send(["*"]), 5).unwrap();
        let ring = KeyRing::open(file(&disk)).unwrap();
        for broken in ["", "{}", r#"{"magic":"playhouse-keys","version":2,"keys":[]}"#] {
            let open = disk.open(Path::new("/data/keys/keys.json"), false).unwrap();
            open.set_len(0).unwrap();
            open.write_all_at(broken.as_bytes(), 0).unwrap();
            let error = ring.refresh().unwrap_err().to_string();
            assert!(error.contains("keys.json"), "{error}");
            assert!(ring.principal(&made.token).is_some());
            assert!(file(&disk).create("b", Grant::send(["*"]), 5).is_err(), "nor is it overwritten");
        }
    }

    #[test]
    fn names_and_scopes_are_checked() {
        let disk = SimulatedDisk::new();
        let create = |name: &str, topics: &[&str]| {
            let grant = Grant::send(topics.iter().copied());
            file(&disk).create(name, grant, 5).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(create("a", &["events", "web.*", "*"]), Ok(()));
        assert!(create("a", &["events"]).unwrap_err().contains("already"));
        assert!(create("", &["events"]).is_err() && create(&"x".repeat(101), &["events"]).is_err());
        assert!(create("b", &[]).unwrap_err().contains("topic"));
        for wrong in ["", "a b", "a*b", "**", "ä"] {
            assert!(create("b", &[wrong]).unwrap_err().contains("topic"), "{wrong}");
        }
        let refused = |grant: Grant| file(&disk).create("c", grant, 5).unwrap_err().to_string();
        assert!(refused(Grant { topics: vec!["a".into()], ..Grant::admin() }).contains("all topics"));
        assert!(refused(Grant { rights: vec![], ..Grant::send(["a"]) }).contains("right"));
    }
}
