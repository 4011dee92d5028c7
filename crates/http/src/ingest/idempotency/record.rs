//! The records of the topic `__idempotency`: bytes in, values out.
//!
//! Key: the 16 bytes of a [`Key`]. Value: the version, the 16 bytes of a [`Fingerprint`], the status as two bytes (numbers
//! are big-endian), the body.

use axum::http::StatusCode;
use bytes::Bytes;

use super::{Fingerprint, Key};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 16 + 2;

/// What a request was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest) struct Answer {
    pub status: StatusCode,
    /// JSON; empty where the status says that there is none.
    pub body: Bytes,
}

pub(super) fn key(key: Key) -> [u8; 16] {
    key.0.to_be_bytes()
}

pub(super) fn value(fingerprint: Fingerprint, answer: &Answer) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD_BYTES + answer.body.len());
    value.push(VERSION);
    value.extend_from_slice(&fingerprint.0.to_be_bytes());
    value.extend_from_slice(&answer.status.as_u16().to_be_bytes());
    value.extend_from_slice(&answer.body);
    value
}

pub(super) fn read_key(bytes: &[u8]) -> Option<Key> {
    Some(Key(u128::from_be_bytes(bytes.try_into().ok()?)))
}

/// `None` for what another version wrote.
pub(super) fn read_value(bytes: &[u8]) -> Option<(Fingerprint, Answer)> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
    let (&version, head) = head.split_first()?;
    let (fingerprint, status) = head.split_first_chunk()?;
    let status = StatusCode::from_u16(u16::from_be_bytes(status.try_into().ok()?)).ok()?;
    let answer = Answer { status, body: Bytes::copy_from_slice(body) };
    (version == VERSION).then_some((Fingerprint(u128::from_be_bytes(*fingerprint)), answer))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(hash: u128, print: u128, status in 100_u16..1000, body: Vec<u8>) {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer { status, body: body.into() };
            let written = value(Fingerprint(print), &answer);
            prop_assert_eq!(read_value(&written), Some((Fingerprint(print), answer)));
            prop_assert_eq!(read_key(&key(Key(hash))), Some(Key(hash)));
        }

        #[test]
        fn other_bytes_are_no_answer(mut bytes: Vec<u8>) {
            if let Some(first) = bytes.first_mut() && *first == VERSION {
                *first = VERSION + 1;
            }
            prop_assert_eq!(read_value(&bytes), None);
        }
    }
}
