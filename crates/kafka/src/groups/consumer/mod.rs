//! One consumer group of the newer protocol (KIP-848): the broker assigns partitions, members reconcile one by one.
//!
//! A pure state machine: no I/O, no clock of its own; it is told the time and which topics there are.
//!
//! - The **group epoch** grows with every change of members, subscriptions or topics, and with it the **target** of
//!   every member is computed anew ([`assignor`]).
//! - A member moves to its target in two steps. It is first told to give up what is no longer its own, at its old epoch;
//!   once it says that it did, it takes the new epoch and what is free. What another member still holds follows later.
//! - A partition has one **owner** from when it is handed out until the owner says that it gave it up, left, or was
//!   dropped. That is what keeps two members from one partition at any time, whatever targets say.

pub(super) mod assignor;
pub(super) mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kafka_protocol::ResponseError;
use regex::{Regex, RegexBuilder};
use uuid::Uuid;

use assignor::Assignor;

/// Topic id and partition.
pub(crate) type Place = (Uuid, i32);
pub(crate) type Places = BTreeSet<Place>;
pub(crate) type Refused = (ResponseError, String);

/// The epochs by which a member says that it joins, leaves, or (a static one) will be back.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
pub(crate) const AWAY: i32 = -2;
/// How often the group looks for new topics and partitions.
const REFRESH_MS: u64 = 1_000;
const REGEX_BYTES_MAX: usize = 1 << 20;

/// The topics there are.
pub(crate) trait Catalog {
    /// Id and number of partitions.
    fn topic(&self, name: &str) -> Option<(Uuid, i32)>;
    fn names(&self) -> Vec<String>;
}

/// A heartbeat. `None` stands for "as before".
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: Option<u64>,
    pub(crate) topics: Option<Vec<String>>,
    pub(crate) regex: Option<String>,
    pub(crate) assignor: Option<String>,
    pub(crate) owned: Option<Places>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) epoch: i32,
    /// `None` where it is what the member was told before.
    pub(crate) assignment: Option<Places>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// At its target.
    Stable,
    /// Was told to give partitions up, and did not say yet that it did.
    Unrevoked,
    /// Waits for partitions that others still hold.
    Unreleased,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(super) rebalance_timeout_ms: u64,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) regex: Option<String>,
    pattern: Option<Regex>,
    /// Topics that the pattern finds.
    matched: BTreeSet<String>,
    pub(super) assignor: Option<Assignor>,
    pub(crate) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) progress: Progress,
    pub(crate) assigned: Places,
    /// To be given up.
    pub(super) revoking: Places,
    pub(crate) target: Places,
    seen_ms: u64,
    /// By when what is to be given up must be.
    revoked_by_ms: u64,
}

impl Member {
    fn subscribes(&self, topic: &str) -> bool {
        self.topics.contains(topic) || self.matched.contains(topic)
    }

    fn size_bytes(&self) -> usize {
        let names: usize = self.topics.iter().chain(&self.matched).map(|name| 48 + name.len()).sum();
        256 + names + 32 * (self.assigned.len() + self.revoking.len() + self.target.len())
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(super) epoch: i32,
    members: BTreeMap<String, Member>,
    /// Instance id to member id.
    instances: HashMap<String, String>,
    owners: HashMap<Place, String>,
    /// Of the topics subscribed to, as far as they exist: id and partitions.
    known: BTreeMap<String, (Uuid, i32)>,
    refreshed_ms: Option<u64>,
    session_timeout_ms: u64,
    members_max: usize,
    /// Since it was last written down.
    changed: bool,
}

impl Group {
    pub(crate) fn new(session_timeout_ms: u64, members_max: usize) -> Group {
        Group {
            epoch: 0,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            owners: HashMap::new(),
            known: BTreeMap::new(),
            refreshed_ms: None,
            session_timeout_ms,
            members_max,
            changed: false,
        }
    }

    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn set_changed(&mut self) {
        self.changed = true;
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn state(&self) -> &'static str {
        let settled = |member: &Member| member.progress == Progress::Stable && member.epoch == self.epoch;
        match () {
            () if self.members.is_empty() => "Empty",
            // A static member that is away keeps its place.
            () if self.members.values().all(|member| member.epoch == AWAY || settled(member)) => "Stable",
            () => "Reconciling",
        }
    }

    /// What its members hold in memory, about.
    pub(crate) fn size_bytes(&self) -> usize {
        self.members.values().map(Member::size_bytes).sum::<usize>() + 64 * self.owners.len()
    }

    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.subscribes(topic))
    }

    /// The assignor in force: what most members ask for.
    pub(crate) fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        // The last of equals would win: the default comes first in order, so turn it round.
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map_or(Assignor::default(), |(assignor, _)| assignor)
    }

    pub(crate) fn heartbeat(&mut self, beat: &Beat, now_ms: u64, catalog: &dyn Catalog) -> Result<Answer, Refused> {
        let id = &beat.member_id;
        // Before anything changes.
        let asked = Asked::read(beat)?;
        match beat.epoch {
            LEAVE | AWAY => return self.leave(beat, now_ms),
            JOIN => self.join(beat, now_ms)?,
            epoch if epoch > 0 => self.check(beat)?,
            epoch => return Err((ResponseError::InvalidRequest, format!("{epoch} is not a member epoch"))),
        }
        let resubscribed = self.update(beat, asked, now_ms)?;
        if self.refresh(resubscribed, now_ms, catalog) || resubscribed || beat.epoch == JOIN && self.is_new(id) {
            self.assign();
        }
        let moved = self.reconcile(id, beat.owned.as_ref(), now_ms);
        // A full request (a join, or one after an error) is answered in full.
        let full = beat.rebalance_timeout_ms.is_some()
            && (beat.topics.is_some() || beat.regex.is_some())
            && beat.owned.is_some();
        let Some(member) = self.members.get(id) else { return Err(unknown(id)) };
        Ok(Answer { epoch: member.epoch, assignment: (moved || full).then(|| member.assigned.clone()) })
    }

    /// Whether this member may commit and read offsets at this epoch.
    pub(crate) fn check_offsets(&self, member_id: &str, epoch: i32) -> Result<(), ResponseError> {
        if epoch < 0 && member_id.is_empty() && self.members.is_empty() {
            return Ok(());
        }
        self.check_member(member_id, epoch)
    }

    pub(crate) fn has_member(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id)
    }

    pub(crate) fn check_member(&self, member_id: &str, epoch: i32) -> Result<(), ResponseError> {
        match self.members.get(member_id) {
            None => Err(ResponseError::UnknownMemberId),
            Some(member) if member.epoch != epoch => Err(ResponseError::StaleMemberEpoch),
            Some(_) => Ok(()),
        }
    }

    /// Drops members that were not heard of, or do not give up what they should. Whether there were any.
    pub(crate) fn tick(&mut self, now_ms: u64) -> bool {
        let due = |member: &Member| self.expires_ms(member) <= now_ms;
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| due(member)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.remove(id);
        }
        if !gone.is_empty() {
            self.assign();
        }
        !gone.is_empty()
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.members.values().map(|member| self.expires_ms(member)).min()
    }

    fn expires_ms(&self, member: &Member) -> u64 {
        let session = member.seen_ms + self.session_timeout_ms;
        if member.progress == Progress::Unrevoked { session.min(member.revoked_by_ms) } else { session }
    }

    fn is_new(&self, id: &str) -> bool {
        self.members.get(id).is_some_and(|member| member.epoch == JOIN)
    }

    fn join(&mut self, beat: &Beat, now_ms: u64) -> Result<(), Refused> {
        let invalid = |message: &str| Err((ResponseError::InvalidRequest, message.to_owned()));
        if beat.member_id.is_empty() {
            return invalid("a member id is missing");
        }
        if beat.rebalance_timeout_ms.is_none_or(|ms| ms == 0) {
            return invalid("a joining member names a rebalance timeout");
        }
        if beat.topics.is_none() && beat.regex.as_ref().is_none_or(String::is_empty) {
            return invalid("a joining member names the topics it subscribes to");
        }
        if beat.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("a joining member owns no partitions");
        }
        let holder = beat.instance_id.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
        if let Some(holder) = holder.filter(|holder| *holder != beat.member_id) {
            return self.take_over(&holder, beat, now_ms);
        }
        if self.members.contains_key(&beat.member_id) {
            return Ok(());
        }
        if self.members.len() >= self.members_max {
            return Err((ResponseError::GroupMaxSizeReached, format!("the group has {} members", self.members.len())));
        }
        self.insert(beat.member_id.clone(), newcomer(beat, now_ms));
        Ok(())
    }

    /// A static member is back, under another member id: it gets what its old self had.
    fn take_over(&mut self, old: &str, beat: &Beat, now_ms: u64) -> Result<(), Refused> {
        match self.members.get(old) {
            Some(member) if member.epoch != AWAY => {
                let message = "another member uses this instance id; it has to leave, or expire, first";
                return Err((ResponseError::UnreleasedInstanceId, message.to_owned()));
            }
            _ => {}
        }
        let mut member = newcomer(beat, now_ms);
        if let Some(old) = self.remove(old) {
            member.topics = old.topics;
            (member.regex, member.pattern, member.matched) = (old.regex, old.pattern, old.matched);
            member.assignor = old.assignor;
            (member.assigned, member.target) = (old.assigned, old.target);
            // Its target stands, unless the group moved on while it was away.
            (member.epoch, member.progress) = (self.epoch, Progress::Stable);
            member.previous_epoch = self.epoch;
            if member.assigned != member.target {
                member.progress = Progress::Unreleased;
            }
        }
        for place in &member.assigned {
            self.owners.insert(*place, beat.member_id.clone());
        }
        self.insert(beat.member_id.clone(), member);
        Ok(())
    }

    fn check(&self, beat: &Beat) -> Result<(), Refused> {
        let id = &beat.member_id;
        if let Some(instance) = &beat.instance_id {
            match self.instances.get(instance) {
                None => return Err(unknown(id)),
                Some(holder) if holder != id => {
                    return Err((ResponseError::FencedInstanceId, "another member took over this instance id".into()));
                }
                Some(_) => {}
            }
        }
        let member = self.members.get(id).ok_or_else(|| unknown(id))?;
        // The answer that took it to its epoch may have been lost: then it asks again with the one before.
        let lost = beat.epoch == member.previous_epoch
            && beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&member.assigned));
        if beat.epoch != member.epoch && !(beat.epoch < member.epoch && lost) {
            let message = format!("member epoch {} is not {}: join again", beat.epoch, member.epoch);
            return Err((ResponseError::FencedMemberEpoch, message));
        }
        Ok(())
    }

    fn leave(&mut self, beat: &Beat, now_ms: u64) -> Result<Answer, Refused> {
        let holder = beat.instance_id.as_ref().and_then(|instance| self.instances.get(instance));
        if holder.is_some_and(|holder| *holder != beat.member_id) {
            return Err((ResponseError::FencedInstanceId, "another member took over this instance id".into()));
        }
        let member = self.members.get_mut(&beat.member_id).ok_or_else(|| unknown(&beat.member_id))?;
        if beat.epoch == AWAY && member.instance_id.is_some() {
            self.changed = true;
            (member.epoch, member.seen_ms) = (AWAY, now_ms);
            // Whoever waits for what it was to give up need not wait: it holds nothing any more.
            for place in std::mem::take(&mut member.revoking) {
                self.owners.remove(&place);
            }
            member.progress = Progress::Stable;
            return Ok(Answer { epoch: AWAY, assignment: None });
        }
        self.remove(&beat.member_id);
        self.assign();
        Ok(Answer { epoch: LEAVE, assignment: None })
    }

    /// Takes over what the heartbeat says of the member; whether its subscription is another than before.
    fn update(&mut self, beat: &Beat, asked: Asked, now_ms: u64) -> Result<bool, Refused> {
        let Some(member) = self.members.get_mut(&beat.member_id) else { return Err(unknown(&beat.member_id)) };
        member.seen_ms = now_ms;
        let mut changed = false;
        if let Some(rebalance_timeout_ms) = beat.rebalance_timeout_ms {
            member.rebalance_timeout_ms = rebalance_timeout_ms;
        }
        if beat.rack_id.is_some() {
            member.rack_id.clone_from(&beat.rack_id);
        }
        (member.client_id, member.client_host) = (beat.client_id.clone(), beat.client_host.clone());
        if let Some(topics) = &beat.topics {
            let topics: BTreeSet<String> = topics.iter().cloned().collect();
            changed |= member.topics != topics;
            member.topics = topics;
        }
        if let Some(text) = &beat.regex {
            let regex = Some(text.clone()).filter(|text| !text.is_empty());
            changed |= member.regex != regex;
            (member.regex, member.pattern) = (regex, asked.pattern);
        }
        if asked.assignor.is_some() && member.assignor != asked.assignor {
            (member.assignor, changed) = (asked.assignor, true);
        }
        Ok(changed)
    }

    /// Looks which topics there are; whether that is another answer than before.
    fn refresh(&mut self, now: bool, now_ms: u64, catalog: &dyn Catalog) -> bool {
        let due = self.refreshed_ms.is_none_or(|at| now_ms >= at + REFRESH_MS);
        if !now && !due {
            return false;
        }
        self.refreshed_ms = Some(now_ms);
        let mut changed = false;
        if self.members.values().any(|member| member.pattern.is_some() || !member.matched.is_empty()) {
            let names = catalog.names();
            for member in self.members.values_mut() {
                let matches = |name: &&String| member.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
                let matched: BTreeSet<String> = names.iter().filter(matches).cloned().collect();
                changed |= member.matched != matched;
                member.matched = matched;
            }
        }
        let names: BTreeSet<&String> =
            self.members.values().flat_map(|member| member.topics.iter().chain(&member.matched)).collect();
        let known: BTreeMap<String, (Uuid, i32)> =
            names.into_iter().filter_map(|name| Some((name.clone(), catalog.topic(name)?))).collect();
        changed |= known != self.known;
        self.known = known;
        changed
    }

    /// A new epoch with new targets.
    fn assign(&mut self) {
        self.epoch += 1;
        self.changed = true;
        let subscriptions = self.members.iter().map(|(id, member)| assignor::Subscriber {
            id,
            order: member.instance_id.as_ref().unwrap_or(id),
            topics: self.known.iter().filter(|(name, _)| member.subscribes(name)).map(|(_, (id, _))| *id).collect(),
            current: &member.target,
        });
        let topics = self.known.values().copied().collect();
        let targets = self.assignor().assign(&subscriptions.collect::<Vec<_>>(), &topics);
        for (member, target) in self.members.values_mut().zip(targets) {
            member.target = target;
        }
    }

    /// Moves one member towards its target; whether its assignment is another than before.
    fn reconcile(&mut self, id: &str, owned: Option<&Places>, now_ms: u64) -> bool {
        let Some(member) = self.members.get_mut(id) else { return false };
        match member.progress {
            Progress::Stable if member.epoch == self.epoch => return false,
            Progress::Unrevoked => {
                if owned.is_none_or(|owned| !owned.is_disjoint(&member.revoking)) {
                    return false;
                }
                for place in std::mem::take(&mut member.revoking) {
                    self.owners.remove(&place);
                }
            }
            Progress::Stable | Progress::Unreleased => {}
        }
        let before = member.assigned.clone();
        let stood = (member.epoch, member.progress);
        let (keep, surplus): (Places, Places) = before.iter().partition(|place| member.target.contains(place));
        let (revoking, given_up): (Places, Places) =
            surplus.into_iter().partition(|place| owned.is_none_or(|owned| owned.contains(place)));
        for place in given_up {
            self.owners.remove(&place);
        }
        member.assigned = keep;
        if !revoking.is_empty() {
            member.revoking = revoking;
            member.progress = Progress::Unrevoked;
            member.revoked_by_ms = now_ms + member.rebalance_timeout_ms;
            self.changed = true;
            return true;
        }
        let mut waits = false;
        for place in &member.target {
            match self.owners.get(place) {
                Some(owner) if owner != id => waits = true,
                Some(_) => drop(member.assigned.insert(*place)),
                None => {
                    self.owners.insert(*place, id.to_owned());
                    member.assigned.insert(*place);
                }
            }
        }
        if member.epoch != self.epoch {
            (member.previous_epoch, member.epoch) = (member.epoch, self.epoch);
        }
        member.progress = if waits { Progress::Unreleased } else { Progress::Stable };
        let moved = member.assigned != before;
        self.changed |= moved || stood != (member.epoch, member.progress);
        moved
    }

    fn insert(&mut self, id: String, member: Member) {
        self.changed = true;
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id, member);
    }

    fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.changed = true;
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        for place in member.assigned.iter().chain(&member.revoking) {
            self.owners.remove(place);
        }
        Some(member)
    }
}

/// What a heartbeat asks for that may not exist.
struct Asked {
    assignor: Option<Assignor>,
    pattern: Option<Regex>,
}

impl Asked {
    fn read(beat: &Beat) -> Result<Asked, Refused> {
        let assignor =
            match beat.assignor.as_deref() {
                None => None,
                Some(name) => Some(Assignor::named(name).ok_or_else(|| {
                    (ResponseError::UnsupportedAssignor, format!("{name:?} is none of uniform, range"))
                })?),
            };
        let pattern = match beat.regex.as_deref() {
            None | Some("") => None,
            Some(text) => {
                let refuse =
                    || (ResponseError::InvalidRegularExpression, format!("{text:?} is not a regular expression"));
                Some(pattern(text).ok_or_else(refuse)?)
            }
        };
        Ok(Asked { assignor, pattern })
    }
}

fn newcomer(beat: &Beat, now_ms: u64) -> Member {
    Member {
        instance_id: beat.instance_id.clone(),
        rack_id: None,
        client_id: String::new(),
        client_host: String::new(),
        rebalance_timeout_ms: beat.rebalance_timeout_ms.unwrap_or(0),
        topics: BTreeSet::new(),
        regex: None,
        pattern: None,
        matched: BTreeSet::new(),
        assignor: None,
        epoch: JOIN,
        previous_epoch: JOIN,
        progress: Progress::Stable,
        assigned: Places::new(),
        revoking: Places::new(),
        target: Places::new(),
        seen_ms: now_ms,
        revoked_by_ms: 0,
    }
}

/// Matches whole topic names.
fn pattern(text: &str) -> Option<Regex> {
    RegexBuilder::new(&format!("^(?:{text})$")).size_limit(REGEX_BYTES_MAX).build().ok()
}

fn unknown(id: &str) -> Refused {
    (ResponseError::UnknownMemberId, format!("member {id:?} is not in the group: join"))
}
