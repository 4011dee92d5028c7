//! What stays of a batch, by Kafka's rules (`Cleaner`, KIP-534): the newest record of every key; a tombstone until its
//! delete horizon; nothing of an aborted transaction; a marker as long as a batch of its transaction was there, and from
//! then on until its delete horizon.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::keys::NewestOffsets;
use crate::AbortedTransaction;
use crate::batch::{BatchError, BatchHeader, Records, emptied};

/// A batch that decompresses to more stays as it is.
const DECOMPRESS_LIMIT: usize = 128 << 20;

/// The aborted transactions of a stretch of the log.
#[derive(Debug, Default)]
pub struct Aborted(BTreeMap<(i64, i64), AbortedTransaction>);

impl Aborted {
    pub fn new(aborted: Vec<AbortedTransaction>) -> Aborted {
        Aborted(aborted.into_iter().map(|it| ((it.producer_id, it.last_offset), it)).collect())
    }

    /// The transaction that a batch, or a marker, belongs to, if it was aborted.
    pub fn of(&self, header: &BatchHeader) -> Option<&AbortedTransaction> {
        if !header.is_transactional() {
            return None;
        }
        let (&(producer_id, _), next) = self.0.range((header.producer_id, header.base_offset)..).next()?;
        (producer_id == header.producer_id && next.first_offset <= header.base_offset).then_some(next)
    }
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Verbatim,
    Rewritten(Vec<u8>),
    Dropped,
}

/// Goes through all of a partition that can be compacted, from its start on.
#[derive(Debug)]
pub struct Rules<'a> {
    pub newest: &'a NewestOffsets,
    pub aborted: &'a Aborted,
    /// Last offsets of the last batches of producers: their headers stay, so that sequences are known after recovery.
    pub last_of_producers: &'a HashSet<i64>,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    /// Producers with a batch in the transaction whose marker has not come yet.
    pub in_transaction: HashSet<i64>,
}

impl Rules<'_> {
    /// `is_last`: the last batch of a segment keeps its header, so that the offsets of segments run on.
    pub fn judge(&mut self, header: &BatchHeader, batch: &Bytes, is_last: bool) -> Result<Verdict, BatchError> {
        let keep_header = is_last || self.last_of_producers.contains(&header.last_offset()) && header.is_idempotent();
        let gone = || if keep_header { Verdict::Rewritten(emptied(header)) } else { Verdict::Dropped };
        if header.is_control() {
            // A marker that compaction has emptied has no producer to tell any more.
            if header.record_count == 0 {
                return Ok(if keep_header { Verdict::Verbatim } else { Verdict::Dropped });
            }
            let needed = self.in_transaction.remove(&header.producer_id);
            return Ok(match header.delete_horizon_ms() {
                _ if needed => Verdict::Verbatim,
                Some(horizon) if horizon <= self.now_ms => gone(),
                Some(_) => Verdict::Verbatim,
                None => Verdict::Rewritten(self.records(batch)?.compact(|_| true, Some(self.horizon()))?),
            });
        }
        if header.is_transactional() {
            self.in_transaction.insert(header.producer_id);
        }
        if header.record_count == 0 {
            return Ok(if keep_header { Verdict::Verbatim } else { Verdict::Dropped });
        }
        if self.aborted.of(header).is_some() {
            return Ok(gone());
        }
        self.sift(header, batch, gone)
    }

    fn sift(&self, header: &BatchHeader, batch: &Bytes, gone: impl FnOnce() -> Verdict) -> Result<Verdict, BatchError> {
        let records = match self.records(batch) {
            Err(BatchError::TooLarge(_)) => return Ok(Verdict::Verbatim),
            records => records?,
        };
        let expired = header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.now_ms);
        let mut keep = Vec::with_capacity(header.record_count as usize);
        let mut tombstones = false;
        for record in records.iter() {
            let record = record?;
            let kept = record.offset >= self.newest.end
                || record.key.is_some_and(|key| self.newest.get(key).is_none_or(|newest| record.offset >= newest))
                    && (record.value.is_some() || !expired);
            tombstones |= kept && record.value.is_none();
            keep.push(kept);
        }
        let horizon = (tombstones && header.delete_horizon_ms().is_none()).then(|| self.horizon());
        if !keep.contains(&true) {
            return Ok(gone());
        }
        if !keep.contains(&false) && horizon.is_none() {
            return Ok(Verdict::Verbatim);
        }
        let mut kept = keep.into_iter();
        Ok(Verdict::Rewritten(records.compact(|_| kept.next().unwrap_or(true), horizon)?))
    }

    fn records(&self, batch: &Bytes) -> Result<Records, BatchError> {
        Records::decompress(batch, DECOMPRESS_LIMIT)
    }

    fn horizon(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms)
    }
}

/// Takes note of the keys of a batch. One that cannot be looked into names none: then older records stay.
pub fn note_keys(newest: &mut NewestOffsets, batch: &Bytes, from: i64) -> Result<(), BatchError> {
    let records = match Records::decompress(batch, DECOMPRESS_LIMIT) {
        Err(BatchError::TooLarge(_)) => return Ok(()),
        records => records?,
    };
    for record in records.iter() {
        let record = record?;
        if let Some(key) = record.key.filter(|_| record.offset >= from) {
            newest.put(key, record.offset);
        }
    }
    Ok(())
}
