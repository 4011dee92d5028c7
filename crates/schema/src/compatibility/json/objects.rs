//! Objects: what they may hold beside what a schema names ("open" content, closed, or open to some), what they must hold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Comparison;
use super::message::{brief, obstacle};
use super::scalars::{at_least, at_most};
use super::view::{self, Part, Types, Writer, Written};
use crate::compatibility::Incompatibility;
use crate::document::Place;

/// The properties that one part speaks of.
#[derive(Default)]
struct Model<'a> {
    /// `None`: named elsewhere.
    declared: BTreeMap<&'a str, Option<Place<'a>>>,
    patterns: Vec<(&'a str, Option<Place<'a>>)>,
    /// For all others.
    rest: Option<Place<'a>>,
    keyword: &'static str,
}

impl<'a> Model<'a> {
    fn of(part: &Part<'a>) -> Model<'a> {
        Model {
            declared: part.named("properties").map(|(name, place)| (name, Some(place))).collect(),
            patterns: part.named("patternProperties").map(|(pattern, place)| (pattern, Some(place))).collect(),
            rest: part.schema("additionalProperties"),
            keyword: "additionalProperties",
        }
    }

    /// `unevaluatedProperties` of a part, which knows the properties of all `beside` it and of their branches.
    fn unevaluated(part: &Part<'a>, beside: &[Part<'a>]) -> Option<Model<'a>> {
        let rest = part.schema("unevaluatedProperties")?;
        let mut model = Model { rest: Some(rest), keyword: "unevaluatedProperties", ..Model::default() };
        let all = beside.iter().all(|other| model.knows(other, other.place.id() == part.place.id()));
        all.then_some(model)
    }

    /// Whether it leaves properties that are not known.
    fn knows(&mut self, part: &Part<'a>, itself: bool) -> bool {
        if part.get("additionalProperties").is_some() || (!itself && part.get("unevaluatedProperties").is_some()) {
            return false;
        }
        self.declared.extend(part.named("properties").map(|(name, _)| (name, None)));
        self.patterns.extend(part.named("patternProperties").map(|(pattern, _)| (pattern, None)));
        let sums = ["anyOf", "oneOf"].into_iter().flat_map(|keyword| part.schemas(keyword));
        let conditions = ["if", "then", "else"].into_iter().filter_map(|keyword| part.schema(keyword));
        let dependent = part.named("dependentSchemas").map(|(_, place)| place);
        let branches: Vec<Place<'a>> = sums.chain(conditions).chain(dependent).collect();
        branches.iter().all(|branch| view::gather([branch], "").parts.iter().all(|part| self.knows(part, false)))
    }

    fn is_closed(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.schema == &Value::Bool(false))
    }
}

/// What the writer says of one property.
struct Slot<'a> {
    declared: bool,
    /// It is never written.
    closed: bool,
    places: Vec<Place<'a>>,
}

fn models<'a>(writer: &Writer<'a>) -> Vec<Model<'a>> {
    let own = writer.parts.iter().map(Model::of);
    own.chain(writer.parts.iter().filter_map(|part| Model::unevaluated(part, &writer.parts))).collect()
}

/// What the writer says of properties of a pattern that it does not name, and that are of none of the patterns `beside`.
fn pattern_slot<'a>(models: &[Model<'a>], pattern: &str, beside: &[&str]) -> Slot<'a> {
    let mut slot = Slot { declared: false, closed: false, places: Vec::new() };
    for model in models {
        let same = model.patterns.iter().find(|(other, place)| *other == pattern && place.is_some());
        match (same, &model.rest) {
            (Some((_, place)), _) => {
                slot.declared = true;
                slot.places.extend(place.clone());
            }
            // A name of this pattern may be of another too.
            (None, Some(rest)) if model.patterns.iter().all(|(other, _)| beside.contains(other)) => {
                slot.closed |= model.is_closed();
                slot.places.push(rest.clone());
            }
            _ => {}
        }
    }
    slot
}

impl<'a> Comparison<'a> {
    pub(super) fn objects(
        &mut self,
        writer: &Writer<'a>,
        part: &Part<'a>,
        beside: &[Part<'a>],
    ) -> Vec<Incompatibility> {
        let theirs = models(writer);
        let mut found = self.properties(&theirs, &Model::of(part), part);
        let known: Vec<Part<'a>> = beside.iter().filter(|other| other.path.starts_with(&part.path)).cloned().collect();
        if let Some(model) = Model::unevaluated(part, &known) {
            found.extend(self.properties(&theirs, &model, part));
        }
        let required: BTreeSet<&str> = writer.parts.iter().flat_map(|part| part.texts("required")).collect();
        found.extend(self.required(&theirs, &required, part, beside));
        found.extend(at_most(writer, part, "maxProperties", "MAX_PROPERTIES", None));
        found.extend(at_least(writer, part, "minProperties", "MIN_PROPERTIES", Some(required.len() as u64)));
        found.extend(self.names(writer, part));
        found.extend(self.dependencies(writer, &theirs, &required, part));
        found
    }

    fn slot(&mut self, models: &[Model<'a>], name: &str) -> Slot<'a> {
        let mut slot = Slot { declared: false, closed: false, places: Vec::new() };
        for model in models {
            let own = model.declared.get(name);
            slot.declared |= own.is_some_and(Option::is_some);
            slot.places.extend(own.cloned().flatten());
            let mut known = own.is_some();
            for (pattern, place) in &model.patterns {
                if self.matches(pattern, name) != Some(false) {
                    known = true;
                    slot.places.extend(place.clone());
                }
            }
            match &model.rest {
                _ if known => {}
                Some(_) if model.is_closed() => slot.closed = true,
                rest => slot.places.extend(rest.clone()),
            }
        }
        slot
    }

    fn properties(&mut self, theirs: &[Model<'a>], mine: &Model<'a>, part: &Part<'a>) -> Vec<Incompatibility> {
        let mut found = Vec::new();
        for (name, place) in &mine.declared {
            let Some(place) = place else { continue };
            let slot = self.slot(theirs, name);
            if slot.closed {
                continue;
            }
            let (path, open) = (at(part, "properties", name), slot.places.is_empty());
            let more = self.compare(&Written::all(slot.places), place, &path);
            found.extend(match more.first() {
                Some(_) if slot.declared => more,
                Some(_) if open => vec![obstacle("PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", path, "")],
                Some(first) => {
                    let kind = "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL";
                    vec![obstacle(kind, path, brief(first))]
                }
                None => more,
            });
        }
        let names: BTreeSet<&str> = theirs
            .iter()
            .flat_map(|model| model.declared.iter().filter(|(_, place)| place.is_some()).map(|(name, _)| *name))
            .chain(mine.declared.keys().copied())
            .collect();
        for name in names {
            found.extend(self.elsewhere(theirs, mine, name, part));
        }
        found.extend(self.patterned(theirs, mine, part));
        found.extend(self.rest(theirs, mine, part));
        found
    }

    /// A property that either names, as the reader's patterns and what it says of all others have it.
    fn elsewhere(
        &mut self,
        theirs: &[Model<'a>],
        mine: &Model<'a>,
        name: &str,
        part: &Part<'a>,
    ) -> Vec<Incompatibility> {
        let slot = self.slot(theirs, name);
        let is_mine = mine.declared.contains_key(name);
        if slot.closed {
            return Vec::new();
        }
        let written = Written::all(slot.places);
        let mut found = Vec::new();
        let mut known = is_mine;
        for (pattern, place) in &mine.patterns {
            if self.matches(pattern, name) == Some(false) {
                continue;
            }
            known = true;
            let Some(place) = place else { continue };
            let more = self.compare(&written, place, &at(part, "patternProperties", pattern));
            match more.first() {
                Some(first) if !is_mine => {
                    let kind = "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL";
                    found.push(obstacle(kind, at(part, "properties", name), brief(first)));
                }
                _ => found.extend(more),
            }
        }
        if let (false, Some(rest)) = (known, &mine.rest) {
            let more = self.compare(&written, rest, &part.at(mine.keyword));
            if let Some(first) = more.first() {
                let path = at(part, "properties", name);
                found.push(match mine.is_closed() {
                    true => obstacle("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", path, ""),
                    false => {
                        let kind = "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL";
                        obstacle(kind, path, brief(first))
                    }
                });
            }
        }
        found
    }

    /// The reader's patterns, for properties that nobody names.
    fn patterned(&mut self, theirs: &[Model<'a>], mine: &Model<'a>, part: &Part<'a>) -> Vec<Incompatibility> {
        let mut found = Vec::new();
        for (pattern, place) in &mine.patterns {
            let Some(place) = place else { continue };
            let slot = pattern_slot(theirs, pattern, &[]);
            if slot.closed {
                continue;
            }
            let (path, open) = (at(part, "patternProperties", pattern), slot.places.is_empty());
            let more = self.compare(&Written::all(slot.places), place, &path);
            found.extend(match more.first() {
                Some(first) if !slot.declared => {
                    let kind = match open {
                        true => "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL",
                        false => "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
                    };
                    vec![obstacle(kind, path, brief(first))]
                }
                _ => more,
            });
        }
        found
    }

    /// What the reader says of all other properties, for those that the writer does not name.
    fn rest(&mut self, theirs: &[Model<'a>], mine: &Model<'a>, part: &Part<'a>) -> Vec<Incompatibility> {
        let Some(rest) = &mine.rest else { return Vec::new() };
        let mut found = Vec::new();
        let mine_patterns: Vec<&str> = mine.patterns.iter().map(|(pattern, _)| *pattern).collect();
        let patterns: BTreeSet<&str> = theirs
            .iter()
            .flat_map(|model| &model.patterns)
            .filter(|(_, place)| place.is_some())
            .map(|(pattern, _)| *pattern)
            .collect();
        for pattern in patterns {
            if mine_patterns.contains(&pattern) {
                continue;
            }
            let slot = pattern_slot(theirs, pattern, &mine_patterns);
            if slot.closed {
                continue;
            }
            if let Some(first) = self.compare(&Written::all(slot.places), rest, &part.at(mine.keyword)).first() {
                let path = at(part, "patternProperties", pattern);
                found.push(match mine.is_closed() {
                    true => obstacle("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", path, ""),
                    false => {
                        let kind = "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL";
                        obstacle(kind, path, brief(first))
                    }
                });
            }
        }
        if theirs.iter().any(Model::is_closed) {
            return found;
        }
        let places: Vec<Place<'a>> = theirs.iter().filter_map(|model| model.rest.clone()).collect();
        if let Some(first) = self.compare(&Written::all(places), rest, &part.at(mine.keyword)).first() {
            let kind =
                if mine.is_closed() { "ADDITIONAL_PROPERTIES_REMOVED" } else { "ADDITIONAL_PROPERTIES_NARROWED" };
            let detail = if mine.is_closed() { String::new() } else { brief(first) };
            found.push(obstacle(kind, part.at(mine.keyword), detail));
        }
        found
    }

    fn required(
        &mut self,
        theirs: &[Model<'a>],
        required: &BTreeSet<&str>,
        part: &Part<'a>,
        beside: &[Part<'a>],
    ) -> Vec<Incompatibility> {
        let mut found = Vec::new();
        for name in part.texts("required").filter(|name| !required.contains(name)) {
            let own: Vec<Place<'a>> = beside
                .iter()
                .flat_map(|part| part.named("properties").filter(|(other, _)| *other == name))
                .map(|(_, place)| place)
                .collect();
            if view::gather(&own, "").parts.iter().any(|part| part.get("default").is_some()) {
                continue;
            }
            let slot = self.slot(theirs, name);
            let unopen = slot.closed || !slot.declared && !slot.places.is_empty();
            found.push(match unopen && !own.is_empty() {
                true => {
                    let path = at(part, "properties", name);
                    obstacle("REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL", path, "")
                }
                false => obstacle("REQUIRED_ATTRIBUTE_ADDED", at(part, "required", name), ""),
            });
        }
        found
    }

    fn names(&mut self, writer: &Writer<'a>, part: &Part<'a>) -> Option<Incompatibility> {
        let mine = part.schema("propertyNames")?;
        let places: Vec<Place<'a>> = writer.parts.iter().filter_map(|part| part.schema("propertyNames")).collect();
        let kind = if places.is_empty() { "PROPERTY_NAMES_ADDED" } else { "PROPERTY_NAMES_NARROWED" };
        let written = Written { types: Types::STRING, ..Written::all(places) };
        let found = self.compare(&written, &mine, &part.at("propertyNames"));
        found.first().map(|first| obstacle(kind, part.at("propertyNames"), brief(first)))
    }

    fn dependencies(
        &mut self,
        writer: &Writer<'a>,
        theirs: &[Model<'a>],
        required: &BTreeSet<&str>,
        part: &Part<'a>,
    ) -> Vec<Incompatibility> {
        let mut found = Vec::new();
        for keyword in KEYWORDS {
            for (name, mine) in part.named(keyword) {
                if self.slot(theirs, name).closed {
                    continue;
                }
                let path = at(part, keyword, name);
                let same = |part: &Part<'a>| {
                    let all = KEYWORDS.into_iter().flat_map(|keyword| part.named(keyword).collect::<Vec<_>>());
                    all.filter(|(other, _)| *other == name).map(|(_, place)| place).collect::<Vec<_>>()
                };
                let written: Vec<Place<'a>> = writer.parts.iter().flat_map(same).collect();
                if let Value::Array(mine) = mine.schema {
                    let lists = written.iter().filter_map(|place| place.schema.as_array()).flatten();
                    found.extend(dependent(name, mine, lists.collect(), required, path));
                    continue;
                }
                let schemas = || written.iter().filter(|place| !place.schema.is_array()).cloned();
                let mut both = writer.written.clone();
                both.places.extend(schemas());
                let more = self.compare(&both, &mine, &path);
                found.extend(match more.first() {
                    Some(first) if schemas().next().is_none() => {
                        vec![obstacle("DEPENDENCY_SCHEMA_ADDED", path, brief(first))]
                    }
                    _ => more,
                });
            }
        }
        found
    }
}

const KEYWORDS: [&str; 3] = ["dependencies", "dependentRequired", "dependentSchemas"];

/// Names that must be there where `name` is.
fn dependent(
    name: &str,
    mine: &[Value],
    theirs: Vec<&Value>,
    required: &BTreeSet<&str>,
    path: String,
) -> Option<Incompatibility> {
    let given = |other: &&Value| {
        theirs.contains(other) || other.as_str().is_some_and(|other| other == name || required.contains(other))
    };
    let missing: Vec<&str> = mine.iter().filter(|other| !given(other)).filter_map(Value::as_str).collect();
    let kind = match theirs.is_empty() {
        _ if missing.is_empty() => return None,
        true => "DEPENDENCY_ARRAY_ADDED",
        false if theirs.iter().all(|other| mine.contains(other)) => "DEPENDENCY_ARRAY_EXTENDED",
        false => "DEPENDENCY_ARRAY_CHANGED",
    };
    Some(obstacle(kind, path, missing.join(", ")))
}

/// A pointer to a name under a keyword.
fn at(part: &Part<'_>, keyword: &str, name: &str) -> String {
    format!("{}/{}", part.at(keyword), name.replace('~', "~0").replace('/', "~1"))
}
