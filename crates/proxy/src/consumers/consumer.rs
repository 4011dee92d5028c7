//! One consumer instance: its subscription, the partitions it holds with where it reads on, and its commits.
//!
//! Requests and the membership task share `State`, which is locked for moments only. Each change of hand or position
//! gives a partition a new stamp, so that a read that was under way meanwhile does not move it, nor return its records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use playhouse_client::fetch::{Fetcher, Place};
use playhouse_client::groups::Committed;
use playhouse_client::member::{Member, MemberOptions};
use playhouse_client::offsets::At;
use playhouse_client::{Client, Error};
use regex::Regex;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::membership;
use super::settings::Settings;
use crate::brokers::{Brokers, LinkError};

/// How often an instance commits by itself, as Kafka's own consumers do.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// While the group assigns anew, nothing can be committed.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(10);
/// For the last commit, and for leaving the group.
const CLOSE_MAX: Duration = Duration::from_secs(3);
const MEMBER: MemberOptions =
    MemberOptions { session_timeout: membership::SESSION_TIMEOUT, rebalance_timeout: Duration::from_secs(60) };
/// Of a compiled topic pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Consumer {
    pub settings: Settings,
    pub(super) group: String,
    brokers: Arc<Brokers>,
    pub(super) state: Mutex<State>,
    /// One read at a time.
    pub(super) reading: AsyncMutex<Reading>,
    coordination: AsyncMutex<Coordination>,
    /// Partitions were assigned, or could not be.
    pub(super) assigned: Notify,
    /// What is subscribed to is another.
    pub(super) resubscribed: Notify,
    pub(super) closed: CancellationToken,
}

#[derive(Default)]
pub(super) struct Reading {
    pub client: Option<Client>,
    pub fetcher: Fetcher,
}

/// A connection of its own, as a fetch that waits holds up whatever comes behind it.
pub(super) struct Coordination {
    client: Option<Client>,
    pub member: Member,
}

pub(super) struct State {
    pub subscription: Subscription,
    pub held: BTreeMap<Place, Held>,
    stamps: u64,
    /// Next offsets behind what was returned, as far as they are not committed.
    consumed: BTreeMap<Place, i64>,
    committed: Instant,
    /// Why the instance is in no group.
    pub failure: Option<Error>,
    has_task: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Subscription {
    None,
    Topics(BTreeSet<String>),
    Pattern {
        regex: Regex,
        topics: BTreeSet<String>,
    },
    /// Partitions given by hand: no membership.
    Places,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub position: Position,
    pub stamp: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Where the group committed; where it did not, as with [`Position::Lost`].
    Unknown,
    /// Where `auto.offset.reset` says.
    Lost,
    At(i64),
}

/// What to subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subscribe {
    Topics(BTreeSet<String>),
    Pattern(String),
}

/// Where to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    Offset(i64),
    Beginning,
    End,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumerError {
    #[error("Subscription to topics, partitions and pattern are mutually exclusive.")]
    Exclusive,
    #[error("Illegal state: the consumer is not subscribed to any topics or assigned any partitions")]
    NotSubscribed,
    #[error("Illegal state: partition {} of topic {:?} is not assigned to this consumer", .0.1, .0.0)]
    NotAssigned(Place),
    #[error("topic_pattern is no pattern: {0}")]
    Pattern(String),
    #[error("there is no partition {} of topic {:?}", .0.1, .0.0)]
    NoPartition(Place),
    #[error("no offset is committed for partition {} of topic {:?}, or it is gone, and auto.offset.reset is none", .0.1, .0.0)]
    NoOffset(Place),
    #[error("the consumer instance has ended")]
    Closed,
    #[error("the group is being assigned anew: retry")]
    Rebalancing,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Client(#[from] Error),
}

impl Consumer {
    pub(super) fn new(group: &str, settings: Settings, brokers: Arc<Brokers>) -> Arc<Consumer> {
        let state = State {
            subscription: Subscription::None,
            held: BTreeMap::new(),
            stamps: 0,
            consumed: BTreeMap::new(),
            committed: Instant::now(),
            failure: None,
            has_task: false,
        };
        let coordination = Coordination { client: None, member: Member::new(group, MEMBER) };
        Arc::new(Consumer {
            settings,
            group: group.to_owned(),
            brokers,
            state: Mutex::new(state),
            reading: AsyncMutex::default(),
            coordination: AsyncMutex::new(coordination),
            assigned: Notify::new(),
            resubscribed: Notify::new(),
            closed: CancellationToken::new(),
        })
    }

    pub(crate) fn subscribe(self: &Arc<Self>, to: Subscribe) -> Result<(), ConsumerError> {
        let mut state = self.state();
        let subscription = match (to, &state.subscription) {
            (Subscribe::Topics(topics), Subscription::Topics(now)) if topics == *now => return Ok(()),
            (Subscribe::Topics(topics), Subscription::None | Subscription::Topics(_)) => Subscription::Topics(topics),
            (Subscribe::Pattern(pattern), Subscription::None | Subscription::Pattern { .. }) => {
                // The whole name, as Java's consumers match it.
                let regex = regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build();
                let regex = regex.map_err(|error| ConsumerError::Pattern(error.to_string()))?;
                Subscription::Pattern { regex, topics: BTreeSet::new() }
            }
            _ => return Err(ConsumerError::Exclusive),
        };
        state.begin(subscription);
        if !std::mem::replace(&mut state.has_task, true) {
            tokio::spawn(membership::keep(self.clone()));
        }
        drop(state);
        self.resubscribed.notify_one();
        Ok(())
    }

    /// The topics subscribed to; of a pattern those that were found.
    pub(crate) fn subscription(&self) -> BTreeSet<String> {
        match &self.state().subscription {
            Subscription::Topics(topics) | Subscription::Pattern { topics, .. } => topics.clone(),
            Subscription::None | Subscription::Places => BTreeSet::new(),
        }
    }

    /// Gives up whatever it is subscribed to or was assigned, committing first if it does that by itself.
    pub(crate) async fn unsubscribe(&self) {
        self.commit_by_itself(Duration::ZERO).await;
        self.state().begin(Subscription::None);
        self.resubscribed.notify_one();
    }

    /// Whether it is this caller's.
    pub(crate) fn is_of(&self, brokers: &Brokers) -> bool {
        self.brokers.is_of(brokers)
    }

    pub(crate) fn assign(&self, places: BTreeSet<Place>) -> Result<(), ConsumerError> {
        let mut state = self.state();
        match &state.subscription {
            Subscription::None | Subscription::Places => {}
            Subscription::Topics(_) | Subscription::Pattern { .. } => return Err(ConsumerError::Exclusive),
        }
        state.subscription = if places.is_empty() { Subscription::None } else { Subscription::Places };
        state.hold(places);
        Ok(())
    }

    pub(crate) fn assignment(&self) -> Vec<Place> {
        self.state().held.keys().cloned().collect()
    }

    pub(crate) async fn seek(&self, to: BTreeMap<Place, Where>) -> Result<(), ConsumerError> {
        let mut wanted = BTreeMap::new();
        let (mut beginnings, mut ends) = (BTreeSet::new(), BTreeSet::new());
        {
            let state = self.state();
            for (place, to) in to {
                if !state.held.contains_key(&place) {
                    return Err(ConsumerError::NotAssigned(place));
                }
                match to {
                    Where::Offset(offset) => _ = wanted.insert(place, offset),
                    Where::Beginning => _ = beginnings.insert(place),
                    Where::End => _ = ends.insert(place),
                }
            }
        }
        if !beginnings.is_empty() || !ends.is_empty() {
            let mut link = self.brokers.lend().await?;
            let first = offsets(&mut link.client, &beginnings, At::Earliest).await;
            let last = offsets(&mut link.client, &ends, At::Latest).await;
            link.give_back();
            wanted.extend(first?);
            wanted.extend(last?);
        }
        let mut state = self.state();
        for (place, offset) in wanted {
            let stamp = state.stamp();
            if let Some(held) = state.held.get_mut(&place) {
                *held = Held { position: Position::At(offset), stamp };
            }
        }
        Ok(())
    }

    /// Commits these next offsets.
    pub(crate) async fn commit(&self, offsets: &BTreeMap<Place, i64>) -> Result<(), ConsumerError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let coordination = timeout(COMMIT_WAIT_MAX, self.coordination()).await;
        let mut coordination = coordination.map_err(|_| ConsumerError::Rebalancing)?;
        let (client, member) = self.connected(&mut coordination).await?;
        member.commit(client, offsets).await?;
        let mut state = self.state();
        state.committed = Instant::now();
        state.consumed.retain(|place, next| offsets.get(place) != Some(next));
        Ok(())
    }

    /// Commits all that was returned.
    pub(crate) async fn commit_consumed(&self) -> Result<(), ConsumerError> {
        let consumed = self.state().consumed.clone();
        self.commit(&consumed).await
    }

    /// What was returned and is due, if it commits by itself. A failure is tried again at the next occasion.
    pub(super) async fn commit_by_itself(&self, interval: Duration) {
        if !self.settings.commits_by_itself || self.state().committed.elapsed() < interval {
            return;
        }
        if let Err(error) = self.commit_consumed().await {
            tracing::debug!(group = %self.group, %error, "a consumer instance of the REST proxy cannot commit");
        }
    }

    pub(super) async fn commit_if_due(&self) {
        self.commit_by_itself(COMMIT_INTERVAL).await;
    }

    /// Of partitions without a committed offset there is no entry.
    pub(crate) async fn committed(&self, of: &BTreeSet<Place>) -> Result<BTreeMap<Place, Committed>, ConsumerError> {
        let mut link = self.brokers.lend().await?;
        let found = committed(&mut link.client, &self.group, of).await;
        link.give_back();
        found
    }

    /// Ends it: commits if it does that by itself, and leaves the group.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        let last = async {
            self.commit_by_itself(Duration::ZERO).await;
            self.leave().await;
        };
        if timeout(CLOSE_MAX, last).await.is_err() {
            tracing::debug!(group = %self.group, "a consumer instance of the REST proxy ends without leaving its group");
        }
    }

    pub(super) async fn leave(&self) {
        let mut coordination = self.coordination().await;
        let Coordination { client: Some(client), member } = &mut *coordination else { return };
        if let Err(error) = member.leave(client).await {
            tracing::debug!(group = %self.group, %error, "cannot leave the group");
        }
    }

    pub(super) async fn coordination(&self) -> AsyncMutexGuard<'_, Coordination> {
        self.coordination.lock().await
    }

    pub(super) async fn connected<'a>(
        &self,
        coordination: &'a mut Coordination,
    ) -> Result<(&'a mut Client, &'a mut Member), Error> {
        let Coordination { client, member } = coordination;
        Ok((self.client(client).await?, member))
    }

    pub(super) async fn client<'a>(&self, client: &'a mut Option<Client>) -> Result<&'a mut Client, Error> {
        match client {
            Some(client) => Ok(client),
            None => Ok(client.insert(self.brokers.connect().await?)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, subscription: Subscription) {
        self.subscription = subscription;
        self.failure = None;
        self.held.clear();
        self.consumed.clear();
    }

    /// From now on these; those that stay are read on where they were.
    pub(super) fn hold(&mut self, places: BTreeSet<Place>) {
        self.held.retain(|place, _| places.contains(place));
        self.consumed.retain(|place, _| places.contains(place));
        for place in places {
            let stamp = self.stamp();
            self.held.entry(place).or_insert(Held { position: Position::Unknown, stamp });
        }
    }

    /// What was read of a partition is returned.
    pub(super) fn returned(&mut self, place: &Place, next: i64) {
        self.consumed.insert(place.clone(), next);
    }

    fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }
}

/// One offset for each of these partitions.
pub(super) async fn offsets(
    client: &mut Client,
    of: &BTreeSet<Place>,
    at: At,
) -> Result<BTreeMap<Place, i64>, ConsumerError> {
    let mut found = BTreeMap::new();
    for topic in of.iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>() {
        let offsets = client.offsets(topic, at).await?;
        for place in of.iter().filter(|place| place.0 == *topic) {
            let offset = offsets.get(&place.1).ok_or_else(|| ConsumerError::NoPartition(place.clone()))?;
            found.insert(place.clone(), *offset);
        }
    }
    Ok(found)
}

async fn committed(
    client: &mut Client,
    group: &str,
    of: &BTreeSet<Place>,
) -> Result<BTreeMap<Place, Committed>, ConsumerError> {
    for topic in of.iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>() {
        let partitions = match client.topic(topic).await {
            Ok(described) => described.partitions.len() as i32,
            Err(error) if error.code().is_some() && !error.may_pass() => 0,
            Err(error) => return Err(error.into()),
        };
        let missing = of.iter().find(|place| place.0 == *topic && !(0..partitions).contains(&place.1));
        if let Some(missing) = missing {
            return Err(ConsumerError::NoPartition(missing.clone()));
        }
    }
    let mut committed = client.committed(group).await?;
    committed.retain(|place, _| of.contains(place));
    Ok(committed)
}
