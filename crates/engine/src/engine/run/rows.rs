//! The rows of an epoch through the dedup sets and the plans, around those that a plan fails on.
//!
//! A row that fails is a bad event, and the plans do not see it. Its id is not remembered, so that the event may come again
//! once it is repaired; where its id was seen before, it is a duplicate like any other.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::{BadRecord, Cut, Runner, put_part};
use crate::engine::input::{Place, SourceReader};
use crate::engine::{EngineError, FailedStage};
use crate::sql::{EpochRows, FailedRow, RunError};
use crate::state::dedup::DedupSet;

/// What an epoch's rows came to.
pub(super) struct Ran {
    /// Of the dedup sets.
    pub(super) delta: Vec<u8>,
    /// By source: which of the decoded rows the plans did not see.
    pub(super) dropped: Vec<Vec<u32>>,
    pub(super) duplicates: u64,
    /// That the plans saw.
    pub(super) rows: u64,
    pub(super) output: EpochRows,
    pub(super) failed: Vec<BadRecord>,
}

/// Reasons by row.
type Reasons = BTreeMap<usize, String>;

/// What of one source goes into the plans.
struct Passed {
    rows: RecordBatch,
    dropped: Vec<u32>,
    failed: Vec<usize>,
}

impl Runner {
    pub(super) async fn run_plans(&mut self, cuts: &[Cut]) -> Result<Ran, EngineError> {
        let mut reasons = vec![Reasons::new(); cuts.len()];
        let mut passed = self.pass(cuts, &reasons)?;
        let output = match self.pipeline.run(rows_of(&passed)).await {
            Ok(output) => output,
            Err(error) if error.is_passing => return Err(error.into()),
            Err(_) => {
                self.dedup.iter_mut().flatten().for_each(DedupSet::take_back);
                let all: Vec<RecordBatch> = cuts.iter().map(|cut| cut.batch.clone()).collect();
                let (_, failed) = self.pipeline.run_around(&all, None).await?;
                for FailedRow { source, row, reason } in failed {
                    reasons[source].insert(row, reason);
                }
                passed = self.pass(cuts, &reasons)?;
                let (output, unexpected) = self.pipeline.run_around(&rows_of(&passed), None).await?;
                if let Some(row) = unexpected.into_iter().next() {
                    // Plans are deterministic: a row that passed before passes again.
                    return Err(RunError::unsteady(&self.pipeline.name, row.reason).into());
                }
                output
            }
        };
        let mut delta = Vec::new();
        for set in self.dedup.iter_mut().flatten() {
            put_part(&mut delta, |out| set.take_delta(out));
        }
        let mut failed = Vec::new();
        for (((source, cut), passed), reasons) in self.sources.iter().zip(cuts).zip(&passed).zip(&mut reasons) {
            let bad = |row: &usize| bad_record(source, &cut.places[*row], reasons.remove(row).unwrap_or_default());
            failed.extend(passed.failed.iter().map(bad));
        }
        let dropped: u64 = passed.iter().map(|passed| passed.dropped.len() as u64).sum();
        Ok(Ran {
            delta,
            duplicates: dropped - failed.len() as u64,
            rows: passed.iter().map(|passed| passed.rows.num_rows() as u64).sum(),
            dropped: passed.into_iter().map(|passed| passed.dropped).collect(),
            output,
            failed,
        })
    }

    fn pass(&mut self, cuts: &[Cut], reasons: &[Reasons]) -> Result<Vec<Passed>, EngineError> {
        let sources = self.sources.iter().zip(&mut self.dedup);
        let passed = sources.zip(cuts).zip(reasons).map(|(((source, dedup), cut), reasons)| {
            match (dedup, &source.definition.dedup) {
                (Some(set), Some(definition)) => first_of_each(cut, definition.column, set, reasons),
                _ => {
                    let failed: Vec<usize> = reasons.keys().copied().collect();
                    let dropped = failed.iter().map(|row| *row as u32).collect();
                    Passed::without(cut, dropped, failed)
                }
            }
        });
        passed.collect()
    }
}

impl Passed {
    fn without(cut: &Cut, dropped: Vec<u32>, failed: Vec<usize>) -> Result<Passed, EngineError> {
        if dropped.is_empty() {
            return Ok(Passed { rows: cut.batch.clone(), dropped, failed });
        }
        let mut keep = vec![true; cut.batch.num_rows()];
        dropped.iter().for_each(|row| keep[*row as usize] = false);
        Ok(Passed { rows: filter_record_batch(&cut.batch, &BooleanArray::from(keep))?, dropped, failed })
    }
}

/// Each id's first row that does not fail.
fn first_of_each(cut: &Cut, column: usize, set: &mut DedupSet, reasons: &Reasons) -> Result<Passed, EngineError> {
    let ids = cut.batch.column(column).as_string::<i32>();
    let hashes: Vec<Option<u128>> = ids.iter().map(|id| id.map(|id| set.hash(id.as_bytes()))).collect();
    let (mut dropped, mut failed) = (Vec::new(), Vec::new());
    for (row, (hash, place)) in hashes.into_iter().zip(&cut.places).enumerate() {
        if !reasons.is_empty() && reasons.contains_key(&row) {
            dropped.push(row as u32);
            let seen = hash.map(|hash| set.contains_hash(hash)).transpose()?;
            if seen != Some(true) {
                failed.push(row);
            }
        } else if let Some(hash) = hash
            && !set.insert_hash(hash, place.ingested_ms)?
        {
            dropped.push(row as u32);
        }
    }
    Passed::without(cut, dropped, failed)
}

fn rows_of(passed: &[Passed]) -> Vec<RecordBatch> {
    passed.iter().map(|passed| passed.rows.clone()).collect()
}

fn bad_record(source: &SourceReader, place: &Place, message: String) -> BadRecord {
    BadRecord {
        topic: source.topic.clone(),
        partition: place.partition,
        offset: place.offset,
        stage: FailedStage::Enrich,
        path: String::new(),
        message,
    }
}
