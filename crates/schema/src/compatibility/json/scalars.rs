//! Types, listed values, numbers and texts.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::message::obstacle;
use super::view::{Part, Types, Writer};
use super::{Comparison, number};
use crate::compatibility::Incompatibility;

/// Of listed values that are told.
const VALUES_TOLD_MAX: usize = 10;

pub(super) fn types(writer: &Writer<'_>, part: &Part<'_>) -> Vec<Incompatibility> {
    let missing = writer.types.without(part.types());
    if missing.is_empty() {
        return Vec::new();
    }
    let kind = if missing == writer.types { "TYPE_CHANGED" } else { "TYPE_NARROWED" };
    let detail =
        format!("reader type: {} not compatible with writer type: {}", part.types().names(), writer.types.names());
    vec![obstacle(kind, &part.path, detail)]
}

pub(super) fn values(writer: &Writer<'_>, part: &Part<'_>) -> Vec<Incompatibility> {
    let Some((keyword, mine)) = part.listed() else { return Vec::new() };
    let Some(theirs) = &writer.values else {
        return vec![obstacle("ENUM_ARRAY_NARROWED", part.at(keyword), "the writer lists no values")];
    };
    let missing: Vec<String> = theirs
        .iter()
        .filter(|value| part.types().meets(Types::of(value)) && !number::holds(&mine, value))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let subset = mine.iter().all(|value| number::holds(theirs, value));
    let kind = if subset { "ENUM_ARRAY_NARROWED" } else { "ENUM_ARRAY_CHANGED" };
    let told = missing[..missing.len().min(VALUES_TOLD_MAX)].join(", ");
    vec![obstacle(kind, part.at(keyword), format!("missing: {told}"))]
}

/// An end of a range.
struct End {
    at: Number,
    excluded: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Upper,
    Lower,
}

impl Side {
    /// Whether `one` leaves more than `other` does.
    fn beyond(self, one: &Number, other: &Number) -> bool {
        let further = if self == Side::Upper { Ordering::Greater } else { Ordering::Less };
        number::compare(one, other) == further
    }

    fn keywords(self) -> (&'static str, &'static str) {
        match self {
            Side::Upper => ("maximum", "exclusiveMaximum"),
            Side::Lower => ("minimum", "exclusiveMinimum"),
        }
    }

    /// Its own ends, with the keywords they stand under. Draft 4 has a flag for the exclusive one.
    fn ends(self, part: &Part<'_>) -> Vec<(&'static str, End)> {
        let (keyword, exclusive) = self.keywords();
        let flag = part.get(exclusive).and_then(Value::as_bool).unwrap_or(false);
        let of = |keyword: &'static str, excluded: bool| match part.get(keyword) {
            Some(Value::Number(at)) => Some((keyword, End { at: at.clone(), excluded })),
            _ => None,
        };
        of(keyword, flag).into_iter().chain(of(exclusive, true)).collect()
    }

    /// The writer's tightest end.
    fn written(self, writer: &Writer<'_>) -> Option<End> {
        let tighter = |one: End, other: End| match number::compare(&one.at, &other.at) {
            Ordering::Equal => End { excluded: one.excluded || other.excluded, ..one },
            _ if self.beyond(&one.at, &other.at) => other,
            _ => one,
        };
        let ends = writer.parts.iter().flat_map(|part| self.ends(part)).map(|(_, end)| end);
        // Of listed values the outermost.
        let listed = writer.values.iter().flatten().filter_map(|value| value.as_number());
        let outermost = listed.reduce(|one, other| if self.beyond(one, other) { one } else { other });
        ends.chain(outermost.map(|at| End { at: at.clone(), excluded: false })).reduce(tighter)
    }
}

pub(super) fn numbers(writer: &Writer<'_>, part: &Part<'_>, common: Types) -> Vec<Incompatibility> {
    let mut found = Vec::new();
    for side in [Side::Upper, Side::Lower] {
        let written = side.written(writer);
        for (keyword, end) in side.ends(part) {
            let covered = written.as_ref().is_some_and(|written| match number::compare(&written.at, &end.at) {
                Ordering::Equal => written.excluded || !end.excluded,
                _ => side.beyond(&end.at, &written.at),
            });
            if covered {
                continue;
            }
            let kind = match (keyword, written.is_some()) {
                ("maximum", true) => "MAXIMUM_DECREASED",
                ("maximum", false) => "MAXIMUM_ADDED",
                ("minimum", true) => "MINIMUM_INCREASED",
                ("minimum", false) => "MINIMUM_ADDED",
                ("exclusiveMaximum", true) => "EXCLUSIVE_MAXIMUM_DECREASED",
                ("exclusiveMaximum", false) => "EXCLUSIVE_MAXIMUM_ADDED",
                (_, true) => "EXCLUSIVE_MINIMUM_INCREASED",
                (_, false) => "EXCLUSIVE_MINIMUM_ADDED",
            };
            found.push(obstacle(kind, part.at(keyword), was(written.as_ref().map(|written| &written.at), &end.at)));
        }
    }
    found.extend(multiples(writer, part, common));
    found
}

fn multiples(writer: &Writer<'_>, part: &Part<'_>, common: Types) -> Option<Incompatibility> {
    let Some(Value::Number(unit)) = part.get("multipleOf") else { return None };
    let is_multiple = |number: &Number, of: &Number| number::is_multiple(number, of) == Some(true);
    let theirs: Vec<&Number> = writer.all("multipleOf").filter_map(Value::as_number).collect();
    let whole = Number::from(1);
    let written = theirs.iter().copied().chain((common.and(Types::NUMBER) == Types::INTEGER).then_some(&whole));
    let listed = writer.values.as_ref().is_some_and(|values| {
        values.iter().filter_map(|value| value.as_number()).all(|value| is_multiple(value, unit))
    });
    if listed || written.into_iter().any(|other| number::compare(other, unit).is_eq() || is_multiple(other, unit)) {
        return None;
    }
    let kind = match theirs.first() {
        None => "MULTIPLE_OF_ADDED",
        Some(other) if is_multiple(unit, other) => "MULTIPLE_OF_EXPANDED",
        Some(_) => "MULTIPLE_OF_CHANGED",
    };
    Some(obstacle(kind, part.at("multipleOf"), was(theirs.first(), unit)))
}

impl<'a> Comparison<'a> {
    pub(super) fn texts(&mut self, writer: &Writer<'a>, part: &Part<'a>) -> Vec<Incompatibility> {
        let texts: Option<Vec<&str>> =
            writer.values.as_ref().map(|values| values.iter().filter_map(|value| value.as_str()).collect());
        let lengths = || texts.iter().flatten().map(|text| text.chars().count() as u64);
        let mut found: Vec<Incompatibility> = at_most(writer, part, "maxLength", "MAX_LENGTH", lengths().max())
            .into_iter()
            .chain(at_least(writer, part, "minLength", "MIN_LENGTH", lengths().min()))
            .collect();
        if let Some(pattern) = part.get("pattern").and_then(Value::as_str) {
            let theirs: Vec<&str> = writer.all("pattern").filter_map(Value::as_str).collect();
            let listed = texts.is_some_and(|texts| texts.iter().all(|text| self.matches(pattern, text) == Some(true)));
            if !listed && !theirs.contains(&pattern) {
                let kind = if theirs.is_empty() { "PATTERN_ADDED" } else { "PATTERN_CHANGED" };
                found.push(obstacle(kind, part.at("pattern"), was(theirs.first(), &pattern)));
            }
        }
        if let Some(format) = part.get("format").and_then(Value::as_str) {
            let theirs: Vec<&str> = writer.all("format").filter_map(Value::as_str).collect();
            if !theirs.contains(&format) {
                let kind = if theirs.is_empty() { "FORMAT_ADDED" } else { "FORMAT_CHANGED" };
                found.push(obstacle(kind, part.at("format"), was(theirs.first(), &format)));
            }
        }
        found
    }
}

/// A count that the reader bounds from above; `known` bounds what is written besides the writer's own keyword.
pub(super) fn at_most(
    writer: &Writer<'_>,
    part: &Part<'_>,
    keyword: &str,
    name: &str,
    known: Option<u64>,
) -> Option<Incompatibility> {
    let mine = count(part.get(keyword)?)?;
    let theirs = writer.all(keyword).filter_map(count).min();
    match known.into_iter().chain(theirs).min() {
        Some(written) if written <= mine => None,
        _ => {
            let kind = if theirs.is_some() { "DECREASED" } else { "ADDED" };
            Some(obstacle(&format!("{name}_{kind}"), part.at(keyword), was(theirs, &mine)))
        }
    }
}

pub(super) fn at_least(
    writer: &Writer<'_>,
    part: &Part<'_>,
    keyword: &str,
    name: &str,
    known: Option<u64>,
) -> Option<Incompatibility> {
    let mine = count(part.get(keyword)?)?;
    let theirs = writer.all(keyword).filter_map(count).max();
    if known.into_iter().chain(theirs).max().unwrap_or(0) >= mine {
        return None;
    }
    let kind = if theirs.is_some() { "INCREASED" } else { "ADDED" };
    Some(obstacle(&format!("{name}_{kind}"), part.at(keyword), was(theirs, &mine)))
}

/// A count may be written as 2.0.
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|float| *float >= 0.0).map(|float| float as u64))
}

fn was(theirs: Option<impl std::fmt::Display>, mine: &impl std::fmt::Display) -> String {
    match theirs {
        Some(theirs) => format!("reader: {mine}, writer: {theirs}"),
        None => format!("reader: {mine}"),
    }
}
