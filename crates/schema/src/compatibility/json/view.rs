//! What a schema says of one value, gathered from all its parts; and of what types and values that leaves.

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::number;
use crate::document::Place;

/// A set of JSON types; integers are apart from other numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NULL: Types = Types(1);
    pub(super) const BOOLEAN: Types = Types(2);
    pub(super) const INTEGER: Types = Types(4);
    pub(super) const FRACTION: Types = Types(8);
    pub(super) const NUMBER: Types = Types(12);
    pub(super) const STRING: Types = Types(16);
    pub(super) const ARRAY: Types = Types(32);
    pub(super) const OBJECT: Types = Types(64);
    pub(super) const ALL: Types = Types(127);
    const NONE: Types = Types(0);
    /// With the names that schemas have for them.
    const NAMED: [(&'static str, Types); 7] = [
        ("null", Types::NULL),
        ("boolean", Types::BOOLEAN),
        ("number", Types::NUMBER),
        ("integer", Types::INTEGER),
        ("string", Types::STRING),
        ("array", Types::ARRAY),
        ("object", Types::OBJECT),
    ];

    pub(super) fn and(self, other: Types) -> Types {
        Types(self.0 & other.0)
    }

    fn or(self, other: Types) -> Types {
        Types(self.0 | other.0)
    }

    pub(super) fn without(self, other: Types) -> Types {
        Types(self.0 & !other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn meets(self, other: Types) -> bool {
        !self.and(other).is_empty()
    }

    fn named(name: &Value) -> Types {
        let named = Types::NAMED.iter().find(|(known, _)| name.as_str() == Some(known));
        named.map_or(Types::NONE, |(_, types)| *types)
    }

    /// To draft 4, 1.0 is no integer.
    pub(super) fn of(value: &Value) -> Types {
        match value {
            Value::Null => Types::NULL,
            Value::Bool(_) => Types::BOOLEAN,
            Value::Number(number) if number.is_f64() && number::is_integer(number) => Types::NUMBER,
            Value::Number(number) if number::is_integer(number) => Types::INTEGER,
            Value::Number(_) => Types::FRACTION,
            Value::String(_) => Types::STRING,
            Value::Array(_) => Types::ARRAY,
            Value::Object(_) => Types::OBJECT,
        }
    }

    /// One by one, numbers together.
    pub(super) fn each(self) -> impl Iterator<Item = Types> {
        Types::NAMED
            .into_iter()
            .filter(|(name, _)| *name != "integer")
            .map(move |(_, types)| self.and(types))
            .filter(|types| !types.is_empty())
    }

    pub(super) fn names(self) -> String {
        let names = Types::NAMED.iter().filter(|(name, types)| match *name {
            "integer" => self.and(Types::NUMBER) == Types::INTEGER,
            "number" => self.meets(Types::FRACTION),
            _ => self.meets(*types),
        });
        names.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// Sums within sums that are looked into for types. Beyond, all types count as possible, which demands more of the reader.
const SUMS_MAX: usize = 4;

/// Keywords of which all hold for a value.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub(super) place: Place<'a>,
    keywords: &'a Map<String, Value>,
    pub(super) path: String,
    /// Comes from `allOf`.
    pub(super) product: bool,
}

impl<'a> Part<'a> {
    /// A keyword that the part's dialect has.
    pub(super) fn get(&self, keyword: &str) -> Option<&'a Value> {
        let since = match keyword {
            "const" | "contains" | "propertyNames" => Draft::Draft6,
            "if" | "then" | "else" => Draft::Draft7,
            "dependentRequired"
            | "dependentSchemas"
            | "unevaluatedProperties"
            | "unevaluatedItems"
            | "minContains"
            | "maxContains" => Draft::Draft201909,
            "prefixItems" => Draft::Draft202012,
            _ => Draft::Draft4,
        };
        self.keywords.get(keyword).filter(|_| self.place.draft >= since)
    }

    pub(super) fn schema(&self, keyword: &str) -> Option<Place<'a>> {
        self.get(keyword).map(|schema| self.place.within(schema))
    }

    pub(super) fn schemas(&self, keyword: &str) -> Vec<Place<'a>> {
        let schemas = self.get(keyword).and_then(Value::as_array);
        schemas.into_iter().flatten().map(|schema| self.place.within(schema)).collect()
    }

    pub(super) fn named(&self, keyword: &str) -> impl Iterator<Item = (&'a str, Place<'a>)> {
        let schemas = self.get(keyword).and_then(Value::as_object);
        schemas.into_iter().flatten().map(|(name, schema)| (name.as_str(), self.place.within(schema)))
    }

    pub(super) fn texts(&self, keyword: &str) -> impl Iterator<Item = &'a str> {
        self.get(keyword).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    pub(super) fn at(&self, keyword: &str) -> String {
        format!("{}/{keyword}", self.path)
    }

    pub(super) fn types(&self) -> Types {
        match self.get("type") {
            None => Types::ALL,
            Some(Value::Array(names)) => names.iter().fold(Types::NONE, |types, name| types.or(Types::named(name))),
            Some(name) => Types::named(name),
        }
    }

    /// The only values, if it lists them, and under which keyword.
    pub(super) fn listed(&self) -> Option<(&'static str, Vec<&'a Value>)> {
        match (self.get("const"), self.get("enum")) {
            (Some(value), _) => Some(("const", vec![value])),
            (None, Some(values)) => Some(("enum", values.as_array()?.iter().collect())),
            (None, None) => None,
        }
    }

    /// Whether it says more than `keyword` does.
    pub(super) fn says_more(&self, keyword: &str) -> bool {
        let silent =
            ["$schema", "$id", "id", "$ref", "$defs", "definitions", "title", "description", "default", "type"];
        self.keywords.keys().any(|other| other != keyword && !silent.contains(&other.as_str()))
    }
}

#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) parts: Vec<Part<'a>>,
    /// It takes nothing.
    pub(super) never: bool,
}

/// Everything that holds for a value of all these schemas.
pub(super) fn gather<'a, 'b>(places: impl IntoIterator<Item = &'b Place<'a>>, path: &str) -> View<'a>
where
    'a: 'b,
{
    let mut view = View { parts: Vec::new(), never: false };
    places.into_iter().for_each(|place| view.add(place, path.to_owned(), false));
    view
}

impl<'a> View<'a> {
    /// References do not lead in circles: such schemas are not compiled.
    fn add(&mut self, place: &Place<'a>, path: String, product: bool) {
        let keywords = match place.schema {
            Value::Bool(taken) => {
                self.never |= !taken;
                return;
            }
            Value::Object(keywords) => keywords,
            _ => return,
        };
        let follow = |keyword: &str| place.follow(keywords.get(keyword)?.as_str()?);
        let alone = place.draft <= Draft::Draft7 && keywords.contains_key("$ref");
        if !alone && !keywords.is_empty() {
            self.parts.push(Part { place: place.clone(), keywords, path: path.clone(), product });
        }
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            if let Some(target) = follow(keyword) {
                self.add(&target, path.clone(), product);
            }
        }
        if !alone && let Some(Value::Array(schemas)) = keywords.get("allOf") {
            for (at, schema) in schemas.iter().enumerate() {
                self.add(&place.within(schema), format!("{path}/allOf/{at}"), true);
            }
        }
    }

    /// The types that are left, the sums' branches considered.
    pub(super) fn types(&self) -> Types {
        self.types_within(SUMS_MAX)
    }

    fn types_within(&self, sums_max: usize) -> Types {
        if self.never {
            return Types::NONE;
        }
        self.parts.iter().fold(Types::ALL, |types, part| {
            let listed = part.listed().map_or(Types::ALL, |(_, values)| {
                values.into_iter().fold(Types::NONE, |types, value| types.or(Types::of(value)))
            });
            let sums = ["anyOf", "oneOf"].iter().filter(|keyword| sums_max > 0 && part.get(keyword).is_some());
            let sums = sums.map(|keyword| {
                let branches = part.schemas(keyword);
                branches
                    .iter()
                    .fold(Types::NONE, |types, branch| types.or(gather([branch], "").types_within(sums_max - 1)))
            });
            sums.fold(types.and(part.types()).and(listed), Types::and)
        })
    }
}

/// What is written: values of all these schemas, and of these types.
#[derive(Debug, Clone)]
pub(super) struct Written<'a> {
    pub(super) places: Vec<Place<'a>>,
    pub(super) types: Types,
    /// Sums of which one branch was chosen, which is among the places.
    pub(super) chosen: Vec<usize>,
}

impl<'a> Written<'a> {
    pub(super) fn one(place: Place<'a>) -> Written<'a> {
        Written::all(vec![place])
    }

    pub(super) fn all(places: Vec<Place<'a>>) -> Written<'a> {
        Written { places, types: Types::ALL, chosen: Vec::new() }
    }

    pub(super) fn and(&self, place: Option<Place<'a>>) -> Written<'a> {
        let mut both = self.clone();
        both.places.extend(place);
        both
    }

    pub(super) fn settled(&self) -> Written<'a> {
        Written { places: self.places.iter().map(Place::settled).collect(), ..self.clone() }
    }

    pub(super) fn ids(&self) -> Vec<usize> {
        self.places.iter().map(Place::id).chain([0]).chain(self.chosen.iter().copied()).collect()
    }
}

pub(super) struct Writer<'a> {
    pub(super) written: Written<'a>,
    pub(super) parts: Vec<Part<'a>>,
    pub(super) types: Types,
    /// All of them, where they are listed.
    pub(super) values: Option<Vec<&'a Value>>,
}

static TRUE: Value = Value::Bool(true);
static FALSE: Value = Value::Bool(false);
static NULL: Value = Value::Null;

impl<'a> Writer<'a> {
    /// `None` where nothing can be written.
    pub(super) fn of(written: &Written<'a>) -> Option<Writer<'a>> {
        let view = gather(&written.places, "");
        let mut types = view.types().and(written.types);
        let mut lists = view.parts.iter().filter_map(Part::listed).map(|(_, values)| values);
        let values = match lists.next() {
            None if types.without(Types::NULL).without(Types::BOOLEAN).is_empty() => {
                let all = [(&TRUE, Types::BOOLEAN), (&FALSE, Types::BOOLEAN), (&NULL, Types::NULL)];
                Some(all.into_iter().filter(|(_, of)| types.meets(*of)).map(|(value, _)| value).collect())
            }
            None => None,
            Some(first) => {
                let rest: Vec<Vec<&Value>> = lists.collect();
                let taken = |value: &&Value| {
                    types.meets(Types::of(value)) && rest.iter().all(|list| number::holds(list, value))
                };
                Some(first.into_iter().filter(taken).collect::<Vec<_>>())
            }
        };
        if let Some(values) = &values {
            types = types.and(values.iter().fold(Types::NONE, |types, value| types.or(Types::of(value))));
        }
        (!types.is_empty()).then(|| Writer { written: written.clone(), parts: view.parts, types, values })
    }

    /// What its parts say under a keyword.
    pub(super) fn all(&self, keyword: &str) -> impl Iterator<Item = &'a Value> {
        self.parts.iter().filter_map(move |part| part.get(keyword))
    }

    /// The sum to choose a branch of next.
    pub(super) fn sum(&self) -> Option<(usize, &'static str, Vec<Place<'a>>)> {
        self.parts.iter().find_map(|part| {
            ["anyOf", "oneOf"].into_iter().find_map(|keyword| {
                let id = std::ptr::from_ref(part.get(keyword)?) as usize;
                (!self.written.chosen.contains(&id)).then(|| (id, keyword, part.schemas(keyword)))
            })
        })
    }
}
