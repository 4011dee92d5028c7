//! Whether every document that a JSON Schema takes is taken by another, by Confluent's documented rules and under its names for
//! what stands against it.
//!
//! Writer and reader are compared keyword by keyword. All that holds for a value together (`allOf`, references, what two
//! models say of one property) is gathered first (`view`); what the writer may choose between (`anyOf`, `oneOf`, types) is
//! tried one by one. Where that does not decide, they count as incompatible, but for two exceptions that the rules make:
//! a property may become required that has a default, and `oneOf` may gain branches that overlap.
//!
//! A pair that is met again while it is being compared is taken to be compatible, and the comparison is repeated until no
//! such conclusion is left that was wrong.

mod arrays;
mod combined;
mod message;
mod number;
mod objects;
mod scalars;
mod view;

use std::collections::HashMap;

use regex::Regex;

use super::Incompatibility;
use crate::document::{Document, Place};
use message::obstacle;
use view::{Part, Types, Writer, Written};

/// Parts that one comparison looks at; alternatives of alternatives multiply.
const STEPS_MAX: usize = 100_000;
/// Values within one another, recursion apart.
const DEPTH_MAX: usize = 128;
/// Obstacles that are told.
const TOLD_MAX: usize = 64;

pub(super) fn incompatibilities(reader: &Document, writer: &Document) -> Vec<Incompatibility> {
    let (Some(reader), Some(writer)) = (reader.all().next(), writer.all().next()) else { return Vec::new() };
    let mut comparison =
        Comparison { met: HashMap::new(), refuted: HashMap::new(), patterns: HashMap::new(), steps: 0, depth: 0 };
    let written = Written::one(writer);
    let mut found = loop {
        let before = comparison.refuted.len();
        comparison.met.clear();
        let found = comparison.compare(&written, &reader, "#");
        if comparison.refuted.len() == before || comparison.steps > STEPS_MAX {
            break found;
        }
    };
    if comparison.steps > STEPS_MAX {
        found = vec![obstacle("TOO_COMPLEX", "#", "")];
    }
    found.truncate(TOLD_MAX);
    found
}

/// What was written (by what its parts are), the part that reads it, and the types in question.
type Pair = (Vec<usize>, usize, Types);

struct Comparison<'a> {
    /// What this round found of a pair.
    met: HashMap<Pair, Vec<Incompatibility>>,
    /// Pairs that an earlier part of the comparison found incompatible, and one reason.
    refuted: HashMap<Pair, Incompatibility>,
    patterns: HashMap<&'a str, Option<Regex>>,
    steps: usize,
    depth: usize,
}

impl<'a> Comparison<'a> {
    fn compare(&mut self, written: &Written<'a>, reader: &Place<'a>, path: &str) -> Vec<Incompatibility> {
        self.steps += 1;
        let (written, reader) = (&written.settled(), &reader.settled());
        if self.steps > STEPS_MAX || written.places.iter().any(|place| place.id() == reader.id()) {
            return Vec::new();
        }
        let pair = (written.ids(), reader.id(), written.types);
        // Once told is enough.
        if let Some(found) = self.met.get(&pair) {
            return found.first().cloned().into_iter().collect();
        }
        if self.depth == DEPTH_MAX {
            self.steps = STEPS_MAX + 1;
            return Vec::new();
        }
        self.met.insert(pair.clone(), self.refuted.get(&pair).cloned().into_iter().collect());
        self.depth += 1;
        let mut found = self.compare_values(written, reader, path);
        self.depth -= 1;
        found.truncate(TOLD_MAX);
        if let Some(first) = found.first() {
            self.refuted.insert(pair.clone(), first.clone());
        }
        self.met.insert(pair, found.clone());
        found
    }

    fn compare_values(&mut self, written: &Written<'a>, reader: &Place<'a>, path: &str) -> Vec<Incompatibility> {
        let read = view::gather([reader], path);
        if read.parts.is_empty() && !read.never {
            return Vec::new();
        }
        let Some(writer) = Writer::of(written) else { return Vec::new() };
        self.steps += read.parts.len() + writer.parts.len();
        if read.never {
            return vec![obstacle("TYPE_CHANGED", path, "the reader takes nothing")];
        }
        if let Some(changed) = combined::criterion_changed(&writer, &read.parts) {
            return vec![changed];
        }
        let found = self.conjunction(&writer, &read.parts, path);
        match found.is_empty() {
            true => found,
            false => self.alternatives(&writer, (reader, &read.parts), path, found),
        }
    }

    /// The reader's parts, each of which must take what is written.
    fn conjunction(&mut self, writer: &Writer<'a>, parts: &[Part<'a>], path: &str) -> Vec<Incompatibility> {
        let products = |parts: &[Part<'a>]| parts.iter().filter(|part| part.product).count();
        let extended = products(parts) > products(&writer.parts);
        let mut found = Vec::new();
        for part in parts {
            let mut more = self.part(writer, part, parts);
            if extended
                && part.product
                && let Some(first) = more.first()
            {
                more = vec![obstacle("PRODUCT_TYPE_EXTENDED", format!("{path}/allOf"), message::brief(first))];
            }
            for obstacle in more {
                if !found.contains(&obstacle) {
                    found.push(obstacle);
                }
            }
        }
        found
    }

    fn part(&mut self, writer: &Writer<'a>, part: &Part<'a>, beside: &[Part<'a>]) -> Vec<Incompatibility> {
        let mut found = scalars::types(writer, part);
        let common = writer.types.and(part.types());
        if common.is_empty() {
            return found;
        }
        found.extend(scalars::values(writer, part));
        if common.meets(Types::NUMBER) {
            found.extend(scalars::numbers(writer, part, common));
        }
        if common.meets(Types::STRING) {
            found.extend(self.texts(writer, part));
        }
        if common.meets(Types::ARRAY) {
            found.extend(self.arrays(writer, part, beside));
        }
        if common.meets(Types::OBJECT) {
            found.extend(self.objects(writer, part, beside));
        }
        found.extend(self.sums(writer, part));
        found.extend(self.exclusion(writer, part));
        found.extend(self.condition(writer, part));
        found
    }

    /// Whether a name or text matches; `None` where the pattern is none.
    fn matches(&mut self, pattern: &'a str, text: &str) -> Option<bool> {
        let compiled = self.patterns.entry(pattern).or_insert_with(|| {
            let translated = jsonschema_regex::to_rust_regex(pattern).ok()?;
            Regex::new(&translated).ok()
        });
        compiled.as_ref().map(|pattern| pattern.is_match(text))
    }
}
