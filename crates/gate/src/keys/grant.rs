//! What a key is good for: rights, and the topics they hold for.

use serde::{Deserialize, Serialize};

const TOPICS_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Events into topics.
    Send,
    /// Records out of topics, and membership in consumer groups.
    Read,
    /// Everything, on all topics: making and changing them, schemas, other people's groups.
    Admin,
}

impl Right {
    pub fn name(self) -> &'static str {
        match self {
            Right::Send => "send",
            Right::Read => "read",
            Right::Admin => "admin",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Topics, beginnings of topics (`web.*`), or `*`.
    pub topics: Vec<String>,
    /// Keys could only send before there were rights.
    #[serde(default = "sending")]
    pub rights: Vec<Right>,
}

fn sending() -> Vec<Right> {
    vec![Right::Send]
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("{0:?} is no topic: use a topic's name, the beginning of one with a star (web.*), or a star for all")]
    Topic(String),
    #[error("a key needs 1 to {TOPICS_MAX} topics, or a star for all")]
    Topics,
    #[error("a key needs a right: send, read or admin")]
    Rights,
    #[error("an admin key is for all topics: leave the topics out")]
    AdminOfTopics,
}

impl Grant {
    pub fn send(topics: impl IntoIterator<Item = impl Into<String>>) -> Grant {
        Grant { topics: topics.into_iter().map(Into::into).collect(), rights: sending() }
    }

    pub fn read(topics: impl IntoIterator<Item = impl Into<String>>) -> Grant {
        Grant { rights: vec![Right::Read], ..Grant::send(topics) }
    }

    pub fn admin() -> Grant {
        Grant { rights: vec![Right::Admin], ..Grant::send(["*"]) }
    }

    pub(super) fn check(&self) -> Result<(), GrantError> {
        if !(1..=TOPICS_MAX).contains(&self.topics.len()) {
            return Err(GrantError::Topics);
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        for topic in &self.topics {
            let named = topic.strip_suffix('*').unwrap_or(topic);
            if topic.is_empty() || topic.len() > 250 || !named.chars().all(legal) {
                return Err(GrantError::Topic(topic.clone()));
            }
        }
        if self.rights.is_empty() {
            return Err(GrantError::Rights);
        }
        if self.is_admin() && self.topics != ["*"] {
            return Err(GrantError::AdminOfTopics);
        }
        Ok(())
    }

    pub(super) fn is_admin(&self) -> bool {
        self.rights.contains(&Right::Admin)
    }

    pub(super) fn may(&self, right: Right) -> bool {
        self.is_admin() || self.rights.contains(&right)
    }

    pub(super) fn covers(&self, topic: &str) -> bool {
        self.topics.iter().any(|scope| covers(scope, topic))
    }
}

/// A scope is a topic, the beginning of a topic's name and `*`, or `*`.
fn covers(scope: &str, topic: &str) -> bool {
    scope.strip_suffix('*').map_or(scope == topic, |beginning| topic.starts_with(beginning))
}
