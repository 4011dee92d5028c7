//! JSON records to Arrow columns.

use arrow::record_batch::RecordBatch;
use playhouse_log::batch::Record;

/// Why one record could not be decoded; its neighbours are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct DecodeFailure {
    /// JSON pointer into the payload; empty for the payload as a whole.
    pub path: String,
    pub message: String,
}

/// Decodes the records of one source into reusable column builders.
pub struct Decoder {}

impl Decoder {
    /// Appends one record as one row: its index is `len() - 1` afterwards. A failure appends nothing.
    pub fn push(&mut self, _partition: i32, _record: &Record<'_>, _append_time_ms: i64) -> Result<(), DecodeFailure> {
        todo!()
    }
    /// Rows since the last `finish`.
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The rows so far as one batch with the schema of the source; the decoder is then empty again.
    pub fn finish(&mut self) -> RecordBatch {
        todo!()
    }
}
