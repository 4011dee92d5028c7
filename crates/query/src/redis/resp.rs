//! RESP2, the Redis protocol: bytes in, commands out; replies in, bytes out. No I/O.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Arguments of one command, `MGET` with many keys included.
pub(crate) const ARGUMENTS_MAX: usize = 1024;
/// One argument: a key, or something to echo.
pub(crate) const ARGUMENT_BYTES_MAX: usize = 64 << 10;
/// One command as a whole, and the length of an inline command.
pub(crate) const COMMAND_BYTES_MAX: usize = 1 << 20;
const INLINE_BYTES_MAX: usize = 64 << 10;
const HEADER_BYTES_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(&'static str),
    Error(String),
    Integer(i64),
    Bulk(Bytes),
    Nil,
    Array(Vec<Reply>),
}

/// The client does not speak the protocol, or too much of it: it is told, and the connection closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("Protocol error: expected '{expected}', got {got:?}")]
    Unexpected { expected: char, got: char },
    #[error("Protocol error: invalid length")]
    Length,
    #[error("Protocol error: the command is too large")]
    TooLarge,
}

/// Takes one command from the front of `input`; `None` where it is not complete yet. An empty command is none at all.
pub(crate) fn decode(input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let Some(first) = input.first() else { return Ok(None) };
    if *first != b'*' {
        return inline(input);
    }
    let Some((count, mut at)) = header(input, 0, '*')? else { return Ok(None) };
    let count = usize::try_from(count).unwrap_or(0);
    if count > ARGUMENTS_MAX {
        return Err(ProtocolError::TooLarge);
    }
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        let Some((length, start)) = header(input, at, '$')? else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| ProtocolError::Length)?;
        if length > ARGUMENT_BYTES_MAX || start + length > COMMAND_BYTES_MAX {
            return Err(ProtocolError::TooLarge);
        }
        let end = start + length;
        if input.len() < end + 2 {
            return Ok(None);
        }
        if &input[end..end + 2] != b"\r\n" {
            return Err(ProtocolError::Length);
        }
        places.push(start..end);
        at = end + 2;
    }
    let command = input.split_to(at).freeze();
    Ok(Some(places.into_iter().map(|place| command.slice(place)).collect()))
}

/// `*3\r\n` or `$5\r\n` at `at`: its number, and where it ends.
fn header(input: &[u8], at: usize, kind: char) -> Result<Option<(i64, usize)>, ProtocolError> {
    let Some(got) = input.get(at) else { return Ok(None) };
    if char::from(*got) != kind {
        return Err(ProtocolError::Unexpected { expected: kind, got: char::from(*got) });
    }
    let rest = &input[at + 1..];
    let Some(length) = rest.iter().take(HEADER_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if rest.len() >= HEADER_BYTES_MAX { Err(ProtocolError::Length) } else { Ok(None) };
    };
    let digits = rest[..length].strip_suffix(b"\r").ok_or(ProtocolError::Length)?;
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.map(|number| Some((number, at + 1 + length + 1))).ok_or(ProtocolError::Length)
}

/// What somebody types into telnet: words on a line.
fn inline(input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let Some(length) = input.iter().take(INLINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if input.len() >= INLINE_BYTES_MAX { Err(ProtocolError::TooLarge) } else { Ok(None) };
    };
    let line = input.split_to(length).freeze();
    input.advance(1);
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Ok(Some(words.take(ARGUMENTS_MAX).map(|word| line.slice_ref(word)).collect()))
}

pub(crate) fn encode(reply: &Reply, output: &mut BytesMut) {
    match reply {
        Reply::Simple(text) => line(b'+', text.as_bytes(), output),
        Reply::Error(text) => line(b'-', text.as_bytes(), output),
        Reply::Integer(number) => line(b':', number.to_string().as_bytes(), output),
        Reply::Nil => output.put_slice(b"$-1\r\n"),
        Reply::Bulk(bytes) => {
            line(b'$', bytes.len().to_string().as_bytes(), output);
            output.put_slice(bytes);
            output.put_slice(b"\r\n");
        }
        Reply::Array(items) => {
            line(b'*', items.len().to_string().as_bytes(), output);
            items.iter().for_each(|item| encode(item, output));
        }
    }
}

/// Line breaks in the text would end it early.
fn line(kind: u8, text: &[u8], output: &mut BytesMut) {
    output.put_u8(kind);
    output.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    output.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(command: &[Vec<u8>]) -> BytesMut {
        let mut bytes = BytesMut::new();
        let words = command.iter().map(|word| Reply::Bulk(Bytes::from(word.clone())));
        encode(&Reply::Array(words.collect()), &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn commands_round_trip_however_they_are_cut(
            command in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            cut in 0usize..200,
        ) {
            let whole = encoded(&command);
            let cut = cut % whole.len();
            let mut input = BytesMut::from(&whole[..cut]);
            prop_assert_eq!(decode(&mut input), Ok(None));
            input.extend_from_slice(&whole[cut..]);
            input.extend_from_slice(b"*1\r\n");
            let decoded = decode(&mut input).unwrap().unwrap();
            prop_assert_eq!(decoded.iter().map(|word| word.to_vec()).collect::<Vec<_>>(), command);
            prop_assert_eq!(&input[..], b"*1\r\n");
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut input) {}
        }
    }

    #[test]
    fn sizes_are_limited_before_the_bytes_arrive() {
        let refused = |text: &str| decode(&mut BytesMut::from(text)).unwrap_err();
        assert_eq!(refused("*1000000\r\n"), ProtocolError::TooLarge);
        assert_eq!(refused("*1\r\n$1000000000\r\n"), ProtocolError::TooLarge);
        assert_eq!(refused("*1\r\n$-5\r\n"), ProtocolError::Length);
        assert_eq!(refused("*1\r\n$99999999999999999999\r\n"), ProtocolError::Length);
        assert_eq!(refused("*1\r\n!3\r\n"), ProtocolError::Unexpected { expected: '$', got: '!' });
        assert_eq!(refused(&"x".repeat(INLINE_BYTES_MAX)), ProtocolError::TooLarge);
    }
}
