//! The rows of a commit, as the table's shape has them, and those that do not fit it.

use arrow::record_batch::RecordBatch;
use playhouse_engine::sink::{RefusedRow, SinkError};

use super::shape::Shape;
use crate::rows::row_bytes;

/// Rows are numbered in the order in which they were written, those that do not fit included.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// Each with the number of its first row.
    batches: Vec<(u64, RecordBatch)>,
    misfits: Vec<RefusedRow>,
    written: u64,
    bytes: usize,
}

impl Staged {
    pub(super) fn write(&mut self, shape: &Shape, rows: &RecordBatch) -> Result<(), SinkError> {
        match shape.canonical(rows) {
            Ok(canonical) => self.push(self.written, canonical),
            Err(_) => {
                // What no rows do not fit either is the shape itself.
                shape.canonical(&rows.slice(0, 0))?;
                self.write_one_by_one(shape, rows);
            }
        }
        self.written += rows.num_rows() as u64;
        Ok(())
    }

    fn write_one_by_one(&mut self, shape: &Shape, rows: &RecordBatch) {
        for (number, row) in (self.written..).zip(0..rows.num_rows()) {
            match shape.canonical(&rows.slice(row, 1)) {
                Ok(canonical) => self.push(number, canonical),
                Err(error) => self.misfits.push(RefusedRow { row: number, reason: error.to_string() }),
            }
        }
    }

    fn push(&mut self, first: u64, rows: RecordBatch) {
        self.bytes += row_bytes(&rows);
        self.batches.push((first, rows));
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn batches(&self) -> &[(u64, RecordBatch)] {
        &self.batches
    }

    /// The number of a row, given its index among all that fit.
    pub(super) fn number(&self, index: usize) -> u64 {
        let mut index = index;
        for (first, rows) in &self.batches {
            if index < rows.num_rows() {
                return first + index as u64;
            }
            index -= rows.num_rows();
        }
        self.written
    }

    /// Those that do not fit, to which those are added that the table refuses.
    pub(super) fn take_misfits(&mut self) -> Vec<RefusedRow> {
        std::mem::take(&mut self.misfits)
    }
}
