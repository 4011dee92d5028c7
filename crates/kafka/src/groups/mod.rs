//! Consumer groups: the coordinator of all of them.
//!
//! [`state`] decides for classic groups, [`consumer`] for those of the newer protocol (KIP-848), [`offsets`] remembers;
//! this module and [`newer`] give them time and concurrency. Membership of classic groups lives in memory only: after a
//! restart members are told that they are unknown, and join again. Committed offsets and newer groups are durable.

#[cfg(test)]
mod churn_tests;
pub(crate) mod consumer;
mod member;
mod newer;
mod offsets;
mod state;
#[cfg(test)]
mod state_tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use playhouse_log::{AppendError, Appended, Log, TransactionMarker};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::GroupConfig;
use member::{Member, protocols_size};
use offsets::{CommitError, OffsetStore};
use state::State;

pub(crate) use member::{Join, Joined, Sync, Synced};
pub(crate) use newer::LogCatalog;
pub(crate) use offsets::{Committed, OFFSETS_PLACE, TopicPartition, get_string, put_string};
pub use offsets::{GroupsError, OFFSETS_TOPIC};

/// As Kafka's `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;
const EXPIRY_EVERY: Duration = Duration::from_secs(600);
/// A group that has no members any more can still be described for so long, as in Kafka.
const VACANT_FOR_MS: u64 = EXPIRY_EVERY.as_millis() as u64;
/// The first version of OffsetCommit in which members of the newer protocol can name their epoch.
pub(crate) const KNOWS_MEMBER_EPOCHS: i16 = 9;
/// Of a group of which only its committed offsets are known: Kafka's clients take it for one of consumers.
const NO_PROTOCOL: &str = "";
/// When nothing is due.
const FAR: Duration = Duration::from_secs(3600);

pub(crate) struct Groups {
    groups: Mutex<HashMap<String, state::Group>>,
    /// Groups of the newer protocol. Locked after `groups`, where both are.
    newer: Mutex<HashMap<String, consumer::Group>>,
    offsets: OffsetStore,
    config: GroupConfig,
    started: Instant,
    /// A deadline may have moved forward.
    changed: Notify,
}

/// Shown by ListGroups.
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) protocol_type: String,
    pub(crate) state: &'static str,
    /// Of the newer protocol.
    pub(crate) newer: bool,
}

/// Shown by DescribeGroups.
pub(crate) struct Description {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<MemberDescription>,
}

pub(crate) struct MemberDescription {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

impl Groups {
    pub(crate) fn open(log: &Log, config: GroupConfig) -> Result<Arc<Groups>, GroupsError> {
        let offsets = OffsetStore::open(log, config.offsets_bytes_max)?;
        let (groups, newer) = (Mutex::default(), Mutex::default());
        let groups = Groups { groups, newer, offsets, config, started: Instant::now(), changed: Notify::new() };
        groups.restore();
        Ok(Arc::new(groups))
    }

    /// Expires sessions and ends rebalances when their time comes, until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut expire_offsets = Instant::now() + EXPIRY_EVERY;
        loop {
            let next = self.tick().map_or(Instant::now() + FAR, |ms| self.started + Duration::from_millis(ms));
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next.min(expire_offsets)) => {}
            }
            if Instant::now() >= expire_offsets {
                self.expire_offsets();
                expire_offsets = Instant::now() + EXPIRY_EVERY;
            }
        }
        for group in self.groups.lock().values_mut() {
            group.dismiss();
        }
    }

    fn tick(&self) -> Option<u64> {
        let now_ms = self.now_ms();
        let newer = self.tick_newer(now_ms);
        let mut groups = self.groups.lock();
        groups.retain(|_, group| {
            group.tick(now_ms);
            !group.is_vacant() || now_ms < group.vacant_since_ms().unwrap_or(now_ms) + VACANT_FOR_MS
        });
        groups.values().filter_map(state::Group::next_deadline_ms).chain(newer).min()
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(crate) fn join(&self, group_id: &str, request: Join) -> Result<oneshot::Receiver<Joined>, ResponseError> {
        let range = self.config.session_timeout_min.as_millis()..=self.config.session_timeout_max.as_millis();
        if group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if !range.contains(&u128::from(request.session_timeout_ms)) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        let (waiter, reply) = oneshot::channel();
        let mut groups = self.groups.lock();
        self.drop_newer(group_id).map_err(|error| match error {
            ResponseError::NonEmptyGroup => ResponseError::InconsistentGroupProtocol,
            error => error,
        })?;
        if !self.has_room(&groups, protocols_size(&request.protocols)) {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        if !groups.contains_key(group_id) {
            if !request.member_id.is_empty() {
                return Err(ResponseError::UnknownMemberId);
            }
            if groups.len() >= self.config.groups_max && !forget_vacant(&mut groups) {
                return Err(ResponseError::GroupMaxSizeReached);
            }
        }
        let group = groups.entry(group_id.to_owned()).or_insert_with(|| self.new_classic());
        group.join(request, self.now_ms(), waiter);
        drop(groups);
        self.changed.notify_one();
        Ok(reply)
    }

    fn new_classic(&self) -> state::Group {
        let delay_ms = self.config.initial_rebalance_delay.as_millis() as u64;
        state::Group::new(delay_ms, self.config.members_max)
    }

    pub(crate) fn sync(&self, group_id: &str, request: Sync) -> Result<oneshot::Receiver<Synced>, ResponseError> {
        let (waiter, reply) = oneshot::channel();
        let more = request.assignments.iter().map(|(_, assignment)| assignment.len()).sum();
        if more > 0 && !self.has_room(&self.groups.lock(), more) {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.with(group_id, |group, now_ms| {
            group.sync(request, now_ms, waiter);
            Ok(())
        })?;
        self.changed.notify_one();
        Ok(reply)
    }

    pub(crate) fn heartbeat(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        self.with(group_id, |group, now_ms| group.heartbeat(member_id, instance_id, generation, now_ms))
    }

    pub(crate) fn leave(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        let left = self.with(group_id, |group, now_ms| group.leave(member_id, instance_id, now_ms));
        self.changed.notify_one();
        left
    }

    fn has_room(&self, groups: &HashMap<String, state::Group>, more: usize) -> bool {
        let held: usize = groups.values().map(state::Group::size_bytes).sum();
        let room = held + more <= self.config.members_bytes_max;
        if !room {
            tracing::warn!(limit = self.config.members_bytes_max, "consumer groups have reached their memory limit");
        }
        room
    }

    fn with<T>(
        &self,
        group_id: &str,
        act: impl FnOnce(&mut state::Group, u64) -> Result<T, ResponseError>,
    ) -> Result<T, ResponseError> {
        if group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let now_ms = self.now_ms();
        let mut groups = self.groups.lock();
        act(groups.get_mut(group_id).ok_or(ResponseError::UnknownMemberId)?, now_ms)
    }

    /// Whether this member may commit: asked once per request, before [`Self::commit`].
    pub(crate) fn may_commit(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        version: i16,
    ) -> Result<(), ResponseError> {
        let now_ms = self.now_ms();
        if let Some(group) = self.newer.lock().get(group_id) {
            if version < KNOWS_MEMBER_EPOCHS && group.has_member(member_id) {
                return Err(ResponseError::UnsupportedVersion);
            }
            return group.check_offsets(member_id, generation);
        }
        match self.groups.lock().get_mut(group_id) {
            Some(group) => group.may_commit(member_id, instance_id, generation, now_ms),
            None if generation < 0 => Ok(()),
            None if self.offsets.has(group_id) || self.offsets.is_staged(group_id) => {
                Err(ResponseError::UnknownMemberId)
            }
            // A generation from before a restart: the member has to join again.
            None => Err(ResponseError::IllegalGeneration),
        }
    }

    pub(crate) fn commit(
        &self,
        group_id: &str,
        offsets: Vec<(TopicPartition, Committed)>,
    ) -> Result<Option<Appended>, ResponseError> {
        self.offsets.commit(group_id, offsets, unix_ms()).map_err(|error| commit_error(group_id, &error))
    }

    /// As [`Self::commit`], in a producer's transaction: the offsets count once it is committed.
    pub(crate) fn stage(
        &self,
        group_id: &str,
        producer: (i64, i16),
        offsets: Vec<(TopicPartition, Committed)>,
    ) -> Result<Option<Appended>, ResponseError> {
        self.offsets.stage(group_id, producer, offsets, unix_ms()).map_err(|error| commit_error(group_id, &error))
    }

    /// The marker of a transaction in which offsets may have been committed.
    pub(crate) fn end_transaction(&self, marker: &TransactionMarker) -> Result<Appended, AppendError> {
        self.offsets.end(marker)
    }

    /// Whether a transaction that is open would change this offset.
    pub(crate) fn is_pending(&self, group_id: &str, place: &TopicPartition) -> bool {
        self.offsets.is_pending(group_id, place)
    }

    pub(crate) async fn durable(&self, appended: Appended) -> Result<(), ResponseError> {
        self.offsets.durable(appended).await.map_err(|error| {
            tracing::warn!(%error, "cannot make committed offsets durable");
            ResponseError::CoordinatorNotAvailable
        })
    }

    pub(crate) fn metadata_fits(metadata: &str) -> bool {
        metadata.len() <= METADATA_BYTES_MAX
    }

    pub(crate) fn committed(&self, group_id: &str, place: &TopicPartition) -> Option<Committed> {
        self.offsets.get(group_id, place)
    }

    pub(crate) fn all_committed(&self, group_id: &str) -> Vec<(TopicPartition, Committed)> {
        self.offsets.all(group_id)
    }

    /// By group id; groups that only have committed offsets are empty classic ones without a protocol.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let (groups, newer) = (self.groups.lock(), self.newer.lock());
        let listed = |id: &String, protocol_type: &str, state| Listed {
            id: id.clone(),
            protocol_type: protocol_type.to_owned(),
            state,
            newer: false,
        };
        let classic = groups.iter().map(|(id, group)| listed(id, group.protocol_type(), group.state().name()));
        let of_newer = newer.iter().map(|(id, group)| Listed { newer: true, ..listed(id, "consumer", group.state()) });
        let mut all: Vec<_> = classic.chain(of_newer).collect();
        let stored = self.offsets.groups().into_iter();
        let stored = stored.filter(|id| !groups.contains_key(id) && !newer.contains_key(id));
        all.extend(stored.map(|id| listed(&id, NO_PROTOCOL, State::Empty.name())));
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// Whether a consumer may read the group's committed offsets: one of the newer protocol says who it is.
    pub(crate) fn may_fetch(&self, group_id: &str, member_id: Option<&str>, epoch: i32) -> Result<(), ResponseError> {
        match (self.newer.lock().get(group_id), member_id) {
            (Some(group), Some(member_id)) => group.check_member(member_id, epoch),
            _ => Ok(()),
        }
    }

    /// Of a classic group.
    pub(crate) fn describe(&self, group_id: &str) -> Option<Description> {
        if self.newer.lock().contains_key(group_id) {
            return None;
        }
        let groups = self.groups.lock();
        let Some(group) = groups.get(group_id) else {
            let empty = Description {
                state: State::Empty.name(),
                protocol_type: NO_PROTOCOL.to_owned(),
                protocol: String::new(),
                members: Vec::new(),
            };
            return self.offsets.has(group_id).then_some(empty);
        };
        let describe = |(id, member): (&String, &Member)| MemberDescription {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: group.metadata(member),
            assignment: member.assignment.clone(),
        };
        Some(Description {
            state: group.state().name(),
            protocol_type: group.protocol_type().to_owned(),
            protocol: group.protocol().to_owned(),
            members: group.members().map(describe).collect(),
        })
    }

    /// Forgets an empty group and its committed offsets.
    pub(crate) async fn delete(&self, group_id: &str) -> Result<(), ResponseError> {
        let forgotten = {
            let mut groups = self.groups.lock();
            match groups.get(group_id) {
                Some(group) if !group.is_vacant() => return Err(ResponseError::NonEmptyGroup),
                Some(_) => {
                    groups.remove(group_id);
                }
                None if !self.offsets.has(group_id) && !self.newer.lock().contains_key(group_id) => {
                    return Err(ResponseError::GroupIdNotFound);
                }
                None => {}
            }
            self.drop_newer(group_id)?;
            let forgotten = self.offsets.forget(group_id, unix_ms(), |_, _| true);
            forgotten.map_err(|_| ResponseError::CoordinatorNotAvailable)?
        };
        match forgotten {
            Some(appended) => self.durable(appended).await,
            None => Ok(()),
        }
    }

    /// Forgets committed offsets of some partitions; those that members read are refused.
    pub(crate) async fn delete_offsets(
        &self,
        group_id: &str,
        places: &[TopicPartition],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        let exists = self.offsets.has(group_id)
            || self.groups.lock().contains_key(group_id)
            || self.newer.lock().contains_key(group_id);
        if group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if !exists {
            return Err(ResponseError::GroupIdNotFound);
        }
        let refused = |(topic, _): &TopicPartition| match self.is_subscribed(group_id, topic) {
            true => Err(ResponseError::GroupSubscribedToTopic),
            false => Ok(()),
        };
        let outcomes: Vec<_> = places.iter().map(refused).collect();
        let chosen: HashSet<&TopicPartition> =
            places.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(place, _)| place).collect();
        let forgotten = self.offsets.forget(group_id, unix_ms(), |place, _| chosen.contains(place));
        if let Some(appended) = forgotten.map_err(|_| ResponseError::CoordinatorNotAvailable)? {
            self.durable(appended).await?;
        }
        // Without its last offset it is empty, and not gone at once.
        let mut groups = self.groups.lock();
        if !self.offsets.has(group_id)
            && !self.newer.lock().contains_key(group_id)
            && groups.len() < self.config.groups_max
        {
            groups.entry(group_id.to_owned()).or_insert_with(|| self.new_classic());
        }
        Ok(outcomes)
    }

    /// A deleted topic takes its committed offsets along: one made anew under its name begins at 0.
    pub(crate) fn forget_topic(&self, topic: &str) {
        for group_id in self.offsets.groups() {
            if let Err(error) = self.offsets.forget(&group_id, unix_ms(), |place, _| place.0 == topic) {
                tracing::warn!(group = group_id, topic, %error, "cannot forget the offsets of a deleted topic");
            }
        }
    }

    fn expire_offsets(&self) {
        let now_ms = unix_ms();
        let oldest_ms = now_ms - self.config.offsets_retention.as_millis() as i64;
        for group_id in self.offsets.groups() {
            let groups = self.groups.lock();
            if groups.get(&group_id).is_some_and(|it| !it.is_vacant())
                || self.newer.lock().get(&group_id).is_some_and(|it| !it.is_empty())
            {
                continue;
            }
            if let Err(error) = self.offsets.forget(&group_id, now_ms, |_, it| it.commit_time_ms < oldest_ms) {
                tracing::warn!(group = group_id, %error, "cannot expire committed offsets");
            }
        }
    }
}

/// Makes room for another group where one has no members; whether there was such.
fn forget_vacant(groups: &mut HashMap<String, state::Group>) -> bool {
    let vacant = groups.iter().filter(|(_, group)| group.is_vacant());
    let oldest = vacant.min_by_key(|(_, group)| group.vacant_since_ms()).map(|(id, _)| id.clone());
    oldest.is_some_and(|id| groups.remove(&id).is_some())
}

fn commit_error(group_id: &str, error: &CommitError) -> ResponseError {
    tracing::warn!(group = group_id, %error, "cannot commit offsets");
    match error {
        CommitError::Full(_) => ResponseError::InvalidCommitOffsetSize,
        CommitError::Append(AppendError::ProducerFenced { .. }) => ResponseError::InvalidProducerEpoch,
        // Retriable: the client commits again.
        CommitError::Append(_) => ResponseError::CoordinatorNotAvailable,
    }
}

pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
