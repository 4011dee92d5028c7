//! Random schemas of every draft, and documents made to fit them or nearly so.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

pub const DIALECTS: [&str; 5] = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
];
pub const NAMES: [&str; 6] = ["a", "b", "ab", "é", "x-1", ""];
pub const TEXTS: [&str; 34] = [
    "",
    "a",
    "ab",
    "abc",
    "é",
    "éé",
    "😀",
    "👩‍👩‍👧",
    "a\"b",
    "a\\b",
    "line\nfeed",
    "\u{0}",
    "user-1",
    "2025-08-31",
    "2025-02-29",
    "12:00:00Z",
    "12:00:00.5+02:00",
    "23:59:60Z",
    "2025-08-31T12:00:00Z",
    "2025-08-31t12:00:00z",
    "a@b.example",
    "a..b@c.example",
    "a@b",
    "\"q\"@b.example",
    "www.example.org",
    "-x.example",
    "xn--a.example",
    "https://example.org:80/a%20b?q=1#f",
    "http://[::1]/",
    "urn:a:b",
    "1.2.3.4",
    "01.2.3.4",
    "::1",
    "67e55044-10b1-426f-9247-bb680e5fe0c8",
];
pub const NUMBERS: [&str; 30] = [
    "0",
    "-0",
    "-0.0",
    "0.0",
    "1",
    "1.0",
    "-1",
    "2",
    "2.5",
    "3",
    "10",
    "10.0",
    "1e1",
    "1E+1",
    "100e-1",
    "0.1",
    "0.30000000000000004",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "9007199254740993.0",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1e308",
    "1e-400",
    "4.35",
];
pub const BOUNDS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "2.5",
    "10",
    "10.0",
    "0.1",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551615",
    "1e300",
];
pub const PATTERNS: [&str; 8] = ["^a", "b$", "^[a-z]+$", r"^\w{1,3}$", r"\d", "^(a|ab)$", "é", r"^\S*$"];
pub const FORMATS: [&str; 12] =
    ["date", "time", "date-time", "email", "hostname", "uri", "ipv4", "ipv6", "uuid", "json-pointer", "regex", "int64"];

pub fn number_of(token: &str) -> Value {
    serde_json::from_str(token).unwrap()
}

pub fn pick(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(from)
}

pub fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => pick(&TEXTS).prop_map(Value::from),
        3 => pick(&NUMBERS).prop_map(number_of),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

pub fn type_name() -> impl Strategy<Value = &'static str> {
    pick(&["null", "boolean", "integer", "number", "string", "array", "object"])
}

pub fn leaf_keyword() -> BoxedStrategy<(&'static str, Value)> {
    prop_oneof![
        4 => type_name().prop_map(|name| ("type", json!(name))),
        1 => prop::collection::btree_set(type_name(), 1..4).prop_map(|names| ("type", json!(names))),
        2 => prop::collection::btree_set(pick(&NAMES), 1..3).prop_map(|names| ("required", json!(names))),
        1 => prop::collection::vec(scalar(), 1..4).prop_map(|mut values| {
            values.dedup();
            ("enum", Value::from(values))
        }),
        1 => scalar().prop_map(|value| ("const", value)),
        3 => (pick(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), pick(&BOUNDS))
            .prop_map(|(keyword, bound)| (keyword, number_of(bound))),
        1 => pick(&["1", "2", "3", "10", "0.1", "2.5", "9007199254740993"]).prop_map(|n| ("multipleOf", number_of(n))),
        3 => (pick(&["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"]), 0..4u8)
            .prop_map(|(keyword, count)| (keyword, json!(count))),
        1 => any::<bool>().prop_map(|unique| ("uniqueItems", json!(unique))),
        2 => pick(&PATTERNS).prop_map(|pattern| ("pattern", json!(pattern))),
        3 => pick(&FORMATS).prop_map(|format| ("format", json!(format))),
        1 => Just(("x-other", json!({"minimum": 7}))),
    ]
    .boxed()
}

pub fn schema_of(keywords: Vec<(&'static str, Value)>) -> Value {
    Value::Object(keywords.into_iter().map(|(keyword, value)| (keyword.to_owned(), value)).collect())
}

pub fn schema() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        8 => prop::collection::vec(leaf_keyword(), 0..4).prop_map(schema_of),
        1 => pick(&["#/$defs/one", "#", "#/properties/a"]).prop_map(|reference| json!({"$ref": reference})),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let properties = prop::collection::btree_map(pick(&NAMES), inner.clone(), 1..4).boxed();
        let branches = prop::collection::vec(inner.clone(), 1..4).boxed();
        let keyword = prop_oneof![
            4 => leaf_keyword(),
            4 => properties.prop_map(|map| ("properties", json!(map))),
            1 => prop::collection::btree_map(pick(&PATTERNS), inner.clone(), 1..3).prop_map(|map| ("patternProperties", json!(map))),
            1 => inner.clone().prop_map(|schema| ("additionalProperties", schema)),
            1 => Just(("additionalProperties", json!(false))),
            1 => inner.clone().prop_map(|schema| ("propertyNames", schema)),
            2 => inner.clone().prop_map(|schema| ("items", schema)),
            1 => branches.clone().prop_map(|schemas| ("prefixItems", json!(schemas))),
            1 => inner.clone().prop_map(|schema| ("additionalItems", schema)),
            2 => branches.clone().prop_map(|schemas| ("anyOf", json!(schemas))),
            1 => (pick(&["oneOf", "allOf"]), branches).prop_map(|(keyword, schemas)| (keyword, json!(schemas))),
            1 => inner.prop_map(|schema| ("not", schema)),
        ];
        prop::collection::vec(keyword, 1..6).prop_map(schema_of)
    })
    .boxed()
}

pub fn rooted() -> impl Strategy<Value = Value> {
    (schema(), schema(), prop::sample::select(&DIALECTS[..]), any::<bool>()).prop_map(
        |(mut schema, one, dialect, list)| {
            let root = schema.as_object_mut().unwrap();
            root.insert("$schema".into(), dialect.into());
            root.insert("$defs".into(), json!({ "one": one }));
            if list
                && !dialect.contains("2020")
                && let Some(items) = root.get_mut("items")
            {
                *items = json!([items]);
            }
            schema
        },
    )
}

/// Numbers from a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides
    }

    pub fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// Writes documents that fit a schema more often than chance would have it.
pub struct Writer<'a> {
    pub root: &'a Value,
    pub dice: Dice,
    pub duplicates: bool,
}

impl Writer<'_> {
    pub fn document(&mut self, schema: &Value, depth: usize) -> String {
        let empty = Map::new();
        let keywords = schema.as_object().unwrap_or(&empty);
        if depth == 0 || self.dice.roll(12) == 0 {
            return self.scalar(keywords);
        }
        if let Some(target) = keywords.get("$ref").and_then(Value::as_str).and_then(|at| self.root.pointer(&at[1..])) {
            let target = target.clone();
            return self.document(&target, depth - 1);
        }
        if let Some(branches) =
            ["anyOf", "oneOf", "allOf"].iter().find_map(|keyword| keywords.get(*keyword)?.as_array())
            && self.dice.roll(2) == 0
        {
            let branch = branches[self.dice.roll(branches.len())].clone();
            return self.document(&branch, depth - 1);
        }
        if let Some(value) = keywords.get("const").or_else(|| keywords.get("enum").and_then(|values| values.get(0)))
            && self.dice.roll(3) > 0
        {
            return self.rewritten(&value.clone());
        }
        let names = match keywords.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ if keywords.contains_key("items") || keywords.contains_key("prefixItems") => vec!["array"],
            _ if ["properties", "required", "patternProperties"]
                .iter()
                .any(|keyword| keywords.contains_key(*keyword)) =>
            {
                vec!["object"]
            }
            _ => vec!["object", "array", "string", "number"],
        };
        match self.dice.of(&names) {
            "object" => self.object(keywords, depth),
            "array" => self.array(keywords, depth),
            _ => self.scalar(keywords),
        }
    }

    fn object(&mut self, keywords: &Map<String, Value>, depth: usize) -> String {
        let mut fields: Vec<String> = Vec::new();
        let none = json!({});
        for name in NAMES {
            let schema = keywords.get("properties").and_then(|properties| properties.get(name));
            let required =
                keywords.get("required").and_then(Value::as_array).is_some_and(|names| names.contains(&json!(name)));
            let other = schema.is_none() && self.dice.roll(6) == 0;
            if required && self.dice.roll(10) > 0 || schema.is_some() && self.dice.roll(3) > 0 || other {
                let additional = keywords.get("additionalProperties").unwrap_or(&none);
                let value = self.document(schema.unwrap_or(additional), depth - 1);
                let key = self.text(name);
                if self.dice.roll(150) == 0 {
                    self.duplicates = true;
                    fields.push(format!("{}:1", self.text(name)));
                }
                let blank = self.blank();
                fields.push(format!("{blank}{key}{blank}:{blank}{value}"));
            }
        }
        if self.dice.roll(3) == 0 {
            fields.reverse();
        }
        format!("{{{}}}", fields.join(","))
    }

    fn array(&mut self, keywords: &Map<String, Value>, depth: usize) -> String {
        let none = json!({});
        let count = self.dice.roll(4);
        let blank = self.blank();
        let items: Vec<String> = (0..count)
            .map(|index| {
                let first = keywords.get("prefixItems").or(keywords.get("items")).and_then(|items| items.get(index));
                let schema = first.or(keywords.get("items")).unwrap_or(&none);
                self.document(schema, depth - 1)
            })
            .collect();
        format!("[{blank}{}]", items.join(&format!("{blank},")))
    }

    fn scalar(&mut self, keywords: &Map<String, Value>) -> String {
        match (keywords.get("type").and_then(Value::as_str), self.dice.roll(12)) {
            (_, 0) => "null".into(),
            (Some("null"), _) => "null".into(),
            (Some("boolean"), _) | (_, 1) => self.dice.of(&["true", "false"]).into(),
            (Some("integer" | "number"), _) | (None, 2..=5) => self.dice.of(&NUMBERS).into(),
            _ => {
                let text = self.dice.of(&TEXTS);
                self.text(text)
            }
        }
    }

    /// The same value in other words.
    fn rewritten(&mut self, value: &Value) -> String {
        match value {
            Value::String(text) => self.text(text),
            Value::Number(number) if number.is_i64() && self.dice.roll(3) == 0 => format!("{number}.0"),
            other => other.to_string(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        if self.dice.roll(4) > 0 {
            return Value::from(text).to_string();
        }
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{units}\"")
    }

    fn blank(&mut self) -> &'static str {
        self.dice.of(&["", "", "", " ", "\n\t", "\r\n  "])
    }
}
