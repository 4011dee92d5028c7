//! JSON strings: unescaping.

use std::borrow::Cow;

/// The text of a JSON string token (quotes included), without copying where it has no escapes. `None` where `token` is
/// not a string.
pub fn string_value(token: &[u8]) -> Option<Cow<'_, [u8]>> {
    let [b'"', inner @ .., b'"'] = token else { return None };
    Some(unescape(inner))
}

/// The text between the quotes. Escapes must have been checked by the scanner: wrong ones are left out.
pub(crate) fn unescape(inner: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = inner.iter().position(|byte| *byte == b'\\') else { return Cow::Borrowed(inner) };
    let mut out = Vec::with_capacity(inner.len());
    out.extend_from_slice(&inner[..first]);
    let mut rest = &inner[first..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let [escape, tail @ ..] = rest else { break };
        rest = tail;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let Some(unit) = hex4(rest) else { break };
                rest = &rest[4..];
                let mut code = u32::from(unit);
                if let (0xD800..=0xDBFF, [b'\\', b'u', low @ ..]) = (unit, rest)
                    && let Some(low @ 0xDC00..=0xDFFF) = hex4(low)
                {
                    code = 0x10000 + ((code - 0xD800) << 10) + (u32::from(low) - 0xDC00);
                    rest = &rest[6..];
                }
                if let Some(character) = char::from_u32(code) {
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            other => out.push(*other),
        }
    }
    Cow::Owned(out)
}

/// Four hexadecimal digits at the front of `bytes`.
pub(crate) fn hex4(bytes: &[u8]) -> Option<u16> {
    bytes.get(..4)?.iter().try_fold(0u16, |value, byte| {
        let digit = (*byte as char).to_digit(16)?;
        Some(value << 4 | digit as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_serde_json() {
        for token in [
            r#""plain""#,
            r#""""#,
            r#""a\"b\\c\/d\b\f\n\r\t""#,
            r#""\u0041\u00e9\u20ac\ud83d\ude00!""#,
            r#""é€😀\u0000""#,
        ] {
            let expected: String = serde_json::from_str(token).unwrap();
            assert_eq!(string_value(token.as_bytes()).unwrap(), expected.as_bytes(), "{token}");
        }
        assert_eq!(string_value(b"12"), None);
        assert_eq!(string_value(b"\""), None);
    }
}
