//! The rules of a plan, and what satisfies them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use regex::Regex;

use crate::format::Format;

#[derive(Debug, Default, Clone)]
pub(crate) enum Node {
    #[default]
    Any,
    Unsure,
    Rules(Arc<Rules>),
}

/// Kinds of JSON values, as they can be told from their tokens.
pub(crate) mod kind {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const TRUE: u8 = 2;
    pub(crate) const FALSE: u8 = 4;
    /// A number without fraction and exponent.
    pub(crate) const INTEGER: u8 = 8;
    pub(crate) const FRACTION: u8 = 16;
    pub(crate) const STRING: u8 = 32;
    pub(crate) const ARRAY: u8 = 64;
    pub(crate) const OBJECT: u8 = 128;
    pub(crate) const ALL: u8 = 255;
}

#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// A value whose kind is not among these is not certainly valid.
    pub(crate) kinds: u8,
    pub(crate) text: TextRule,
    pub(crate) number: NumberRule,
    pub(crate) object: ObjectRule,
    pub(crate) array: ArrayRule,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            kinds: kind::ALL,
            text: TextRule::default(),
            number: NumberRule::default(),
            object: ObjectRule::default(),
            array: ArrayRule::default(),
        }
    }
}

#[derive(Debug, Default, Clone)]
pub(crate) struct TextRule {
    /// Whether anything below constrains: [`TextRule::seal`] sets it.
    constrains: bool,
    pub(crate) min_chars: usize,
    pub(crate) max_chars: Option<usize>,
    pub(crate) format: Option<Format>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) one_of: Option<Vec<Box<[u8]>>>,
    /// At least one of them, unless there are none.
    pub(crate) any_of: Vec<TextRule>,
}

impl TextRule {
    pub(crate) fn is_empty(&self) -> bool {
        !self.constrains
    }

    pub(crate) fn seal(&mut self) {
        self.constrains = self.min_chars > 0
            || self.max_chars.is_some()
            || self.format.is_some()
            || self.pattern.is_some()
            || self.one_of.is_some()
            || !self.any_of.is_empty();
    }

    pub(crate) fn accepts(&self, text: &[u8]) -> bool {
        self.accepts_length(text)
            && self.format.is_none_or(|format| format.accepts(text))
            && self.one_of.as_ref().is_none_or(|values| values.iter().any(|value| **value == *text))
            && self.pattern.as_ref().is_none_or(|pattern| matches(pattern, text))
            && (self.any_of.is_empty() || self.any_of.iter().any(|rule| rule.accepts(text)))
    }

    fn accepts_length(&self, text: &[u8]) -> bool {
        let max = self.max_chars.unwrap_or(usize::MAX);
        // A character takes one to four bytes, so most texts need no counting.
        if text.len() <= max && text.len().div_ceil(4) >= self.min_chars {
            return true;
        }
        let chars = text.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        (self.min_chars..=max).contains(&chars)
    }
}

/// The engine is linear, but panics over some patterns with an empty text (rust-lang/regex#1344): then `None`.
pub(crate) fn is_match(pattern: &Regex, text: &str) -> Option<bool> {
    catch_unwind(AssertUnwindSafe(|| pattern.is_match(text))).ok()
}

/// Certainly matches. The scanner leaves UTF-8 to its caller, so it has to be looked at here.
fn matches(pattern: &Regex, text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| is_match(pattern, text) == Some(true))
}

/// A lower or upper end of a range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) value: f64,
    /// Where it is one, and then `value` may be rounded.
    pub(crate) integer: Option<i64>,
    pub(crate) exclusive: bool,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct NumberRule {
    constrains: bool,
    pub(crate) lower: Vec<Bound>,
    pub(crate) upper: Vec<Bound>,
    /// Positive, and a double holds it exactly.
    pub(crate) multiple_of: Option<i64>,
    pub(crate) one_of: Option<Vec<i64>>,
}

/// Below these, doubles hold every integer.
pub(crate) const EXACT_MAX: i64 = 1 << 53;
/// Tokens that short have fewer digits than a double holds, and their parse is exact or rounded once, the same everywhere.
const SHORT_TOKEN: usize = 16;
/// How far two parses of the same longer token may lie apart, and then some.
const PARSE_SLACK: f64 = 1e-12;
/// Longer integers are doubles to the reference, and whether those are integers depends on the draft.
const INTEGER_TOKEN: usize = 18;

impl NumberRule {
    pub(crate) fn seal(&mut self) {
        self.constrains =
            !self.lower.is_empty() || !self.upper.is_empty() || self.multiple_of.is_some() || self.one_of.is_some();
    }

    /// Whether a number of one of `kinds` is certainly accepted.
    #[inline]
    pub(crate) fn accepts(&self, kinds: u8, token: &[u8], integer: bool) -> bool {
        if integer && token.len() <= INTEGER_TOKEN && token != b"-0" {
            return kinds & kind::INTEGER != 0
                && (!self.constrains || small_integer(token).is_some_and(|value| self.accepts_integer(value)));
        }
        kinds & kind::FRACTION != 0 && (!self.constrains || self.accepts_fraction(token))
    }

    fn accepts_integer(&self, value: i64) -> bool {
        let above = |bound: &Bound| match bound.integer {
            Some(integer) => value > integer || (value == integer && !bound.exclusive),
            None => value.abs() < EXACT_MAX && value as f64 > bound.value,
        };
        let below = |bound: &Bound| match bound.integer {
            Some(integer) => value < integer || (value == integer && !bound.exclusive),
            None => value.abs() < EXACT_MAX && (value as f64) < bound.value,
        };
        self.lower.iter().all(above)
            && self.upper.iter().all(below)
            && self.multiple_of.is_none_or(|multiple| value.abs() < EXACT_MAX && value % multiple == 0)
            && self.one_of.as_ref().is_none_or(|values| values.contains(&value))
    }

    fn accepts_fraction(&self, token: &[u8]) -> bool {
        if self.multiple_of.is_some() || self.one_of.is_some() {
            return false;
        }
        let Some(value) = std::str::from_utf8(token).ok().and_then(|token| token.parse::<f64>().ok()) else {
            return false;
        };
        let short = token.len() <= SHORT_TOKEN && !token.iter().any(|byte| matches!(byte, b'e' | b'E'));
        // How far above the bound the value lies, which must be more than rounding explains.
        let clear = |distance: f64, bound: &Bound| {
            let exact = short && bound.integer.is_none_or(|integer| integer.abs() < EXACT_MAX);
            if exact {
                distance > 0.0 || (distance == 0.0 && !bound.exclusive)
            } else {
                distance > PARSE_SLACK * value.abs().max(bound.value.abs()).max(f64::MIN_POSITIVE)
            }
        };
        self.lower.iter().all(|bound| clear(value - bound.value, bound))
            && self.upper.iter().all(|bound| clear(bound.value - value, bound))
    }
}

/// Of at most 18 digits.
fn small_integer(token: &[u8]) -> Option<i64> {
    let (negative, digits) = match token {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let value = digits
        .iter()
        .try_fold(0i64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))?;
    Some(if negative { -value } else { value })
}

#[derive(Debug, Default, Clone)]
pub(crate) struct ObjectRule {
    pub(crate) properties: Vec<Property>,
    /// The property that came first, last time.
    pub(crate) first: Hint,
    /// Bit i: `properties[i]` must be there.
    pub(crate) required: u64,
    /// For keys that are not among the properties: those that match, by pattern.
    pub(crate) patterns: Vec<(Regex, Node)>,
    /// For keys that neither a property nor a pattern covers. [`Node::Unsure`] where there may be none.
    pub(crate) additional: Node,
    pub(crate) names: Option<Box<TextRule>>,
    pub(crate) min_count: usize,
    pub(crate) max_count: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Property {
    pub(crate) name: Box<[u8]>,
    token: Token,
    /// The property that came after this one, last time.
    pub(crate) next: Hint,
    pub(crate) node: Node,
    pub(crate) is_key: bool,
    pub(crate) is_id: bool,
}

/// Where to look first for the next property. Documents of one sender come with their keys in the same order again and
/// again; no order is wrong.
#[derive(Debug, Default)]
pub(crate) struct Hint(AtomicU8);

impl Hint {
    pub(crate) const fn new() -> Hint {
        Hint(AtomicU8::new(0))
    }

    #[inline]
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed).into()
    }

    pub(crate) fn set(&self, index: usize) {
        // There are fewer properties than that; a cut number would only be a worse hint.
        self.0.store(index as u8, Ordering::Relaxed);
    }
}

impl Clone for Hint {
    fn clone(&self) -> Hint {
        Hint::default()
    }
}

/// A key in its quotes, as it usually stands in a document, for comparing it without a call.
#[derive(Debug, Clone)]
struct Token {
    /// The first sixteen bytes, in two words, and which of their bits count.
    words: [u64; 2],
    masks: [u64; 2],
    rest: Box<[u8]>,
    len: usize,
}

impl Token {
    fn of(name: &str) -> Token {
        // A name that has to be escaped does not stand there like that, and is found the other way.
        let quoted = format!("\"{name}\"").into_bytes();
        let mut token = Token { words: [0; 2], masks: [0; 2], rest: Box::default(), len: quoted.len() };
        for (at, byte) in quoted.iter().take(16).enumerate() {
            token.words[at / 8] |= u64::from(*byte) << (8 * (at % 8));
            token.masks[at / 8] |= 0xFF << (8 * (at % 8));
        }
        token.rest = quoted.get(16..).unwrap_or_default().into();
        token
    }
}

impl Property {
    /// How long the key is, quotes included, if it is the next thing in `bytes`. That it is not found does not mean that
    /// it is not there.
    #[inline]
    pub(crate) fn begins(&self, bytes: &[u8]) -> Option<usize> {
        let token = &self.token;
        let head = bytes.first_chunk::<16>()?;
        let word = |at: usize| {
            u64::from_le_bytes([
                head[at],
                head[at + 1],
                head[at + 2],
                head[at + 3],
                head[at + 4],
                head[at + 5],
                head[at + 6],
                head[at + 7],
            ])
        };
        let differs = (word(0) ^ token.words[0]) & token.masks[0] | (word(8) ^ token.words[1]) & token.masks[1];
        (differs == 0 && (token.rest.is_empty() || bytes[16..].starts_with(&token.rest))).then_some(token.len)
    }
}

impl ObjectRule {
    /// The number of the property; one that is not listed is made, and ruled as any unlisted key.
    pub(crate) fn property(&mut self, name: &str) -> usize {
        if let Some(at) = self.properties.iter().position(|property| *property.name == *name.as_bytes()) {
            return at;
        }
        let node = self.unlisted(name.as_bytes()).clone();
        let (name, token) = (name.as_bytes().into(), Token::of(name));
        self.properties.push(Property { name, token, next: Hint::default(), node, is_key: false, is_id: false });
        self.properties.len() - 1
    }

    /// What rules the value of a key that is not among the properties.
    pub(crate) fn unlisted(&self, name: &[u8]) -> &Node {
        if self.patterns.is_empty() {
            return &self.additional;
        }
        let Ok(name) = std::str::from_utf8(name) else { return &Node::Unsure };
        let mut found: Option<&Node> = None;
        for (pattern, node) in &self.patterns {
            match is_match(pattern, name) {
                Some(false) => continue,
                Some(true) => {}
                None => return &Node::Unsure,
            }
            found = match (found, node) {
                (None | Some(Node::Any), node) => Some(node),
                (Some(one), Node::Any) => Some(one),
                // Two rules for one value.
                _ => return &Node::Unsure,
            };
        }
        found.unwrap_or(&self.additional)
    }

    pub(crate) fn accepts_count(&self, count: usize) -> bool {
        count >= self.min_count && self.max_count.is_none_or(|max| count <= max)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.properties.is_empty()
            && self.patterns.is_empty()
            && matches!(self.additional, Node::Any)
            && self.names.is_none()
            && self.min_count == 0
            && self.max_count.is_none()
    }
}

#[derive(Debug, Default, Clone)]
pub(crate) struct ArrayRule {
    /// The first items, each its own.
    pub(crate) first: Vec<Node>,
    /// All others.
    pub(crate) items: Node,
    pub(crate) min_count: usize,
    pub(crate) max_count: Option<usize>,
    pub(crate) unique: bool,
}

impl ArrayRule {
    pub(crate) fn accepts_count(&self, count: usize) -> bool {
        count >= self.min_count && self.max_count.is_none_or(|max| count <= max)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
            && matches!(self.items, Node::Any)
            && self.min_count == 0
            && self.max_count.is_none()
            && !self.unique
    }
}
