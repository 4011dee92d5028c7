//! A member of a group: what it asks, what it is told, and what the group remembers of it.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;

#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// Empty for a newcomer.
    pub(crate) member_id: String,
    /// The id a newcomer gets.
    pub(crate) fresh_member_id: String,
    /// Whether a newcomer must come again with the id it was given (KIP-394).
    pub(crate) member_id_required: bool,
    /// Whether it can be the leader of a generation that is assigned already (KIP-814).
    pub(crate) skips_assignment: bool,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: u64,
    pub(crate) rebalance_timeout_ms: u64,
    pub(crate) protocol_type: String,
    /// In the order the member prefers them.
    pub(crate) protocols: Vec<(String, Bytes)>,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Joined {
    pub(crate) error: Option<ResponseError>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    /// It is the leader, and the assignment stands.
    pub(crate) skip_assignment: bool,
    /// For the leader: member id, instance id, metadata.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

impl Joined {
    pub(super) fn failed(error: ResponseError, member_id: &str) -> Joined {
        Joined { error: Some(error), generation: -1, member_id: member_id.to_owned(), ..Joined::default() }
    }
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Synced {
    pub(crate) error: Option<ResponseError>,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl Synced {
    pub(super) fn failed(error: ResponseError) -> Synced {
        Synced { error: Some(error), ..Synced::default() }
    }
}

#[derive(Debug)]
pub(crate) struct Sync {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    /// From the leader.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(super) session_timeout_ms: u64,
    pub(super) rebalance_timeout_ms: u64,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    pub(super) seen_ms: u64,
    pub(super) joining: Option<oneshot::Sender<Joined>>,
    pub(super) syncing: Option<oneshot::Sender<Synced>>,
    pub(super) synced: bool,
}

impl Member {
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    pub(super) fn expires_ms(&self) -> Option<u64> {
        // Who waits for us sends no heartbeats.
        (self.joining.is_none() && self.syncing.is_none()).then(|| self.seen_ms + self.session_timeout_ms)
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn size_bytes(&self) -> usize {
        protocols_size(&self.protocols) + self.assignment.len() + 2 * self.client_id.len()
    }

    pub(super) fn answer_join(&mut self, reply: Joined) {
        if let Some(waiter) = self.joining.take() {
            let _ = waiter.send(reply);
        }
    }

    pub(super) fn answer_sync(&mut self, reply: Synced) {
        if let Some(waiter) = self.syncing.take() {
            let _ = waiter.send(reply);
        }
    }
}

pub(super) fn protocols_size(protocols: &[(String, Bytes)]) -> usize {
    protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum()
}
