//! JSON that PostgreSQL's jsonb can hold.
//!
//! jsonb refuses some texts that JSON allows: the escape of NUL, half a surrogate pair, numbers beyond its numeric. One
//! such value must not stop a pipeline, so the offending part changes: an escape becomes U+FFFD, a number becomes a
//! string of its digits. A text that is no JSON at all, or nested too deep, becomes a JSON string of it. SQLite gets the same text.

use std::borrow::Cow;

use crate::rows::{without_nul, write_string};

/// A number longer than this, or with a larger exponent, is kept as a string; jsonb's own limits are far beyond.
const NUMBER_LIMIT: usize = 1000;
/// jsonb recurses, and a server has so much stack.
const DEPTH_LIMIT: usize = 500;

pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Cow::Owned(string_of(&without_nul(text)));
    }
    let mut out = String::new();
    let mut copied = 0;
    let mut replace = |from: usize, to: usize, with: &str| {
        out.push_str(&text[copied..from]);
        out.push_str(with);
        copied = to;
    };
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' if depth == DEPTH_LIMIT => return Cow::Owned(string_of(text)),
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth - 1),
            b'"' => at = escapes(text, at + 1, &mut replace),
            b'-' | b'0'..=b'9' => {
                let end = at
                    + bytes[at..]
                        .iter()
                        .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
                        .count();
                if too_large(&text[at..end]) {
                    replace(at, end, &string_of(&text[at..end]));
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Reports the escapes of the string that starts at `at` which jsonb refuses; returns where the string has ended.
fn escapes(text: &str, mut at: usize, replace: &mut impl FnMut(usize, usize, &str)) -> usize {
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => match unit(text, at) {
                Some(0xd800..=0xdbff) if matches!(unit(text, at + 6), Some(0xdc00..=0xdfff)) => at += 12,
                Some(0 | 0xd800..=0xdfff) => {
                    replace(at, at + 6, "\\ufffd");
                    at += 6;
                }
                Some(_) => at += 6,
                None => at += 2,
            },
            _ => at += 1,
        }
    }
    at
}

/// The code unit of a `\uXXXX` escape at `at`.
fn unit(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    u32::from_str_radix(digits, 16).ok()
}

fn too_large(number: &str) -> bool {
    let exponent = number.split_once(['e', 'E']).map_or("0", |(_, exponent)| exponent);
    number.len() > NUMBER_LIMIT
        || !exponent.parse::<i64>().is_ok_and(|exponent| exponent.unsigned_abs() <= NUMBER_LIMIT as u64)
}

fn string_of(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_good_json_alone() {
        for text in [
            r#"{"quality": "1080p", "n": [1, -2.5e3, true, null]}"#,
            r#""\\u0000""#,
            r#""\ud83d\ude00 \u00e9""#,
            "7",
            "[]",
        ] {
            assert!(matches!(storable(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn replaces_what_jsonb_refuses() {
        for (text, expected) in [
            (r#"{"a":"x\u0000y"}"#, r#"{"a":"x\ufffdy"}"#),
            (r#"{"\u0000":"\\\u0000"}"#, r#"{"\ufffd":"\\\ufffd"}"#),
            (
                r#"["\ud83d", "\ud83dx", "\ude00", "\ud83d\u0041"]"#,
                r#"["\ufffd", "\ufffdx", "\ufffd", "\ufffd\u0041"]"#,
            ),
            ("{\"n\":1e999999,\"m\":2}", "{\"n\":\"1e999999\",\"m\":2}"),
            ("[1e+1001,1E-99999999999999999999]", "[\"1e+1001\",\"1E-99999999999999999999\"]"),
            ("{\"a\":", "\"{\\\"a\\\":\""),
            ("", "\"\""),
            ("a\0b", "\"a\u{fffd}b\""),
        ] {
            assert_eq!(storable(text), expected, "{text}");
        }
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        assert!(storable(&deep) == format!("\"{deep}\""), "too deep");
        let fine = "[".repeat(500) + &"]".repeat(500);
        assert!(storable(&fine) == fine);
    }
}
