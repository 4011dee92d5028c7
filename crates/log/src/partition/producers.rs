//! Producers with an id (KIP-98): the last batches of each, so that a repeated one is answered rather than stored, and
//! where its open transaction begins.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::AppendError;
use crate::batch::{BatchHeader, sequence_after};

/// Kafka's clients have at most this many requests in flight with idempotence on.
const REMEMBERED_BATCHES: usize = 5;
const MAX_PRODUCERS: usize = 10_000;
/// A producer that has been silent for so long is forgotten (Kafka's `producer.id.expiration.ms`).
const EXPIRATION_MS: i64 = 24 * 3600 * 1000;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "HashMap<i64, Producer>", into = "HashMap<i64, Producer>")]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
    /// Open transactions by their first offset: whose they are.
    open: BTreeMap<i64, i64>,
}

impl From<HashMap<i64, Producer>> for Producers {
    fn from(by_id: HashMap<i64, Producer>) -> Producers {
        let open = by_id.iter().filter_map(|(id, producer)| Some((producer.transaction?, *id))).collect();
        Producers { by_id, open }
    }
}

impl From<Producers> for HashMap<i64, Producer> {
    fn from(producers: Producers) -> HashMap<i64, Producer> {
        producers.by_id
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    last_seen_ms: i64,
    batches: VecDeque<Remembered>,
    /// First offset of its open transaction.
    #[serde(default)]
    transaction: Option<i64>,
    /// Of the last marker.
    #[serde(default)]
    coordinator_epoch: Option<i32>,
}

impl Producer {
    fn new(epoch: i16) -> Producer {
        Producer { epoch, last_seen_ms: 0, batches: VecDeque::new(), transaction: None, coordinator_epoch: None }
    }
}

/// What a partition knows of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// -1 when nothing of this epoch was written here.
    pub last_sequence: i32,
    pub last_timestamp_ms: i64,
    /// -1 when no transaction of it has ended here.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins.
    pub transaction_start: Option<i64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Remembered {
    first_sequence: i32,
    last_sequence: i32,
    pub base_offset: i64,
    pub next_offset: i64,
    pub append_time_ms: i64,
}

impl Producers {
    /// The same batch, if it was appended before; an error if it must not be appended now.
    pub fn check(&self, header: &BatchHeader) -> Result<Option<Remembered>, AppendError> {
        // One that is not known (new, or forgotten) begins wherever it is, as with Kafka's broker.
        let Some(producer) = self.by_id.get(&header.producer_id) else { return Ok(None) };
        let (first, last) = (header.base_sequence, header.last_sequence());
        self.check_epoch(header.producer_id, header.producer_epoch)?;
        let expected = if first < 0 {
            first
        } else if header.producer_epoch > producer.epoch {
            0
        } else {
            let same = |batch: &&Remembered| (batch.first_sequence, batch.last_sequence) == (first, last);
            if let Some(batch) = producer.batches.iter().find(same) {
                return Ok(Some(*batch));
            }
            producer.batches.back().map_or(first, |batch| sequence_after(batch.last_sequence, 1))
        };
        if first != expected {
            let producer_id = header.producer_id;
            return Err(AppendError::OutOfOrderSequence { producer_id, expected, found: first });
        }
        if producer.transaction.is_some() && !header.is_transactional() {
            return Err(AppendError::InTransaction(header.producer_id));
        }
        Ok(None)
    }

    pub fn check_epoch(&self, producer_id: i64, found: i16) -> Result<(), AppendError> {
        match self.by_id.get(&producer_id) {
            Some(producer) if found < producer.epoch => {
                Err(AppendError::ProducerFenced { producer_id, current: producer.epoch, found })
            }
            _ => Ok(()),
        }
    }

    /// Remembers an appended batch of records, its header with the offsets it got.
    pub fn record(&mut self, header: &BatchHeader, append_time_ms: i64) {
        if !header.is_idempotent() || header.is_control() {
            return;
        }
        let producer = self.producer(header.producer_id, header.producer_epoch, append_time_ms);
        if header.is_transactional() && producer.transaction.is_none() {
            producer.transaction = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
        let Some(producer) = self.by_id.get_mut(&header.producer_id) else { return };
        if header.base_sequence < 0 {
            return;
        }
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            next_offset: header.next_offset(),
            append_time_ms,
        });
    }

    /// Ends a producer's transaction, as its marker says; returns where it began, if it had one here.
    pub fn end(&mut self, header: &BatchHeader, coordinator_epoch: i32, append_time_ms: i64) -> Option<i64> {
        let producer = self.producer(header.producer_id, header.producer_epoch, append_time_ms);
        producer.coordinator_epoch = Some(coordinator_epoch);
        let first_offset = producer.transaction.take()?;
        self.open.remove(&first_offset);
        Some(first_offset)
    }

    /// Where the oldest open transaction begins.
    pub fn first_open(&self) -> Option<i64> {
        self.open.first_key_value().map(|(first_offset, _)| *first_offset)
    }

    pub fn states(&self) -> Vec<ProducerState> {
        let state = |(id, producer): (&i64, &Producer)| ProducerState {
            producer_id: *id,
            producer_epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp_ms: producer.last_seen_ms,
            coordinator_epoch: producer.coordinator_epoch.unwrap_or(-1),
            transaction_start: producer.transaction,
        };
        let mut states: Vec<_> = self.by_id.iter().map(state).collect();
        states.sort_by_key(|state| state.producer_id);
        states
    }

    /// The offsets of the last batch of each producer: compaction leaves their headers.
    pub fn last_offsets(&self) -> std::collections::HashSet<i64> {
        self.by_id.values().filter_map(|producer| producer.batches.back()).map(|batch| batch.next_offset - 1).collect()
    }

    /// The producer at this epoch, made anew if it is not known or was of an older one.
    fn producer(&mut self, id: i64, epoch: i16, now_ms: i64) -> &mut Producer {
        if self.by_id.len() >= MAX_PRODUCERS && !self.by_id.contains_key(&id) {
            self.make_room(now_ms);
        }
        let producer = self.by_id.entry(id).or_insert_with(|| Producer::new(epoch));
        if producer.epoch != epoch {
            // A marker of a new epoch ends the transaction of the old one.
            *producer = Producer { transaction: producer.transaction, ..Producer::new(epoch) };
        }
        producer.last_seen_ms = now_ms;
        producer
    }

    /// Forgets who has been silent for long, but for those with an open transaction.
    pub fn expire(&mut self, now_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.transaction.is_some() || now_ms.saturating_sub(producer.last_seen_ms) < EXPIRATION_MS
        });
    }

    /// Forgets the tenth that has been silent longest.
    fn make_room(&mut self, now_ms: i64) {
        self.expire(now_ms);
        let mut seen: Vec<i64> = self.by_id.values().map(|producer| producer.last_seen_ms).collect();
        if seen.len() < MAX_PRODUCERS {
            return;
        }
        let (_, &mut oldest_kept, _) = seen.select_nth_unstable(MAX_PRODUCERS / 10);
        let mut surplus = MAX_PRODUCERS / 10;
        self.by_id.retain(|_, producer| {
            let forget = surplus > 0 && producer.last_seen_ms <= oldest_kept && producer.transaction.is_none();
            surplus -= usize::from(forget);
            !forget
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Compression};

    fn batch(id: i64, epoch: i16, sequence: i32, records: usize) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None).producer(id, epoch, sequence);
        for _ in 0..records {
            builder.push(0, None, None, &[]);
        }
        BatchHeader::parse(&builder.build()).unwrap()
    }

    #[test]
    fn sequences_wrap_around() {
        let mut producers = Producers::default();
        let last = batch(1, 0, i32::MAX - 1, 3);
        assert_eq!(last.last_sequence(), 0);
        producers.record(&last, 0);
        assert!(matches!(producers.check(&batch(1, 0, 1, 1)), Ok(None)));
        assert!(matches!(producers.check(&last), Ok(Some(_))));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old() {
        let mut producers = Producers::default();
        producers.record(&batch(1, 0, 0, 10), 0);
        assert!(matches!(
            producers.check(&batch(1, 1, 10, 1)),
            Err(AppendError::OutOfOrderSequence { expected: 0, found: 10, .. })
        ));
        producers.record(&batch(1, 1, 0, 1), 0);
        assert!(matches!(producers.check(&batch(1, 0, 10, 1)), Err(AppendError::ProducerFenced { current: 1, .. })));
    }

    #[test]
    fn five_batches_are_remembered() {
        let mut producers = Producers::default();
        for sequence in 0..6 {
            producers.record(&batch(1, 0, sequence, 1), 0);
        }
        assert!(producers.check(&batch(1, 0, 0, 1)).is_err());
        assert!(matches!(producers.check(&batch(1, 0, 1, 1)), Ok(Some(_))));
    }

    #[test]
    fn the_number_of_producers_is_bounded_and_the_silent_are_forgotten_first() {
        let mut producers = Producers::default();
        for id in 0..=MAX_PRODUCERS as i64 {
            producers.record(&batch(id, 0, 0, 1), id);
        }
        assert!(producers.by_id.len() <= MAX_PRODUCERS);
        assert!(!producers.by_id.contains_key(&0));
        assert!(producers.by_id.contains_key(&(MAX_PRODUCERS as i64)));
        producers.expire(EXPIRATION_MS + 9_000);
        assert!(!producers.by_id.contains_key(&8_999));
        assert!(producers.by_id.contains_key(&9_001));
    }
}
