//! The decoder against serde_json.

use bytes::Bytes;
use playhouse_engine::sql::{DecodeFailure, Decoder, Pipeline};
use playhouse_log::batch::{BatchBuilder, Compression, Records};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::{options, rows};

const ALL: &str = "
CREATE TABLE t (id TEXT NOT NULL, j JSON, s SMALLINT, i INTEGER, b BIGINT, r REAL, d DOUBLE PRECISION, f BOOLEAN,
  at TIMESTAMPTZ, day DATE, \"a/b\" TEXT NOT NULL)
WITH (connector = 'log', topic = 't', fields = 'id=the id, a/b=a/b');
CREATE TABLE out WITH (connector = 'lake', table = 'out');
INSERT INTO out SELECT * FROM t;";

fn decoder(sql: &str) -> Decoder {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(Pipeline::compile(sql, options())).unwrap_or_else(|error| panic!("{error}")).sources[0].decoder()
}

fn push(decoder: &mut Decoder, payload: &[u8]) -> Result<(), DecodeFailure> {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(0, None, Some(payload), &[]);
    let records = Records::decompress(&Bytes::from(batch.build()), 1 << 20).unwrap();
    decoder.push(0, &records.iter().next().unwrap().unwrap(), 0)
}

/// The failure of one payload that lacks nothing but what `fields` gets wrong.
fn failure(fields: &str) -> String {
    let payload = format!(r#"{{"the id":"1","a/b":"x",{fields}}}"#);
    push(&mut decoder(ALL), payload.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_type() {
    let mut decoder = decoder(ALL);
    let full = r#" { "the id" : "a\u00e9\n", "j": [1, {"k": null}], "s": -3, "i": 2.0, "b": 1e3, "r": 0.5, "d": -1e300,
        "f": true, "at": "2025-08-31T12:00:00.5+02:00", "day": "2025-08-31", "a\/b": {"x": 1}, "more": [{}] } "#;
    push(&mut decoder, full.as_bytes()).unwrap();
    push(&mut decoder, br#"{"a/b":"","the id":"first","the id":"last","s":null,"j":"text"}"#).unwrap();
    assert_eq!(decoder.len(), 2);
    assert_eq!(
        rows(&[decoder.finish()]),
        [
            "aé\n|[1, {\"k\": null}]|-3|2|1000|0.5|-1e300|true|2025-08-31T10:00:00.500Z|2025-08-31|{\"x\": 1}|0",
            "last|\"text\"|~|~|~|~|~|~|~|~||1",
        ]
    );
    assert!(decoder.is_empty());
    push(&mut decoder, br#"{"a/b":"y","the id":"next epoch"}"#).unwrap();
    assert_eq!(rows(&[decoder.finish()]), ["next epoch|~|~|~|~|~|~|~|~|~|y|0"]);
}

#[test]
fn the_name_of_a_schema_before_the_json_is_passed_over() {
    let mut decoder = decoder(ALL);
    let json = br#"{"the id":"1","a/b":"x"}"#;
    for name in [&b""[..], b"\0\0\0\0\x07", b"\x01sixteen bytes id"] {
        push(&mut decoder, &[name, json].concat()).unwrap();
    }
    assert_eq!(decoder.len(), 3);
    assert!(push(&mut decoder, b"\0\0\0").is_err() && push(&mut decoder, b"\x01{").is_err());
}

#[test]
fn failures() {
    assert_eq!(failure(r#""the id":null"#), "/the id: must be present and not null");
    assert_eq!(failure(r#""a/b":1"#), "/a~1b: expected a string, found a number");
    assert_eq!(failure(r#""s":40000"#), "/s: 40000 is out of range");
    assert_eq!(failure(r#""i":1.5"#), "/i: expected an integer, found 1.5");
    assert_eq!(failure(r#""b":9223372036854775808"#), "/b: 9223372036854775808 is out of range");
    assert_eq!(failure(r#""b":"1""#), "/b: expected an integer, found a string");
    assert_eq!(failure(r#""d":1e999"#), "/d: 1e999 is out of range");
    assert_eq!(failure(r#""r":1e99"#), "/r: 1e99 is out of range");
    assert_eq!(failure(r#""f":"true""#), "/f: expected a boolean, found a string");
    assert_eq!(failure(r#""at":"yesterday""#), "/at: \"yesterday\" is not an RFC 3339 timestamp");
    assert_eq!(failure(r#""day":5"#), "/day: expected a string, found a number");
    assert_eq!(failure(r#""the id":"\ud800""#), "/the id: half of a surrogate pair is no text");
    let mut decoder = decoder(ALL);
    for (payload, message) in [
        (&b"[]"[..], ": expected a JSON object"),
        (b"", ": expected a JSON object"),
        (b"{\"the id\":\"1\",\"a/b\":\"\"} x", ": more text after the object"),
        (b"{\"the id\":\"1\",}", ": expected a key in double quotes at byte 14"),
        (b"{\"the id\":\"\xff\"}", ": not UTF-8 at byte 11"),
        (b"{\"x\":[1,2}}", ": expected a comma or the closing bracket at byte 9"),
    ] {
        assert_eq!(push(&mut decoder, payload).unwrap_err().to_string(), message);
    }
    assert_eq!(push(&mut decoder, br#"{"the id":"1"}"#).unwrap_err().path, "/a~1b");
    assert!(decoder.is_empty());
    assert_eq!(decoder.finish().num_rows(), 0);
}

#[test]
fn a_record_without_a_value() {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(0, Some(b"key"), None, &[]);
    let records = Records::decompress(&Bytes::from(batch.build()), 1 << 20).unwrap();
    let failure = decoder(ALL).push(0, &records.iter().next().unwrap().unwrap(), 0).unwrap_err();
    assert_eq!(failure.to_string(), ": the record has no value");
}

const THREE: &str = "
CREATE TABLE t (a TEXT, b BIGINT, c JSON) WITH (connector = 'log', topic = 't');
CREATE TABLE out WITH (connector = 'lake', table = 'out');
INSERT INTO out SELECT * FROM t;";

/// What the decoder must make of a payload, by way of a DOM; `None` where it must fail.
fn expected(payload: &str) -> Option<String> {
    let Value::Object(object) = serde_json::from_str(payload).ok()? else { return None };
    let a = match object.get("a") {
        None | Some(Value::Null) => "~".to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(nested @ (Value::Object(_) | Value::Array(_))) => nested.to_string(),
        Some(_) => return None,
    };
    let b = match object.get("b") {
        None | Some(Value::Null) => "~".to_string(),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(integer) => integer.to_string(),
            None => {
                let float = number.as_f64()?;
                if float.fract() != 0.0 || float.abs() > 9_007_199_254_740_992.0 {
                    return None;
                }
                (float as i64).to_string()
            }
        },
        Some(_) => return None,
    };
    let c = match object.get("c") {
        None | Some(Value::Null) => "~".to_string(),
        Some(value) => value.to_string(),
    };
    Some(format!("{a}|{b}|{c}"))
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1_000_000i32..1_000_000).prop_map(|number| Value::from(f64::from(number) / 4.0)),
        "[ -~é\u{1F600}\n\"\\\\]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-d]{1,2}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_serde_json(events in prop::collection::vec(prop::collection::vec(("[abcd]", json()), 0..6), 1..8)) {
        let mut decoder = decoder(THREE);
        let mut good = Vec::new();
        for pairs in events {
            let text = Value::Object(pairs.into_iter().collect()).to_string();
            let wanted = expected(&text);
            prop_assert_eq!(push(&mut decoder, text.as_bytes()).is_ok(), wanted.is_some(), "{}", text);
            good.extend(wanted);
        }
        let batch = decoder.finish().project(&[0, 1, 2]).unwrap();
        prop_assert_eq!(rows(&[batch]), good);
    }

    #[test]
    fn a_damaged_payload_fails_or_decodes_as_serde_json_reads_it(event in json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut payload = Value::Object([("c".to_string(), event)].into_iter().collect()).to_string().into_bytes();
        let index = at.index(payload.len());
        payload[index] = byte;
        let mut decoder = decoder(THREE);
        if push(&mut decoder, &payload).is_ok()
            && let Err(error) = serde_json::from_slice::<Value>(&payload)
        {
            // Inside free-form text the grammar is what counts, not what a DOM can hold.
            let error = error.to_string();
            prop_assert!(error.contains("out of range") || error.contains("surrogate"), "{error}");
        }
    }
}
