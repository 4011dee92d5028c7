//! Parsed schemas: made when first asked for, kept beside their text, and let go when all together exceed a budget.
//!
//! Who asks again finds it without a lock. What is let go is what was not asked for since the last round (a clock, as in
//! page replacement).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::types::Registered;
use super::{RegistryError, State};
use crate::formats::Schema;

/// What a parsed schema takes, as a multiple of its text: an estimate, on the high side.
const BYTES_PER_TEXT_BYTE: usize = 16;
const BYTES_LEAST: usize = 1024;

#[derive(Debug)]
pub struct ParsedCache {
    budget_bytes: usize,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    held: VecDeque<(Weak<Registered>, usize)>,
    bytes: usize,
}

impl ParsedCache {
    pub fn new(budget_bytes: usize) -> ParsedCache {
        ParsedCache { budget_bytes, ledger: Mutex::default() }
    }

    /// About how much it holds.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// `schema` belongs to `state`, which has what it refers to.
    pub fn get(&self, state: &State, schema: &Arc<Registered>) -> Result<Arc<Schema>, RegistryError> {
        if let Some(parsed) = schema.parsed.load_full() {
            if !schema.used.load(Ordering::Relaxed) {
                schema.used.store(true, Ordering::Relaxed);
            }
            return Ok(parsed);
        }
        let references = state.resolve(&schema.references)?;
        let text_bytes = references.iter().map(|it| it.text.len()).sum::<usize>() + schema.text.len();
        let parsed = Schema::parse(schema.format, &schema.text, &references)
            .map_err(|error| RegistryError::InvalidSchema { format: schema.format, error })?;
        let parsed = Arc::new(parsed);
        let mut ledger = self.lock();
        // Another may have been faster.
        if let Some(first) = schema.parsed.load_full() {
            return Ok(first);
        }
        schema.parsed.store(Some(parsed.clone()));
        let bytes = text_bytes * BYTES_PER_TEXT_BYTE + BYTES_LEAST;
        ledger.held.push_back((Arc::downgrade(schema), bytes));
        ledger.bytes += bytes;
        ledger.shrink(self.budget_bytes);
        Ok(parsed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ledger> {
        // Nothing in here is left half done by a panic.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn shrink(&mut self, budget_bytes: usize) {
        // Twice around at most: the first round takes the marks away.
        let mut turns = self.held.len() * 2;
        while self.bytes > budget_bytes && turns > 0 {
            turns -= 1;
            let Some((schema, bytes)) = self.held.pop_front() else { return };
            match schema.upgrade() {
                Some(schema) if schema.used.swap(false, Ordering::Relaxed) => {
                    self.held.push_back((Arc::downgrade(&schema), bytes));
                }
                gone_or_idle => {
                    if let Some(schema) = gone_or_idle {
                        schema.parsed.store(None);
                    }
                    self.bytes -= bytes;
                }
            }
        }
    }
}
