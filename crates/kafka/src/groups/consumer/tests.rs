use std::collections::BTreeMap;

use kafka_protocol::ResponseError::*;
use proptest::prelude::*;

use super::*;

const SESSION_MS: u64 = 45_000;
const REBALANCE_MS: u64 = 20_000;

#[derive(Debug, Clone, Default)]
struct Topics(BTreeMap<String, (Uuid, i32)>);

impl Catalog for Topics {
    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.0.get(name).copied()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn topics(sizes: &[(&str, i32)]) -> Topics {
    let id = |number: usize| Uuid::from_u128(number as u128 + 1);
    Topics(sizes.iter().enumerate().map(|(number, (name, size))| ((*name).to_owned(), (id(number), *size))).collect())
}

fn group() -> Group {
    Group::new(SESSION_MS, 10)
}

fn joining(id: &str, topics: &[&str]) -> Beat {
    Beat {
        member_id: id.to_owned(),
        rebalance_timeout_ms: Some(REBALANCE_MS),
        topics: Some(topics.iter().map(|it| (*it).to_owned()).collect()),
        owned: Some(Places::new()),
        ..Beat::default()
    }
}

fn staying(id: &str, epoch: i32, owned: Option<&Places>) -> Beat {
    Beat { member_id: id.to_owned(), epoch, owned: owned.cloned(), ..Beat::default() }
}

fn refused(answer: Result<Answer, Refused>) -> ResponseError {
    answer.unwrap_err().0
}

#[test]
fn the_second_member_gets_its_share_once_the_first_has_let_go() {
    let (mut group, topics) = (group(), topics(&[("t", 4)]));
    let first = group.heartbeat(&joining("a", &["t"]), 0, &topics).unwrap();
    let all = first.assignment.unwrap();
    assert_eq!((first.epoch, all.len()), (1, 4));
    let second = group.heartbeat(&joining("b", &["t"]), 1, &topics).unwrap();
    assert_eq!((second.epoch, second.assignment), (2, Some(Places::new())), "all of it is still the first one's");
    let told = group.heartbeat(&staying("a", 1, None), 2, &topics).unwrap();
    let kept = told.assignment.unwrap();
    assert_eq!((told.epoch, kept.len()), (1, 2), "the old epoch until the rest is given up");
    assert_eq!(group.heartbeat(&staying("a", 1, Some(&all)), 3, &topics).unwrap().assignment, None);
    assert_eq!(group.heartbeat(&staying("b", 2, None), 4, &topics).unwrap().assignment, None);
    assert_eq!(group.state(), "Reconciling");
    assert_eq!(group.heartbeat(&staying("a", 1, Some(&kept)), 5, &topics).unwrap().epoch, 2);
    let given = group.heartbeat(&staying("b", 2, None), 6, &topics).unwrap().assignment.unwrap();
    assert_eq!(given.len(), 2);
    assert!(given.is_disjoint(&kept));
    assert_eq!(group.state(), "Stable");
}

#[test]
fn epochs_are_checked_and_a_lost_answer_is_forgiven() {
    let (mut group, topics) = (group(), topics(&[("t", 2)]));
    let all = group.heartbeat(&joining("a", &["t"]), 0, &topics).unwrap().assignment.unwrap();
    assert_eq!(refused(group.heartbeat(&staying("a", 2, None), 1, &topics)), FencedMemberEpoch);
    assert_eq!(refused(group.heartbeat(&staying("b", 1, None), 1, &topics)), UnknownMemberId);
    assert_eq!((group.check_offsets("a", 1), group.check_offsets("a", 0)), (Ok(()), Err(StaleMemberEpoch)));
    assert_eq!(
        (group.check_offsets("b", 1), group.check_offsets("", -1)),
        (Err(UnknownMemberId), Err(UnknownMemberId))
    );
    // Another topic brings another epoch; the answer to that heartbeat is lost.
    let more = Beat { topics: Some(vec!["t".to_owned(), "u".to_owned()]), ..staying("a", 1, None) };
    assert_eq!(group.heartbeat(&more, 2, &topics).unwrap().epoch, 2);
    assert_eq!(refused(group.heartbeat(&staying("a", 1, None), 3, &topics)), FencedMemberEpoch);
    assert_eq!(group.heartbeat(&staying("a", 1, Some(&all)), 3, &topics).unwrap().epoch, 2);
}

#[test]
fn who_is_silent_or_does_not_let_go_is_dropped() {
    let (mut group, topics) = (group(), topics(&[("t", 2)]));
    let all = group.heartbeat(&joining("a", &["t"]), 0, &topics).unwrap().assignment.unwrap();
    group.heartbeat(&joining("b", &["t"]), 1, &topics).unwrap();
    group.heartbeat(&staying("a", 1, None), 2, &topics).unwrap();
    // It stays in touch, and keeps what it should give up.
    for now_ms in (3..REBALANCE_MS).step_by(5_000) {
        group.heartbeat(&staying("a", 1, Some(&all)), now_ms, &topics).unwrap();
        assert!(!group.tick(now_ms));
    }
    assert_eq!(group.next_deadline_ms(), Some(REBALANCE_MS + 2));
    assert!(group.tick(REBALANCE_MS + 2));
    assert_eq!(refused(group.heartbeat(&staying("a", 1, None), REBALANCE_MS + 3, &topics)), UnknownMemberId);
    let b = group.heartbeat(&staying("b", 2, None), REBALANCE_MS + 3, &topics).unwrap();
    assert_eq!(b.assignment, Some(all));
    assert!(group.tick(REBALANCE_MS + 3 + SESSION_MS));
    assert!(group.is_empty());
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_for_a_session() {
    let (mut group, topics) = (group(), topics(&[("t", 4)]));
    let named = |id: &str| Beat { instance_id: Some("i".to_owned()), ..joining(id, &["t"]) };
    let all = group.heartbeat(&named("old"), 0, &topics).unwrap().assignment;
    assert_eq!(refused(group.heartbeat(&named("new"), 1, &topics)), UnreleasedInstanceId);
    let away = Beat { epoch: AWAY, ..named("old") };
    assert_eq!(group.heartbeat(&away, 2, &topics).unwrap().epoch, AWAY);
    let back = group.heartbeat(&named("new"), 3, &topics).unwrap();
    assert_eq!((back.epoch, back.assignment), (1, all), "nothing moved");
    let old = Beat { instance_id: Some("i".to_owned()), ..staying("old", 1, None) };
    assert_eq!(refused(group.heartbeat(&old, 4, &topics)), FencedInstanceId);
    group.heartbeat(&Beat { epoch: AWAY, ..named("new") }, 5, &topics).unwrap();
    assert!(group.tick(5 + SESSION_MS));
    assert!(group.is_empty());
}

#[test]
fn a_pattern_finds_topics_made_later() {
    let (mut group, mut topics) = (group(), topics(&[("clicks-eu", 1), ("views", 1)]));
    let beat = Beat { topics: None, regex: Some("clicks-.*".to_owned()), ..joining("a", &[]) };
    assert_eq!(group.heartbeat(&beat, 0, &topics).unwrap().assignment.unwrap().len(), 1);
    topics.0.insert("clicks-us".to_owned(), (Uuid::from_u128(9), 2));
    assert_eq!(group.heartbeat(&staying("a", 1, None), 1, &topics).unwrap().assignment, None, "not looked yet");
    let found = group.heartbeat(&staying("a", 1, None), REFRESH_MS, &topics).unwrap();
    assert_eq!((found.epoch, found.assignment.unwrap().len()), (2, 3));
    let broken = Beat { regex: Some("(".to_owned()), ..staying("a", 2, None) };
    assert_eq!(refused(group.heartbeat(&broken, REFRESH_MS, &topics)), InvalidRegularExpression);
}

#[test]
fn joins_are_whole_and_assignors_known() {
    let (mut group, topics) = (group(), topics(&[("t", 1)]));
    let whole = joining("a", &["t"]);
    for incomplete in [
        Beat { member_id: String::new(), ..whole.clone() },
        Beat { rebalance_timeout_ms: None, ..whole.clone() },
        Beat { topics: None, ..whole.clone() },
        Beat { owned: None, ..whole.clone() },
    ] {
        assert_eq!(refused(group.heartbeat(&incomplete, 0, &topics)), InvalidRequest);
    }
    let sticky = Beat { assignor: Some("sticky".to_owned()), ..whole };
    assert_eq!(refused(group.heartbeat(&sticky, 0, &topics)), UnsupportedAssignor);
    assert!(group.is_empty(), "a refused join leaves nobody behind");
}

/// A consumer as its user sees it.
#[derive(Debug, Default, Clone)]
struct Consumer {
    epoch: i32,
    owned: Places,
    /// Told to give up, still at work on it.
    letting_go: Places,
    /// Its last answer did not arrive.
    deaf: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Beat { member: usize, lost: bool, lets_go: bool },
    Leave(usize),
    Crash(usize),
    Subscribe(usize, bool),
    Grow,
    Pass(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..6usize, prop::bool::weighted(0.1), prop::bool::weighted(0.7))
            .prop_map(|(member, lost, lets_go)| Step::Beat { member, lost, lets_go }),
        1 => (0..6usize).prop_map(Step::Leave),
        1 => (0..6usize).prop_map(Step::Crash),
        1 => (0..6usize, any::<bool>()).prop_map(|(member, both)| Step::Subscribe(member, both)),
        1 => Just(Step::Grow),
        3 => (1..15_000u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

struct World {
    group: Group,
    topics: Topics,
    now_ms: u64,
    consumers: BTreeMap<usize, Consumer>,
}

impl World {
    fn beat(&mut self, member: usize, change: Option<bool>, lost: bool, lets_go: bool) {
        let id = format!("m{member}");
        let both = change.unwrap_or(member.is_multiple_of(2));
        let wanted: &[&str] = if both { &["t", "u"] } else { &["t"] };
        let consumer = self.consumers.entry(member).or_default();
        if lets_go {
            consumer.letting_go.clear();
        }
        let holds: Places = consumer.owned.union(&consumer.letting_go).copied().collect();
        let mut beat = match consumer.epoch {
            0 => joining(&id, wanted),
            epoch => staying(&id, epoch, Some(&holds)),
        };
        if consumer.deaf {
            // After an error a client says everything again.
            beat.rebalance_timeout_ms = Some(REBALANCE_MS);
            beat.topics = Some(wanted.iter().map(|it| (*it).to_owned()).collect());
        } else if change.is_some() {
            beat.topics = Some(wanted.iter().map(|it| (*it).to_owned()).collect());
        }
        if consumer.epoch == 0 {
            (consumer.owned, consumer.letting_go) = Default::default();
        }
        let answer = self.group.heartbeat(&beat, self.now_ms, &self.topics);
        let consumer = self.consumers.get_mut(&member).unwrap();
        match answer {
            _ if lost => consumer.deaf = true,
            Ok(answer) => {
                consumer.deaf = false;
                consumer.epoch = answer.epoch;
                if let Some(assignment) = answer.assignment {
                    consumer.letting_go.extend(holds.difference(&assignment));
                    consumer.letting_go.retain(|place| !assignment.contains(place));
                    consumer.owned = assignment;
                }
            }
            Err((FencedMemberEpoch | UnknownMemberId, _)) => *consumer = Consumer::default(),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// No two members that the group knows work on the same partition.
    fn check(&self) {
        let mut seen = Places::new();
        for (member, consumer) in &self.consumers {
            if self.group.members.contains_key(&format!("m{member}")) {
                for place in consumer.owned.union(&consumer.letting_go) {
                    assert!(seen.insert(*place), "{place:?} is in two hands: {:?}", self.consumers);
                }
            }
        }
        let held: usize = self.group.members.values().map(|it| it.assigned.len() + it.revoking.len()).sum();
        assert_eq!(held, self.group.owners.len());
    }

    fn restart(&mut self) {
        let records = records::write("g", &self.group);
        for key in records.keys() {
            assert_eq!(records::group_of(key).as_deref(), Some("g"));
        }
        let restored = records::read(&records, group(), self.now_ms);
        assert_eq!(records::write("g", &restored), records);
        self.group = restored;
    }
}

proptest! {
    #[test]
    fn under_churn_no_partition_is_in_two_hands_and_in_peace_each_is_in_one(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world =
            World { group: group(), topics: topics(&[("t", 5), ("u", 3)]), now_ms: 0, consumers: BTreeMap::new() };
        for step in steps {
            match step {
                Step::Beat { member, lost, lets_go } => world.beat(member, None, lost, lets_go),
                Step::Leave(member) => {
                    if world.consumers.remove(&member).is_some() {
                        let leave = Beat { member_id: format!("m{member}"), epoch: LEAVE, ..Beat::default() };
                        let _ = world.group.heartbeat(&leave, world.now_ms, &world.topics);
                    }
                }
                // Its place stays taken until its session ends; whoever comes under the number then is another.
                Step::Crash(member) => drop(world.consumers.remove(&member).map(|_| {
                    let id = format!("m{member}");
                    while world.group.members.contains_key(&id) {
                        world.now_ms += SESSION_MS / 3;
                        let others: Vec<usize> = world.consumers.keys().copied().collect();
                        others.into_iter().for_each(|other| world.beat(other, None, false, false));
                        world.group.tick(world.now_ms);
                        world.check();
                    }
                })),
                Step::Subscribe(member, both) => {
                    if world.consumers.get(&member).is_some_and(|consumer| consumer.epoch > 0) {
                        world.beat(member, Some(both), false, true);
                    }
                }
                Step::Grow => world.topics.0.get_mut("t").unwrap().1 += 1,
                Step::Pass(ms) => {
                    world.now_ms += ms;
                    world.group.tick(world.now_ms);
                }
                Step::Restart => world.restart(),
            }
            world.check();
        }
        if world.consumers.is_empty() {
            return Ok(());
        }
        // Peace: everybody beats and lets go. Twice the members is enough: one to give up, one to take.
        for _ in 0..20 {
            world.now_ms += REFRESH_MS;
            let members: Vec<usize> = world.consumers.keys().copied().collect();
            members.into_iter().for_each(|member| world.beat(member, None, false, true));
            world.group.tick(world.now_ms);
            world.check();
        }
        prop_assert_eq!(world.group.state(), "Stable");
        let held: Places = world.consumers.values().flat_map(|consumer| consumer.owned.iter().copied()).collect();
        let (id, size) = world.topics.0["t"];
        for partition in 0..size {
            prop_assert!(held.contains(&(id, partition)), "nobody has {} of {:?}", partition, world.consumers);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        records in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..12), prop::collection::vec(any::<u8>(), 0..40), 0..6),
        kind in 3..9i16,
    ) {
        let records = records.into_iter().map(|(mut key, value)| {
            if key.len() > 1 {
                key[..2].copy_from_slice(&kind.to_be_bytes());
            }
            (key, value)
        });
        records::read(&records.collect(), group(), 0);
    }
}
