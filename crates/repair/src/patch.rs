//! JSON Patch (RFC 6902).

use serde::Deserialize;
use serde_json::{Number, Value};

use crate::numbers::first_that_changes;
use crate::pointer::Pointer;
use crate::{ChangeError, Event, InvalidChange};

const OPERATIONS_MAX: usize = 1000;

/// Members that an operation does not know are ignored, as the RFC has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Operation {
    Add { path: Pointer, value: Value },
    Remove { path: Pointer },
    Replace { path: Pointer, value: Value },
    Move { from: Pointer, path: Pointer },
    Copy { from: Pointer, path: Pointer },
    Test { path: Pointer, value: Value },
}

/// A patch, and how large it may make an event.
#[derive(Debug, Clone)]
pub struct JsonPatch {
    operations: Vec<Operation>,
    bytes_max: usize,
}

impl JsonPatch {
    pub fn new(patch: Value, bytes_max: usize) -> Result<JsonPatch, InvalidChange> {
        let operations: Vec<Operation> = serde_json::from_value(patch).map_err(InvalidChange::Patch)?;
        match operations.len() {
            found if found > OPERATIONS_MAX => Err(InvalidChange::TooManyOperations { found, limit: OPERATIONS_MAX }),
            _ => Ok(JsonPatch { operations, bytes_max }),
        }
    }

    /// The patched event behind the name of its schema, if it has one; written anew: without white space, its keys sorted, of doubled keys the last.
    pub fn apply(&self, event: &Event<'_>) -> Result<Vec<u8>, ChangeError> {
        let (prefix, json) = event.raw.split_at(schema_prefix(event.raw));
        let mut document: Value = serde_json::from_slice(json).map_err(ChangeError::NotJson)?;
        if let Some(number) = std::str::from_utf8(json).ok().and_then(first_that_changes) {
            return Err(ChangeError::Number(number.to_owned()));
        }
        for (index, operation) in self.operations.iter().enumerate() {
            operation.apply(&mut document).map_err(|message| ChangeError::Operation { index, message })?;
            // A copy of the whole into itself doubles it: a few of them would fill any memory.
            if operation.grows() && room_behind(&document, self.bytes_max).is_none() {
                return Err(ChangeError::TooLarge(self.bytes_max));
            }
        }
        let mut patched = prefix.to_vec();
        serde_json::to_writer(&mut patched, &document).map_err(ChangeError::NotJson)?;
        Ok(patched)
    }
}

/// Bytes before the JSON that name its schema, as Confluent's serializers write them: a 0 and an id, or a 1 and a guid.
fn schema_prefix(raw: &[u8]) -> usize {
    let bytes = match raw.first() {
        Some(0) => 5,
        Some(1) => 17,
        _ => 0,
    };
    bytes.min(raw.len())
}

impl Operation {
    fn grows(&self) -> bool {
        matches!(self, Operation::Add { .. } | Operation::Replace { .. } | Operation::Copy { .. })
    }

    fn apply(&self, document: &mut Value) -> Result<(), String> {
        let missing = |path: &Pointer| format!("there is nothing at {:?}", path.to_string());
        let no_place = |path: &Pointer| format!("there is no place for a value at {:?}", path.to_string());
        match self {
            Operation::Add { path, value } => path.add(document, value.clone()).ok_or_else(|| no_place(path)),
            Operation::Remove { path } => path.remove(document).map(drop).ok_or_else(|| missing(path)),
            Operation::Replace { path, value } => {
                *path.get_mut(document).ok_or_else(|| missing(path))? = value.clone();
                Ok(())
            }
            Operation::Move { from, path } if from.is_above(path) => {
                Err(format!("{:?} cannot move into itself", from.to_string()))
            }
            Operation::Move { from, path } => {
                let value = from.remove(document).ok_or_else(|| missing(from))?;
                path.add(document, value).ok_or_else(|| no_place(path))
            }
            Operation::Copy { from, path } => {
                let value = from.get(document).cloned().ok_or_else(|| missing(from))?;
                path.add(document, value).ok_or_else(|| no_place(path))
            }
            Operation::Test { path, value } => {
                let found = path.get(document).ok_or_else(|| missing(path))?;
                if is_equal(found, value) { Ok(()) } else { Err(format!("{:?} is another value", path.to_string())) }
            }
        }
    }
}

/// As the RFC compares: numbers by what they are, not by how they are written.
fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || is_equal_double(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_same = |(name, value)| other.get(name).is_some_and(|other| is_equal(value, other));
            one.len() == other.len() && one.iter().all(is_same)
        }
        (one, other) => one == other,
    }
}

/// `1` and `1.0`. Two integers are compared as such: as doubles, large ones that differ would be equal.
fn is_equal_double(one: &Number, other: &Number) -> bool {
    one.is_f64() != other.is_f64() && one.as_f64() == other.as_f64()
}

/// What is left of `room` behind the value written as JSON, roughly: quotes and escapes do not count. `None` where there
/// is not enough.
fn room_behind(value: &Value, room: usize) -> Option<usize> {
    let room = room.checked_sub(1)?;
    match value {
        Value::String(text) => room.checked_sub(text.len()),
        Value::Array(items) => items.iter().try_fold(room, |room, item| room_behind(item, room)),
        Value::Object(fields) => {
            fields.iter().try_fold(room, |room, (name, value)| room_behind(value, room.checked_sub(name.len())?))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(room),
    }
}
