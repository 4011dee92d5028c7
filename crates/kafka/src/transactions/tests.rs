//! The coordinator over a disk that loses power at any moment: a transaction is in all of its partitions, its offsets
//! with it, or nowhere. A failure names its seed; `TRANSACTIONS_SEED=<seed>` replays it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use playhouse_log::batch::{BatchBuilder, Compression, Records, split_first};
use playhouse_log::disk::SimulatedDisk;
use playhouse_log::{LogConfig, TopicSettings};

use super::*;
use crate::config::GroupConfig;
use crate::groups::{Committed, OFFSETS_PLACE};

const TOPIC: &str = "events";
const PARTITIONS: i32 = 3;
const GROUP: &str = "group";
const IDS: [&str; 2] = ["one", "two"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    /// Aborted, or never ended.
    Lost,
    /// The answer to its commit did not come.
    Unknown,
}

struct World {
    disk: SimulatedDisk,
    log: Arc<Log>,
    groups: Arc<Groups>,
    transactions: Arc<Transactions>,
}

impl World {
    fn open(disk: SimulatedDisk) -> World {
        let log = Log::open(Arc::new(disk.clone()), Path::new("/data"), LogConfig::default()).unwrap();
        log.ensure_topic(TOPIC, TopicSettings { partitions: PARTITIONS, ..TopicSettings::default() }).unwrap();
        let groups = Groups::open(&log, GroupConfig::default()).unwrap();
        let transactions = Transactions::open(log.clone(), groups.clone(), TransactionConfig::default()).unwrap();
        World { disk, log, groups, transactions }
    }

    /// One transaction with its number as every value and as the offset; `None` where the disk died in it.
    async fn transaction(&self, id: &str, number: i64, places: &BTreeSet<i32>, commit: bool) -> Result<Fate, Fate> {
        let lost = |_| Fate::Lost;
        let producer = self.transactions.clone().init(id.to_owned(), None, 60_000).await.map_err(lost)?;
        let mut all: Vec<Place> = places.iter().map(|partition| (TOPIC.to_owned(), *partition)).collect();
        all.push((OFFSETS_PLACE.0.to_owned(), OFFSETS_PLACE.1));
        self.transactions.clone().add(id.to_owned(), producer, all.clone()).await.map_err(lost)?;
        for place in &all {
            let writing = self.transactions.writing(id, producer, place).await.map_err(lost)?;
            if place.0 == TOPIC {
                let builder = BatchBuilder::new(Compression::None).producer(producer.id, producer.epoch, 0);
                let mut builder = builder.transactional();
                builder.push(1, None, Some(number.to_string().as_bytes()), &[]);
                let partition = self.log.topic(TOPIC).unwrap().partition(place.1).unwrap().clone();
                let appended = partition.append(&builder.build()).map_err(|_| Fate::Lost)?;
                partition.durable(appended.next_offset).await.map_err(|_| Fate::Lost)?;
            } else {
                let offset = Committed { offset: number, leader_epoch: 0, metadata: String::new(), commit_time_ms: 1 };
                let offsets = vec![((TOPIC.to_owned(), 0), offset)];
                let staged = self.groups.stage(GROUP, (producer.id, producer.epoch), offsets).map_err(lost)?;
                self.groups.durable(staged.unwrap()).await.map_err(lost)?;
            }
            drop(writing);
        }
        let ended = self.transactions.clone().end(id.to_owned(), producer, commit).await;
        match (ended, commit) {
            (Ok(()), true) => Ok(Fate::Committed),
            (Ok(()), false) => Ok(Fate::Lost),
            (Err(_), true) => Err(Fate::Unknown),
            (Err(_), false) => Err(Fate::Lost),
        }
    }

    /// The numbers that readers of committed records see, by partition.
    fn seen(&self) -> Vec<Vec<i64>> {
        let read = |partition: &Arc<playhouse_log::Partition>| {
            let mut numbers = Vec::new();
            let mut offset = 0;
            while offset < partition.last_stable_offset() {
                let mut bytes = partition.read_stable(offset, 10_000).unwrap();
                while !bytes.is_empty() {
                    let (header, size) = split_first(&bytes).unwrap();
                    for record in &Records::decompress(&bytes.split_to(size), 1000).unwrap() {
                        numbers.push(std::str::from_utf8(record.unwrap().value.unwrap()).unwrap().parse().unwrap());
                    }
                    offset = header.next_offset();
                }
            }
            numbers
        };
        self.log.topic(TOPIC).unwrap().partitions().iter().map(read).collect()
    }
}

#[tokio::test]
async fn a_transaction_is_everywhere_or_nowhere_whenever_the_power_goes() {
    let seeds: Vec<u64> = match std::env::var("TRANSACTIONS_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..30).collect(),
    };
    let mut unknown = BTreeMap::from([(true, 0), (false, 0)]);
    for seed in seeds {
        println!("TRANSACTIONS_SEED={seed}");
        let mut dice = Dice(seed);
        let mut world = World::open(SimulatedDisk::new());
        let mut fates: BTreeMap<i64, (Fate, BTreeSet<i32>)> = BTreeMap::new();
        for number in 1..=25 {
            let id = IDS[dice.roll(2) as usize];
            let mut places: BTreeSet<i32> = (0..PARTITIONS).filter(|_| dice.roll(2) == 0).collect();
            places.insert(dice.roll(PARTITIONS as u64) as i32);
            if dice.roll(3) == 0 {
                world.disk.die_after(Some(dice.roll(30)));
            }
            let commit = dice.roll(4) > 0;
            let (Ok(fate) | Err(fate)) = world.transaction(id, number, &places, commit).await;
            fates.insert(number, (fate, places));
            if dice.roll(4) == 0 || world.disk.is_dead() {
                let torn = (dice.roll(2) == 0).then(|| dice.roll(1000));
                world = World::open(world.disk.power_cut(torn));
                world.transactions.tick().await;
            }
        }
        world.disk.die_after(None);
        for id in IDS {
            world.transactions.clone().init(id.to_owned(), None, 60_000).await.unwrap();
        }
        let seen = world.seen();
        let mut newest = None;
        for (number, (fate, places)) in &fates {
            let found: BTreeSet<i32> =
                (0..PARTITIONS).filter(|partition| seen[*partition as usize].contains(number)).collect();
            match fate {
                Fate::Committed => assert_eq!(&found, places, "{number} was committed"),
                Fate::Lost => assert!(found.is_empty(), "{number} was not committed: {found:?}"),
                Fate::Unknown => {
                    assert!(found.is_empty() || &found == places, "{number} is in {found:?} of {places:?}");
                    *unknown.entry(found.is_empty()).or_default() += 1;
                }
            }
            newest = Some(*number).filter(|_| !found.is_empty()).or(newest);
        }
        for numbers in &seen {
            assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
        }
        let committed = world.groups.committed(GROUP, &(TOPIC.to_owned(), 0)).map(|it| it.offset);
        assert_eq!(committed, newest, "the offset goes with the newest that was committed");
        for partition in world.log.topics().iter().flat_map(|topic| topic.partitions()) {
            assert_eq!(partition.last_stable_offset(), partition.high_watermark(), "nothing is left open");
        }
    }
    println!("without an answer, by whether it was lost: {unknown:?}");
}
