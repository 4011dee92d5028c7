//! JSON Schemas as a registry stores and compares them.

use playhouse_schema::compatibility::{Incompatibility, incompatibilities};
use playhouse_schema::formats::{Format, NamedSchema, SCHEMA_BYTES_MAX, Schema, SchemaError};
use playhouse_schema::{Fields, Validator};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

mod random;

use random::{Dice, Writer, rooted, schema};

fn parse(text: &str) -> Schema {
    Schema::parse(Format::Json, text, &[]).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn refused(text: &str) -> SchemaError {
    Schema::parse(Format::Json, text, &[]).unwrap_err()
}

fn named(name: &str, schema: &Value) -> NamedSchema {
    NamedSchema { name: name.to_owned(), text: schema.to_string() }
}

fn told(found: &[Incompatibility]) -> Vec<String> {
    found.iter().map(|found| format!("{} {}", found.kind, found.path)).collect()
}

#[test]
fn the_battery_of_compatibility_cases() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/json-compatibility.json")).unwrap();
    for case in cases {
        let (reader, writer) = (parse(&case["reader"].to_string()), parse(&case["writer"].to_string()));
        let found = incompatibilities(&reader, &writer);
        assert_eq!(json!(told(&found)), case["expect"], "{}: {found:?}", case["case"]);
        for schema in [&reader, &writer] {
            let again = parse(schema.canonical());
            assert_eq!(incompatibilities(&again, schema), [], "{}, with itself", case["case"]);
        }
    }
}

#[test]
fn an_obstacle_is_told_with_its_place() {
    let (reader, writer) = (json!({"items": {"type": "string"}}), json!({"items": {"type": "integer"}}));
    assert_eq!(
        incompatibilities(&parse(&reader.to_string()), &parse(&writer.to_string()))[0].to_string(),
        "{errorType:'TYPE_CHANGED', description:'The type has changed, at path '#/items'', \
         additionalInfo:'reader type: string not compatible with writer type: integer'}"
    );
    let avro = Schema::parse(Format::Avro, r#""string""#, &[]).unwrap();
    assert_eq!(told(&incompatibilities(&avro, &parse("{}"))), ["SCHEMA_TYPE_CHANGED "]);
}

#[test]
fn the_text_is_compact_and_in_its_order() {
    let text = r#" {"type": "object",  "properties": {"b": {"maximum": 1.50}, "a": {"enum": ["é", 1]}}} "#;
    let schema = parse(text);
    assert_eq!(schema.canonical(), r#"{"type":"object","properties":{"b":{"maximum":1.5},"a":{"enum":["é",1]}}}"#);
    assert_eq!(schema.normalized(), r#"{"properties":{"a":{"enum":["é",1]},"b":{"maximum":1.5}},"type":"object"}"#);
    assert_eq!(schema.format(), Format::Json);
    assert_eq!(parse("true").canonical(), "true");
}

#[test]
fn bad_schemas_are_refused_by_name() {
    assert!(matches!(refused(r#"{"type":"int"}"#), SchemaError::Invalid(_)));
    assert!(matches!(refused("{"), SchemaError::Json(_)));
    assert!(matches!(refused("7"), SchemaError::Invalid(_)));
    assert!(
        matches!(refused(r#"{"type":"null","type":"null"}"#), SchemaError::Json(error) if error.contains("duplicate"))
    );
    assert!(matches!(refused(r#"{"title":"\ud800"}"#), SchemaError::Json(_)));
    assert!(matches!(refused(r#"{"maximum":1e999}"#), SchemaError::Json(_)));
    let deep = format!("{}{{}}{}", r#"{"items":"#.repeat(200), "}".repeat(200));
    assert!(matches!(refused(&deep), SchemaError::Json(error) if error.contains("recursion limit")));
    assert!(matches!(refused(&" ".repeat(SCHEMA_BYTES_MAX + 1)), SchemaError::TooLarge { .. }));
    assert!(matches!(refused(r##"{"$ref":"#"}"##), SchemaError::Refused(error) if error.contains("back to itself")));
    assert!(
        matches!(refused(r#"{"pattern":"^(?!no)"}"#), SchemaError::Refused(error) if error.contains("look-around"))
    );
    let remote = refused(r#"{"$ref":"https://example.org/a.json#/x"}"#);
    assert!(matches!(&remote, SchemaError::Remote(address) if address.starts_with("https://example.org/a.json")));
    assert!(remote.to_string().contains("nothing is fetched"), "{remote}");
    for (text, inner) in [("{", "JSON"), (r#"{"a":1,"a":2}"#, "duplicate")] {
        let broken = NamedSchema { name: "b.json".to_owned(), text: text.to_owned() };
        let error = Schema::parse(Format::Json, "{}", &[broken]).unwrap_err();
        assert!(error.to_string().contains("b.json") && error.to_string().contains(inner), "{error}");
    }
}

#[test]
fn references_are_found_by_name_or_address() {
    let text = named("text.json", &json!({"type": "string", "maxLength": 3}));
    let user = named("user.json", &json!({"properties": {"name": {"$ref": "text.json"}}}));
    let addressed = json!({"$id": "https://example.org/schemas/text.json", "type": "string", "maxLength": 3});
    for (schema, references) in [
        (json!({"$ref": "user.json"}), vec![text.clone(), user.clone()]),
        (json!({"$id": "https://example.org/root", "$ref": "./user.json"}), vec![text.clone(), user]),
        (json!({"properties": {"name": {"$ref": "text.json#"}}}), vec![text.clone()]),
        (
            json!({"properties": {"name": {"$ref": "https://example.org/schemas/text.json"}}}),
            vec![named("https://example.org/schemas/text.json", &addressed)],
        ),
        (
            json!({"$id": "https://example.org/schemas/root.json", "properties": {"name": {"$ref": "text.json"}}}),
            vec![named("something", &addressed)],
        ),
        (
            json!({"properties": {"name": {"$ref": "all.json#/$defs/text"}}}),
            vec![named("all.json", &json!({"$defs": {"text": {"$ref": "#/$defs/short"}, "short": {"maxLength": 3}}}))],
        ),
    ] {
        let parsed = Schema::parse(Format::Json, &schema.to_string(), &references).unwrap();
        assert_eq!(parsed.validate(br#"{"name":"abc"}"#), Ok(()), "{schema}");
        assert_eq!(parsed.validate(br#"{"name":"abcd"}"#).unwrap_err()[0].path, "/name", "{schema}");
        let longer = parse(r#"{"properties":{"name":{"type":"string","maxLength":4}}}"#);
        assert_eq!(told(&incompatibilities(&parsed, &longer)), ["MAX_LENGTH_DECREASED #/properties/name/maxLength"]);
        let validator = Validator::compile_with(&schema.to_string(), &references, &Fields::default(), 32).unwrap();
        assert!(validator.check(br#"{"name":"abcd"}"#).is_err());
    }
    // The longer name is the nearer one.
    let near = named("b/x.json", &json!({"type": "string"}));
    let far = named("x.json", &json!({"type": "integer"}));
    let schema = json!({"$ref": "b/x.json"}).to_string();
    assert_eq!(Schema::parse(Format::Json, &schema, &[far, near]).unwrap().validate(b"\"a\""), Ok(()));
    // In a circle, from one to the other.
    let circle = named("a.json", &json!({"allOf": [{"$ref": "b.json"}]}));
    let back = named("b.json", &json!({"anyOf": [{"$ref": "a.json"}]}));
    let error = Schema::parse(Format::Json, r#"{"$ref":"a.json"}"#, &[circle, back]).unwrap_err();
    assert!(error.to_string().contains("back to itself"), "{error}");
}

#[test]
fn a_schema_without_a_dialect_may_be_an_old_one() {
    let tuple = parse(r#"{"items":[{"type":"string"}],"additionalItems":false}"#);
    assert!(tuple.validate(b"[\"a\"]").is_ok() && tuple.validate(b"[\"a\",1]").is_err());
    let flag = parse(r#"{"maximum":3,"exclusiveMaximum":true}"#);
    assert!(flag.validate(b"2").is_ok() && flag.validate(b"3").is_err());
}

#[test]
fn a_payload_is_one_document_whole() {
    let schema = parse(r#"{"properties":{"a":{"type":"integer"}}}"#);
    assert_eq!(schema.validate(br#" {"a":1} "#), Ok(()));
    assert_eq!(schema.validate(br#"{"a":"x"}"#).unwrap_err()[0].path, "/a");
    assert_eq!(schema.validate(br#"{"a":1} 2"#).unwrap_err()[0].keyword, "json");
    assert_eq!(schema.validate(b"\xff").unwrap_err()[0].keyword, "encoding");
}

/// Alternatives of alternatives, and definitions that double.
#[test]
fn comparisons_end() {
    let steps = |step: &dyn Fn(&str) -> Value, levels: usize| {
        let next = |at: usize| format!("#/$defs/d{}", at + 1);
        let definitions = (0..levels).map(|at| (format!("d{at}"), step(&next(at))));
        let definitions: serde_json::Map<String, Value> =
            definitions.chain([(format!("d{levels}"), json!({"type": "string"}))]).collect();
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    };
    let doubling = steps(&|next| json!({"properties": {"l": {"$ref": next}, "r": {"$ref": next}}}), 40);
    let nested = steps(
        &|next| json!({"anyOf": [{"properties": {"a": {"$ref": next}}}, {"items": {"$ref": next}}, {"type": "null"}]}),
        40,
    );
    let sums = steps(&|next| json!({"anyOf": [{"$ref": next}, {"minLength": 1}], "oneOf": [{"$ref": next}, true]}), 6);
    let many: Vec<Value> = (0..60).map(|at| json!({"properties": {"k": {"const": at}}, "required": ["k"]})).collect();
    for schema in [nested, doubling, sums, json!({"oneOf": many})] {
        let one = parse(&schema.to_string());
        let found = incompatibilities(&one, &parse(&schema.to_string()));
        assert!(found.is_empty() || found[0].kind == "TOO_COMPLEX", "{found:?}");
        let other = schema.to_string().replace("string", "integer");
        let _ = incompatibilities(&one, &parse(&other));
    }
}

/// The same schema with something else at one place.
fn changed(schema: &Value, change: &Value, dice: &mut Dice) -> Value {
    match schema {
        Value::Object(keywords) if !keywords.is_empty() && dice.roll(4) > 0 => {
            let at = dice.roll(keywords.len());
            let mut keywords = keywords.clone();
            if let Some((name, value)) = keywords.iter_mut().nth(at) {
                match dice.roll(6) {
                    0 => {
                        let name = name.clone();
                        keywords.remove(&name);
                    }
                    _ => *value = changed(value, change, dice),
                }
            }
            Value::Object(keywords)
        }
        Value::Array(items) if !items.is_empty() => {
            let at = dice.roll(items.len());
            let mut items = items.clone();
            items[at] = changed(&items[at], change, dice);
            Value::Array(items)
        }
        Value::Number(number) => json!(number.as_f64().unwrap_or(0.0) + 1.0),
        Value::Object(_) => change.clone(),
        other => other.clone(),
    }
}

/// What a pattern of a branch leaves to `additionalProperties` beside it is the same on both sides.
#[test]
fn a_schema_with_patterns_beside_those_of_its_branches_is_compatible_with_itself() {
    let text = r#"{"patternProperties": {"^a": {}}, "additionalProperties": {"type": "null"},
        "anyOf": [{"patternProperties": {"b$": {"type": "boolean"}}}, {"uniqueItems": true}]}"#;
    assert_eq!(incompatibilities(&parse(text), &parse(text)), []);
}

/// What is said to be compatible takes every document that it is said to take.
#[test]
fn what_is_compatible_is_taken() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(800);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let counts = std::cell::Cell::new((0u32, 0u32));
    runner
        .run(&(rooted(), schema(), any::<u64>()), |(schema, change, seed)| {
            // Its branches may come to overlap, by the rules.
            if schema.to_string().contains("oneOf") || change.to_string().contains("oneOf") {
                return Ok(());
            }
            let mut dice = Dice(seed);
            let mut other = changed(&schema, &change, &mut dice);
            other["$schema"] = schema["$schema"].clone();
            let (Ok(writer), Ok(reader)) = (
                Schema::parse(Format::Json, &schema.to_string(), &[]),
                Schema::parse(Format::Json, &other.to_string(), &[]),
            ) else {
                return Ok(());
            };
            let again = parse(&schema.to_string());
            prop_assert_eq!(incompatibilities(&writer, &again), [], "with itself");
            let (mut compatible, mut tried) = counts.get();
            for (reader, writer, schema) in [(&reader, &writer, &schema), (&writer, &reader, &other)] {
                if !incompatibilities(reader, writer).is_empty() {
                    continue;
                }
                compatible += 1;
                let mut documents = Writer { root: schema, dice: Dice(seed), duplicates: false };
                for _ in 0..8 {
                    let text = documents.document(schema, 5);
                    if writer.validate(text.as_bytes()).is_ok() {
                        tried += 1;
                        prop_assert_eq!(reader.validate(text.as_bytes()), Ok(()), "{} {}", text, reader.canonical());
                    }
                }
            }
            counts.set((compatible, tried));
            Ok(())
        })
        .unwrap();
    let (compatible, tried) = counts.get();
    println!("{compatible} compatible pairs, {tried} documents");
    // Otherwise nothing was tried.
    assert!(compatible > cases / 4 && tried > cases / 2, "{compatible} compatible, {tried} documents");
}

proptest! {
    #[test]
    fn the_text_stays(schema in rooted()) {
        let Ok(parsed) = Schema::parse(Format::Json, &schema.to_string(), &[]) else { return Ok(()) };
        let again = parse(parsed.canonical());
        prop_assert_eq!(again.canonical(), parsed.canonical());
        prop_assert_eq!(parse(&parsed.normalized()).normalized(), again.normalized());
    }

    #[test]
    fn any_text_has_an_outcome(text in r##"([{}\[\],:]|"type"|"\$ref"|"#"|"anyOf"|"items"|"string"|\PC){0,24}"##) {
        let _ = Schema::parse(Format::Json, &text, &[]);
    }
}
