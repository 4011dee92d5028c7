//! Rows into an epoch's deltas, one aggregate at a time.

use std::hash::Hasher;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::state::{DISTINCT_BYTES, Kind, State, fold_float, fold_integer, fold_text};
use super::{GroupDelta, Groups, StateError};

impl Groups {
    pub(super) fn update(
        &mut self,
        index: usize,
        kind: Kind,
        input: Option<&ArrayRef>,
        of_row: &[u32],
        deltas: &mut [GroupDelta],
    ) -> Result<(), StateError> {
        match (kind, input) {
            (Kind::Count, None) => {
                for delta in of_row {
                    if let State::Count(count) = &mut deltas[*delta as usize].states[index] {
                        *count += 1;
                    }
                }
            }
            (Kind::Count, Some(values)) => {
                for (row, delta) in of_row.iter().enumerate() {
                    if let State::Count(count) = &mut deltas[*delta as usize].states[index] {
                        *count += i64::from(values.is_valid(row));
                    }
                }
            }
            (Kind::CountDistinct, Some(values)) => self.update_distinct(index, values, of_row, deltas)?,
            (Kind::SumInteger | Kind::MinInteger | Kind::MaxInteger, Some(values)) => {
                let values = normalised(values, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>();
                for (value, delta) in values.iter().zip(of_row) {
                    let Some(value) = value else { continue };
                    match &mut deltas[*delta as usize].states[index] {
                        State::SumInteger(sum) => *sum = Some(sum.unwrap_or(0).saturating_add(value)),
                        State::Integer { value: held, largest } => fold_integer(held, value, *largest),
                        _ => {}
                    }
                }
            }
            (Kind::SumFloat | Kind::MinFloat | Kind::MaxFloat | Kind::Average, Some(values)) => {
                let values = normalised(values, &DataType::Float64)?;
                let values = values.as_primitive::<Float64Type>();
                for (value, delta) in values.iter().zip(of_row) {
                    let Some(value) = value else { continue };
                    match &mut deltas[*delta as usize].states[index] {
                        State::SumFloat(sum) => *sum = Some(sum.unwrap_or(0.0) + value),
                        State::Float { value: held, largest } => fold_float(held, value, *largest),
                        State::Average { sum, count } => {
                            *sum += value;
                            *count += 1;
                        }
                        _ => {}
                    }
                }
            }
            (Kind::MinText | Kind::MaxText, Some(values)) => {
                let values = normalised(values, &DataType::Utf8)?;
                for (value, delta) in values.as_string::<i32>().iter().zip(of_row) {
                    let Some(value) = value else { continue };
                    if let State::Text { value: held, largest } = &mut deltas[*delta as usize].states[index] {
                        fold_text(held, value, *largest);
                    }
                }
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// Inserts straight into the group's set: only what is new to it goes into the delta.
    fn update_distinct(
        &mut self,
        index: usize,
        values: &ArrayRef,
        of_row: &[u32],
        deltas: &mut [GroupDelta],
    ) -> Result<(), StateError> {
        let hash = |bytes: &[u8]| {
            let mut hasher = SipHasher13::new_with_key(&self.hash_key);
            hasher.write(bytes);
            hasher.finish128().as_u128()
        };
        let hashes: Vec<Option<u128>> = match values.data_type() {
            DataType::Utf8 => {
                values.as_string::<i32>().iter().map(|text| text.map(|text| hash(text.as_bytes()))).collect()
            }
            _ => {
                let text = cast(values, &DataType::Utf8)?;
                text.as_string::<i32>().iter().map(|text| text.map(|text| hash(text.as_bytes()))).collect()
            }
        };
        let mut added = 0;
        for (hash, delta) in hashes.into_iter().zip(of_row) {
            let Some(hash) = hash else { continue };
            let delta = &mut deltas[*delta as usize];
            let group = self.slots.get_mut(delta.slot).expect("a group of this epoch is live");
            if let (State::Distinct(seen), State::Added(new)) = (&mut group.states[index], &mut delta.states[index])
                && seen.insert(hash)
            {
                new.push(hash);
                added += DISTINCT_BYTES;
            }
        }
        self.bytes += added;
        Ok(())
    }
}

fn normalised(values: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, StateError> {
    Ok(if values.data_type() == wanted { values.clone() } else { cast(values, wanted)? })
}
