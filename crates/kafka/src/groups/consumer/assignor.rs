//! Who gets which partitions: the two assignors that clients know by name, from subscriptions to targets.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::{Place, Places};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Assignor {
    /// Members hold as many partitions as each other, and keep what they have.
    #[default]
    Uniform,
    /// Neighbouring partitions of each topic, the same ones of topics with as many partitions.
    Range,
}

pub(super) struct Subscriber<'a> {
    pub(super) id: &'a str,
    /// What members are sorted by: the instance id, which outlives the member id.
    pub(super) order: &'a str,
    pub(super) topics: BTreeSet<Uuid>,
    pub(super) current: &'a Places,
}

impl Assignor {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub(super) fn named(name: &str) -> Option<Assignor> {
        [Assignor::Uniform, Assignor::Range].into_iter().find(|assignor| assignor.name() == name)
    }

    /// A target for each subscriber, in their order. `topics`: how many partitions each has.
    pub(super) fn assign(self, subscribers: &[Subscriber<'_>], topics: &BTreeMap<Uuid, i32>) -> Vec<Places> {
        match self {
            Assignor::Uniform => uniform(subscribers, topics),
            Assignor::Range => range(subscribers, topics),
        }
    }
}

fn range(subscribers: &[Subscriber<'_>], topics: &BTreeMap<Uuid, i32>) -> Vec<Places> {
    let mut order: Vec<usize> = (0..subscribers.len()).collect();
    order.sort_by_key(|index| (subscribers[*index].order, subscribers[*index].id));
    let mut targets = vec![Places::new(); subscribers.len()];
    for (topic, partitions) in topics {
        let takers: Vec<usize> =
            order.iter().copied().filter(|index| subscribers[*index].topics.contains(topic)).collect();
        for (rank, taker) in takers.iter().enumerate() {
            let (each, more) = (*partitions as usize / takers.len(), *partitions as usize % takers.len());
            let bound = |rank: usize| (rank * each + rank.min(more)) as i32;
            targets[*taker].extend((bound(rank)..bound(rank + 1)).map(|partition| (*topic, partition)));
        }
    }
    targets
}

/// Subscribers with the same topics, by how much they hold.
struct Class {
    topics: BTreeSet<Uuid>,
    by_load: BTreeSet<(usize, usize)>,
}

struct Shares {
    classes: Vec<Class>,
    class_of: Vec<usize>,
    targets: Vec<Places>,
}

impl Shares {
    fn give(&mut self, taker: usize, place: Place) {
        self.change(taker, |places| places.insert(place));
    }

    fn take(&mut self, holder: usize, place: Place) {
        self.change(holder, |places| places.remove(&place));
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Places) -> bool) {
        let class = &mut self.classes[self.class_of[index]];
        class.by_load.remove(&(self.targets[index].len(), index));
        change(&mut self.targets[index]);
        class.by_load.insert((self.targets[index].len(), index));
    }

    /// Who holds least of those that subscribe to the topic.
    fn least(&self, topic: Uuid) -> Option<(usize, usize)> {
        let takers = self.classes.iter().filter(|class| class.topics.contains(&topic));
        takers.filter_map(|class| class.by_load.first()).min().copied()
    }
}

fn uniform(subscribers: &[Subscriber<'_>], topics: &BTreeMap<Uuid, i32>) -> Vec<Places> {
    let mut shares = Shares {
        classes: Vec::new(),
        class_of: Vec::with_capacity(subscribers.len()),
        targets: vec![Places::new(); subscribers.len()],
    };
    let mut classes: HashMap<&BTreeSet<Uuid>, usize> = HashMap::new();
    for (index, subscriber) in subscribers.iter().enumerate() {
        let class = *classes.entry(&subscriber.topics).or_insert_with(|| {
            shares.classes.push(Class { topics: subscriber.topics.clone(), by_load: BTreeSet::new() });
            shares.classes.len() - 1
        });
        shares.class_of.push(class);
        shares.classes[class].by_load.insert((0, index));
    }
    // What everybody has and may keep; then what nobody has, to who has least.
    let mut held: HashSet<Place> = HashSet::new();
    for (index, subscriber) in subscribers.iter().enumerate() {
        for place in subscriber.current {
            let exists = topics.get(&place.0).is_some_and(|partitions| place.1 < *partitions);
            if exists && subscriber.topics.contains(&place.0) && held.insert(*place) {
                shares.give(index, *place);
            }
        }
    }
    for (topic, partitions) in topics {
        for place in (0..*partitions).map(|partition| (*topic, partition)) {
            if !held.contains(&place)
                && let Some((_, taker)) = shares.least(*topic)
            {
                shares.give(taker, place);
            }
        }
    }
    // From who has most to who has least; each move brings two loads closer together, so this ends.
    loop {
        let mut moved = false;
        let loads = shares.targets.iter().enumerate().map(|(index, places)| (places.len(), index));
        let mut by_load: BTreeSet<(usize, usize)> = loads.collect();
        while let Some((load, holder)) = by_load.pop_last() {
            let better = shares.targets[holder].iter().find_map(|place| {
                let (least, taker) = shares.least(place.0)?;
                (least + 1 < load).then_some((*place, least, taker))
            });
            let Some((place, least, taker)) = better else { continue };
            shares.take(holder, place);
            shares.give(taker, place);
            moved = true;
            by_load.insert((load - 1, holder));
            if by_load.remove(&(least, taker)) {
                by_load.insert((least + 1, taker));
            }
        }
        if !moved {
            return shares.targets;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: usize) -> Uuid {
        Uuid::from_u128(number as u128 + 1)
    }

    /// Each subscriber's topics, and the topics' sizes.
    fn input() -> impl Strategy<Value = (Vec<BTreeSet<usize>>, Vec<i32>)> {
        let topics = prop::collection::vec(1..12i32, 1..5);
        (prop::collection::vec(prop::collection::btree_set(0..5usize, 1..5), 1..9), topics)
    }

    fn assign(assignor: Assignor, subscriptions: &[BTreeSet<usize>], sizes: &[i32], current: &[Places]) -> Vec<Places> {
        let ids: Vec<String> = (0..subscriptions.len()).map(|index| format!("m{index}")).collect();
        let none = Places::new();
        let subscribers: Vec<Subscriber<'_>> = subscriptions
            .iter()
            .enumerate()
            .map(|(index, topics)| Subscriber {
                id: &ids[index],
                order: &ids[index],
                topics: topics.iter().filter(|it| **it < sizes.len()).map(|it| topic(*it)).collect(),
                current: current.get(index).unwrap_or(&none),
            })
            .collect();
        let topics = sizes.iter().enumerate().map(|(index, size)| (topic(index), *size)).collect();
        assignor.assign(&subscribers, &topics)
    }

    fn moved(before: &[Places], after: &[Places]) -> usize {
        before.iter().zip(after).map(|(before, after)| before.difference(after).count()).sum()
    }

    proptest! {
        #[test]
        fn every_partition_that_somebody_wants_has_one_taker((subscriptions, sizes) in input()) {
            for assignor in [Assignor::Uniform, Assignor::Range] {
                let targets = assign(assignor, &subscriptions, &sizes, &[]);
                for (index, size) in sizes.iter().enumerate() {
                    let wanted = subscriptions.iter().any(|topics| topics.contains(&index));
                    for partition in 0..*size {
                        let takers: Vec<usize> =
                            (0..targets.len()).filter(|it| targets[*it].contains(&(topic(index), partition))).collect();
                        prop_assert_eq!(takers.len(), usize::from(wanted), "{:?}", assignor);
                        prop_assert!(takers.iter().all(|taker| subscriptions[*taker].contains(&index)));
                    }
                }
            }
        }

        #[test]
        fn uniform_is_even_and_stays_put(members in 1..9usize, sizes in prop::collection::vec(1..12i32, 1..5)) {
            let all: BTreeSet<usize> = (0..sizes.len()).collect();
            let before = assign(Assignor::Uniform, &vec![all.clone(); members], &sizes, &[]);
            let loads: Vec<usize> = before.iter().map(Places::len).collect();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{:?}", loads);
            let again = assign(Assignor::Uniform, &vec![all.clone(); members], &sizes, &before);
            prop_assert_eq!(&again, &before);
            // One more member takes its share and no more.
            let more = assign(Assignor::Uniform, &vec![all; members + 1], &sizes, &before);
            prop_assert_eq!(moved(&before, &more), more[members].len());
        }
    }

    #[test]
    fn range_gives_the_same_partitions_of_topics_of_one_size() {
        let targets = assign(Assignor::Range, &vec![BTreeSet::from([0, 1]); 3], &[7, 7], &[]);
        let partitions = |target: &Places, index: usize| -> Vec<i32> {
            target.iter().filter(|place| place.0 == topic(index)).map(|place| place.1).collect()
        };
        assert_eq!(partitions(&targets[0], 0), [0, 1, 2]);
        for target in &targets {
            assert_eq!(partitions(target, 0), partitions(target, 1));
        }
    }
}
