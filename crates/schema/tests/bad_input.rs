//! What must not get through, or not cost more than it should: schemas and documents made to break or to stall.

use std::time::{Duration, Instant};

use playhouse_schema::{Fields, Reason, SchemaError, Validator};
use serde_json::json;

fn compile(schema: &str) -> Result<Validator, SchemaError> {
    Validator::compile(schema, &Fields::default(), 32)
}

fn refused(schema: &str) -> String {
    compile(schema).expect_err("refused").to_string()
}

fn reasons(schema: &str, raw: &[u8]) -> Vec<Reason> {
    compile(schema).unwrap().check(raw).expect_err("refused")
}

fn soon<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    // Seconds against ages: no machine is that slow.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    result
}

#[test]
fn documents_have_one_outcome_whatever_their_schema() {
    // Decided by the scanner alone; by the reference alone.
    for schema in [r#"{"properties":{"n":{"type":"number"}}}"#, r#"{"allOf":[{"properties":{"n":{"type":"number"}}}]}"#]
    {
        for (raw, keyword, part) in [
            (&br#"{"n":1,"n":1}"#[..], "json", "duplicate key \"n\""),
            (br#"{"n":1,"\u006e":1}"#, "json", "duplicate key \"n\""),
            (br#"{"m":{"a":{},"a":{}}}"#, "json", "duplicate key \"a\""),
            (br#"{"m":"\ud800"}"#, "json", "lone surrogate"),
            (br#"{"m":"\udc00\ud800"}"#, "json", "lone surrogate"),
            (br#"{"\ud800":1}"#, "json", "lone surrogate"),
            (br#"{"n":1e309}"#, "json", "number out of range"),
            (br#"{"n":-1e999999999999}"#, "json", "number out of range"),
            (br#"{"n":NaN}"#, "json", "a JSON value expected"),
            (br#"{"n":-Infinity}"#, "json", "a digit expected"),
            (br#"{"n":0x10}"#, "json", "expected"),
            (b"{\"n\":\"\xed\xa0\x80\"}", "encoding", "not UTF-8"),
        ] {
            let reasons = reasons(schema, raw);
            let shown = String::from_utf8_lossy(raw);
            assert!(reasons[0].keyword == keyword && reasons[0].message.contains(part), "{shown}: {reasons:?}");
        }
        let validator = compile(schema).unwrap();
        for number in
            ["9007199254740993", "18446744073709551616", "123456789012345678901234567890", "1e308", "1e-999", "-0"]
        {
            assert!(validator.check(format!(r#"{{"n":{number}}}"#).as_bytes()).is_ok(), "{number}");
        }
        let huge = format!(r#"{{"n":1{}}}"#, "0".repeat(309));
        assert!(reasons(schema, huge.as_bytes())[0].message.contains("out of range"));
        let deep = format!("{}{}", r#"{"a":"#.repeat(33), "}".repeat(33));
        assert_eq!(reasons(schema, deep.replace(":}", ":1}").as_bytes())[0].keyword, "depth");
    }
}

#[test]
fn integers_beyond_doubles_are_compared_as_they_are() {
    let schema = r#"{"maximum":9007199254740992}"#;
    assert!(compile(schema).unwrap().check(b"9007199254740992").is_ok());
    assert_eq!(reasons(schema, b"9007199254740993")[0].keyword, "maximum");
    let schema = r#"{"const":9223372036854775807}"#;
    assert!(compile(schema).unwrap().check(b"9223372036854775807").is_ok());
    assert_eq!(reasons(schema, b"9223372036854775806")[0].keyword, "const");
}

#[test]
fn patterns_run_in_linear_time_or_are_refused_by_name() {
    for (pattern, part) in [
        ("^(?!no)", "look-around"),
        ("(?<=a)b", "look-around"),
        (r"(a)\1", "backreference"),
        ("(((a{1000}){1000}){1000})", "compiled"),
        ("(", ""),
    ] {
        for schema in [json!({"pattern": pattern}), json!({"items": {"patternProperties": {pattern: {}}}})] {
            let told = refused(&schema.to_string());
            assert!(told.contains(&format!("{pattern:?}")) && told.contains(part), "{told}");
        }
    }
    let schema = json!({"pattern": "^(a+)+$", "propertyNames": {"pattern": "(x+x+)+y"}}).to_string();
    let evil = format!("\"{}!\"", "a".repeat(100_000));
    let keys = format!("{{\"{}\":1}}", "x".repeat(10_000));
    soon(|| {
        assert_eq!(reasons(&schema, evil.as_bytes())[0].keyword, "pattern");
        assert!(!reasons(&schema, keys.as_bytes()).is_empty());
    });
}

#[test]
fn nothing_is_fetched() {
    for remote in ["http://127.0.0.1:9/a.json", "https://example.org/a.json#/x", "file:///etc/hostname"] {
        let told = refused(&json!({"properties": {"a": {"$ref": remote}}}).to_string());
        assert!(told.contains(remote.split('#').next().unwrap()) && told.contains("nothing is fetched"), "{told}");
    }
    assert!(matches!(compile(r#"{"$schema":"http://127.0.0.1:9/own"}"#), Err(SchemaError::Invalid(_))));
}

#[test]
fn references_that_lead_nowhere_are_refused() {
    for schema in [
        r##"{"$ref":"#"}"##,
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
        r##"{"anyOf":[{"$ref":"#"},{"type":"string"}]}"##,
        r##"{"properties":{"a":{"allOf":[{"$ref":"#/properties/a"}]}}}"##,
        r##"{"$id":"https://example.org/a","not":{"$ref":"https://example.org/a"}}"##,
        r##"{"$anchor":"me","if":{"$ref":"#me"}}"##,
    ] {
        assert!(matches!(compile(schema), Err(SchemaError::Circular(_))), "{schema}");
    }
    assert!(matches!(compile(r##"{"$ref":"#/$defs/none"}"##), Err(SchemaError::Invalid(_))));
    // Down the document, not in circles.
    let tree = compile(r##"{"type":"object","properties":{"left":{"$ref":"#"},"right":{"$ref":"#"}}}"##).unwrap();
    assert!(tree.check(br#"{"left":{"left":{},"right":{"left":{}}}}"#).is_ok());
    assert!(tree.check(br#"{"left":{"left":{},"right":{"left":5}}}"#).is_err());
}

/// `levels` definitions, each of which refers twice to the next in the given way.
fn doubling(levels: usize, step: impl Fn(&str) -> String) -> String {
    let parts: Vec<String> =
        (0..levels).map(|level| format!(r#""a{level}":{}"#, step(&format!("#/$defs/a{}", level + 1)))).collect();
    format!(r##"{{"$ref":"#/$defs/a0","$defs":{{{},"a{levels}":{{"type":"string"}}}}}}"##, parts.join(","))
}

#[test]
fn references_that_double_are_refused() {
    let step = |next: &str| format!(r#"{{"allOf":[{{"$ref":"{next}"}},{{"$ref":"{next}"}}]}}"#);
    soon(|| {
        assert!(matches!(compile(&doubling(60, step)), Err(SchemaError::TooBranched(_))));
        assert!(compile(&doubling(6, step)).unwrap().check(b"\"a\"").is_ok());
    });
    // One after the other, each over the same value or each a level down.
    let step = |next: &str| format!(r#"{{"$ref":"{next}"}}"#);
    assert!(matches!(compile(&doubling(10_000, step)), Err(SchemaError::TooLong(_))));
    let step = |next: &str| format!(r#"{{"properties":{{"x":{{"$ref":"{next}"}}}}}}"#);
    soon(|| assert!(compile(&doubling(700, step)).unwrap().check(br#"{"x":{"x":{}}}"#).is_ok()));
    // Doubling from level to level of a document ends with the document.
    let step = |next: &str| format!(r#"{{"properties":{{"x":{{"$ref":"{next}"}},"y":{{"$ref":"{next}"}}}}}}"#);
    soon(|| assert!(compile(&doubling(60, step)).unwrap().check(br#"{"x":{"y":{}}}"#).is_ok()));
}

#[test]
fn documents_that_would_be_looked_at_too_often_are_refused() {
    let schema = r##"{"allOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}},{"type":"array"}]}"##;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    soon(|| {
        let validator = compile(schema).unwrap();
        assert!(validator.check(nested(8).as_bytes()).is_ok());
        let reasons = validator.check(nested(30).as_bytes()).unwrap_err();
        assert_eq!(reasons[0].keyword, "depth");
        assert!(reasons[0].message.contains("under this schema"), "{reasons:?}");
    });
}

#[test]
fn schemas_are_bounded() {
    let deep = format!("{}{}", r#"{"items":"#.repeat(200), "}".repeat(200));
    assert!(matches!(compile(&deep.replace(":}", ":{}}")), Err(SchemaError::Json(_))));
    let large = json!({"description": "x".repeat(2 << 20)}).to_string();
    assert!(matches!(compile(&large), Err(SchemaError::TooLarge { .. })));
    for invalid in [r#"{"type":"text"}"#, r#"{"required":"a"}"#, r#"{"minLength":-1}"#, "[]", "5"] {
        assert!(compile(invalid).is_err(), "{invalid}");
    }
}
