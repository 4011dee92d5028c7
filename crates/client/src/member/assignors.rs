//! Who gets which partitions, as Kafka's own assignors of these names have it, so that members of other clients may be in
//! the same group.

use std::collections::{BTreeMap, BTreeSet};

use crate::fetch::Place;

/// Topics by member, partitions by topic; partitions by member.
pub(super) type Assignor =
    fn(&BTreeMap<String, BTreeSet<String>>, &BTreeMap<String, i32>) -> BTreeMap<String, Vec<Place>>;

/// The preferred one first.
pub(super) const ASSIGNORS: [(&str, Assignor); 2] = [("range", range), ("roundrobin", round_robin)];

/// Of each topic a range of partitions; the first members get one more where they do not divide evenly.
fn range(
    members: &BTreeMap<String, BTreeSet<String>>,
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, Vec<Place>> {
    let mut assigned: BTreeMap<String, Vec<Place>> = members.keys().map(|id| (id.clone(), Vec::new())).collect();
    for (topic, count) in partitions {
        let subscribed: Vec<&String> =
            members.iter().filter(|(_, topics)| topics.contains(topic)).map(|(id, _)| id).collect();
        let Ok(among) = i32::try_from(subscribed.len()) else { continue };
        if among == 0 {
            continue;
        }
        let mut next = 0;
        for (at, id) in (0..).zip(subscribed) {
            let share = count / among + i32::from(at < count % among);
            let places = (next..next + share).map(|index| (topic.clone(), index));
            assigned.entry(id.clone()).or_default().extend(places);
            next += share;
        }
    }
    assigned
}

/// All partitions of all topics in turn.
fn round_robin(
    members: &BTreeMap<String, BTreeSet<String>>,
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, Vec<Place>> {
    let mut assigned: BTreeMap<String, Vec<Place>> = members.keys().map(|id| (id.clone(), Vec::new())).collect();
    let ids: Vec<&String> = members.keys().collect();
    let mut turn = 0;
    for (topic, index) in partitions.iter().flat_map(|(topic, count)| (0..*count).map(move |index| (topic, index))) {
        let next = (turn..turn + ids.len()).find(|at| members[ids[at % ids.len()]].contains(topic));
        if let Some(at) = next {
            assigned.entry(ids[at % ids.len()].clone()).or_default().push((topic.clone(), index));
            turn = at + 1;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(of: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let topics = |topics: &[&str]| topics.iter().map(|topic| topic.to_string()).collect();
        of.iter().map(|(id, of)| (id.to_string(), topics(of))).collect()
    }

    fn shown(assigned: &BTreeMap<String, Vec<Place>>) -> Vec<String> {
        let places =
            |places: &[Place]| places.iter().map(|(topic, index)| format!("{topic}{index}")).collect::<Vec<_>>();
        assigned.iter().map(|(id, of)| format!("{id}: {}", places(of).join(" "))).collect()
    }

    /// The examples of the documentation of Kafka's assignors.
    #[test]
    fn two_members_and_two_topics_of_three_partitions() {
        let members = members(&[("C0", &["t0", "t1"]), ("C1", &["t0", "t1"])]);
        let partitions = BTreeMap::from([("t0".to_owned(), 3), ("t1".to_owned(), 3)]);
        assert_eq!(shown(&range(&members, &partitions)), ["C0: t00 t01 t10 t11", "C1: t02 t12"]);
        assert_eq!(shown(&round_robin(&members, &partitions)), ["C0: t00 t02 t11", "C1: t01 t10 t12"]);
    }

    #[test]
    fn members_of_different_topics_get_their_own_only() {
        let members = members(&[("C0", &["t0"]), ("C1", &["t0", "t1"]), ("C2", &["t0", "t1", "t2"])]);
        let partitions = BTreeMap::from([("t0".to_owned(), 1), ("t1".to_owned(), 2), ("t2".to_owned(), 3)]);
        assert_eq!(shown(&round_robin(&members, &partitions)), ["C0: t00", "C1: t10", "C2: t11 t20 t21 t22"]);
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_that_wants_it(
            of in proptest::collection::btree_map("[a-e]", proptest::collection::btree_set("[t-w]", 0..4), 0..5),
            partitions in proptest::collection::btree_map("[t-w]", 0..7i32, 0..4),
        ) {
            for (name, assignor) in ASSIGNORS {
                let assigned = assignor(&of, &partitions);
                let mut owned = BTreeSet::new();
                for (id, places) in &assigned {
                    for place in places {
                        prop_assert!(of[id].contains(&place.0), "{name}");
                        prop_assert!(owned.insert(place.clone()), "{name}: two owners of {place:?}");
                    }
                }
                let wanted = partitions.iter().filter(|(topic, _)| of.values().any(|topics| topics.contains(*topic)));
                let wanted: i32 = wanted.map(|(_, count)| count).sum();
                prop_assert_eq!(owned.len() as i32, wanted);
            }
        }
    }
}
