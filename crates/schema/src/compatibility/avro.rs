//! Avro's schema resolution, decided for every value of the writer: promotions, aliases, defaults, unions.
//!
//! A pair of named types that is met again while it is being compared is taken to be compatible. What was concluded from
//! that is wrong once the pair turns out not to be, so the comparison is repeated, knowing more refuted pairs, until one round
//! refutes none.

use std::collections::HashMap;

use super::Incompatibility;
use crate::formats::avro::{Avro, Field, Kind, Named, Primitive, Type};

/// Pairs of types that one comparison looks at; unions of unions multiply.
const STEPS_MAX: usize = 1_000_000;
/// Named types within one another, recursion apart.
const DEPTH_MAX: usize = 256;
/// Obstacles that are told.
const TOLD_MAX: usize = 64;

pub(super) fn incompatibilities(reader: &Avro, writer: &Avro) -> Vec<Incompatibility> {
    let mut comparison =
        Comparison { reader, writer, met: HashMap::new(), refuted: HashMap::new(), steps: 0, depth: 0 };
    let mut found = loop {
        let before = comparison.refuted.len();
        comparison.met.clear();
        let found = comparison.compare(&reader.root, &writer.root, "");
        if comparison.refuted.len() == before || comparison.steps > STEPS_MAX {
            break found;
        }
    };
    if comparison.steps > STEPS_MAX {
        let message = format!(
            "the schemas are too large to compare: more than {STEPS_MAX} pairs of types, or {DEPTH_MAX} named types within one another"
        );
        found = vec![obstacle("TOO_COMPLEX", "", message, "")];
    }
    found.truncate(TOLD_MAX);
    found
}

struct Comparison<'a> {
    reader: &'a Avro,
    writer: &'a Avro,
    /// What this round found of a pair of named types.
    met: HashMap<(usize, usize), Vec<Incompatibility>>,
    /// Pairs that an earlier part of the comparison found incompatible, and one reason.
    refuted: HashMap<(usize, usize), Incompatibility>,
    steps: usize,
    /// Of the named types that lead to this one.
    depth: usize,
}

impl<'a> Comparison<'a> {
    fn compare(&mut self, reader: &'a Type, writer: &'a Type, path: &str) -> Vec<Incompatibility> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Vec::new();
        }
        match (reader, writer) {
            // Whichever branch was written, it must be readable.
            (reader, Type::Union(branches)) => branches
                .iter()
                .enumerate()
                .flat_map(|(at, branch)| {
                    let found = self.compare(reader, branch, path);
                    match (found.is_empty(), reader) {
                        (false, Type::Union(_)) => vec![self.no_branch(branch, &format!("{path}/{at}"))],
                        _ => found,
                    }
                })
                .take(TOLD_MAX)
                .collect(),
            (Type::Union(branches), writer) => {
                match branches.iter().any(|branch| self.compare(branch, writer, path).is_empty()) {
                    true => Vec::new(),
                    false => vec![self.no_branch(writer, path)],
                }
            }
            (Type::Primitive(reader_kind), Type::Primitive(writer_kind)) => {
                match promotes(*writer_kind, *reader_kind) {
                    true => Vec::new(),
                    false => vec![self.mismatch(reader, writer, path)],
                }
            }
            (Type::Array(reader), Type::Array(writer)) => self.compare(reader, writer, &format!("{path}/items")),
            (Type::Map(reader), Type::Map(writer)) => self.compare(reader, writer, &format!("{path}/values")),
            (Type::Named(reader_at), Type::Named(writer_at)) => {
                let pair = (*reader_at, *writer_at);
                // Once told is enough: doublings would tell it over and over.
                if let Some(found) = self.met.get(&pair) {
                    return found.first().cloned().into_iter().collect();
                }
                if self.depth == DEPTH_MAX {
                    self.steps = STEPS_MAX + 1;
                    return Vec::new();
                }
                self.met.insert(pair, self.refuted.get(&pair).cloned().into_iter().collect());
                self.depth += 1;
                let (one, other) = (&self.reader.named[pair.0], &self.writer.named[pair.1]);
                let mut found = match (&one.kind, &other.kind) {
                    (Kind::Record(mine), Kind::Record(theirs)) => self.records(one, other, (mine, theirs), path),
                    (Kind::Enum { .. }, Kind::Enum { .. }) | (Kind::Fixed(_), Kind::Fixed(_)) => {
                        leaves(one, other, path)
                    }
                    _ => vec![self.mismatch(reader, writer, path)],
                };
                self.depth -= 1;
                found.truncate(TOLD_MAX);
                if let Some(first) = found.first() {
                    self.refuted.insert(pair, first.clone());
                }
                self.met.insert(pair, found.clone());
                found
            }
            _ => vec![self.mismatch(reader, writer, path)],
        }
    }

    fn records(
        &mut self,
        reader: &'a Named,
        writer: &'a Named,
        (mine, theirs): (&'a [Field], &'a [Field]),
        path: &str,
    ) -> Vec<Incompatibility> {
        let mut found = names(reader, writer, path);
        let by_name: HashMap<&str, &'a Field> = theirs.iter().map(|field| (field.name.as_str(), field)).collect();
        for (at, field) in mine.iter().enumerate() {
            let names = std::iter::once(&field.name).chain(&field.aliases);
            let written = names.into_iter().find_map(|name| by_name.get(name.as_str()));
            match written {
                Some(written) => {
                    found.extend(self.compare(&field.schema, &written.schema, &format!("{path}/fields/{at}/type")));
                }
                None if field.default.is_some() => {}
                None => {
                    let (name, path) = (&field.name, format!("{path}/fields/{at}"));
                    let message = format!(
                        "The field '{name}' at path '{path}' in the reader schema has no default value and is missing in the writer schema"
                    );
                    found.push(obstacle("READER_FIELD_MISSING_DEFAULT_VALUE", path, message, name));
                }
            }
        }
        found
    }

    fn no_branch(&self, branch: &Type, path: &str) -> Incompatibility {
        let message =
            format!("The reader schema at path '{path}' is missing a type inside a union field of the writer schema");
        let detail = format!("reader union lacking writer type: {}", kind_of(self.writer, branch));
        obstacle("MISSING_UNION_BRANCH", path, message, &detail)
    }

    fn mismatch(&self, reader: &Type, writer: &Type, path: &str) -> Incompatibility {
        let message =
            format!("The type (path '{path}') of a field in the reader schema does not match with the writer schema");
        let (reader, writer) = (kind_of(self.reader, reader), kind_of(self.writer, writer));
        let detail = format!("reader type: {reader} not compatible with writer type: {writer}");
        obstacle("TYPE_MISMATCH", path, message, &detail)
    }
}

/// Enums and fixed types.
fn leaves(reader: &Named, writer: &Named, path: &str) -> Vec<Incompatibility> {
    let mut found = names(reader, writer, path);
    match (&reader.kind, &writer.kind) {
        (Kind::Fixed(mine), Kind::Fixed(theirs)) if mine != theirs => {
            let path = format!("{path}/size");
            let name = &reader.name;
            let message =
                format!("The size of the fixed '{name}' at path '{path}' in the reader schema is not the writer's");
            let detail = format!("expected: {theirs}, found: {mine}");
            found.push(obstacle("FIXED_SIZE_MISMATCH", path, message, &detail));
        }
        (Kind::Enum { symbols: mine, default: None }, Kind::Enum { symbols: theirs, .. }) => {
            let known: std::collections::HashSet<&String> = mine.iter().collect();
            let missing: Vec<&str> =
                theirs.iter().filter(|symbol| !known.contains(symbol)).map(String::as_str).collect();
            if !missing.is_empty() {
                let (path, detail) = (format!("{path}/symbols"), format!("[{}]", missing.join(", ")));
                let message = format!(
                    "The reader schema is missing enum symbols '{detail}' at path '{path}' of the writer schema"
                );
                found.push(obstacle("MISSING_ENUM_SYMBOLS", path, message, &detail));
            }
        }
        _ => {}
    }
    found
}

/// The unqualified names match, or the reader knows the writer's name as an alias.
fn names(reader: &Named, writer: &Named, path: &str) -> Vec<Incompatibility> {
    if reader.name == writer.name || reader.aliases.contains(&writer.full()) {
        return Vec::new();
    }
    let path = format!("{path}/name");
    let message = format!("The name of the schema has changed (path '{path}')");
    vec![obstacle("NAME_MISMATCH", path, message, &format!("expected: {}", writer.full()))]
}

fn promotes(from: Primitive, to: Primitive) -> bool {
    use Primitive::{Bytes, Double, Float, Int, Long, String};
    from == to
        || matches!(
            (from, to),
            (Int, Long | Float | Double) | (Long, Float | Double) | (Float, Double) | (String, Bytes) | (Bytes, String)
        )
}

fn kind_of(avro: &Avro, schema: &Type) -> String {
    match schema {
        Type::Primitive(primitive) => format!("{primitive:?}").to_uppercase(),
        Type::Array(_) => "ARRAY".to_owned(),
        Type::Map(_) => "MAP".to_owned(),
        Type::Union(_) => "UNION".to_owned(),
        Type::Named(at) => match avro.named[*at].kind {
            Kind::Record(_) => "RECORD",
            Kind::Enum { .. } => "ENUM",
            Kind::Fixed(_) => "FIXED",
        }
        .to_owned(),
    }
}

fn obstacle(kind: &str, path: impl Into<String>, message: String, detail: &str) -> Incompatibility {
    Incompatibility { kind: kind.to_owned(), path: path.into(), message, detail: detail.to_owned() }
}
