//! Arrays: the items at their places, all others, how many, and what some of them must be.

use serde_json::Value;

use super::Comparison;
use super::message::{brief, obstacle};
use super::scalars::{at_least, at_most, count};
use super::view::{self, Part, Writer, Written};
use crate::compatibility::Incompatibility;
use crate::document::Place;

/// The items that one part speaks of.
struct Model<'a> {
    /// By their places. `None`: told of elsewhere.
    first: Vec<Option<Place<'a>>>,
    /// All others.
    rest: Option<Place<'a>>,
    keywords: (&'static str, &'static str),
}

impl<'a> Model<'a> {
    fn of(part: &Part<'a>) -> Model<'a> {
        let some = |places: Vec<Place<'a>>| places.into_iter().map(Some).collect();
        if part.get("prefixItems").is_some() {
            let (first, rest) = (some(part.schemas("prefixItems")), part.schema("items"));
            return Model { first, rest, keywords: ("prefixItems", "items") };
        }
        if part.get("items").is_some_and(Value::is_array) {
            let (first, rest) = (some(part.schemas("items")), part.schema("additionalItems"));
            return Model { first, rest, keywords: ("items", "additionalItems") };
        }
        Model { first: Vec::new(), rest: part.schema("items"), keywords: ("items", "items") }
    }

    /// `unevaluatedItems` of a part, which knows the items of all `beside` it and of their branches.
    fn unevaluated(part: &Part<'a>, beside: &[Part<'a>], is_writer: bool) -> Option<Model<'a>> {
        let rest = part.schema("unevaluatedItems")?;
        let mut model = Model { first: Vec::new(), rest: Some(rest), keywords: ("prefixItems", "unevaluatedItems") };
        let all = beside.iter().all(|other| model.knows(other, other.place.id() == part.place.id(), is_writer));
        all.then_some(model)
    }

    fn knows(&mut self, part: &Part<'a>, itself: bool, is_writer: bool) -> bool {
        let own = Model::of(part);
        let contains = is_writer && part.get("contains").is_some();
        if own.rest.is_some() || contains || (!itself && part.get("unevaluatedItems").is_some()) {
            return false;
        }
        self.first.resize(self.first.len().max(own.first.len()), None);
        let sums = ["anyOf", "oneOf"].into_iter().flat_map(|keyword| part.schemas(keyword));
        let conditions = ["if", "then", "else"].into_iter().filter_map(|keyword| part.schema(keyword));
        let branches: Vec<Place<'a>> = sums.chain(conditions).collect();
        branches
            .iter()
            .all(|branch| view::gather([branch], "").parts.iter().all(|part| self.knows(part, false, is_writer)))
    }

    fn is_closed(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.schema == &Value::Bool(false))
    }
}

impl<'a> Comparison<'a> {
    pub(super) fn arrays(&mut self, writer: &Writer<'a>, part: &Part<'a>, beside: &[Part<'a>]) -> Vec<Incompatibility> {
        let own = writer.parts.iter().map(Model::of);
        let unevaluated = writer.parts.iter().filter_map(|part| Model::unevaluated(part, &writer.parts, true));
        let theirs: Vec<Model<'a>> = own.chain(unevaluated).collect();
        let most = writer.all("maxItems").filter_map(count).min();
        let mut found = self.items(&theirs, most, &Model::of(part), part);
        let known: Vec<Part<'a>> = beside.iter().filter(|other| other.path.starts_with(&part.path)).cloned().collect();
        if let Some(model) = Model::unevaluated(part, &known, false) {
            found.extend(self.items(&theirs, most, &model, part));
        }
        let closed = theirs.iter().filter(|model| model.is_closed()).map(|model| model.first.len() as u64).min();
        found.extend(at_most(writer, part, "maxItems", "MAX_ITEMS", closed));
        found.extend(at_least(writer, part, "minItems", "MIN_ITEMS", None));
        let unique = |value: &Value| value == &Value::Bool(true);
        if part.get("uniqueItems").is_some_and(unique)
            && !writer.all("uniqueItems").any(unique)
            && most.is_none_or(|most| most > 1)
        {
            found.push(obstacle("UNIQUE_ITEMS_ADDED", part.at("uniqueItems"), ""));
        }
        found.extend(self.contains(writer, most, part));
        found
    }

    fn items(
        &mut self,
        theirs: &[Model<'a>],
        most: Option<u64>,
        mine: &Model<'a>,
        part: &Part<'a>,
    ) -> Vec<Incompatibility> {
        let written = |at: usize| most.is_none_or(|most| (at as u64) < most);
        let named = theirs.iter().chain([mine]).map(|model| model.first.len()).max().unwrap_or(0);
        let mut found = Vec::new();
        for at in (0..named).take_while(|at| written(*at)) {
            if theirs.iter().any(|model| at >= model.first.len() && model.is_closed()) {
                break;
            }
            let (own, is_mine) = match mine.first.get(at) {
                Some(place) => (place.as_ref(), true),
                None => (mine.rest.as_ref(), false),
            };
            let Some(own) = own else { continue };
            let declared = theirs.iter().any(|model| model.first.get(at).is_some_and(Option::is_some));
            let places: Vec<Place<'a>> = theirs
                .iter()
                .filter_map(|model| model.first.get(at).cloned().unwrap_or_else(|| model.rest.clone()))
                .collect();
            let (path, open) = (format!("{}/{at}", part.at(mine.keywords.0)), places.is_empty());
            let more = self.compare(&Written::all(places), own, &path);
            let Some(first) = more.first() else { continue };
            let kind = match (is_mine, declared) {
                (true, true) => {
                    found.extend(more);
                    continue;
                }
                (true, false) if open => "ITEM_ADDED_TO_OPEN_CONTENT_MODEL",
                (true, false) => "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
                (false, _) if mine.is_closed() => "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL",
                (false, _) => "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
            };
            found.push(obstacle(kind, path, brief(first)));
        }
        found.extend(self.others(theirs, mine, part, (named, written(named))));
        found
    }

    /// Items behind those that either names.
    fn others(
        &mut self,
        theirs: &[Model<'a>],
        mine: &Model<'a>,
        part: &Part<'a>,
        (named, written): (usize, bool),
    ) -> Vec<Incompatibility> {
        let Some(rest) = &mine.rest else { return Vec::new() };
        if !written || theirs.iter().any(Model::is_closed) {
            return Vec::new();
        }
        let path = part.at(mine.keywords.1);
        let places: Vec<Place<'a>> = theirs.iter().filter_map(|model| model.rest.clone()).collect();
        let open = places.is_empty();
        let more = self.compare(&Written::all(places), rest, &path);
        let Some(first) = more.first() else { return more };
        if mine.is_closed() {
            return vec![obstacle("ADDITIONAL_ITEMS_REMOVED", path, "")];
        }
        match (named, open) {
            (0, false) => more,
            (0, true) => vec![obstacle("SCHEMA_ADDED", path, brief(first))],
            _ => vec![obstacle("ADDITIONAL_ITEMS_NARROWED", path, brief(first))],
        }
    }

    fn contains(&mut self, writer: &Writer<'a>, most: Option<u64>, part: &Part<'a>) -> Vec<Incompatibility> {
        let Some(mine) = part.schema("contains") else { return Vec::new() };
        let limits = |part: &Part<'a>| {
            (part.get("minContains").and_then(count).unwrap_or(1), part.get("maxContains").and_then(count))
        };
        let (least, at_most) = limits(part);
        let (mut enough, mut few) = (least == 0, at_most.is_none_or(|limit| most.is_some_and(|most| most <= limit)));
        let path = part.at("contains");
        let mut any = false;
        for other in &writer.parts {
            let Some(theirs) = other.schema("contains") else { continue };
            any = true;
            let (written_least, written_most) = limits(other);
            enough |= written_least >= least && self.compare(&Written::one(theirs.clone()), &mine, &path).is_empty();
            let narrower = matches!((written_most, at_most), (Some(theirs), Some(mine)) if theirs <= mine);
            few |= narrower && self.compare(&Written::one(mine.clone()), &theirs, &path).is_empty();
        }
        let kind = if any { "CONTAINS_CHANGED" } else { "CONTAINS_ADDED" };
        if enough && few { Vec::new() } else { vec![obstacle(kind, path, "")] }
    }
}
