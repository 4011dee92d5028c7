//! Classic groups under churn, on a virtual clock: consumers that join, heartbeat, leave, crash and come back in any
//! order, eager or cooperative, some with an instance id. In peace every partition ends up with exactly one of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::ResponseError::{self, *};
use proptest::prelude::*;
use tokio::sync::oneshot::Receiver;

use super::member::*;
use super::state::*;

const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 30_000;
const PARTITIONS: u8 = 7;

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Out,
    Joining(Receiver<Joined>),
    Syncing(Receiver<Synced>),
    In,
}

#[derive(Debug, Default)]
struct Consumer {
    id: String,
    generation: i32,
    phase: Phase,
    holds: BTreeSet<u8>,
}

struct World {
    group: Group,
    cooperative: bool,
    now_ms: u64,
    fresh: u32,
    consumers: BTreeMap<usize, Consumer>,
}

/// Every third consumer is a static member.
fn instance(number: usize) -> Option<String> {
    number.is_multiple_of(3).then(|| format!("i{number}"))
}

/// The leader's work: even shares; in a cooperative group nothing that another still holds.
fn assign(members: &[(String, Option<String>, Bytes)], cooperative: bool) -> Vec<(String, Bytes)> {
    let owner = |partition: u8| members.iter().find(|(.., owned)| owned.contains(&partition)).map(|(id, ..)| id);
    let mut shares: BTreeMap<&String, Vec<u8>> = members.iter().map(|(id, ..)| (id, Vec::new())).collect();
    for partition in 0..PARTITIONS {
        let taker = &members[usize::from(partition) % members.len()].0;
        if !cooperative || owner(partition).is_none_or(|owner| owner == taker) {
            shares.entry(taker).or_default().push(partition);
        }
    }
    shares.into_iter().map(|(id, share)| (id.clone(), Bytes::from(share))).collect()
}

impl World {
    fn join(&mut self, number: usize) {
        self.fresh += 1;
        let consumer = self.consumers.entry(number).or_default();
        if !self.cooperative {
            consumer.holds.clear();
        }
        let request = Join {
            member_id: consumer.id.clone(),
            fresh_member_id: format!("m{number}-{}", self.fresh),
            member_id_required: number.is_multiple_of(2),
            skips_assignment: true,
            instance_id: instance(number),
            client_id: String::new(),
            client_host: String::new(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("any".to_owned(), consumer.holds.iter().copied().collect())],
        };
        let (waiter, reply) = tokio::sync::oneshot::channel();
        self.group.join(request, self.now_ms, waiter);
        consumer.phase = Phase::Joining(reply);
    }

    fn failed(&mut self, number: usize, error: ResponseError) {
        match error {
            RebalanceInProgress => self.join(number),
            // All it held is lost; it joins as a newcomer.
            UnknownMemberId | IllegalGeneration | FencedInstanceId => {
                drop(self.consumers.insert(number, Consumer::default()))
            }
            GroupMaxSizeReached => drop(self.consumers.remove(&number)),
            other => panic!("{other:?}"),
        }
    }

    /// One step of one consumer.
    fn act(&mut self, number: usize) {
        let (cooperative, now_ms) = (self.cooperative, self.now_ms);
        let consumer = self.consumers.entry(number).or_default();
        match &mut consumer.phase {
            Phase::Out => self.join(number),
            Phase::Joining(reply) => {
                let Ok(joined) = reply.try_recv() else { return };
                match joined.error {
                    Some(MemberIdRequired) => {
                        consumer.id = joined.member_id;
                        self.join(number);
                    }
                    Some(error) => self.failed(number, error),
                    None => {
                        (consumer.id, consumer.generation) = (joined.member_id, joined.generation);
                        let leads = joined.leader == consumer.id;
                        let request = Sync {
                            member_id: consumer.id.clone(),
                            instance_id: instance(number),
                            generation: consumer.generation,
                            protocol_type: None,
                            protocol: None,
                            assignments: if leads { assign(&joined.members, cooperative) } else { Vec::new() },
                        };
                        let (waiter, reply) = tokio::sync::oneshot::channel();
                        self.group.sync(request, now_ms, waiter);
                        consumer.phase = Phase::Syncing(reply);
                    }
                }
            }
            Phase::Syncing(reply) => {
                let Ok(synced) = reply.try_recv() else { return };
                match synced.error {
                    Some(error) => self.failed(number, error),
                    None => {
                        let given: BTreeSet<u8> = synced.assignment.iter().copied().collect();
                        let lost = !consumer.holds.is_subset(&given);
                        (consumer.holds, consumer.phase) = (given, Phase::In);
                        if cooperative && lost {
                            self.join(number);
                        }
                    }
                }
            }
            Phase::In => {
                let (id, generation) = (consumer.id.clone(), consumer.generation);
                let beaten = self.group.heartbeat(&id, instance(number).as_deref(), generation, now_ms);
                if let Err(error) = beaten {
                    self.failed(number, error);
                }
            }
        }
    }

    fn leave(&mut self, number: usize) {
        if let Some(consumer) = self.consumers.remove(&number) {
            let _ = self.group.leave(&consumer.id, None, self.now_ms);
        }
    }

    fn generation(&self) -> i32 {
        self.consumers.values().map(|consumer| consumer.generation).max().unwrap_or(0)
    }

    /// Nobody holds what another does, of those the group counts on.
    fn check(&self) {
        let known: BTreeSet<&String> = self.group.members().map(|(id, _)| id).collect();
        let mut seen = BTreeSet::new();
        for consumer in self.consumers.values().filter(|consumer| known.contains(&consumer.id)) {
            // An eager member of a generation before this one finds out with its next heartbeat.
            let current = matches!(consumer.phase, Phase::In) && consumer.generation == self.generation();
            if self.cooperative || current {
                for partition in &consumer.holds {
                    assert!(seen.insert(*partition), "{partition} is in two hands: {:?}", self.consumers);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Act(usize),
    Leave(usize),
    Crash(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        14 => (0..6usize).prop_map(Step::Act),
        1 => (0..6usize).prop_map(Step::Leave),
        1 => (0..6usize).prop_map(Step::Crash),
        3 => (1..5_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn in_peace_each_partition_has_one_consumer(
        steps in prop::collection::vec(step(), 0..150),
        cooperative in any::<bool>(),
        delay_ms in prop_oneof![Just(0u64), Just(100)],
    ) {
        let group = Group::new(delay_ms, 20);
        let mut world = World { group, cooperative, now_ms: 0, fresh: 0, consumers: BTreeMap::new() };
        for step in steps {
            match step {
                Step::Act(number) => world.act(number),
                Step::Leave(number) => world.leave(number),
                Step::Crash(number) => drop(world.consumers.remove(&number)),
                Step::Pass(ms) => {
                    world.now_ms += ms;
                    world.group.tick(world.now_ms);
                }
            }
            world.check();
        }
        if world.consumers.is_empty() {
            world.act(0);
        }
        // Those that crashed run out, the others settle.
        for _ in 0..300 {
            world.now_ms += 200;
            let numbers: Vec<usize> = world.consumers.keys().copied().collect();
            numbers.into_iter().for_each(|number| world.act(number));
            world.group.tick(world.now_ms);
            world.check();
        }
        prop_assert_eq!(world.group.state(), State::Stable);
        prop_assert_eq!(world.group.members().count(), world.consumers.len());
        let mut held: Vec<u8> = world.consumers.values().flat_map(|consumer| consumer.holds.iter().copied()).collect();
        held.sort_unstable();
        prop_assert_eq!(held, (0..PARTITIONS).collect::<Vec<_>>());
    }
}
