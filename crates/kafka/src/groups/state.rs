//! One classic consumer group (KIP-62, KIP-345, KIP-394): who its members are, and how they rebalance.
//!
//! A pure state machine: no I/O, no clock of its own. Every call is told the time, answers that must wait for other
//! members go out through the one-shot channels the callers left, and [`Group::tick`] does what time alone brings.
//!
//! ```text
//! Empty ──join──> PreparingRebalance ──all joined, or time is up──> CompletingRebalance ──leader syncs──> Stable
//!                        ^                                                 │ leave, expiry, new member       │
//!                        └─────────────────────────────────────────────────┴─────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;

use super::member::{Join, Joined, Member, Sync, Synced};
use super::newer::subscription;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// As clients show it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    state: State,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance id to member id.
    instances: HashMap<String, String>,
    /// Ids given to newcomers that must come again, and until when.
    invited: HashMap<String, u64>,
    /// End of the phase in PreparingRebalance and CompletingRebalance.
    deadline_ms: u64,
    /// A rebalance does not complete before this.
    not_before_ms: u64,
    initial_delay_ms: u64,
    members_max: usize,
    vacant_since_ms: Option<u64>,
}

impl Group {
    pub(crate) fn new(initial_delay_ms: u64, members_max: usize) -> Group {
        Group {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            invited: HashMap::new(),
            deadline_ms: 0,
            not_before_ms: 0,
            initial_delay_ms,
            members_max,
            vacant_since_ms: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or("")
    }

    pub(crate) fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or("")
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    pub(crate) fn metadata(&self, member: &Member) -> Bytes {
        member.metadata(self.protocol())
    }

    /// What its members hold in memory, about.
    pub(crate) fn size_bytes(&self) -> usize {
        self.members.values().map(Member::size_bytes).sum()
    }

    /// Nobody is in it nor was told to come again.
    pub(crate) fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.invited.is_empty()
    }

    /// As of the last [`Self::tick`].
    pub(crate) fn vacant_since_ms(&self) -> Option<u64> {
        self.vacant_since_ms
    }

    pub(crate) fn join(&mut self, request: Join, now_ms: u64, waiter: oneshot::Sender<Joined>) {
        if let Err(reply) = self.try_join(request, now_ms, waiter) {
            let (reply, waiter) = *reply;
            let _ = waiter.send(reply);
        }
    }

    fn try_join(
        &mut self,
        mut request: Join,
        now_ms: u64,
        waiter: oneshot::Sender<Joined>,
    ) -> Result<(), Box<(Joined, oneshot::Sender<Joined>)>> {
        use ResponseError::*;
        let fail = |error, id: &str, waiter| Err(Box::new((Joined::failed(error, id), waiter)));
        if !self.accepts(&request) {
            return fail(InconsistentGroupProtocol, &request.member_id, waiter);
        }
        if request.member_id.is_empty() {
            let id = request.fresh_member_id.clone();
            let known = request.instance_id.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
            if let Some(old) = known {
                return self.replace(&old, id, request, now_ms, waiter);
            }
            if self.members.len() + self.invited.len() >= self.members_max {
                return fail(GroupMaxSizeReached, "", waiter);
            }
            if request.instance_id.is_none() && request.member_id_required {
                self.invited.insert(id.clone(), now_ms + request.session_timeout_ms);
                return fail(MemberIdRequired, &id, waiter);
            }
            self.add(id, request, now_ms, waiter);
            return Ok(());
        }
        let id = std::mem::take(&mut request.member_id);
        if self.invited.remove(&id).is_some() {
            self.add(id, request, now_ms, waiter);
            return Ok(());
        }
        if let Err(error) = self.check(&id, request.instance_id.as_deref()) {
            return fail(error, &id, waiter);
        }
        let is_leader = self.leader.as_ref() == Some(&id);
        let Some(member) = self.members.get_mut(&id) else { return fail(UnknownMemberId, &id, waiter) };
        let changed = member.protocols != request.protocols;
        let settled = match self.state {
            State::CompletingRebalance => !changed,
            State::Stable => !changed && !is_leader,
            State::Empty | State::PreparingRebalance => false,
        };
        member.seen_ms = now_ms;
        if settled {
            // It lost our answer: the generation stands.
            let reply = self.joined(&id);
            return Err(Box::new((reply, waiter)));
        }
        member.protocols = request.protocols;
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.answer_join(Joined::failed(UnknownMemberId, &id));
        member.joining = Some(waiter);
        self.rebalance(now_ms);
        Ok(())
    }

    /// A static member came back under a new member id: it keeps its assignment, and its old self is fenced.
    fn replace(
        &mut self,
        old: &str,
        id: String,
        request: Join,
        now_ms: u64,
        waiter: oneshot::Sender<Joined>,
    ) -> Result<(), Box<(Joined, oneshot::Sender<Joined>)>> {
        let Some(mut member) = self.members.remove(old) else {
            self.add(id, request, now_ms, waiter);
            return Ok(());
        };
        member.answer_join(Joined::failed(ResponseError::FencedInstanceId, old));
        member.answer_sync(Synced::failed(ResponseError::FencedInstanceId));
        let unchanged = self.state == State::Stable && self.is_as_before(&member, &request);
        let skips_assignment = request.skips_assignment;
        let was_leader = self.leader.as_deref() == Some(old);
        let assignment = member.assignment;
        self.insert(id.clone(), request, now_ms, None);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.assignment = assignment;
            if unchanged {
                member.synced = true;
                let mut reply = self.joined(&id);
                reply.skip_assignment = was_leader && skips_assignment;
                if was_leader && !skips_assignment {
                    // It takes itself for a follower, and does not assign anew (as Kafka tells such clients).
                    (reply.leader, reply.members) = (old.to_owned(), Vec::new());
                }
                return Err(Box::new((reply, waiter)));
            }
            member.joining = Some(waiter);
        }
        self.rebalance(now_ms);
        Ok(())
    }

    /// Whether a static member that comes back leaves the generation as it is: it wants to read the same topics. What else it
    /// tells, such as what it owns, changes with every start.
    fn is_as_before(&self, before: &Member, now: &Join) -> bool {
        let protocol = self.protocol();
        let Some((_, metadata)) = now.protocols.iter().find(|(name, _)| name == protocol) else { return false };
        let (old, known) = (before.metadata(protocol), before.protocols.iter().map(|(name, _)| name));
        let same = match now.protocol_type.as_str() {
            "consumer" => subscription(&old).eq(subscription(metadata)),
            _ => old == *metadata,
        };
        same && known.eq(now.protocols.iter().map(|(name, _)| name))
    }

    pub(crate) fn sync(&mut self, request: Sync, now_ms: u64, waiter: oneshot::Sender<Synced>) {
        match self.check_sync(&request) {
            Err(error) => {
                let _ = waiter.send(Synced::failed(error));
                return;
            }
            Ok(member) => {
                member.seen_ms = now_ms;
                member.answer_sync(Synced::failed(ResponseError::RebalanceInProgress));
                member.syncing = Some(waiter);
                member.synced = true;
            }
        }
        if self.state == State::CompletingRebalance && self.leader.as_ref() == Some(&request.member_id) {
            let mut assignments: HashMap<String, Bytes> = request.assignments.into_iter().collect();
            for (id, member) in &mut self.members {
                member.assignment = assignments.remove(id).unwrap_or_default();
            }
            self.state = State::Stable;
        }
        if self.state == State::Stable {
            let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
            for member in self.members.values_mut().filter(|member| member.syncing.is_some()) {
                member.seen_ms = now_ms;
                member.answer_sync(Synced {
                    error: None,
                    protocol_type: protocol_type.clone(),
                    protocol: protocol.clone(),
                    assignment: member.assignment.clone(),
                });
            }
        }
    }

    fn check_sync(&mut self, request: &Sync) -> Result<&mut Member, ResponseError> {
        self.check_generation(&request.member_id, request.instance_id.as_deref(), request.generation)?;
        let differs = |mine: &Option<String>, theirs: &Option<String>| theirs.is_some() && mine != theirs;
        if differs(&self.protocol_type, &request.protocol_type) || differs(&self.protocol, &request.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => {
                self.members.get_mut(&request.member_id).ok_or(ResponseError::UnknownMemberId)
            }
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now_ms: u64,
    ) -> Result<(), ResponseError> {
        self.check_generation(member_id, instance_id, generation)?;
        if let Some(member) = self.members.get_mut(member_id) {
            member.seen_ms = now_ms;
        }
        match self.state {
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Whether this member may commit offsets; a negative generation is a consumer that assigns its partitions itself, welcome
    /// while the group has no members.
    pub(crate) fn may_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now_ms: u64,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_generation(member_id, instance_id, generation)?;
        if let Some(member) = self.members.get_mut(member_id) {
            member.seen_ms = now_ms;
        }
        match self.state {
            State::CompletingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// By member id, or by instance id alone (as an administrator does).
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now_ms: u64,
    ) -> Result<(), ResponseError> {
        if self.invited.remove(member_id).is_some() {
            self.complete_if_ready(now_ms);
            return Ok(());
        }
        let id = match instance_id {
            Some(instance) if member_id.is_empty() => {
                self.instances.get(instance).cloned().ok_or(ResponseError::UnknownMemberId)?
            }
            _ => {
                self.check(member_id, instance_id)?;
                member_id.to_owned()
            }
        };
        self.remove(&id);
        self.after_removal(now_ms);
        Ok(())
    }

    /// Does what is due at `now_ms`: expired sessions and invitations, rebalances whose time is up.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        self.invited.retain(|_, until_ms| *until_ms > now_ms);
        let expired = |member: &Member| member.expires_ms().is_some_and(|at| at <= now_ms);
        let mut gone: Vec<String> = Vec::new();
        gone.extend(self.members.iter().filter(|(_, member)| expired(member)).map(|(id, _)| id.clone()));
        if self.state == State::CompletingRebalance && self.deadline_ms <= now_ms {
            gone.extend(self.members.iter().filter(|(_, member)| !member.synced).map(|(id, _)| id.clone()));
        }
        let any = !gone.is_empty();
        for id in gone {
            self.remove(&id);
        }
        if any {
            self.after_removal(now_ms);
        }
        self.complete_if_ready(now_ms);
        self.vacant_since_ms = if self.is_vacant() { self.vacant_since_ms.or(Some(now_ms)) } else { None };
    }

    /// When [`Self::tick`] next has something to do.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        let sessions = self.members.values().filter_map(Member::expires_ms);
        let phase = match self.state {
            State::PreparingRebalance if self.all_joined() => Some(self.not_before_ms),
            State::PreparingRebalance | State::CompletingRebalance => Some(self.deadline_ms),
            State::Empty | State::Stable => None,
        };
        sessions.chain(self.invited.values().copied()).chain(phase).min()
    }

    /// Lets everybody who waits go: the server stops.
    pub(crate) fn dismiss(&mut self) {
        for (id, member) in &mut self.members {
            member.answer_join(Joined::failed(ResponseError::NotCoordinator, id));
            member.answer_sync(Synced::failed(ResponseError::NotCoordinator));
        }
    }

    fn check(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance) = instance_id {
            match self.instances.get(instance) {
                Some(id) if id != member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
                None => return Err(ResponseError::UnknownMemberId),
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    fn check_generation(&self, id: &str, instance_id: Option<&str>, generation: i32) -> Result<(), ResponseError> {
        self.check(id, instance_id)?;
        if generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    /// Whether the protocols offered leave the group one that all members know.
    fn accepts(&self, request: &Join) -> bool {
        if request.protocols.is_empty() || request.protocol_type.is_empty() {
            return false;
        }
        let others = || self.members.iter().filter(|(id, _)| **id != request.member_id).map(|(_, member)| member);
        if others().next().is_none() {
            return true;
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|(name, _)| others().all(|member| member.supports(name)))
    }

    fn add(&mut self, id: String, request: Join, now_ms: u64, waiter: oneshot::Sender<Joined>) {
        if self.state == State::Empty {
            self.not_before_ms = now_ms + self.initial_delay_ms;
        }
        self.insert(id, request, now_ms, Some(waiter));
        self.rebalance(now_ms);
    }

    fn insert(&mut self, id: String, request: Join, now_ms: u64, joining: Option<oneshot::Sender<Joined>>) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if let Some(instance) = &request.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        let member = Member {
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            seen_ms: now_ms,
            joining,
            syncing: None,
            synced: false,
        };
        self.members.insert(id, member);
    }

    fn remove(&mut self, id: &str) {
        let Some(mut member) = self.members.remove(id) else { return };
        member.answer_join(Joined::failed(ResponseError::UnknownMemberId, id));
        member.answer_sync(Synced::failed(ResponseError::UnknownMemberId));
        if let Some(instance) = &member.instance_id
            && self.instances.get(instance).is_some_and(|current| current == id)
        {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
    }

    fn after_removal(&mut self, now_ms: u64) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.rebalance(now_ms),
            State::PreparingRebalance => self.complete_if_ready(now_ms),
            State::Empty => {}
        }
    }

    fn rebalance(&mut self, now_ms: u64) {
        if self.state != State::PreparingRebalance {
            self.state = State::PreparingRebalance;
            for member in self.members.values_mut() {
                member.answer_sync(Synced::failed(ResponseError::RebalanceInProgress));
                member.synced = false;
            }
            let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0);
            self.deadline_ms = now_ms + longest;
        }
        self.complete_if_ready(now_ms);
    }

    fn all_joined(&self) -> bool {
        self.invited.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    fn complete_if_ready(&mut self, now_ms: u64) {
        if self.state != State::PreparingRebalance {
            return;
        }
        let in_time = self.all_joined() && now_ms >= self.not_before_ms;
        if !in_time && now_ms < self.deadline_ms && !self.members.is_empty() {
            return;
        }
        // Who did not come back is out, unless its place is reserved by an instance id until its session ends.
        let absent = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| absent(member)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id);
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        if self.members.is_empty() {
            (self.state, self.protocol, self.leader) = (State::Empty, None, None);
            return;
        }
        self.protocol = self.vote();
        let first = || {
            let joining = self.members.iter().find(|(_, member)| member.joining.is_some());
            joining.or_else(|| self.members.iter().next()).map(|(id, _)| id.clone())
        };
        let present = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        self.leader = self.leader.take().filter(present).or_else(first);
        self.state = State::CompletingRebalance;
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0);
        self.deadline_ms = now_ms + longest;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id)
                && member.joining.is_some()
            {
                member.seen_ms = now_ms;
                member.answer_join(reply);
            }
        }
    }

    /// The protocol that most members like best among those that all know.
    fn vote(&self) -> Option<String> {
        let candidate = |name: &str| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| candidate(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn joined(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let listed = |(id, member): (&String, &Member)| (id.clone(), member.instance_id.clone(), self.metadata(member));
        Joined {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: if leader == id { self.members.iter().map(listed).collect() } else { Vec::new() },
            leader,
            member_id: id.to_owned(),
            skip_assignment: false,
        }
    }
}
