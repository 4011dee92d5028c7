//! Payloads: whether one is of a message type.

use protox::prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use crate::Reason;

/// Messages within messages, as protoc's own readers have it.
const DEPTH_MAX: usize = 100;

pub(super) fn check(message: &MessageDescriptor, payload: &[u8]) -> Result<(), Reason> {
    let mut reader = Reader { bytes: payload, at: 0 };
    read(message, &mut reader, None, &mut Vec::new())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// A value of a wire type that stands by itself.
    fn skip(&mut self, wire_type: u64) -> Option<()> {
        match wire_type {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => self.varint().and_then(|length| self.take(length)).map(drop),
            5 => self.take(4).map(drop),
            _ => None,
        }
    }
}

/// A message without one of its fields.
pub(super) fn without(message: &[u8], number: u64) -> Vec<u8> {
    let mut reader = Reader { bytes: message, at: 0 };
    let mut out = Vec::with_capacity(message.len());
    while reader.at < message.len() {
        let start = reader.at;
        let Some(tag) = reader.varint() else { break };
        if reader.skip(tag & 7).is_none() {
            break;
        }
        if tag >> 3 != number {
            out.extend_from_slice(&message[start..reader.at]);
        }
    }
    out
}

const VARINT: u64 = 0;
const BYTES: u64 = 2;
const GROUP: u64 = 3;
const GROUP_END: u64 = 4;

/// One message, up to the end of the bytes or of the group with that number.
fn read(
    message: &MessageDescriptor,
    reader: &mut Reader<'_>,
    group: Option<u32>,
    path: &mut Vec<String>,
) -> Result<(), Reason> {
    if path.len() > DEPTH_MAX {
        let reason = format!("nested deeper than {DEPTH_MAX} messages");
        return Err(Reason { path: String::new(), message: reason, keyword: "depth".to_owned() });
    }
    let mut seen = std::collections::HashSet::new();
    loop {
        if reader.at == reader.bytes.len() && group.is_none() {
            break;
        }
        let start = reader.at;
        let cut = |path: &[String]| at(path, "encoding", format!("cut short or malformed at byte {start}"));
        let tag = reader.varint().ok_or_else(|| cut(path))?;
        let (number, wire_type) = (u32::try_from(tag >> 3).unwrap_or(0), tag & 7);
        if number == 0 || number > 0x1fff_ffff {
            return Err(at(path, "encoding", format!("{} is no field number, at byte {start}", tag >> 3)));
        }
        if wire_type == GROUP_END {
            match group == Some(number) {
                true => break,
                false => return Err(at(path, "encoding", format!("a group ends that did not begin, at byte {start}"))),
            }
        }
        let Some(field) = message.get_field(number) else {
            match wire_type {
                GROUP => skip_group(reader, number).ok_or_else(|| cut(path))?,
                other => reader.skip(other).ok_or_else(|| cut(path))?,
            }
            continue;
        };
        seen.insert(number);
        path.push(field.name().to_owned());
        value(&field, wire_type, reader, start, path)?;
        path.pop();
    }
    let missing =
        message.fields().find(|field| field.cardinality() == Cardinality::Required && !seen.contains(&field.number()));
    match missing {
        Some(field) => {
            path.push(field.name().to_owned());
            Err(at(path, "required", "a required field is missing".to_owned()))
        }
        None => Ok(()),
    }
}

fn value(
    field: &FieldDescriptor,
    wire_type: u64,
    reader: &mut Reader<'_>,
    start: usize,
    path: &mut Vec<String>,
) -> Result<(), Reason> {
    let kind = field.kind();
    let expected = match &kind {
        _ if field.is_group() => GROUP,
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
        Kind::String | Kind::Bytes | Kind::Message(_) => BYTES,
        _ => VARINT,
    };
    let cut = |path: &[String]| at(path, "encoding", format!("cut short or malformed at byte {start}"));
    // Repeated numbers may be packed, whatever the schema says.
    let packed = wire_type == BYTES && expected != BYTES && expected != GROUP && field.is_list();
    if wire_type != expected && !packed {
        let message = format!("wire type {wire_type} at byte {start} is not that of {kind:?}, {expected}");
        return Err(at(path, "type", message));
    }
    if expected == GROUP {
        let Kind::Message(inner) = &kind else { return Err(cut(path)) };
        return read(inner, reader, Some(field.number()), path);
    }
    if wire_type != BYTES {
        return reader.skip(wire_type).ok_or_else(|| cut(path));
    }
    let length = reader.varint().ok_or_else(|| cut(path))?;
    let bytes = reader.take(length).ok_or_else(|| cut(path))?;
    let mut inner = Reader { bytes, at: 0 };
    match &kind {
        Kind::Message(message) => read(message, &mut inner, None, path),
        Kind::String => match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(at(path, "encoding", format!("not UTF-8 at byte {}", error.valid_up_to()))),
        },
        Kind::Bytes => Ok(()),
        _ => {
            while inner.at < bytes.len() {
                inner.skip(expected).ok_or_else(|| cut(path))?;
            }
            Ok(())
        }
    }
}

/// A group of a field that the schema does not know, and the groups in it.
fn skip_group(reader: &mut Reader<'_>, number: u32) -> Option<()> {
    let mut open = vec![u64::from(number)];
    while let Some(last) = open.last() {
        let tag = reader.varint()?;
        match tag & 7 {
            GROUP if open.len() == DEPTH_MAX => return None,
            GROUP => open.push(tag >> 3),
            GROUP_END if tag >> 3 == *last => {
                open.pop();
            }
            wire_type => reader.skip(wire_type)?,
        }
    }
    Some(())
}

fn at(path: &[String], keyword: &str, message: String) -> Reason {
    let path = path.iter().map(|name| format!("/{name}")).collect();
    Reason { path, message, keyword: keyword.to_owned() }
}
