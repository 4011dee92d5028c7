//! One aggregate of one group.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hashbrown::HashSet;

use super::super::bytes::{Corrupt, Reader, put_bytes};

/// The aggregate functions. Integers, timestamps and dates are aggregated as 64-bit integers and cast back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Count,
    CountDistinct,
    SumInteger,
    SumFloat,
    MinInteger,
    MaxInteger,
    MinFloat,
    MaxFloat,
    MinText,
    MaxText,
    Average,
}

pub(super) type DistinctSet = HashSet<u128, foldhash::fast::FixedState>;

/// Of one value in a distinct set, with the set's spare room.
pub(super) const DISTINCT_BYTES: usize = 24;
/// In place of a set's length: it is sealed. No set has so many values.
const SEALED: u32 = u32::MAX;

/// A count or sum starts at nothing; `None` means that no value came (SQL's NULL).
#[derive(Debug, Clone)]
pub(super) enum State {
    Count(i64),
    SumInteger(Option<i64>),
    SumFloat(Option<f64>),
    Integer {
        value: Option<i64>,
        largest: bool,
    },
    Float {
        value: Option<f64>,
        largest: bool,
    },
    Text {
        value: Option<Box<str>>,
        largest: bool,
    },
    Average {
        sum: f64,
        count: i64,
    },
    /// Boxed: every other state is half its size.
    Distinct(Box<DistinctSet>),
    /// A distinct set that takes no more: how many values it had.
    Sealed(i64),
    /// In a delta: the values that were new to the group's set, each once.
    Added(Vec<u128>),
}

impl State {
    pub(super) fn new(kind: Kind) -> State {
        match kind {
            Kind::Count => State::Count(0),
            Kind::CountDistinct => State::Distinct(Box::default()),
            Kind::SumInteger => State::SumInteger(None),
            Kind::SumFloat => State::SumFloat(None),
            Kind::MinInteger => State::Integer { value: None, largest: false },
            Kind::MaxInteger => State::Integer { value: None, largest: true },
            Kind::MinFloat => State::Float { value: None, largest: false },
            Kind::MaxFloat => State::Float { value: None, largest: true },
            Kind::MinText => State::Text { value: None, largest: false },
            Kind::MaxText => State::Text { value: None, largest: true },
            Kind::Average => State::Average { sum: 0.0, count: 0 },
        }
    }

    /// What an epoch adds to a state of this kind: nothing yet.
    pub(super) fn new_delta(kind: Kind) -> State {
        match kind {
            Kind::CountDistinct => State::Added(Vec::new()),
            other => State::new(other),
        }
    }

    /// Adds what an epoch added; returns by how many bytes the state grew. Distinct values are merged while the rows are
    /// read (see `update`), so here they are not.
    pub(super) fn merge(&mut self, added: &State) -> usize {
        match (self, added) {
            (State::Count(count), State::Count(more)) => *count += more,
            (State::SumInteger(sum), State::SumInteger(Some(more))) => {
                *sum = Some(sum.unwrap_or(0).saturating_add(*more));
            }
            (State::SumFloat(sum), State::SumFloat(Some(more))) => *sum = Some(sum.unwrap_or(0.0) + more),
            (State::Integer { value, largest }, State::Integer { value: Some(other), .. }) => {
                fold_integer(value, *other, *largest);
            }
            (State::Float { value, largest }, State::Float { value: Some(other), .. }) => {
                fold_float(value, *other, *largest);
            }
            (State::Text { value, largest }, State::Text { value: Some(other), .. }) => {
                let before = value.as_ref().map_or(0, |text| text.len());
                fold_text(value, other, *largest);
                return value.as_ref().map_or(0, |text| text.len()).saturating_sub(before);
            }
            (State::Average { sum, count }, State::Average { sum: more, count: many }) => {
                *sum += more;
                *count += many;
            }
            _ => {}
        }
        0
    }

    /// Keeps only the answer of a distinct set; returns how many bytes that freed.
    pub(super) fn seal(&mut self) -> usize {
        let State::Distinct(values) = self else { return 0 };
        let count = values.len();
        *self = State::Sealed(count as i64);
        count * DISTINCT_BYTES
    }

    pub(super) fn extra_bytes(&self) -> usize {
        match self {
            State::Distinct(values) => values.len() * DISTINCT_BYTES,
            State::Text { value: Some(text), .. } => text.len(),
            _ => 0,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut optional = |value: Option<[u8; 8]>| {
            out.push(u8::from(value.is_some()));
            out.extend_from_slice(&value.unwrap_or_default());
        };
        match self {
            State::Count(count) => out.extend_from_slice(&count.to_le_bytes()),
            State::SumInteger(value) | State::Integer { value, .. } => optional(value.map(i64::to_le_bytes)),
            State::SumFloat(value) | State::Float { value, .. } => optional(value.map(f64::to_le_bytes)),
            State::Text { value, .. } => {
                out.push(u8::from(value.is_some()));
                put_bytes(out, value.as_deref().unwrap_or_default().as_bytes());
            }
            State::Average { sum, count } => {
                out.extend_from_slice(&sum.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
            State::Distinct(values) => encode_values(values.len(), values.iter(), out),
            State::Added(values) => encode_values(values.len(), values.iter(), out),
            State::Sealed(count) => {
                out.extend_from_slice(&SEALED.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    pub(super) fn decode(kind: Kind, reader: &mut Reader<'_>) -> Result<State, Corrupt> {
        fn optional<T>(
            reader: &mut Reader<'_>,
            read: impl Fn(&mut Reader<'_>) -> Result<T, Corrupt>,
        ) -> Result<Option<T>, Corrupt> {
            let present = reader.u8()? != 0;
            let value = read(reader)?;
            Ok(present.then_some(value))
        }
        let float = |reader: &mut Reader<'_>| reader.array().map(f64::from_le_bytes);
        let mut state = State::new(kind);
        match &mut state {
            State::Count(count) => *count = reader.i64()?,
            State::SumInteger(value) | State::Integer { value, .. } => *value = optional(reader, |r| r.i64())?,
            State::SumFloat(value) | State::Float { value, .. } => *value = optional(reader, float)?,
            State::Text { value, .. } => {
                let present = reader.u8()? != 0;
                let text = std::str::from_utf8(reader.bytes()?).map_err(|_| Corrupt)?;
                *value = present.then(|| text.into());
            }
            State::Average { sum, count } => {
                *sum = float(reader)?;
                *count = reader.i64()?;
            }
            State::Distinct(values) => {
                let count = reader.u32()?;
                if count == SEALED {
                    return Ok(State::Sealed(reader.i64()?));
                }
                for chunk in reader.take((count as usize).checked_mul(16).ok_or(Corrupt)?)?.as_chunks::<16>().0 {
                    values.insert(u128::from_le_bytes(*chunk));
                }
            }
            State::Added(_) | State::Sealed(_) => {}
        }
        Ok(state)
    }
}

fn encode_values<'a>(count: usize, values: impl Iterator<Item = &'a u128>, out: &mut Vec<u8>) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
    out.reserve(count * 16);
    values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

pub(super) fn fold_integer(value: &mut Option<i64>, other: i64, largest: bool) {
    *value = Some(match *value {
        None => other,
        Some(current) if largest => current.max(other),
        Some(current) => current.min(other),
    });
}

pub(super) fn fold_float(value: &mut Option<f64>, other: f64, largest: bool) {
    *value = Some(match *value {
        None => other,
        Some(current) if largest => current.max(other),
        Some(current) => current.min(other),
    });
}

pub(super) fn fold_text(value: &mut Option<Box<str>>, other: &str, largest: bool) {
    let replace = match value {
        None => true,
        Some(current) if largest => other > &**current,
        Some(current) => other < &**current,
    };
    if replace {
        *value = Some(other.into());
    }
}

/// The values of one aggregate over many groups, as a column.
pub(super) fn evaluate<'a>(
    kind: Kind,
    states: impl Iterator<Item = &'a State>,
    output_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let array: ArrayRef = match kind {
        Kind::Count | Kind::CountDistinct | Kind::SumInteger | Kind::MinInteger | Kind::MaxInteger => {
            Arc::new(Int64Array::from_iter(states.map(|state| match state {
                State::Count(count) => Some(*count),
                State::Distinct(values) => Some(values.len() as i64),
                State::Sealed(count) => Some(*count),
                State::SumInteger(value) | State::Integer { value, .. } => *value,
                _ => None,
            })))
        }
        Kind::SumFloat | Kind::MinFloat | Kind::MaxFloat | Kind::Average => {
            Arc::new(Float64Array::from_iter(states.map(|state| match state {
                State::SumFloat(value) | State::Float { value, .. } => *value,
                State::Average { sum, count } => (*count > 0).then(|| sum / *count as f64),
                _ => None,
            })))
        }
        Kind::MinText | Kind::MaxText => Arc::new(StringArray::from_iter(states.map(|state| match state {
            State::Text { value, .. } => value.as_deref(),
            _ => None,
        }))),
    };
    if array.data_type() == output_type { Ok(array) } else { cast(&array, output_type) }
}
