//! Aggregate state of one materialized view: group key -> one [`State`] per aggregate.
//!
//! Rows arrive as the view's partial batch (group columns, argument columns). A group's key is its columns in Arrow's row
//! format; groups live in a slab, found through a hash table. An epoch's delta holds, for each group it touched, what the
//! epoch added: counts and sums of the epoch alone, values that were new to the distinct sets. Merging a delta and
//! applying the rows lead to the same state.
//!
//! A window that takes no more rows is sealed: of its distinct sets only the counts stay.

mod slab;
mod state;
mod update;

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, new_empty_array};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;

use self::slab::Slab;
pub use self::state::Kind;
use self::state::State;
use super::bytes::{Corrupt, Reader, put_bytes};

/// One aggregate of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub kind: Kind,
    /// Column of its argument in the partial batch; `None` for `count(*)`.
    pub input: Option<usize>,
    pub output_type: DataType,
}

/// What the state needs to know of a view.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Group columns, then one column per aggregate: what [`Groups::evaluate`] returns.
    pub schema: SchemaRef,
    pub group_count: usize,
    pub aggregates: Vec<Aggregate>,
    /// Each group lies in one window, whose end (microseconds, UTC) is the last column of the partial batch, and which
    /// takes no rows from some time on.
    pub seals: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

#[derive(Debug)]
struct Group {
    key: Box<[u8]>,
    hash: u64,
    /// Clock of the last epoch that had a row for it.
    touched_ms: i64,
    /// [`NO_WINDOW`] where windows are not sealed.
    window_end_us: i64,
    states: Box<[State]>,
    /// Place in the epoch's delta, valid while `epoch` is the current one.
    delta: u32,
    epoch: u64,
    /// Whether it is in [`Groups::dirty`].
    dirty: bool,
}

/// What one epoch added to one group.
#[derive(Debug)]
struct GroupDelta {
    slot: u32,
    states: Box<[State]>,
}

#[derive(Debug)]
pub struct Groups {
    shape: Shape,
    keys: Option<RowConverter>,
    hash_key: [u8; 16],
    table: HashTable<u32>,
    slots: Slab<Group>,
    /// Slots changed since the last [`Groups::take_changes`]; some may have been removed since.
    dirty: Vec<u32>,
    /// Slots of groups with distinct sets, by the end of their window.
    unsealed: BTreeMap<i64, Vec<u32>>,
    bytes: usize,
    epoch: u64,
    hasher: foldhash::fast::FixedState,
}

const NO_WINDOW: i64 = i64::MAX;

/// Groups' slots, and row by row with them their columns and aggregate values. A slot is a group's own for as long as it
/// lives.
pub type Evaluated = (Vec<u32>, RecordBatch);

/// Rough cost of a group beside its key and distinct values, its row in the published view included.
const GROUP_BYTES: usize = 240;

impl Groups {
    /// `hash_key` keys the hashes of distinct values; it must stay the same for the life of the state.
    pub fn new(shape: Shape, hash_key: [u8; 16]) -> Result<Groups, StateError> {
        let fields: Vec<SortField> = shape.schema.fields()[..shape.group_count]
            .iter()
            .map(|field| SortField::new(field.data_type().clone()))
            .collect();
        let keys = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Groups {
            shape,
            keys,
            hash_key,
            table: HashTable::new(),
            slots: Slab::default(),
            dirty: Vec::new(),
            unsealed: BTreeMap::new(),
            bytes: 0,
            epoch: 0,
            hasher: foldhash::fast::FixedState::with_seed(0),
        })
    }

    /// Aggregates the rows of one epoch and appends the delta to `out`.
    pub fn apply(&mut self, batches: &[RecordBatch], clock_ms: i64, out: &mut Vec<u8>) -> Result<(), StateError> {
        self.epoch += 1;
        let mut deltas: Vec<GroupDelta> = Vec::new();
        let mut of_row: Vec<u32> = Vec::new();
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            of_row.clear();
            self.assign(batch, clock_ms, &mut deltas, &mut of_row)?;
            for (index, aggregate) in self.shape.aggregates.clone().iter().enumerate() {
                let input = aggregate.input.map(|column| batch.column(column));
                self.update(index, aggregate.kind, input, &of_row, &mut deltas)?;
            }
        }
        out.extend_from_slice(&clock_ms.to_le_bytes());
        for delta in &deltas {
            let group = self.slots.get_mut(delta.slot).expect("a group of this epoch is live");
            if !std::mem::replace(&mut group.dirty, true) {
                self.dirty.push(delta.slot);
            }
            put_bytes(out, &group.key);
            out.extend_from_slice(&group.window_end_us.to_le_bytes());
            delta.states.iter().for_each(|state| state.encode(out));
            for (state, added) in group.states.iter_mut().zip(&delta.states) {
                self.bytes += state.merge(added);
            }
        }
        Ok(())
    }

    /// Merges the delta (or checkpoint) in `bytes`, in recovery.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let mut reader = Reader(bytes);
        let clock_ms = reader.i64()?;
        while !reader.is_empty() {
            self.merge_group(&mut reader, clock_ms)?;
        }
        Ok(())
    }

    /// The whole state in parts of about `part_bytes`: groups, each after its clock.
    pub fn checkpoint(&self, part_bytes: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut groups = self.slots.iter().map(|(_, group)| group).peekable();
        std::iter::from_fn(move || {
            groups.peek()?;
            let mut part = Vec::with_capacity(part_bytes + part_bytes / 8);
            while part.len() < part_bytes
                && let Some(group) = groups.next()
            {
                part.extend_from_slice(&group.touched_ms.to_le_bytes());
                put_bytes(&mut part, &group.key);
                part.extend_from_slice(&group.window_end_us.to_le_bytes());
                group.states.iter().for_each(|state| state.encode(&mut part));
            }
            Some(part)
        })
    }

    /// Loads the parts of [`Groups::checkpoint`], one behind the other.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let mut reader = Reader(bytes);
        while !reader.is_empty() {
            let touched_ms = reader.i64()?;
            self.merge_group(&mut reader, touched_ms)?;
        }
        Ok(())
    }

    fn merge_group(&mut self, reader: &mut Reader<'_>, touched_ms: i64) -> Result<(), StateError> {
        let key = reader.bytes()?;
        let slot = self.find_or_insert(key, touched_ms, reader.i64()?);
        let mut added = 0;
        for (index, aggregate) in self.shape.aggregates.iter().enumerate() {
            let state = State::decode(aggregate.kind, reader)?;
            let group = self.slots.get_mut(slot).expect("the slot was just filled");
            added += group.states[index].merge(&state);
            match (&mut group.states[index], state) {
                (State::Distinct(seen), State::Distinct(values)) => {
                    let before = seen.len();
                    seen.extend(*values);
                    added += (seen.len() - before) * state::DISTINCT_BYTES;
                }
                (held, sealed @ State::Sealed(_)) => *held = sealed,
                // What came before the seal is in its count.
                (State::Sealed(_), State::Distinct(values)) if values.is_empty() => {}
                (_, State::Distinct(_)) => return Err(Corrupt.into()),
                _ => {}
            }
        }
        self.bytes += added;
        Ok(())
    }

    /// Seals the groups of windows that end at or before `horizon_us`: no row may come for them any more.
    pub fn seal(&mut self, horizon_us: i64) {
        while let Some(entry) = self.unsealed.first_entry().filter(|entry| *entry.key() <= horizon_us) {
            let (window_end_us, slots) = entry.remove_entry();
            for slot in slots {
                let group = self.slots.get_mut(slot).filter(|group| group.window_end_us == window_end_us);
                let freed: usize = group.map_or(0, |group| group.states.iter_mut().map(State::seal).sum());
                self.bytes -= freed;
            }
        }
    }

    /// Removes groups without a row for `retention_ms`, then the oldest ones until the state fits `budget_bytes`.
    pub fn expire(&mut self, clock_ms: i64, retention_ms: i64, budget_bytes: usize) -> Vec<u32> {
        let old = |group: &Group| group.touched_ms < clock_ms - retention_ms;
        let mut removed: Vec<u32> = self.slots.iter().filter(|(_, group)| old(group)).map(|(slot, _)| slot).collect();
        removed.iter().for_each(|slot| self.remove(*slot));
        if self.bytes > budget_bytes {
            // Some more than necessary, so that it is not done again at once.
            let wanted_bytes = budget_bytes - budget_bytes / 8;
            let mut by_age: Vec<(i64, u32)> = self.slots.iter().map(|(slot, group)| (group.touched_ms, slot)).collect();
            by_age.sort_unstable();
            for (_, slot) in by_age {
                if self.bytes <= wanted_bytes {
                    break;
                }
                self.remove(slot);
                removed.push(slot);
            }
        }
        removed
    }

    /// The groups changed since the last call.
    pub fn take_changes(&mut self) -> Result<Evaluated, StateError> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|slot| {
            let group = self.slots.get_mut(*slot);
            group.is_some_and(|group| std::mem::replace(&mut group.dirty, false))
        });
        self.evaluate_slots(dirty)
    }

    /// All groups, for publishing after recovery.
    pub fn evaluate_all(&self) -> Result<Evaluated, StateError> {
        self.evaluate_slots(self.slots.iter().map(|(slot, _)| slot).collect())
    }

    fn evaluate_slots(&self, slots: Vec<u32>) -> Result<Evaluated, StateError> {
        let groups: Vec<&Group> = slots.iter().filter_map(|slot| self.slots.get(*slot)).collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.shape.schema.fields().len());
        if let Some(keys) = &self.keys {
            if groups.is_empty() {
                let types = &self.shape.schema.fields()[..self.shape.group_count];
                columns.extend(types.iter().map(|field| new_empty_array(field.data_type())));
            } else {
                let parser = keys.parser();
                columns.extend(keys.convert_rows(groups.iter().map(|group| parser.parse(&group.key)))?);
            }
        }
        for (index, aggregate) in self.shape.aggregates.iter().enumerate() {
            let states = groups.iter().map(|group| &group.states[index]);
            columns.push(state::evaluate(aggregate.kind, states, &aggregate.output_type)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
        let batch = RecordBatch::try_new_with_options(self.shape.schema.clone(), columns, &options)?;
        Ok((slots, batch))
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Rough bytes in memory.
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Finds each row's group and its place in this epoch's delta.
    fn assign(
        &mut self,
        batch: &RecordBatch,
        clock_ms: i64,
        deltas: &mut Vec<GroupDelta>,
        of_row: &mut Vec<u32>,
    ) -> Result<(), StateError> {
        let rows: Option<Rows> = match &self.keys {
            Some(keys) => Some(keys.convert_columns(&batch.columns()[..self.shape.group_count])?),
            None => None,
        };
        let ends = self
            .shape
            .seals
            .then(|| batch.column(batch.num_columns() - 1).as_primitive::<TimestampMicrosecondType>().clone());
        for row in 0..batch.num_rows() {
            let window_end_us = ends.as_ref().map_or(NO_WINDOW, |ends| ends.value(row));
            let slot = match &rows {
                Some(rows) => self.find_or_insert(rows.row(row).data(), clock_ms, window_end_us),
                None => self.find_or_insert(&[], clock_ms, window_end_us),
            };
            let epoch = self.epoch;
            let group = self.slots.get_mut(slot).expect("the slot was just filled");
            if group.epoch != epoch {
                group.epoch = epoch;
                group.delta = deltas.len() as u32;
                deltas.push(GroupDelta { slot, states: states(&self.shape.aggregates, State::new_delta) });
            }
            of_row.push(group.delta);
        }
        Ok(())
    }

    fn find_or_insert(&mut self, key: &[u8], touched_ms: i64, window_end_us: i64) -> u32 {
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, key);
        let slots = &self.slots;
        let found = self
            .table
            .find(hash, |slot| slots.get(*slot).is_some_and(|group| group.hash == hash && *group.key == *key));
        if let Some(slot) = found.copied() {
            if let Some(group) = self.slots.get_mut(slot) {
                group.touched_ms = group.touched_ms.max(touched_ms);
            }
            return slot;
        }
        let states = states(&self.shape.aggregates, State::new);
        self.bytes += GROUP_BYTES + key.len() + states.len() * size_of::<State>();
        let sets = states.iter().any(|state| matches!(state, State::Distinct(_)));
        let key = Box::from(key);
        let group = Group { key, hash, touched_ms, window_end_us, states, delta: 0, epoch: 0, dirty: false };
        let slot = self.slots.insert(group);
        if sets && window_end_us != NO_WINDOW {
            self.unsealed.entry(window_end_us).or_default().push(slot);
        }
        let slots = &self.slots;
        self.table.insert_unique(hash, slot, |slot| slots.get(*slot).map_or(0, |group| group.hash));
        slot
    }

    fn remove(&mut self, slot: u32) {
        let Some(group) = self.slots.remove(slot) else { return };
        if let Ok(entry) = self.table.find_entry(group.hash, |other| *other == slot) {
            entry.remove();
        }
        if let std::collections::btree_map::Entry::Occupied(mut unsealed) = self.unsealed.entry(group.window_end_us) {
            unsealed.get_mut().retain(|other| *other != slot);
            if unsealed.get().is_empty() {
                unsealed.remove();
            }
        }
        let distinct: usize = group.states.iter().map(State::extra_bytes).sum();
        self.bytes -= GROUP_BYTES + group.key.len() + group.states.len() * size_of::<State>() + distinct;
    }
}

fn states(aggregates: &[Aggregate], new: impl Fn(Kind) -> State) -> Box<[State]> {
    aggregates.iter().map(|aggregate| new(aggregate.kind)).collect()
}

#[cfg(test)]
mod tests;
