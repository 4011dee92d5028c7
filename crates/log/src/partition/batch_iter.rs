//! Every batch of a partition in turn: how a store comes back to what it kept in a topic.

use super::*;
use crate::batch::{BatchHeader, split_first};

const READ_BYTES: usize = 4 << 20;

/// See [`Partition::batches_from`].
#[derive(Debug)]
pub struct BatchIter<'a> {
    partition: &'a Partition,
    /// Of the next batch at the earliest.
    offset: i64,
    bytes: Bytes,
    ended: bool,
}

impl Partition {
    /// Batches from the one that contains `offset`, or the first that is still there, up to the high watermark as it is by
    /// then; control batches among them. Ends with the first error. Blocks.
    pub fn batches_from(&self, offset: i64) -> BatchIter<'_> {
        BatchIter { partition: self, offset: offset.max(self.log_start_offset()), bytes: Bytes::new(), ended: false }
    }
}

impl BatchIter<'_> {
    fn advance(&mut self) -> Result<Option<(BatchHeader, Bytes)>, ReadError> {
        if self.bytes.is_empty() && self.offset < self.partition.high_watermark() {
            self.bytes = self.partition.read(self.offset, READ_BYTES)?;
        }
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let (header, size) = split_first(&self.bytes).map_err(|_| ReadError::Corrupt(self.offset))?;
        self.offset = header.next_offset();
        Ok(Some((header, self.bytes.split_to(size))))
    }
}

impl Iterator for BatchIter<'_> {
    type Item = Result<(BatchHeader, Bytes), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
