//! Which keys were answered, and where their answers lie.
//!
//! Memory holds about 100 bytes of a key. The answers are read from the log when they are asked for; its retention
//! deletes them, by age and by size, and with them goes the key.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use playhouse_log::batch::{self, BatchBuilder, BatchError, Compression};
use playhouse_log::{
    AlterTopicError, AppendError, CleanupPolicy, Clock, CreateTopicError, Log, Partition, ReadError, TimestampType,
    TopicSettings,
};

use super::record::{self, Answer};
use super::{Fingerprint, Key};

const TOPIC: &str = "__idempotency";
const SEGMENT_BYTES: u64 = 16 << 20;
/// All answers on disk; past it the oldest go with their segment.
const DISK_BYTES: u64 = 512 << 20;
const BATCH_BYTES_MAX: usize = 16 << 20;
/// Of an answer as it is stored; a larger one is not kept whole.
const ANSWER_BYTES_MAX: usize = 12 << 20;
/// Below it compression is not worth its time.
const COMPRESSED_FROM_BYTES: usize = 1 << 10;

#[derive(Debug, Clone)]
pub struct IdempotencyConfig {
    /// How long an answer is given again.
    pub ttl: Duration,
    /// Keys remembered; past it the oldest are forgotten early.
    pub keys_max: usize,
    /// The log's.
    pub clock: Clock,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        IdempotencyConfig { ttl: Duration::from_secs(24 * 3600), keys_max: 100_000, clock: Clock::default() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    #[error("cannot open the topic of answers: {0}")]
    Topic(#[from] CreateTopicError),
    #[error("cannot alter the topic of answers: {0}")]
    Alter(#[from] AlterTopicError),
    #[error("cannot read earlier answers: {0}")]
    Read(#[from] ReadError),
    #[error("cannot read earlier answers: {0}")]
    Batch(#[from] BatchError),
}

pub(in crate::ingest) struct Answers {
    partition: Arc<Partition>,
    config: IdempotencyConfig,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    entries: HashMap<Key, Entry>,
    /// Of those answered, in the order of their answers.
    order: VecDeque<(Key, i64)>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    fingerprint: Fingerprint,
    /// `None` while the first request is under way.
    answered: Option<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: i64,
    time_ms: i64,
}

/// What is to be done with a request.
pub(in crate::ingest) enum Begun {
    First(Reservation),
    /// To be read with [`Answers::read`].
    Answered(i64),
    UnderWay,
    /// The key stands for another request.
    Reused,
}

/// The right to answer a key first; given back on drop.
pub(in crate::ingest) struct Reservation {
    answers: Arc<Answers>,
    key: Key,
    fingerprint: Fingerprint,
}

impl Answers {
    /// Reads which keys were answered. Blocks.
    pub(in crate::ingest) fn open(log: &Log, config: IdempotencyConfig) -> Result<Arc<Answers>, IdempotencyError> {
        let ttl_ms = millis(config.ttl);
        let settings = TopicSettings {
            partitions: 1,
            timestamp_type: TimestampType::LogAppendTime,
            cleanup: CleanupPolicy::Delete,
            retention_ms: Some(ttl_ms),
            retention_bytes: Some(DISK_BYTES),
            segment_bytes: SEGMENT_BYTES,
            segment_ms: (ttl_ms / 8).max(1_000),
            max_batch_bytes: BATCH_BYTES_MAX,
            ..TopicSettings::default()
        };
        let topic = log.ensure_topic(TOPIC, settings.clone())?;
        if topic.settings() != settings {
            log.alter_topic(TOPIC, settings)?;
        }
        let partition = topic.partition(0).ok_or(CreateTopicError::InvalidPartitions(0))?.clone();
        let answers = Answers { partition, config, keys: Mutex::default() };
        answers.load()?;
        Ok(Arc::new(answers))
    }

    fn load(&self) -> Result<(), IdempotencyError> {
        let mut keys = self.keys();
        for batch in self.partition.batches_from(0) {
            let (header, batch) = batch?;
            for record in batch::Records::decompress(&batch, BATCH_BYTES_MAX)?.iter() {
                let record = record?;
                let key = record.key.and_then(record::read_key);
                let value = record.value.and_then(record::read_value);
                if let (Some(key), Some((fingerprint, _))) = (key, value) {
                    let place = Place { offset: record.offset, time_ms: header.max_timestamp_ms };
                    keys.answered(key, fingerprint, place, self.config.keys_max);
                }
            }
        }
        Ok(())
    }

    pub(in crate::ingest) fn begin(self: &Arc<Self>, key: Key, fingerprint: Fingerprint) -> Begun {
        let oldest_ms = self.config.clock.now_ms() - millis(self.config.ttl);
        let mut keys = self.keys();
        keys.expire(oldest_ms);
        match keys.entries.get(&key) {
            Some(entry) if entry.fingerprint != fingerprint => Begun::Reused,
            Some(Entry { answered: None, .. }) => Begun::UnderWay,
            Some(Entry { answered: Some(place), .. }) => Begun::Answered(place.offset),
            None => {
                keys.entries.insert(key, Entry { fingerprint, answered: None });
                Begun::First(Reservation { answers: self.clone(), key, fingerprint })
            }
        }
    }

    /// `None` where retention has deleted it: the key is forgotten then. Blocks.
    pub(in crate::ingest) fn read(&self, key: Key, offset: i64) -> Result<Option<Answer>, IdempotencyError> {
        let found = match offset {
            deleted if deleted < self.partition.log_start_offset() => None,
            _ => self.find(offset)?,
        };
        if found.is_none() {
            self.keys().forget(key, offset);
        }
        Ok(found)
    }

    fn find(&self, offset: i64) -> Result<Option<Answer>, IdempotencyError> {
        let bytes = self.partition.read(offset, 1)?;
        let (_, length) = batch::split_first(&bytes)?;
        for record in batch::Records::decompress(&bytes.slice(..length), BATCH_BYTES_MAX)?.iter() {
            let record = record?;
            if record.offset == offset {
                return Ok(record.value.and_then(record::read_value).map(|(_, answer)| answer));
            }
        }
        Ok(None)
    }

    async fn store(&self, key: Key, fingerprint: Fingerprint, answer: &Answer) -> Result<Place, AppendError> {
        let value = record::value(fingerprint, answer);
        let compression = if value.len() < COMPRESSED_FROM_BYTES { Compression::None } else { Compression::Lz4 };
        let mut builder = BatchBuilder::new(compression);
        builder.push(self.config.clock.now_ms(), Some(&record::key(key)), Some(&value), &[]);
        let appended = self.partition.append(&builder.build())?;
        self.partition.durable(appended.next_offset).await?;
        Ok(Place { offset: appended.base_offset, time_ms: appended.append_time_ms })
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Stores the answer, which is the key's from then on. Where it is too large, one without results takes its place.
    pub(in crate::ingest) async fn answer(self, answer: &Answer, without_results: &Answer) -> Result<(), AppendError> {
        let kept = if answer.body.len() > ANSWER_BYTES_MAX { without_results } else { answer };
        let place = self.answers.store(self.key, self.fingerprint, kept).await?;
        self.answers.keys().answered(self.key, self.fingerprint, place, self.answers.config.keys_max);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut keys = self.answers.keys();
        if keys.entries.get(&self.key).is_some_and(|entry| entry.answered.is_none()) {
            keys.entries.remove(&self.key);
        }
    }
}

impl Keys {
    fn answered(&mut self, key: Key, fingerprint: Fingerprint, place: Place, keys_max: usize) {
        self.entries.insert(key, Entry { fingerprint, answered: Some(place) });
        self.order.push_back((key, place.offset));
        while self.order.len() > keys_max {
            self.forget_oldest();
        }
    }

    fn expire(&mut self, oldest_ms: i64) {
        while let Some((key, offset)) = self.order.front() {
            let current = self.entries.get(key).and_then(|entry| entry.answered);
            // One that was answered anew since has a place of its own further back.
            let young = current.is_some_and(|place| place.offset == *offset && place.time_ms >= oldest_ms);
            if young {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((key, offset)) = self.order.pop_front() {
            self.forget(key, offset);
        }
    }

    fn forget(&mut self, key: Key, offset: i64) {
        let is_it = |entry: &Entry| entry.answered.is_some_and(|place| place.offset == offset);
        if self.entries.get(&key).is_some_and(is_it) {
            self.entries.remove(&key);
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicI64, Ordering};

    use axum::http::StatusCode;
    use bytes::Bytes;
    use playhouse_log::LogConfig;
    use playhouse_log::disk::SimulatedDisk;

    use super::*;

    const TTL_MS: i64 = 60_000;
    const PRINT: Fingerprint = Fingerprint(1);

    struct Fixture {
        disk: SimulatedDisk,
        now_ms: Arc<AtomicI64>,
        log: Arc<Log>,
        answers: Arc<Answers>,
    }

    fn open(disk: SimulatedDisk, now_ms: i64) -> Fixture {
        let now_ms = Arc::new(AtomicI64::new(now_ms));
        let held = now_ms.clone();
        let clock = Clock::new(move || held.load(Ordering::Relaxed));
        let config = LogConfig { clock: clock.clone(), ..LogConfig::default() };
        let log = Log::open(Arc::new(disk.clone()), Path::new("/log"), config).unwrap();
        let config = IdempotencyConfig { ttl: Duration::from_millis(TTL_MS as u64), keys_max: 3, clock };
        let answers = Answers::open(&log, config).unwrap();
        Fixture { disk, now_ms, log, answers }
    }

    fn answer(text: &str) -> Answer {
        Answer { status: StatusCode::OK, body: Bytes::copy_from_slice(text.as_bytes()) }
    }

    impl Fixture {
        async fn put(&self, key: u128, answer: &Answer) {
            let Begun::First(reservation) = self.answers.begin(Key(key), PRINT) else { panic!("{key} is known") };
            reservation.answer(answer, &self::answer("less")).await.unwrap();
        }

        fn get(&self, key: u128) -> Option<Answer> {
            match self.answers.begin(Key(key), PRINT) {
                Begun::Answered(offset) => self.answers.read(Key(key), offset).unwrap(),
                Begun::First(_) => None,
                Begun::UnderWay | Begun::Reused => panic!("{key} is under way, or another"),
            }
        }
    }

    #[tokio::test]
    async fn answers_are_forgotten_by_age_also_after_a_restart() {
        let fixture = open(SimulatedDisk::new(), 1_000_000);
        fixture.put(1, &answer("one")).await;
        fixture.now_ms.fetch_add(TTL_MS / 2, Ordering::Relaxed);
        fixture.put(2, &answer("two")).await;
        fixture.now_ms.fetch_add(TTL_MS / 2, Ordering::Relaxed);
        assert_eq!(fixture.get(1), Some(answer("one")));
        fixture.now_ms.fetch_add(1, Ordering::Relaxed);
        assert_eq!((fixture.get(1), fixture.get(2)), (None, Some(answer("two"))));

        // A key answered anew has its new answer, whatever lies before it.
        fixture.put(1, &answer("one again")).await;
        let later = open(fixture.disk.power_cut(None), fixture.now_ms.load(Ordering::Relaxed));
        assert_eq!((later.get(1), later.get(2)), (Some(answer("one again")), Some(answer("two"))));
        later.now_ms.fetch_add(TTL_MS, Ordering::Relaxed);
        assert_eq!((later.get(1), later.get(2)), (Some(answer("one again")), None));
    }

    #[tokio::test]
    async fn so_many_keys_are_remembered_and_the_oldest_leave() {
        let fixture = open(SimulatedDisk::new(), 1_000_000);
        for key in 1..=5 {
            fixture.put(key, &answer("a")).await;
        }
        let known = |fixture: &Fixture| (1..=5).filter(|key| fixture.get(*key).is_some()).collect::<Vec<_>>();
        assert_eq!(known(&fixture), [3, 4, 5]);
        assert_eq!(known(&open(fixture.disk.power_cut(None), 1_000_000)), [3, 4, 5]);
        let keys = fixture.answers.keys();
        assert_eq!((keys.entries.len(), keys.order.len()), (3, 3));
    }

    #[tokio::test]
    async fn large_answers_are_kept_whole_and_larger_ones_without_their_results() {
        let fixture = open(SimulatedDisk::new(), 1_000_000);
        let large = answer(&"0123456789".repeat(ANSWER_BYTES_MAX / 10));
        fixture.put(1, &large).await;
        assert_eq!(fixture.get(1), Some(large));
        fixture.put(2, &answer(&"x".repeat(ANSWER_BYTES_MAX + 1))).await;
        assert_eq!(fixture.get(2), Some(answer("less")));
    }

    #[tokio::test]
    async fn what_retention_has_deleted_is_forgotten() {
        let fixture = open(SimulatedDisk::new(), 1_000_000);
        fixture.put(1, &answer("one")).await;
        fixture.put(2, &answer("two")).await;
        fixture.log.topic(TOPIC).unwrap().partition(0).unwrap().delete_records(1).unwrap();
        assert_eq!((fixture.get(1), fixture.get(2)), (None, Some(answer("two"))));
        fixture.put(1, &answer("anew")).await;
        assert_eq!(fixture.get(1), Some(answer("anew")));
    }
}
