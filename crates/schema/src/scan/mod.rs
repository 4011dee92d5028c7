//! The strict JSON scanner: one pass that checks the grammar, runs a [`Plan`] and finds the wanted fields.
//!
//! It works on bytes and leaves UTF-8 to the caller. What breaks the grammar (RFC 8259) ends the scan with a [`Break`];
//! what is grammatical but not acceptable (duplicate keys, lone surrogates, numbers out of range, too deep) is a flaw:
//! the scan goes on, so that the end of the value is known and its neighbours are not affected. The stack is as deep as
//! `max_depth` allows, whatever the input.

mod deep;
mod keys;

use std::borrow::Cow;
use std::ops::Range;

use crate::Reason;
use crate::plan::{ArrayRule, Hint, Node, ObjectRule, Plan, Property, Rules, TextRule, kind};
use crate::text::{hex4, unescape};
use keys::Keys;

/// One scanned value.
#[derive(Debug)]
pub struct Scanned {
    /// One past its last byte.
    pub end: usize,
    pub verdict: Verdict,
    /// The token of the key field at the top level (strings with their quotes).
    pub key: Option<Range<usize>>,
    /// The token of the id field at the top level.
    pub id: Option<Range<usize>>,
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Certainly valid, as far as its bytes are UTF-8.
    Valid,
    /// Well-formed; the reference validator has to decide.
    Undecided,
    /// Grammatical, but not acceptable under any schema.
    Flawed(Vec<Reason>),
}

/// Where the grammar broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Index of the offending byte.
    pub at: usize,
    pub message: &'static str,
}

/// Flaws beyond these are not told.
const FLAWS_MAX: usize = 16;

pub(crate) fn scan(plan: &Plan, max_depth: usize, bytes: &[u8], at: usize) -> Result<Scanned, Break> {
    let mut scanner = Scanner {
        bytes,
        start: at,
        at,
        undecided: !plan.decides,
        flaws: Vec::new(),
        broken: "",
        max_depth,
        key: None,
        id: None,
    };
    match scanner.ruled(&plan.root, max_depth) {
        None => Err(Break { at: scanner.at.min(bytes.len()), message: scanner.broken }),
        Some(()) => Ok(Scanned {
            end: scanner.at,
            verdict: match (scanner.flaws.is_empty(), scanner.undecided) {
                (false, _) => Verdict::Flawed(scanner.flaws),
                (true, true) => Verdict::Undecided,
                (true, false) => Verdict::Valid,
            },
            key: scanner.key,
            id: scanner.id,
        }),
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    start: usize,
    at: usize,
    undecided: bool,
    flaws: Vec<Reason>,
    /// What was expected, once a method returned `None`.
    broken: &'static str,
    max_depth: usize,
    key: Option<Range<usize>>,
    id: Option<Range<usize>>,
}

/// A string between its quotes.
#[derive(Clone, Copy)]
struct Text<'a> {
    inner: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    fn value(self) -> Cow<'a, [u8]> {
        if self.escaped { unescape(self.inner) } else { Cow::Borrowed(self.inner) }
    }
}

static ANY_OBJECT: ObjectRule = ObjectRule {
    properties: Vec::new(),
    first: Hint::new(),
    required: 0,
    patterns: Vec::new(),
    additional: Node::Any,
    names: None,
    min_count: 0,
    max_count: None,
};
static ANY_ARRAY: ArrayRule =
    ArrayRule { first: Vec::new(), items: Node::Any, min_count: 0, max_count: None, unique: false };
/// Longer arrays that must be free of duplicates are left to the reference.
const UNIQUE_MAX: usize = 32;

impl<'a> Scanner<'a> {
    #[cold]
    fn broken<T>(&mut self, expected: &'static str) -> Option<T> {
        self.broken = if self.at >= self.bytes.len() { "unexpected end" } else { expected };
        None
    }

    #[cold]
    fn flaw(&mut self, keyword: &str, at: usize, message: &str) {
        if self.flaws.len() < FLAWS_MAX {
            let at = at - self.start;
            self.flaws.push(Reason::whole(keyword, format!("{message} at byte {at}")));
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn value(&mut self, node: &Node, depth: usize) -> Option<()> {
        match node {
            Node::Rules(rules) => self.ruled(rules, depth),
            Node::Any => self.any(depth),
            Node::Unsure => {
                self.undecided = true;
                self.any(depth)
            }
        }
    }

    fn require(&mut self, holds: bool) {
        self.undecided |= !holds;
    }

    fn ruled(&mut self, rules: &Rules, depth: usize) -> Option<()> {
        match self.next() {
            Some(b'"') => {
                let text = self.string()?;
                self.require(rules.kinds & kind::STRING != 0 && accepts(&rules.text, text));
                Some(())
            }
            Some(b'{') => {
                self.require(rules.kinds & kind::OBJECT != 0);
                self.object(&rules.object, depth)
            }
            Some(b'[') => {
                self.require(rules.kinds & kind::ARRAY != 0);
                self.array(&rules.array, depth)
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                self.require(rules.number.accepts(rules.kinds, number.token, number.integer));
                Some(())
            }
            Some(first) => {
                let kind = match first {
                    b'n' => kind::NULL,
                    b't' => kind::TRUE,
                    _ => kind::FALSE,
                };
                self.require(rules.kinds & kind != 0);
                self.literal()
            }
            None => self.broken("a JSON value expected"),
        }
    }

    fn any(&mut self, depth: usize) -> Option<()> {
        match self.next() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'{') => self.object(&ANY_OBJECT, depth),
            Some(b'[') => self.array(&ANY_ARRAY, depth),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            _ => self.literal(),
        }
    }

    fn object(&mut self, rule: &ObjectRule, depth: usize) -> Option<()> {
        if depth == 0 {
            return self.too_deep();
        }
        self.at += 1;
        let mut seen = 0u64;
        let mut others = Keys::default();
        if self.next() == Some(b'}') {
            self.at += 1;
            self.require(rule.required == 0 && rule.accepts_count(0));
            return Some(());
        }
        let (mut hint, mut count) = (&rule.first, 0);
        loop {
            if self.next() != Some(b'"') {
                return self.broken("a key in double quotes expected");
            }
            let key_at = self.at;
            count += 1;
            let expected = hint.get();
            if let Some(property) = rule.properties.get(expected)
                && rule.names.is_none()
                && let Some(len) = property.begins(&self.bytes[key_at..])
            {
                self.at += len;
                self.colon()?;
                let bit = 1 << expected;
                if seen & bit != 0 {
                    self.duplicate(key_at, Text { inner: &property.name, escaped: false });
                }
                seen |= bit;
                hint = &property.next;
                self.property(property, depth)?;
                match self.next() {
                    Some(b',') => {
                        self.at += 1;
                        continue;
                    }
                    Some(b'}') => break,
                    _ => return self.broken("\",\" or \"}\" expected"),
                }
            }
            let key = self.string()?;
            self.colon()?;
            if let Some(names) = &rule.names {
                self.require(accepts(names, key));
            }
            let known = if key.escaped { find(rule, &key.value()) } else { find(rule, key.inner) };
            if let Some((index, property)) = known {
                hint.set(index);
                hint = &property.next;
                if seen & (1 << index) != 0 {
                    self.duplicate(key_at, key);
                }
                seen |= 1 << index;
                self.property(property, depth)?;
            } else {
                if !others.insert(key) {
                    self.duplicate(key_at, key);
                }
                match rule.patterns.is_empty() {
                    true => self.value(&rule.additional, depth - 1)?,
                    false => self.value(rule.unlisted(&key.value()), depth - 1)?,
                }
            }
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.broken("\",\" or \"}\" expected"),
            }
        }
        self.at += 1;
        self.require(seen & rule.required == rule.required && rule.accepts_count(count));
        Some(())
    }

    #[inline]
    fn colon(&mut self) -> Option<()> {
        if self.next() != Some(b':') {
            return self.broken("\":\" expected");
        }
        self.at += 1;
        Some(())
    }

    fn property(&mut self, property: &Property, depth: usize) -> Option<()> {
        if !(property.is_key || property.is_id) {
            return self.value(&property.node, depth - 1);
        }
        self.next();
        let start = self.at;
        self.value(&property.node, depth - 1)?;
        if property.is_key {
            self.key = Some(start..self.at);
        }
        if property.is_id {
            self.id = Some(start..self.at);
        }
        Some(())
    }

    #[cold]
    fn duplicate(&mut self, at: usize, key: Text<'_>) {
        let key = key.value();
        let shown = String::from_utf8_lossy(&key[..key.len().min(100)]);
        self.flaw("json", at, &format!("duplicate key {shown:?}"));
    }

    fn array(&mut self, rule: &ArrayRule, depth: usize) -> Option<()> {
        if depth == 0 {
            return self.too_deep();
        }
        self.at += 1;
        if self.next() == Some(b']') {
            self.at += 1;
            self.require(rule.accepts_count(0));
            return Some(());
        }
        let start = self.at;
        let mut count = 0;
        loop {
            self.value(rule.first.get(count).unwrap_or(&rule.items), depth - 1)?;
            count += 1;
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.broken("\",\" or \"]\" expected"),
            }
        }
        self.require(
            rule.accepts_count(count) && (!rule.unique || count == 1 || self.are_distinct_texts(start, count)),
        );
        self.at += 1;
        Some(())
    }

    /// Whether the items from `start` to here are strings, and certainly no two of them the same.
    fn are_distinct_texts(&self, start: usize, count: usize) -> bool {
        if count > UNIQUE_MAX {
            return false;
        }
        let mut seen: [&[u8]; UNIQUE_MAX] = [b""; UNIQUE_MAX];
        let mut at = start;
        for index in 0..count {
            at +=
                self.bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',')).count();
            if self.bytes.get(at) != Some(&b'"') {
                return false;
            }
            let end = plain_end(self.bytes, at + 1);
            // An escape may hide that two are the same.
            if self.bytes.get(end) != Some(&b'"') || seen[..index].contains(&&self.bytes[at + 1..end]) {
                return false;
            }
            seen[index] = &self.bytes[at + 1..end];
            at = end + 1;
        }
        true
    }

    fn literal(&mut self) -> Option<()> {
        for word in [&b"true"[..], b"false", b"null"] {
            if self.bytes[self.at..].starts_with(word) {
                self.at += word.len();
                return Some(());
            }
        }
        self.broken("a JSON value expected")
    }

    /// At the opening quote; ends behind the closing one.
    #[inline]
    fn string(&mut self) -> Option<Text<'a>> {
        let start = self.at + 1;
        self.at = start;
        let mut escaped = false;
        loop {
            self.at = plain_end(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    let inner = &self.bytes[start..self.at];
                    self.at += 1;
                    return Some(Text { inner, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.broken("control character in a string"),
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let at = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                match self.unicode_unit()? {
                    0xD800..=0xDBFF => {
                        let paired = self.bytes[self.at..].starts_with(b"\\u")
                            && hex4(&self.bytes[self.at + 2..]).is_some_and(|low| (0xDC00..=0xDFFF).contains(&low));
                        if paired {
                            self.at += 6;
                        } else {
                            self.flaw("json", at, "lone surrogate in a string");
                        }
                    }
                    0xDC00..=0xDFFF => self.flaw("json", at, "lone surrogate in a string"),
                    _ => {}
                }
            }
            _ => return self.broken("unknown escape in a string"),
        }
        Some(())
    }

    fn unicode_unit(&mut self) -> Option<u16> {
        match hex4(&self.bytes[self.at..]) {
            Some(unit) => {
                self.at += 4;
                Some(unit)
            }
            None => self.broken("four hexadecimal digits expected"),
        }
    }

    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.broken("a digit expected") } else { Some(self.at - start) }
    }

    fn number(&mut self) -> Option<Number<'a>> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let integer = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let token = &self.bytes[start..self.at];
        // The largest double has 309 digits.
        if (exponent || token.len() > 300) && !float(token).is_some_and(f64::is_finite) {
            self.flaw("json", start, "number out of range");
        }
        Some(Number { token, integer })
    }
}

struct Number<'a> {
    token: &'a [u8],
    integer: bool,
}

fn float(token: &[u8]) -> Option<f64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

fn accepts(rule: &TextRule, text: Text<'_>) -> bool {
    rule.is_empty() || rule.accepts(&text.value())
}

fn find<'p>(rule: &'p ObjectRule, key: &[u8]) -> Option<(usize, &'p Property)> {
    rule.properties.iter().enumerate().find(|(_, property)| *property.name == *key)
}

/// The first byte at or after `at` that is a quote, a backslash or a control character; eight at a time.
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        // The high bit of every byte that is zero, zero, or below a blank. Borrows disturb only bytes behind a hit.
        let hits = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * b' ' as u64) & !word);
        let hits = hits & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at)
        && *byte >= b' '
        && *byte != b'"'
        && *byte != b'\\'
    {
        at += 1;
    }
    at
}
