//! Idempotent producers (KIP-98): the last batches of each, so that a repeated one is answered rather than stored.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::AppendError;
use crate::batch::{BatchHeader, sequence_after};

/// Kafka's clients have at most this many requests in flight with idempotence on.
const REMEMBERED_BATCHES: usize = 5;
const MAX_PRODUCERS: usize = 10_000;
/// A producer that has been silent for so long is forgotten (Kafka's `producer.id.expiration.ms`).
const EXPIRATION_MS: i64 = 24 * 3600 * 1000;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    last_seen_ms: i64,
    batches: VecDeque<Remembered>,
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
        if header.producer_epoch < producer.epoch {
            return Err(AppendError::ProducerFenced {
                producer_id: header.producer_id,
                current: producer.epoch,
                found: header.producer_epoch,
            });
        }
        let expected = if header.producer_epoch > producer.epoch {
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
        Ok(None)
    }

    /// Remembers an appended batch, its header with the offsets it got.
    pub fn record(&mut self, header: &BatchHeader, append_time_ms: i64) {
        if !header.is_idempotent() {
            return;
        }
        if self.by_id.len() >= MAX_PRODUCERS && !self.by_id.contains_key(&header.producer_id) {
            self.make_room(append_time_ms);
        }
        let new = || Producer { epoch: header.producer_epoch, last_seen_ms: 0, batches: VecDeque::new() };
        let producer = self.by_id.entry(header.producer_id).or_insert_with(new);
        if producer.epoch != header.producer_epoch {
            *producer = new();
        }
        producer.last_seen_ms = append_time_ms;
        if header.is_control() {
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

    pub fn expire(&mut self, now_ms: i64) {
        self.by_id.retain(|_, producer| now_ms.saturating_sub(producer.last_seen_ms) < EXPIRATION_MS);
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
            let forget = surplus > 0 && producer.last_seen_ms <= oldest_kept;
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
