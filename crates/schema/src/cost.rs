//! What a schema may cost: how often the reference would look at one value, and so how long an event can take.
//!
//! References that lead back to themselves never end, and references that double at every step (`a` refers twice to `b`,
//! `b` twice to `c`, …) end too late. The first are refused with the schema, and so are the second where they double over
//! one value. Where they double with every level of nesting, an event is refused that is nested too deep for its schema:
//! most events are not.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use crate::SchemaError;
use crate::document::{CHAIN_MAX, Document, Place};

/// How many parts of a schema may look at one value, as far as that does not depend on how deep the value lies.
const PARTS_MAX: u64 = 10_000;
/// How many may look at the values along one path of an event, from the outermost to the innermost.
const LOOKS_MAX: u64 = 1_000_000;

/// How often the parts of a schema look at the values along one path of an event.
#[derive(Debug)]
pub(crate) struct Cost {
    /// At most that many levels of nesting cost little enough.
    pub(crate) depth_max: usize,
}

impl Cost {
    /// Of events up to `max_depth` levels deep.
    pub(crate) fn of(document: &Document, max_depth: usize) -> Result<Cost, SchemaError> {
        let mut walk =
            Walk { dynamic: HashMap::new(), parts: HashMap::new(), open: HashSet::new(), pending: Vec::new() };
        document.all().for_each(|place| walk.find_dynamic(&place));
        let Some(root) = document.all().next() else { return Ok(Cost { depth_max: max_depth }) };
        walk.pending.push(root.clone());
        while let Some(place) = walk.pending.pop() {
            walk.visit(&place)?;
        }
        let mut looks: HashMap<Part, u64> = HashMap::new();
        for depth in 0..=max_depth {
            looks = walk.parts.iter().map(|(part, spread)| (*part, spread.looks(&looks))).collect();
            if looks.get(&root.id()).is_some_and(|looks| *looks > LOOKS_MAX) {
                // A single value is within bounds, or the schema had been refused.
                return Ok(Cost { depth_max: depth.saturating_sub(1) });
            }
        }
        Ok(Cost { depth_max: max_depth })
    }
}

/// A part of the schema, by where it lies in memory.
type Part = usize;

/// A part with all that look at the same value with it.
#[derive(Debug, Default, Clone)]
struct Spread {
    parts: u64,
    /// Those that look at the value of a key, and how often: an item of an array has the key `None`.
    below: BTreeMap<Option<String>, BTreeMap<Part, u64>>,
    /// Those that look at the value of every key.
    every: BTreeMap<Part, u64>,
}

impl Spread {
    fn add(&mut self, other: &Spread) {
        self.parts = self.parts.saturating_add(other.parts);
        for (key, parts) in &other.below {
            add_all(self.below.entry(key.clone()).or_default(), parts);
        }
        add_all(&mut self.every, &other.every);
    }

    fn looks(&self, below: &HashMap<Part, u64>) -> u64 {
        let sum = |parts: &BTreeMap<Part, u64>| {
            parts.iter().fold(0u64, |sum, (part, times)| {
                sum.saturating_add(times.saturating_mul(below.get(part).copied().unwrap_or(0)))
            })
        };
        let most = self.below.values().map(sum).max().unwrap_or(0);
        self.parts.saturating_add(most).saturating_add(sum(&self.every))
    }
}

fn add_all(parts: &mut BTreeMap<Part, u64>, more: &BTreeMap<Part, u64>) {
    for (part, times) in more {
        let sum = parts.entry(*part).or_default();
        *sum = sum.saturating_add(*times);
    }
}

struct Walk<'a> {
    /// What a dynamic reference of that name can lead to; a recursive one has no name.
    dynamic: HashMap<&'a str, Vec<Place<'a>>>,
    parts: HashMap<Part, Spread>,
    /// Those whose spread is being found.
    open: HashSet<Part>,
    /// Those that look at values within, and are still to be visited.
    pending: Vec<Place<'a>>,
}

impl<'a> Walk<'a> {
    fn find_dynamic(&mut self, place: &Place<'a>) {
        match place.schema {
            Value::Object(keywords) => {
                let name = keywords.get("$dynamicAnchor").and_then(Value::as_str);
                let nameless = (keywords.get("$recursiveAnchor") == Some(&Value::Bool(true))).then_some("");
                for name in name.into_iter().chain(nameless) {
                    self.dynamic.entry(name).or_default().push(place.clone());
                }
                keywords.values().for_each(|value| self.find_dynamic(&place.within(value)));
            }
            Value::Array(schemas) => schemas.iter().for_each(|schema| self.find_dynamic(&place.within(schema))),
            _ => {}
        }
    }

    fn visit(&mut self, place: &Place<'a>) -> Result<(), SchemaError> {
        let part = place.id();
        if self.parts.contains_key(&part) {
            return Ok(());
        }
        let Some(keywords) = place.schema.as_object() else {
            self.parts.insert(part, Spread { parts: 1, ..Spread::default() });
            return Ok(());
        };
        self.open.insert(part);
        if self.open.len() > CHAIN_MAX {
            return Err(SchemaError::TooLong(CHAIN_MAX));
        }
        let mut spread = Spread { parts: 1, ..Spread::default() };
        for beside in self.beside(place, keywords) {
            if self.open.contains(&beside.id()) {
                return Err(SchemaError::Circular(shown(keywords)));
            }
            self.visit(&beside)?;
            if let Some(other) = self.parts.get(&beside.id()) {
                spread.add(other);
            }
            if spread.parts > PARTS_MAX {
                return Err(SchemaError::TooBranched(PARTS_MAX));
            }
        }
        self.open.remove(&part);
        let below = below(keywords);
        for (key, schema) in &below {
            let parts = match key {
                Key::Every => &mut spread.every,
                Key::Item => spread.below.entry(None).or_default(),
                Key::Named(name) => spread.below.entry(Some((*name).to_owned())).or_default(),
            };
            *parts.entry(place.within(schema).id()).or_default() += 1;
        }
        self.parts.insert(part, spread);
        self.pending.extend(below.into_iter().map(|(_, schema)| place.within(schema)));
        Ok(())
    }

    /// The parts that look at the same value.
    fn beside(&self, place: &Place<'a>, keywords: &'a Map<String, Value>) -> Vec<Place<'a>> {
        let mut found = Vec::new();
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                    found.extend(schemas.iter().map(|schema| place.within(schema)));
                }
                ("not" | "if" | "then" | "else", schema) => found.push(place.within(schema)),
                ("dependentSchemas" | "dependencies", Value::Object(schemas)) => {
                    let schemas = schemas.values().filter(|schema| schema.is_object());
                    found.extend(schemas.map(|schema| place.within(schema)));
                }
                ("$ref", Value::String(reference)) => found.extend(place.follow(reference)),
                ("$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                    found.extend(self.dynamic_targets(place, reference));
                }
                _ => {}
            }
        }
        found
    }

    fn dynamic_targets(&self, place: &Place<'a>, reference: &str) -> Vec<Place<'a>> {
        let name = reference.rsplit_once('#').map_or("", |(_, name)| name);
        let mut found = self.dynamic.get(name).cloned().unwrap_or_default();
        if let Some(target) = place.follow(reference)
            && found.iter().all(|other| other.id() != target.id())
        {
            found.push(target);
        }
        found
    }
}

enum Key<'a> {
    Named(&'a str),
    Item,
    Every,
}

/// The parts that look at the values within.
fn below(keywords: &Map<String, Value>) -> Vec<(Key<'_>, &Value)> {
    let mut found = Vec::new();
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(schemas)) => {
                found.extend(schemas.iter().map(|(name, schema)| (Key::Named(name), schema)));
            }
            ("patternProperties", Value::Object(schemas)) => {
                found.extend(schemas.values().map(|schema| (Key::Every, schema)));
            }
            ("additionalProperties" | "unevaluatedProperties" | "propertyNames", schema) => {
                found.push((Key::Every, schema));
            }
            ("items" | "prefixItems", Value::Array(schemas)) => {
                found.extend(schemas.iter().map(|schema| (Key::Item, schema)));
            }
            ("items" | "additionalItems" | "unevaluatedItems" | "contains", schema) => found.push((Key::Item, schema)),
            _ => {}
        }
    }
    found
}

fn shown(keywords: &Map<String, Value>) -> String {
    let reference =
        ["$ref", "$dynamicRef", "$recursiveRef"].iter().find_map(|keyword| keywords.get(*keyword)?.as_str());
    reference.unwrap_or("a schema within itself").chars().take(100).collect()
}
