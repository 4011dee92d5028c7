//! How a record names the schema of its value: the two formats that the clients of a Confluent registry write.
//!
//! A name is a byte 0 and a schema's id (four bytes, big-endian), or a byte 1 and its guid (16 bytes). It stands before the
//! payload, or, with the payload left alone, in a header. Under a Protobuf schema it is followed by the path to the
//! message: one number per level, 0 for the first message of a file, or of the message around it.
//!
//! No JSON text begins with a byte 0 or 1, so a bare JSON payload is never taken for a name.

use std::fmt;

use uuid::Uuid;

/// The header that names the schema of a record's value.
pub const VALUE_SCHEMA_HEADER: &str = "__value_schema_id";

const ID: u8 = 0;
const GUID: u8 = 1;
/// Messages within messages.
const PATH_LEVELS_MAX: usize = 127;

/// What names a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaKey {
    Id(i32),
    Guid(Uuid),
}

impl fmt::Display for SchemaKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaKey::Id(id) => write!(formatter, "schema id {id}"),
            SchemaKey::Guid(guid) => write!(formatter, "schema guid {guid}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a schema's name that begins with the byte {0}, which is neither 0 nor 1")]
    Format(u8),
    #[error("a schema's name that is cut off: {found} of {wanted} bytes")]
    CutOff { found: usize, wanted: usize },
    #[error("the path to the Protobuf message is not a list of numbers from 0 on")]
    Path,
}

impl SchemaKey {
    /// The name at the beginning of `bytes`, and what follows it. `None` where no name begins.
    pub fn split(bytes: &[u8]) -> Result<Option<(SchemaKey, &[u8])>, WireError> {
        match bytes.first() {
            Some(&ID) => take(bytes).map(|(id, rest)| Some((SchemaKey::Id(i32::from_be_bytes(id)), rest))),
            Some(&GUID) => take(bytes).map(|(guid, rest)| Some((SchemaKey::Guid(Uuid::from_bytes(guid)), rest))),
            _ => Ok(None),
        }
    }

    /// The name that a header's value consists of, and what follows it.
    pub fn in_header(value: &[u8]) -> Result<(SchemaKey, &[u8]), WireError> {
        match (SchemaKey::split(value)?, value.first()) {
            (Some(named), _) => Ok(named),
            (None, Some(&first)) => Err(WireError::Format(first)),
            (None, None) => Err(WireError::CutOff { found: 0, wanted: 1 }),
        }
    }

    /// Appends the name.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            SchemaKey::Id(id) => {
                out.push(ID);
                out.extend_from_slice(&id.to_be_bytes());
            }
            SchemaKey::Guid(guid) => {
                out.push(GUID);
                out.extend_from_slice(guid.as_bytes());
            }
        }
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), WireError> {
    let cut = WireError::CutOff { found: bytes.len(), wanted: 1 + N };
    bytes[1..].split_first_chunk().map(|(taken, rest)| (*taken, rest)).ok_or(cut)
}

/// The path to the message at the beginning of `bytes`, and what follows it: a count and so many numbers, zigzag varints
/// all; the count 0 is short for the path `[0]`.
pub fn split_path(bytes: &[u8]) -> Result<(Vec<i32>, &[u8]), WireError> {
    let mut rest = bytes;
    let count = number(&mut rest)?;
    if count == 0 {
        return Ok((vec![0], rest));
    }
    if count as usize > PATH_LEVELS_MAX {
        return Err(WireError::Path);
    }
    let path = (0..count).map(|_| number(&mut rest)).collect::<Result<_, _>>()?;
    Ok((path, rest))
}

/// Appends the path to a message.
pub fn put_path(path: &[i32], out: &mut Vec<u8>) {
    let mut put = |value: i32| {
        let mut zigzag = ((value << 1) ^ (value >> 31)) as u32;
        while zigzag >= 0x80 {
            out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.push(zigzag as u8);
    };
    if path == [0] {
        return put(0);
    }
    put(path.len() as i32);
    path.iter().for_each(|level| put(*level));
}

/// A zigzag varint from 0 to `i32::MAX`.
fn number(rest: &mut &[u8]) -> Result<i32, WireError> {
    let mut zigzag = 0u64;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(WireError::Path)?;
        *rest = after;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            // Odd is negative.
            return match zigzag & 1 {
                0 => i32::try_from(zigzag >> 1).map_err(|_| WireError::Path),
                _ => Err(WireError::Path),
            };
        }
    }
    Err(WireError::Path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = SchemaKey> {
        prop_oneof![
            any::<i32>().prop_map(SchemaKey::Id),
            any::<u128>().prop_map(|guid| SchemaKey::Guid(Uuid::from_u128(guid))),
        ]
    }

    proptest! {
        #[test]
        fn names_are_read_as_they_were_put(key in key(), payload: Vec<u8>) {
            let mut bytes = Vec::new();
            key.put(&mut bytes);
            let length = bytes.len();
            bytes.extend_from_slice(&payload);
            prop_assert_eq!(SchemaKey::split(&bytes), Ok(Some((key, &payload[..]))));
            prop_assert_eq!(SchemaKey::in_header(&bytes), Ok((key, &payload[..])));
            for found in 1..length {
                let cut = WireError::CutOff { found, wanted: length };
                prop_assert_eq!(SchemaKey::split(&bytes[..found]), Err(cut));
            }
        }

        #[test]
        fn paths_are_read_as_they_were_put(path in prop::collection::vec(0..=i32::MAX, 1..=PATH_LEVELS_MAX), payload: Vec<u8>) {
            let mut bytes = Vec::new();
            put_path(&path, &mut bytes);
            let length = bytes.len();
            bytes.extend_from_slice(&payload);
            prop_assert_eq!(split_path(&bytes), Ok((path, &payload[..])));
            prop_assert_eq!(split_path(&bytes[..length - 1]), Err(WireError::Path));
        }

        #[test]
        fn anything_has_an_answer(bytes: Vec<u8>) {
            let _ = (SchemaKey::split(&bytes), SchemaKey::in_header(&bytes), split_path(&bytes));
        }
    }

    #[test]
    fn the_formats_are_those_of_the_clients() {
        assert_eq!(SchemaKey::split(b"\0\0\0\x01\x02rest"), Ok(Some((SchemaKey::Id(258), &b"rest"[..]))));
        let guid = Uuid::parse_str("89791762-2336-4186-9674-299b90a802e2").unwrap();
        let bytes = b"\x01\x89\x79\x17\x62\x23\x36\x41\x86\x96\x74\x29\x9b\x90\xa8\x02\xe2";
        assert_eq!(SchemaKey::in_header(bytes), Ok((SchemaKey::Guid(guid), &b""[..])));
        assert_eq!((SchemaKey::split(b"{}"), SchemaKey::split(b"")), (Ok(None), Ok(None)));
        assert_eq!(SchemaKey::in_header(b"7"), Err(WireError::Format(b'7')));
        assert!(SchemaKey::in_header(b"").is_err());
        // The one short form, and what it is short for.
        assert_eq!(split_path(b"\0rest"), Ok((vec![0], &b"rest"[..])));
        assert_eq!(split_path(b"\x02\0rest"), Ok((vec![0], &b"rest"[..])));
        assert_eq!(split_path(b"\x04\x02\x00"), Ok((vec![1, 0], &b""[..])));
        for wrong in [&b""[..], b"\x01", b"\x02\x01", b"\x02", b"\xff\xff\xff\xff\xff\x01", b"\xfe\xff\xff\xff\x0f"] {
            assert_eq!(split_path(wrong), Err(WireError::Path), "{wrong:?}");
        }
    }
}
