//! Running the plans around the rows that they fail on.
//!
//! A plan fails over a whole batch, whichever row it was. So the rows are halved until those are left that fail alone: they
//! are the ones to be reported. Plans are row by row, so what the pieces give is together what the whole would have given.
//! A row that fails in company only (an operand that need not have been evaluated for it alone) does not fail.

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use arrow::record_batch::RecordBatch;

use super::{EpochRows, Pipeline, ROW, RunError};

/// A row that some plan fails on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRow {
    /// Index into [`Pipeline::sources`].
    pub source: usize,
    /// In the decoded batch.
    pub row: usize,
    pub reason: String,
}

impl Pipeline {
    /// Like [`Pipeline::run`], but of the rows that the plans can take, whatever the others are. With `stream`, for the rows
    /// of that stream alone. An error is about no row.
    pub async fn run_around(
        &self,
        inputs: &[RecordBatch],
        stream: Option<usize>,
    ) -> Result<(EpochRows, Vec<FailedRow>), RunError> {
        match self.run_wanted(inputs.to_vec(), stream).await {
            Ok(rows) => return Ok((rows, Vec::new())),
            Err(error) if error.is_passing => return Err(error),
            // What fails over no rows fails over any.
            Err(_) => drop(self.run_wanted(only(inputs, 0, 0, 0), stream).await?),
        }
        let mut rows = self.no_rows();
        let mut failed = Vec::new();
        for (source, input) in inputs.iter().enumerate() {
            let mut pieces = vec![(0, input.num_rows())];
            while let Some((from, count)) = pieces.pop() {
                if count == 0 {
                    continue;
                }
                match self.run_wanted(only(inputs, source, from, count), stream).await {
                    Ok(more) => rows.append(more),
                    Err(error) if error.is_passing => return Err(error),
                    Err(error) if count == 1 => {
                        failed.push(FailedRow { source, row: number(input, from), reason: error.to_string() });
                    }
                    Err(_) => {
                        pieces.push((from + count / 2, count - count / 2));
                        pieces.push((from, count / 2));
                    }
                }
            }
        }
        Ok((rows, failed))
    }
}

impl EpochRows {
    fn append(&mut self, more: EpochRows) {
        let streams = self.streams.iter_mut().zip(more.streams);
        let partials = self.partials.iter_mut().zip(more.partials);
        streams.chain(partials).for_each(|(batches, more)| batches.extend(more));
    }
}

/// Some rows of one source, and none of the others.
pub(crate) fn only(inputs: &[RecordBatch], source: usize, from: usize, count: usize) -> Vec<RecordBatch> {
    let piece = |(index, input): (usize, &RecordBatch)| match index == source {
        true => input.slice(from, count),
        false => input.slice(0, 0),
    };
    inputs.iter().enumerate().map(piece).collect()
}

/// The number that the decoder gave a row.
fn number(input: &RecordBatch, index: usize) -> usize {
    input.column_by_name(ROW).map_or(index, |rows| rows.as_primitive::<UInt64Type>().value(index) as usize)
}
