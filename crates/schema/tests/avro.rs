//! Avro schemas as a registry stores and compares them.

use playhouse_schema::compatibility::incompatibilities;
use playhouse_schema::formats::{Format, NamedSchema, SCHEMA_BYTES_MAX, Schema, SchemaError};
use proptest::prelude::*;

fn avro(text: &str) -> Schema {
    Schema::parse(Format::Avro, text, &[]).unwrap()
}

fn refused(text: &str) -> SchemaError {
    Schema::parse(Format::Avro, text, &[]).unwrap_err()
}

#[test]
fn the_battery_of_compatibility_cases() {
    let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("data/avro-compatibility.json")).unwrap();
    for case in cases {
        let (reader, writer) = (avro(&case["reader"].to_string()), avro(&case["writer"].to_string()));
        let found = incompatibilities(&reader, &writer);
        let found: Vec<_> = found.iter().map(|found| format!("{} {}", found.kind, found.path)).collect();
        assert_eq!(serde_json::json!(found), case["expect"], "{}", case["case"]);
    }
}

#[test]
fn an_obstacle_is_told_as_registries_tell_it() {
    let reader = avro(r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#);
    let writer = avro(r#"{"type":"record","name":"A","fields":[]}"#);
    assert_eq!(
        incompatibilities(&reader, &writer)[0].to_string(),
        "{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'x' at path '/fields/0' in the reader \
         schema has no default value and is missing in the writer schema', additionalInfo:'x'}"
    );
}

/// Reader B.next takes writer B.next only if a.A takes A, which it does not; b.A does, so the union is no obstacle.
#[test]
fn what_was_concluded_from_a_pair_refuted_later_is_taken_back() {
    let reader = r#"[{"type":"record","name":"a.A","fields":[
        {"name":"b","type":{"type":"record","name":"B","namespace":"","fields":[{"name":"a","type":["null","a.A"]}]}},
        {"name":"x","type":"int"}]},
        {"type":"record","name":"b.A","fields":[]}, "B"]"#;
    let writer = r#"[{"type":"record","name":"A","fields":[
        {"name":"b","type":{"type":"record","name":"B","fields":[{"name":"a","type":["null","A"]}]}},
        {"name":"x","type":"string"}]}, "B"]"#;
    let found = incompatibilities(&avro(reader), &avro(writer));
    assert_eq!(found.iter().map(|found| found.kind.as_str()).collect::<Vec<_>>(), ["MISSING_UNION_BRANCH"]);
}

#[test]
fn the_text_is_as_avro_prints_it() {
    let text = r#" {"fields": [{"type": {"type": "string"}, "name": "s", "z": 1, "order": "ascending", "default": "é"},
        {"type": ["null", "n.E"], "name": "e", "doc": "which"}], "b": 2, "a": {"d": 1, "c": 2},
        "aliases": ["n.Old", "m.Older"], "name": "n.R", "type": "record"}"#;
    let reference =
        NamedSchema { name: "e.avsc".to_owned(), text: r#"{"type":"enum","name":"n.E","symbols":["A"]}"#.to_owned() };
    let schema = Schema::parse(Format::Avro, text, std::slice::from_ref(&reference)).unwrap();
    assert_eq!(
        schema.canonical(),
        r#"{"type":"record","name":"R","namespace":"n","fields":[{"name":"s","type":"string","default":"é","z":1},{"name":"e","type":["null","E"],"doc":"which"}],"b":2,"a":{"d":1,"c":2},"aliases":["Old","m.Older"]}"#
    );
    let normalized = schema.normalized();
    assert!(normalized.ends_with(r#""a":{"c":2,"d":1},"b":2}"#), "{normalized}");
    assert_eq!(Schema::parse(Format::Avro, &normalized, &[reference]).unwrap().normalized(), normalized);
    assert_eq!(avro("string").canonical(), r#""string""#);
}

#[test]
fn bad_schemas_are_refused_by_name() {
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(200), "}".repeat(200));
    assert!(matches!(refused(&deep), SchemaError::Json(error) if error.contains("recursion limit")));
    assert!(matches!(refused(&" ".repeat(SCHEMA_BYTES_MAX + 1)), SchemaError::TooLarge { .. }));
    assert!(
        matches!(refused(r#"{"type":"int","type":"long"}"#), SchemaError::Json(error) if error.contains("duplicate"))
    );
    assert!(matches!(refused(r#"{"type":"int","doc":"\ud800"}"#), SchemaError::Json(_)));
    assert!(matches!(refused(r#"{"type":"int","x":1e999}"#), SchemaError::Json(_)));
    assert!(matches!(refused(r#""nobody""#), SchemaError::UnknownName(name) if name == "nobody"));
    let endless = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"A"}]}"#;
    assert!(matches!(refused(endless), SchemaError::Endless(name) if name == "A"));
    for invalid in [
        "7",
        "{}",
        r#"["int","int"]"#,
        r#"["int",["null"]]"#,
        r#"{"type":"array"}"#,
        r#"{"type":"fixed","name":"F","size":-1}"#,
        r#"{"type":"enum","name":"E","symbols":["A","A"]}"#,
        r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#,
        r#"{"type":"record","name":"1","fields":[]}"#,
        r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"},{"name":"x","type":"int"}]}"#,
        r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int","default":9007199254740993}]}"#,
        r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#,
    ] {
        assert!(matches!(refused(invalid), SchemaError::Invalid(_)), "{invalid}");
    }
    let broken = NamedSchema { name: "b".to_owned(), text: "{".to_owned() };
    let error = Schema::parse(Format::Avro, "int", &[broken]).unwrap_err();
    assert!(matches!(error, SchemaError::Reference { name, .. } if name == "b"));
}

/// R0 {}, R1 {R0 a, R0 b}, R2 {R1 a, R1 b}, …
fn doublings(levels: usize) -> String {
    let mut records =
        vec![r#"{"type":"record","name":"R0","fields":[{"name":"z","type":"int","default":0}]}"#.to_owned()];
    for level in 1..levels {
        let inner = level - 1;
        records.push(format!(
            r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":"R{inner}"}},{{"name":"b","type":"R{inner}"}}]}}"#
        ));
    }
    format!("[{}]", records.join(","))
}

#[test]
fn doublings_cost_no_more_than_their_text() {
    let schema = avro(&doublings(100));
    assert_eq!(incompatibilities(&schema, &schema), []);
    let other = avro(&doublings(100).replace(r#""int","default":0"#, r#""string""#));
    assert!(!incompatibilities(&schema, &other).is_empty());
    let records = NamedSchema { name: "records".to_owned(), text: doublings(400) };
    let chain = Schema::parse(Format::Avro, r#""R399""#, &[records]).unwrap();
    assert_eq!(incompatibilities(&chain, &chain)[0].kind, "TOO_COMPLEX");
    let nothing = avro(&doublings(60).replace(r#""int","default":0"#, r#""null""#));
    assert_eq!(nothing.validate(&[118]).unwrap_err()[0].keyword, "size");
}

#[test]
fn a_payload_is_one_value_whole() {
    let schema = avro(
        r#"{"type":"record","name":"A","fields":[{"name":"s","type":"string"},
        {"name":"n","type":["null","int"]},{"name":"l","type":{"type":"array","items":"null"}}]}"#,
    );
    assert_eq!(schema.validate(b"\x04hi\x02\x0e\x00"), Ok(()));
    let reason = |payload: &[u8]| schema.validate(payload).unwrap_err().remove(0);
    assert_eq!((reason(b"\x04h").path, reason(b"").path), ("/s".to_owned(), "/s".to_owned()));
    assert_eq!(reason(b"\x02\xff\x00\x00").keyword, "encoding");
    assert_eq!(reason(b"\x00\x04\x00").path, "/n");
    assert_eq!(reason(b"\x00\x00\x00\x00").message, "1 bytes follow the value at byte 3");
    // 2^62 values of no bytes.
    assert_eq!(reason(b"\x00\x00\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01").keyword, "size");
    let list = avro(r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#);
    assert_eq!(list.validate(&[2; 100_000]).unwrap_err()[0].keyword, "depth");
}

/// Schemas as JSON; `$` stands for a fresh name.
fn schemas() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
            .prop_map(|name| format!("{name:?}")),
        Just(r#"{"type":"fixed","name":"$","size":3}"#.to_owned()),
        Just(r#"{"type":"enum","name":"$","symbols":["A","B"],"default":"B"}"#.to_owned()),
        Just(r#"{"type":"int","logicalType":"date"}"#.to_owned()),
    ];
    let schema = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| format!(r#"{{"type":"array","items":{items}}}"#)),
            inner.clone().prop_map(|values| format!(r#"{{"values":{values},"type":"map","x":1}}"#)),
            prop::collection::vec(inner, 0..4).prop_map(|fields| {
                let fields = fields.iter().enumerate();
                let fields: Vec<_> =
                    fields.map(|(at, field)| format!(r#"{{"type":{field},"name":"f{at}"}}"#)).collect();
                format!(r#"{{"type":"record","name":"n$.$","fields":[{}]}}"#, fields.join(","))
            }),
        ]
    });
    schema.prop_map(|text| {
        let parts = text.split('$').enumerate();
        parts.map(|(at, part)| if at == 0 { part.to_owned() } else { format!("N{at}{part}") }).collect()
    })
}

proptest! {
    #[test]
    fn a_schema_is_compatible_with_itself_and_its_text_stays(text in schemas()) {
        let schema = avro(&text);
        prop_assert_eq!(incompatibilities(&schema, &schema), []);
        let again = avro(schema.canonical());
        prop_assert_eq!(again.canonical(), schema.canonical());
        prop_assert_eq!(incompatibilities(&again, &schema), []);
    }

    #[test]
    fn any_text_and_any_payload_have_an_outcome(text in r#"([{}\[\],:]|"type"|"record"|"name"|"fields"|"A"|"int"|\PC){0,24}"#,
        schema in schemas(), payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Schema::parse(Format::Avro, &text, &[]);
        let _ = avro(&schema).validate(&payload);
    }
}
