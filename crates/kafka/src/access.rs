//! Who is on a connection, and what it may do (docs/keys.md). Where keys are asked for, SASL/PLAIN tells: any user, with an
//! API key for its password.
//!
//! - [`needs`]: what an API asks of a caller as a whole; what of each topic, the APIs ask themselves;
//! - [`Caller`]: the answers. Without keys everybody may do everything.

use std::sync::{Arc, OnceLock};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use parking_lot::Mutex;
use playhouse_gate::{Auth, KeyRing, Principal};
use playhouse_log::Topic;

pub(crate) const MECHANISM: &str = "PLAIN";

/// What a caller needs for an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// Any key. Topics that are not for it are refused one by one, or not shown.
    Key,
    Send,
    Read,
    Admin,
}

pub(crate) fn needs(api: ApiKey) -> Needs {
    match api {
        ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => Needs::Nothing,
        ApiKey::Metadata
        | ApiKey::DescribeCluster
        | ApiKey::DescribeTopicPartitions
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeProducers
        | ApiKey::FindCoordinator
        | ApiKey::ListOffsets
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::Fetch
        | ApiKey::Produce => Needs::Key,
        ApiKey::InitProducerId
        | ApiKey::AddPartitionsToTxn
        | ApiKey::AddOffsetsToTxn
        | ApiKey::TxnOffsetCommit
        | ApiKey::EndTxn => Needs::Send,
        ApiKey::JoinGroup
        | ApiKey::SyncGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::ListGroups
        | ApiKey::DescribeGroups
        | ApiKey::ConsumerGroupHeartbeat
        | ApiKey::ConsumerGroupDescribe => Needs::Read,
        _ => Needs::Admin,
    }
}

/// How a caller is to be known, and as whom it is.
#[derive(Debug)]
pub(crate) struct Caller {
    auth: Auth,
    principal: OnceLock<Principal>,
    handshake: Mutex<Handshake>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handshake {
    None,
    /// The token comes in SaslAuthenticate.
    Framed,
    /// As clients of before Kafka 1.0 do it: the next request is the token and nothing else.
    Raw,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Out of turn.
    Handshake,
    Key,
}

impl Caller {
    pub(crate) fn new(auth: Auth) -> Caller {
        Caller { auth, principal: OnceLock::new(), handshake: Mutex::new(Handshake::None) }
    }

    fn ring(&self) -> Option<&Arc<KeyRing>> {
        match &self.auth {
            Auth::None => None,
            Auth::Keys(ring) => Some(ring),
        }
    }

    /// Whether SASL is served here.
    pub(crate) fn is_asked(&self) -> bool {
        self.ring().is_some()
    }

    /// Whether it still has to say who it is.
    pub(crate) fn is_unknown(&self) -> bool {
        self.is_asked() && self.principal.get().is_none()
    }

    pub(crate) fn begin(&self, raw: bool) -> Result<(), Unknown> {
        let mut handshake = self.handshake.lock();
        if !self.is_unknown() || *handshake != Handshake::None {
            return Err(Unknown::Handshake);
        }
        *handshake = if raw { Handshake::Raw } else { Handshake::Framed };
        Ok(())
    }

    /// Whether its next request is a bare token.
    pub(crate) fn sends_token(&self) -> bool {
        self.is_unknown() && *self.handshake.lock() == Handshake::Raw
    }

    /// RFC 4616: who to act for, who it is, its password, with a zero byte between them. Only the password counts here.
    pub(crate) fn authenticate(&self, token: &[u8]) -> Result<(), Unknown> {
        let Some(ring) = self.ring().filter(|_| self.is_unknown() && *self.handshake.lock() != Handshake::None) else {
            return Err(Unknown::Handshake);
        };
        let text = std::str::from_utf8(token).map_err(|_| Unknown::Key)?;
        let mut parts = text.split('\0');
        let (Some(_), Some(_), Some(key), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(Unknown::Key);
        };
        let principal = ring.principal(key).ok_or(Unknown::Key)?;
        tracing::debug!(key = &*principal.id, "a Kafka client has shown its key");
        // Requests of a connection come one after the other, so nobody was faster.
        let _ = self.principal.set(principal);
        Ok(())
    }

    /// Whether its key was revoked, or changed, since it was shown.
    pub(crate) fn is_revoked(&self) -> bool {
        self.ring().zip(self.principal.get()).is_some_and(|(ring, principal)| !ring.is_in_force(principal))
    }

    /// What an unknown caller may do is not asked here: it does not come so far.
    fn may(&self, right: impl FnOnce(&Principal) -> bool) -> bool {
        self.principal.get().is_none_or(right)
    }

    pub(crate) fn has(&self, needed: Needs) -> bool {
        match needed {
            Needs::Nothing => true,
            _ if self.is_unknown() => false,
            Needs::Key => true,
            Needs::Send => self.may(Principal::sends),
            Needs::Read => self.may(Principal::reads),
            Needs::Admin => self.is_admin(),
        }
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.may(Principal::is_admin)
    }

    pub(crate) fn may_send_to(&self, topic: &str) -> bool {
        self.may(|principal| principal.may_send_to(topic))
    }

    pub(crate) fn may_read(&self, topic: &str) -> bool {
        self.may(|principal| principal.may_read(topic))
    }

    pub(crate) fn sees(&self, topic: &str) -> bool {
        self.may(|principal| principal.sees(topic))
    }

    /// A topic that it may read; of one that is not for it, not whether it is there.
    pub(crate) fn readable(
        &self,
        found: Option<Arc<Topic>>,
        named: &str,
        missing: ResponseError,
    ) -> Result<Arc<Topic>, ResponseError> {
        let name = found.as_ref().map_or(named, |topic| topic.name());
        if !self.may_read(name) { Err(ResponseError::TopicAuthorizationFailed) } else { found.ok_or(missing) }
    }

    /// A topic that it may know of.
    pub(crate) fn visible(&self, found: Option<Arc<Topic>>, named: &str) -> Result<Arc<Topic>, ResponseError> {
        let name = found.as_ref().map_or(named, |topic| topic.name());
        if !self.sees(name) {
            return Err(ResponseError::TopicAuthorizationFailed);
        }
        found.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// Whose rates count: the key's, or those of the client id where there is no key.
    pub(crate) fn quota_name(&self, client_id: &str) -> String {
        match self.principal.get() {
            Some(principal) => format!("key {}", principal.id),
            None => client_id.to_owned(),
        }
    }
}
