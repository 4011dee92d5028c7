//! A checked, lazy scanner over JSON text: one pass that finds where values begin and end, building nothing.
//!
//! It works on text already known to be UTF-8 and accepts exactly the grammar of RFC 8259, nested at most
//! [`DEPTH_MAX`] deep. Strings are passed eight bytes at a time.

use std::borrow::Cow;
use std::ops::Range;

/// Arrays and objects within each other that are still read.
pub const DEPTH_MAX: u32 = 127;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    True,
    False,
    /// `integer`: neither fraction nor exponent.
    Number {
        integer: bool,
    },
    /// `escaped`: holds at least one backslash.
    String {
        escaped: bool,
    },
    Object,
    Array,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::True | Kind::False => "a boolean",
            Kind::Number { .. } => "a number",
            Kind::String { .. } => "a string",
            Kind::Object => "an object",
            Kind::Array => "an array",
        }
    }
}

/// Where a value stands in the text; a string's quotes are part of it. Small, so that results travel in registers: half
/// of the decoder's time once went into moving larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    pub kind: Kind,
    pub start: u32,
    pub end: u32,
}

impl Value {
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
    /// Between the quotes of a string.
    pub fn inner(self) -> Range<usize> {
        self.start as usize + 1..self.end as usize - 1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {at}")]
pub struct Malformed {
    pub fault: Fault,
    pub at: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("expected a key in double quotes")]
    Key,
    #[error("expected a colon after the key")]
    Colon,
    #[error("unexpected end")]
    End,
    #[error("expected a value")]
    Value,
    #[error("expected a digit")]
    Digit,
    #[error("expected four hexadecimal digits after \\u")]
    Hexadecimal,
    #[error("unknown escape")]
    Escape,
    #[error("control character in a string")]
    Control,
    #[error("string without an end")]
    OpenString,
    #[error("nested too deep")]
    Depth,
    #[error("expected a comma or the closing bracket")]
    Bracket,
}

pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Texts of 4 GiB and more are beyond its positions: the caller sees to it.
    pub fn new(text: &'a str) -> Scanner<'a> {
        Scanner { bytes: text.as_bytes(), at: 0 }
    }

    #[cold]
    fn fail<T>(&self, fault: Fault) -> Result<T, Malformed> {
        Err(Malformed { fault, at: self.at as u32 })
    }

    fn found(&self, kind: Kind, start: usize) -> Result<Value, Malformed> {
        Ok(Value { kind, start: start as u32, end: self.at as u32 })
    }

    pub fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Takes `byte` if it is next, after white space.
    pub fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Whether nothing but white space is left.
    pub fn at_end(&mut self) -> bool {
        self.skip_space();
        self.at == self.bytes.len()
    }

    /// Reads `"key" :`.
    pub fn key(&mut self) -> Result<Value, Malformed> {
        self.skip_space();
        if self.bytes.get(self.at) != Some(&b'"') {
            return self.fail(Fault::Key);
        }
        let key = self.string()?;
        if !self.take(b':') {
            return self.fail(Fault::Colon);
        }
        Ok(key)
    }

    /// Reads one value of any kind, nested ones whole.
    pub fn value(&mut self) -> Result<Value, Malformed> {
        self.skip_space();
        let Some(first) = self.bytes.get(self.at) else {
            return self.fail(Fault::End);
        };
        match first {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true", Kind::True),
            b'f' => self.word(b"false", Kind::False),
            b'n' => self.word(b"null", Kind::Null),
            _ => self.fail(Fault::Value),
        }
    }

    fn word(&mut self, word: &'static [u8], kind: Kind) -> Result<Value, Malformed> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.fail(Fault::Value);
        }
        let start = self.at;
        self.at += word.len();
        self.found(kind, start)
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fail(Fault::Digit) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Value, Malformed> {
        let start = self.at;
        self.at += usize::from(self.bytes[self.at] == b'-');
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let mut integer = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            integer = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        self.found(Kind::Number { integer }, start)
    }

    fn string(&mut self) -> Result<Value, Malformed> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return self.found(Kind::String { escaped }, start);
                }
                Some(b'\\') => {
                    escaped = true;
                    match self.bytes.get(self.at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                        Some(b'u') => match self.bytes.get(self.at + 2..self.at + 6) {
                            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => self.at += 6,
                            _ => return self.fail(Fault::Hexadecimal),
                        },
                        _ => return self.fail(Fault::Escape),
                    }
                }
                Some(_) => return self.fail(Fault::Control),
                None => return self.fail(Fault::OpenString),
            }
        }
    }

    /// Moves to the next quote, backslash or control character (or the end).
    fn skip_plain(&mut self) {
        const ONES: u64 = u64::MAX / 255;
        const HIGHS: u64 = ONES * 0x80;
        // The lowest byte marked is always a true match: false marks appear only above one.
        fn zeros(word: u64) -> u64 {
            word.wrapping_sub(ONES) & !word & HIGHS
        }
        while let Some(chunk) = self.bytes[self.at..].first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            let marks = zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64)) | controls;
            if marks != 0 {
                self.at += (marks.trailing_zeros() / 8) as usize;
                return;
            }
            self.at += 8;
        }
        while self.bytes.get(self.at).is_some_and(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\') {
            self.at += 1;
        }
    }

    /// Passes over an object or array, checked, without recursion: one bit per level tells the two apart.
    fn nested(&mut self) -> Result<Value, Malformed> {
        let start = self.at;
        let kind = if self.bytes[start] == b'{' { Kind::Object } else { Kind::Array };
        let mut objects: u128 = 0;
        let mut depth = 0u32;
        loop {
            // A value begins here.
            self.skip_space();
            match self.bytes.get(self.at) {
                Some(open @ (b'{' | b'[')) => {
                    let object = *open == b'{';
                    if depth == DEPTH_MAX {
                        return self.fail(Fault::Depth);
                    }
                    depth += 1;
                    objects = objects << 1 | u128::from(object);
                    self.at += 1;
                    if self.take(if object { b'}' } else { b']' }) {
                        depth -= 1;
                        objects >>= 1;
                    } else {
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => {
                    self.value()?;
                }
            }
            // A value has ended: close levels until another value follows.
            loop {
                if depth == 0 {
                    return self.found(kind, start);
                }
                let object = objects & 1 == 1;
                if self.take(b',') {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                if !self.take(if object { b'}' } else { b']' }) {
                    return self.fail(Fault::Bracket);
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }
}

/// The text of an escaped string (between its quotes, already scanned), appended to `into`. `None` where a surrogate
/// stands alone: such a string is no Unicode text.
pub fn unescape(inner: &str, into: &mut String) -> Option<()> {
    let mut rest = inner;
    while let Some(slash) = rest.find('\\') {
        into.push_str(&rest[..slash]);
        let code = rest.as_bytes()[slash + 1];
        let mut used = 2;
        into.push(match code {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = |from: usize| u32::from_str_radix(rest.get(from..from + 4)?, 16).ok();
                used = 6;
                let high = unit(slash + 2)?;
                if (0xD800..0xDC00).contains(&high) && rest.get(slash + 6..slash + 8) == Some("\\u") {
                    let low = unit(slash + 8)?;
                    used = 12;
                    if !(0xDC00..0xE000).contains(&low) {
                        return None;
                    }
                    char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))?
                } else {
                    char::from_u32(high)?
                }
            }
            plain => plain as char,
        });
        rest = &rest[slash + used..];
    }
    into.push_str(rest);
    Some(())
}

/// The content of a scanned string, unescaped where it needs to be.
pub fn content(text: &str, value: Value) -> Option<Cow<'_, str>> {
    let inner = &text[value.inner()];
    if value.kind != (Kind::String { escaped: true }) {
        return Some(Cow::Borrowed(inner));
    }
    let mut owned = String::with_capacity(inner.len());
    unescape(inner, &mut owned)?;
    Some(Cow::Owned(owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_ok() && scanner.at_end()
    }

    #[test]
    fn agrees_with_serde_json_on_edges() {
        for text in [
            "0",
            "-0",
            "01",
            "1.",
            ".5",
            "1e5",
            "1e",
            "1E+3",
            "-",
            "--1",
            "+1",
            "1.5e-3",
            "true",
            "tru",
            "truex",
            "null",
            "\"\"",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u00e9\"",
            "\"tab\there\"",
            "\"\u{1f}\"",
            "\"é\"",
            "{}",
            "[]",
            "{]",
            "[}",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "[[[[]]]]",
            "[{\"a\":[{}]},{}]",
            " { \"a\" : [ 1 , 2 ] } ",
            "[1]]",
            "{}{}",
            "",
            "  ",
            "[",
            "{",
            "[[]",
            "nulll",
            "\"\\\"\"",
            "[\"\\\\\"]",
            "{\"a\":{\"b\":[1,{\"c\":null}]}}",
            "\"12345678\"",
            "\"1234567\u{7f}\"",
            "[1,2",
            "{\"a\":1",
        ] {
            assert_eq!(accepts(text), serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nest = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(accepts(&nest(DEPTH_MAX as usize)));
        assert!(!accepts(&nest(DEPTH_MAX as usize + 1)));
        assert!(!accepts(&"[".repeat(1_000_000)));
    }

    #[test]
    fn unescapes() {
        let text = r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#;
        let value = Scanner::new(text).value().unwrap();
        assert_eq!(content(text, value).unwrap(), serde_json::from_str::<String>(text).unwrap());
        for lone in [r#""\ud800""#, r#""\ud800x""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800A""#] {
            let value = Scanner::new(lone).value().unwrap();
            assert_eq!(content(lone, value), None, "{lone}");
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}",:\\ 0-9eE+.\-atrufnls\u{1}é]{0,24}"#) {
            let expected = serde_json::from_str::<serde_json::Value>(&text);
            // serde_json also refuses numbers beyond f64 and lone surrogates, which are grammatical.
            let grammatical = match &expected {
                Ok(_) => true,
                Err(error) => error.to_string().contains("out of range") || error.to_string().contains("surrogate"),
            };
            proptest::prop_assert_eq!(accepts(&text), grammatical);
        }
    }
}
