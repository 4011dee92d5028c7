//! Alternatives (`anyOf`, `oneOf`, several types), exclusions and conditions.

use super::Comparison;
use super::message::{brief, obstacle};
use super::view::{self, Part, Writer, Written};
use crate::compatibility::Incompatibility;
use crate::document::Place;

const SUMS: [&str; 2] = ["anyOf", "oneOf"];

/// A value may be of several branches of the writer's `anyOf`, and must be of one only of the reader's `oneOf`.
pub(super) fn criterion_changed(writer: &Writer<'_>, parts: &[Part<'_>]) -> Option<Incompatibility> {
    let part = parts.iter().find(|part| part.get("oneOf").is_some())?;
    let (_, keyword, branches) = writer.sum()?;
    if keyword == "oneOf" || branches.len() < 2 || writer.all("oneOf").next().is_some() {
        return None;
    }
    let types: Vec<_> = part.schemas("oneOf").iter().map(|branch| view::gather([branch], "").types()).collect();
    let overlap = types.iter().enumerate().any(|(at, one)| types[..at].iter().any(|other| one.meets(*other)));
    overlap.then(|| obstacle("COMBINED_TYPE_CHANGED", part.at("oneOf"), "reader: oneOf, writer: anyOf"))
}

impl<'a> Comparison<'a> {
    /// One branch takes all that is written: of the writer's alternatives, only one is looked at here.
    pub(super) fn sums(&mut self, writer: &Writer<'a>, part: &Part<'a>) -> Vec<Incompatibility> {
        let mut all = Vec::new();
        for keyword in SUMS {
            let branches = part.schemas(keyword);
            let mut nearest: Option<Vec<Incompatibility>> = None;
            let mut mistyped = true;
            for (at, branch) in branches.iter().enumerate() {
                let found = self.compare(&writer.written, branch, &format!("{}/{at}", part.at(keyword)));
                mistyped &= found.iter().any(|found| found.kind == "TYPE_CHANGED");
                if nearest.as_ref().is_none_or(|nearest| found.len() < nearest.len()) {
                    nearest = Some(found);
                }
            }
            let Some(first) = nearest.as_ref().and_then(|nearest| nearest.first()) else { continue };
            let combined = SUMS.iter().any(|sum| writer.all(sum).next().is_some());
            if branches.len() == 1 {
                all.extend(nearest.unwrap_or_default());
            } else if mistyped && !combined {
                all.push(obstacle("TYPE_CHANGED", &part.path, brief(first)));
            } else if part.says_more(keyword) && !combined {
                all.push(obstacle("PRODUCT_TYPE_EXTENDED", part.at(keyword), brief(first)));
            } else {
                all.push(obstacle("COMBINED_TYPE_SUBSCHEMAS_CHANGED", part.at(keyword), brief(first)));
            }
        }
        all
    }

    /// What is written, one alternative after the other; `found` stands against it as a whole.
    pub(super) fn alternatives(
        &mut self,
        writer: &Writer<'a>,
        (reader, parts): (&Place<'a>, &[Part<'a>]),
        path: &str,
        found: Vec<Incompatibility>,
    ) -> Vec<Incompatibility> {
        if let Some((id, _, branches)) = writer.sum() {
            let mut each = Vec::with_capacity(branches.len());
            for branch in &branches {
                let mut written = writer.written.and(Some(branch.clone()));
                written.chosen.push(id);
                each.push(self.compare(&written, reader, path));
            }
            return self.told(&branches, &each, parts, path, found);
        }
        let depends =
            |part: &Part<'a>| ["anyOf", "oneOf", "not", "if"].iter().any(|keyword| part.get(keyword).is_some());
        if writer.types.each().count() < 2 || !parts.iter().any(depends) {
            return found;
        }
        let mut all = Vec::new();
        for types in writer.types.each() {
            all.extend(self.compare(&Written { types, ..writer.written.clone() }, reader, path));
        }
        all
    }

    /// What to say of the writer's branches, given what stands against each.
    fn told(
        &mut self,
        branches: &[Place<'a>],
        each: &[Vec<Incompatibility>],
        parts: &[Part<'a>],
        path: &str,
        found: Vec<Incompatibility>,
    ) -> Vec<Incompatibility> {
        let Some((at, first)) = each.iter().enumerate().find_map(|(at, found)| Some((at, found.first()?))) else {
            return Vec::new();
        };
        let is_of_sum = |found: &Incompatibility| found.kind.starts_with("COMBINED_") || found.kind.starts_with("SUM_");
        let of_all = |found: &Incompatibility| {
            let is_same = |other: &Incompatibility| other.kind == found.kind && other.path == found.path;
            each.iter().all(|branch| branch.iter().any(is_same))
        };
        let whole: Vec<_> = found.into_iter().filter(|found| !is_of_sum(found) && of_all(found)).collect();
        if !whole.is_empty() {
            return whole;
        }
        let counterpart = parts.iter().find_map(|part| {
            SUMS.into_iter().find(|keyword| part.get(keyword).is_some()).map(|keyword| (part, keyword))
        });
        let Some((part, keyword)) = counterpart else {
            return vec![obstacle("SUM_TYPE_NARROWED", path, format!("branch {at}: {}", brief(first)))];
        };
        let mine = part.schemas(keyword);
        let nearest = mine.get(at).and_then(|branch| {
            let path = format!("{}/{at}", part.at(keyword));
            self.compare(&Written::one(branches[at].clone()), branch, &path).into_iter().next()
        });
        let kind = match mine.len() < branches.len() {
            true => "SUM_TYPE_NARROWED",
            false => "COMBINED_TYPE_SUBSCHEMAS_CHANGED",
        };
        let detail = format!("branch {at}: {}", brief(nearest.as_ref().unwrap_or(first)));
        vec![obstacle(kind, part.at(keyword), detail)]
    }

    /// Whatever the reader excludes, the writer must.
    pub(super) fn exclusion(&mut self, writer: &Writer<'a>, part: &Part<'a>) -> Option<Incompatibility> {
        let excluded = part.schema("not")?;
        if !view::gather([&excluded], "").types().meets(writer.types) {
            return None;
        }
        let written = Written { types: writer.types, ..Written::one(excluded) };
        let path = part.at("not");
        let covered = writer
            .parts
            .iter()
            .filter_map(|other| other.schema("not"))
            .any(|other| self.compare(&written, &other, &path).is_empty());
        (!covered).then(|| obstacle("NOT_TYPE_EXTENDED", path, ""))
    }

    /// `if`, with `then` and `else`: the writer has the same condition, or keeps both without one.
    pub(super) fn condition(&mut self, writer: &Writer<'a>, part: &Part<'a>) -> Vec<Incompatibility> {
        let Some(condition) = part.schema("if") else { return Vec::new() };
        let conditions: Vec<_> =
            writer.parts.iter().filter_map(|other| Some((other.clone(), other.schema("if")?))).collect();
        let kind = if conditions.is_empty() { "CONDITION_ADDED" } else { "CONDITION_CHANGED" };
        let mut found: Option<Vec<Incompatibility>> = None;
        for (other, theirs) in conditions {
            let same = self.compare(&Written::one(theirs.clone()), &condition, &part.at("if")).is_empty()
                && self.compare(&Written::one(condition.clone()), &theirs, &part.at("if")).is_empty();
            if same {
                let mut more = Vec::new();
                for keyword in ["then", "else"] {
                    if let Some(branch) = part.schema(keyword) {
                        let written = writer.written.and(other.schema(keyword));
                        more.extend(self.compare(&written, &branch, &part.at(keyword)));
                    }
                }
                if more.is_empty() {
                    return more;
                }
                found.get_or_insert(more);
            }
        }
        if let Some(found) = found {
            return found;
        }
        let mut first = None;
        for (keyword, given) in [("then", Some(condition)), ("else", None)] {
            if let Some(branch) = part.schema(keyword) {
                let more = self.compare(&writer.written.and(given), &branch, &part.at(keyword));
                first = first.or(more.into_iter().next());
            }
        }
        first.map(|first| obstacle(kind, part.at("if"), brief(&first))).into_iter().collect()
    }
}
