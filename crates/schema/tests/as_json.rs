//! Payloads as JSON and back: what the specifications of Avro and Protobuf say of it, and that nothing is lost on the way.

use playhouse_schema::formats::{Format, Schema};
use playhouse_schema::wire::put_path;
use proptest::prelude::*;
use serde_json::{Value, json};

const SHOWN_MAX: usize = 1 << 20;

fn avro(text: impl ToString) -> Schema {
    Schema::parse(Format::Avro, &text.to_string(), &[]).unwrap()
}

fn protobuf(text: &str) -> Schema {
    Schema::parse(Format::Protobuf, text, &[]).unwrap()
}

fn bytes(schema: &Schema, json: impl ToString) -> Result<Vec<u8>, (String, String)> {
    let mut out = Vec::new();
    let written = schema.encode_json(&json.to_string(), &mut out);
    written.map_err(|reasons| (reasons[0].path.clone(), reasons[0].keyword.clone()))?;
    assert_eq!(schema.validate(&out), Ok(()), "what is written is valid");
    Ok(out)
}

fn shown(schema: &Schema, payload: &[u8]) -> Value {
    serde_json::from_str(&schema.to_json(&[], payload, SHOWN_MAX).unwrap()).unwrap()
}

/// The value in both directions.
#[track_caller]
fn same(schema: &Schema, json: Value, payload: &[u8]) {
    assert_eq!(bytes(schema, &json).as_deref(), Ok(payload), "{json}");
    assert_eq!(shown(schema, payload), json);
}

/// Avro 1.12, "Binary Encoding" and "JSON Encoding", with the examples that stand there.
#[test]
fn avro_is_written_as_its_specification_says() {
    same(&avro(r#""null""#), json!(null), b"");
    same(&avro(r#""boolean""#), json!(true), b"\x01");
    for (value, encoded) in [(0, &b"\x00"[..]), (-1, b"\x01"), (1, b"\x02"), (-64, b"\x7f"), (64, b"\x80\x01")] {
        same(&avro(r#""long""#), json!(value), encoded);
        same(&avro(r#""int""#), json!(value), encoded);
    }
    same(&avro(r#""long""#), json!(i64::MIN), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    same(&avro(r#""float""#), json!(1.5), &1.5f32.to_le_bytes());
    same(&avro(r#""double""#), json!(0.1), &0.1f64.to_le_bytes());
    same(&avro(r#""string""#), json!("foo"), b"\x06foo");
    same(&avro(r#""bytes""#), json!("\u{ff}\0a"), b"\x06\xff\0a");
    let record = json!({"type": "record", "name": "test", "fields": [
        {"name": "a", "type": "long"}, {"name": "b", "type": "string"}]});
    same(&avro(record), json!({"a": 27, "b": "foo"}), b"\x36\x06foo");
    same(&avro(json!({"type": "array", "items": "long"})), json!([3, 27]), b"\x04\x06\x36\x00");
    same(&avro(json!({"type": "map", "values": "int"})), json!({"a": 1}), b"\x02\x02a\x02\x00");
    same(&avro(json!({"type": "enum", "name": "Foo", "symbols": ["A", "B", "C", "D"]})), json!("D"), b"\x06");
    same(&avro(json!({"type": "fixed", "name": "F", "size": 2})), json!("\u{1}\u{80}"), b"\x01\x80");
    let union = avro(json!(["null", "string", {"type": "fixed", "name": "F", "namespace": "n.s", "size": 1}]));
    same(&union, json!(null), b"\x00");
    same(&union, json!({"string": "a"}), b"\x02\x02a");
    same(&union, json!({"n.s.F": "x"}), b"\x04x");
    // Blocks may come in any number, and with their sizes; numbers that JSON has not are texts.
    assert_eq!(shown(&avro(json!({"type": "array", "items": "long"})), b"\x01\x02\x06\x02\x36\x00"), json!([3, 27]));
    for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity")] {
        same(&avro(r#""double""#), json!(text), &value.to_le_bytes());
    }
}

#[test]
fn what_is_no_value_of_the_avro_schema_is_told_with_its_place() {
    let schema = avro(json!({"type": "record", "name": "R", "namespace": "n", "fields": [
        {"name": "i", "type": "int", "default": 1},
        {"name": "u", "type": ["null", {"type": "array", "items": {"type": "fixed", "name": "F", "size": 2}}]}]}));
    for (value, path, keyword) in [
        (json!({"u": null}), "", "required"),
        (json!({"i": 1, "u": null, "x": 1}), "", "additionalProperties"),
        (json!({"i": 1.5, "u": null}), "/i", "type"),
        (json!({"i": 1u64 << 31, "u": null}), "/i", "type"),
        (json!({"i": 1, "u": ["ab"]}), "/u", "type"),
        (json!({"i": 1, "u": {"list": ["ab"]}}), "/u", "type"),
        (json!({"i": 1, "u": {"array": ["ab", "abc"]}}), "/u/array/1", "type"),
        (json!({"i": 1, "u": {"array": ["ab", "a\u{100}"]}}), "/u/array/1", "type"),
        (json!([]), "", "type"),
    ] {
        assert_eq!(bytes(&schema, &value), Err((path.to_owned(), keyword.to_owned())), "{value}");
    }
    assert_eq!(bytes(&schema, r#"{"i":1,"i":1,"u":null}"#).unwrap_err().1, "json", "a duplicate key");
    assert_eq!(bytes(&avro(r#""float""#), 1e300).unwrap_err().1, "type", "beyond a float");
}

const MESSAGE: &str = r#"
    syntax = "proto3";
    package p;
    import "google/protobuf/timestamp.proto";
    message Play {
        message Place { double latitude = 1; }
        string user_name = 1;
        int64 position = 2;
        repeated Place places = 3;
        map<string, bytes> parts = 4;
        google.protobuf.Timestamp at = 5;
        oneof kind { bool live = 6; Quality quality = 7; }
        optional uint32 take = 8;
    }
    enum Quality { LOW = 0; HIGH = 1; }
    message Other { bool is_other = 1; }
"#;

/// The mapping of the Protobuf documentation ("ProtoJSON").
#[test]
fn protobuf_is_written_as_its_documentation_says() {
    let schema = protobuf(MESSAGE);
    let whole = json!({
        "userName": "u", "position": "9007199254740993", "places": [{"latitude": 1.5}], "parts": {"a": "/w=="},
        "at": "2025-08-31T12:00:00Z", "quality": "HIGH", "take": 0
    });
    let payload = bytes(&schema, &whole).unwrap();
    assert_eq!(
        schema.to_json(&[0], &payload[1..], SHOWN_MAX).map(|it| serde_json::from_str::<Value>(&it).unwrap()),
        Ok(whole)
    );
    // Fields by the names that the file has, numbers as numbers, and what is not set.
    let payload = bytes(&schema, json!({"user_name": "u", "position": 7})).unwrap();
    assert_eq!(payload, b"\x00\x0a\x01u\x10\x07");
    let shown: Value = serde_json::from_str(&schema.to_json(&[0], &payload[1..], SHOWN_MAX).unwrap()).unwrap();
    assert_eq!(shown, json!({"userName": "u", "position": "7", "places": [], "parts": {}, }));
    assert_eq!(schema.to_json(&[1], b"\x08\x01", SHOWN_MAX).as_deref(), Ok(r#"{"isOther":true}"#));

    for wrong in [json!({"nobody": 1}), json!({"position": "x"}), json!({"quality": "MIDDLING"}), json!([])] {
        assert_eq!(bytes(&schema, &wrong).unwrap_err().1, "protobuf", "{wrong}");
    }
    let required = protobuf("syntax = \"proto2\"; message M { required int32 x = 1; }");
    assert_eq!(bytes(&required, "{}"), Err(("/x".to_owned(), "required".to_owned())));
    assert_eq!(schema.to_json(&[0], b"\x08\x01", SHOWN_MAX).unwrap_err().keyword, "type");
    assert_eq!(schema.to_json(&[5], b"", SHOWN_MAX).unwrap_err().keyword, "type");
}

#[test]
fn json_stays_as_it_is_written() {
    let schema = Schema::parse(Format::Json, r#"{"title":"Play","required":["a"]}"#, &[]).unwrap();
    let text = r#"{"a": 1.50, "b":[ ]}"#;
    assert_eq!(bytes(&schema, text).unwrap(), text.as_bytes());
    assert_eq!(schema.to_json(&[], text.as_bytes(), SHOWN_MAX).as_deref(), Ok(text));
    assert_eq!(bytes(&schema, "{}").unwrap_err().1, "required");
    assert_eq!(schema.to_json(&[], b"{", SHOWN_MAX).unwrap_err().keyword, "json");
}

#[test]
fn schemas_have_names() {
    let name = |schema: Schema| schema.record_name();
    assert_eq!(name(avro(r#"{"type":"record","name":"a.b.C","fields":[]}"#)).as_deref(), Some("a.b.C"));
    assert_eq!(name(avro(r#""string""#)), None);
    assert_eq!(name(protobuf(MESSAGE)).as_deref(), Some("p.Play"));
    assert_eq!(name(Schema::parse(Format::Json, r#"{"title":"T"}"#, &[]).unwrap()).as_deref(), Some("T"));
    assert_eq!(name(Schema::parse(Format::Json, "true", &[]).unwrap()), None);
}

/// A few bytes may stand for a long text.
#[test]
fn what_is_shown_is_bounded() {
    let field = "f".repeat(1000);
    let empty = json!({"type": "record", "name": "R", "fields": [{"name": field, "type": "null"}]});
    let array = avro(json!({"type": "array", "items": empty}));
    let payload = b"\x80\x80\x04\x00";
    assert_eq!(array.validate(payload), Ok(()));
    assert_eq!(array.to_json(&[], payload, SHOWN_MAX).unwrap_err().keyword, "size");

    let fields: String = (1..=200).map(|at| format!("string a_rather_long_name_{at} = {at};")).collect();
    let message =
        protobuf(&format!("syntax = \"proto3\"; message L {{ repeated M all = 1; }} message M {{ {fields} }}"));
    let payload = b"\x0a\x00".repeat(1000);
    assert_eq!(message.to_json(&[0], &payload, SHOWN_MAX).unwrap_err().keyword, "size");
    let json = Schema::parse(Format::Json, "true", &[]).unwrap();
    assert_eq!(json.to_json(&[], b"12345", 4).unwrap_err().keyword, "size");
}

fn track() -> Schema {
    avro(json!({"type": "record", "name": "Track", "namespace": "t", "fields": [
        {"name": "id", "type": "long"},
        {"name": "gain", "type": "double"},
        {"name": "cover", "type": "bytes"},
        {"name": "next", "type": ["null", "Track"]},
        {"name": "marks", "type": {"type": "map", "values": ["null", "string", {"type": "array", "items": "int"}]}}]}))
}

fn value() -> impl Strategy<Value = Value> {
    let mark = prop_oneof![
        Just(json!(null)),
        any::<String>().prop_map(|text| json!({"string": text})),
        prop::collection::vec(any::<i32>(), 0..4).prop_map(|items| json!({"array": items})),
    ];
    let marks = prop::collection::btree_map(any::<String>(), mark, 0..4);
    let cover = prop::collection::vec(any::<u8>(), 0..6);
    let leaf = (any::<i64>(), -1e300..1e300f64, cover, marks).prop_map(|(id, gain, cover, marks)| {
        let cover: String = cover.into_iter().map(char::from).collect();
        json!({"id": id, "gain": gain, "cover": cover, "next": null, "marks": marks})
    });
    leaf.prop_recursive(5, 6, 1, |inner| {
        (inner.clone(), inner).prop_map(|(mut outer, next)| {
            outer["next"] = json!({"t.Track": next});
            outer
        })
    })
}

proptest! {
    #[test]
    fn avro_comes_back(value in value()) {
        let schema = track();
        let payload = bytes(&schema, &value).unwrap();
        prop_assert_eq!(shown(&schema, &payload), value);
    }

    /// Whatever is valid is shown, and what is shown is the same again.
    #[test]
    fn any_bytes_have_an_answer(payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let schema = track();
        let shown = schema.to_json(&[], &payload, SHOWN_MAX);
        prop_assert_eq!(shown.is_ok(), schema.validate(&payload).is_ok());
        if let Ok(json) = shown && !json.contains("NaN") {
            let mut again = Vec::new();
            if schema.encode_json(&json, &mut again).is_ok() {
                prop_assert_eq!(schema.to_json(&[], &again, SHOWN_MAX), Ok(json));
            }
        }
        let messages = protobuf(MESSAGE);
        let mut whole = Vec::new();
        put_path(&[0], &mut whole);
        whole.extend_from_slice(&payload);
        if messages.validate(&whole).is_err() {
            prop_assert!(messages.to_json(&[0], &payload, SHOWN_MAX).is_err());
        } else {
            // Not all that is a message is JSON as well: a time beyond the calendar, say.
            let _ = messages.to_json(&[0], &payload, SHOWN_MAX);
        }
    }

    #[test]
    fn any_text_has_an_answer(text in ".{0,40}") {
        let mut out = Vec::new();
        for schema in [track(), protobuf(MESSAGE), Schema::parse(Format::Json, "true", &[]).unwrap()] {
            let _ = schema.encode_json(&text, &mut out);
        }
    }
}
