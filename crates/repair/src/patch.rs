//! JSON Patch (RFC 6902).

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::numbers::first_that_changes;
use crate::{ChangeError, Event, InvalidChange};

const OPERATIONS_MAX: usize = 1000;

/// A patch, and how large it may make an event.
#[derive(Debug, Clone)]
pub struct JsonPatch {
    operations: Vec<PatchOperation>,
    bytes_max: usize,
}

impl JsonPatch {
    pub fn new(patch: Value, bytes_max: usize) -> Result<JsonPatch, InvalidChange> {
        let Patch(operations) = serde_json::from_value(patch).map_err(InvalidChange::Patch)?;
        match operations.len() {
            found if found > OPERATIONS_MAX => Err(InvalidChange::TooManyOperations { found, limit: OPERATIONS_MAX }),
            _ => Ok(JsonPatch { operations, bytes_max }),
        }
    }

    /// The patched event, written anew: without white space, its keys sorted, of doubled keys the last.
    pub fn apply(&self, event: &Event<'_>) -> Result<Vec<u8>, ChangeError> {
        let mut document: Value = serde_json::from_slice(event.raw).map_err(ChangeError::NotJson)?;
        if let Some(number) = std::str::from_utf8(event.raw).ok().and_then(first_that_changes) {
            return Err(ChangeError::Number(number.to_owned()));
        }
        for (index, operation) in self.operations.iter().enumerate() {
            json_patch::patch(&mut document, std::slice::from_ref(operation))
                .map_err(|error| ChangeError::Operation { index, message: error.kind.to_string() })?;
            // A copy of the whole into itself doubles it: a few of them would fill any memory.
            let grows = matches!(operation, PatchOperation::Copy(_) | PatchOperation::Add(_));
            if grows && size_above(&document, self.bytes_max).is_none() {
                return Err(ChangeError::TooLarge(self.bytes_max));
            }
        }
        serde_json::to_vec(&document).map_err(ChangeError::NotJson)
    }
}

/// What is left of `room` behind the value written as JSON, roughly: quotes and escapes do not count. `None` where there
/// is not enough.
fn size_above(value: &Value, room: usize) -> Option<usize> {
    let room = room.checked_sub(1)?;
    match value {
        Value::String(text) => room.checked_sub(text.len()),
        Value::Array(items) => items.iter().try_fold(room, |room, item| size_above(item, room)),
        Value::Object(fields) => {
            fields.iter().try_fold(room, |room, (name, value)| size_above(value, room.checked_sub(name.len())?))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(room),
    }
}
