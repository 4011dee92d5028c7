//! The scanner against the reference: it must never accept what `serde_json` or `jsonschema` refuses.

use playhouse_schema::{Fields, Validator, Verdict};
use proptest::prelude::*;
use serde_json::{Value, json};

const DEFAULT: &str = include_str!("../../../config/multimedia_events.schema.json");

/// Inside the scanner's subset, at its edges, and outside it.
const OTHERS: [&str; 5] = [
    r##"{"type":["object","null"],"required":["id","position_ms"],"additionalProperties":false,
        "properties":{"id":{"format":"uuid"},"position_ms":{"type":"number","minimum":-5,"maximum":61000},
        "user":{"enum":["user123","é"]},"type":{"const":"play"},"metadata":{"type":"object","required":["a"],
        "properties":{"a":{"type":["integer","boolean"],"maximum":10},"b":{"items":{"type":"string","maxLength":2}}}}}}"##,
    r##"{"properties":{"ip":{"anyOf":[{"format":"ipv6"},{"type":"integer"},{"minLength":3,"maxLength":9}]},
        "user":{"pattern":"^user"},"metadata":{"minProperties":1},"content":false,"session":true}}"##,
    r##"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"id":{"$ref":"#/definitions/id"},
        "timestamp":{"type":"string","format":"date-time"},"watched_ms":{"type":"integer","minimum":0}},
        "definitions":{"id":{"type":"string","maxLength":8}}}"##,
    r##"{"$schema":"http://json-schema.org/draft-04/schema#","type":"object","properties":{"watched_ms":{"type":"integer"}}}"##,
    r##"{"oneOf":[{"required":["id"]},{"required":["user"]}],"maxProperties":6}"##,
];

fn schemas() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(DEFAULT), 2 => prop::sample::select(OTHERS.to_vec())]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "play",
            "user123",
            "é",
            "ab",
            "abc",
            "12345678",
            "123456789",
            "2025-08-31T12:00:00Z",
            "2025-08-31t12:00:00z",
            "2016-12-31T23:59:60Z",
            "2025-02-30T12:00:00Z",
            "2025-08-31T12:00:00.5+02:00",
            "2025-08-31T12:00:00",
            "83.149.9.216",
            "083.149.9.216",
            "::1",
            "fe80::1%eth0",
            "1.2.3",
            "::ffff:1.2.3.4",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
            "67e5504410b1426f9247bb680e5fe0c8",
            "\u{0}",
            "\"\\/",
            "😀",
        ])
        .prop_map(String::from),
        "[a-zé\"\\\\]{0,12}",
        (250usize..260, prop::sample::select(vec!["x", "é"])).prop_map(|(count, unit)| unit.repeat(count)),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            json!(0),
            json!(-1),
            json!(-0.0),
            json!(1.0),
            json!(61000),
            json!(61000.5),
            json!(60999.99),
            json!(-5),
            json!(1e300),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(9007199254740991i64),
            json!(9007199254740992i64),
            json!(10),
            json!(11),
        ]),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => text().prop_map(Value::from),
        2 => number(),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[abé\"]{0,2}", inner), 0..12)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The event of the design with a few fields replaced, taken out or added.
fn document() -> impl Strategy<Value = Value> {
    let names = vec![
        "id",
        "timestamp",
        "type",
        "user",
        "session",
        "content",
        "position_ms",
        "watched_ms",
        "ip",
        "user_agent",
        "metadata",
        "extra",
        "é",
        "a\"b",
    ];
    let change = (prop::sample::select(names), prop::option::weighted(0.85, value()));
    (prop::collection::vec(change, 0..4), prop::option::weighted(0.05, value())).prop_map(|(changes, other)| {
        let mut event = json!({
            "id": "event1", "timestamp": "2025-08-31T12:00:00Z", "type": "play", "user": "user123",
            "session": "s-81", "content": "track-42", "position_ms": 61000, "watched_ms": 10000,
            "ip": "83.149.9.216", "user_agent": "Mozilla/5.0", "metadata": {"quality": "1080p"},
        });
        for (name, value) in changes {
            let fields = event.as_object_mut().unwrap();
            match value {
                Some(value) => drop(fields.insert(name.to_owned(), value)),
                None => drop(fields.remove(name)),
            }
        }
        other.unwrap_or(event)
    })
}

fn written() -> impl Strategy<Value = String> {
    (document(), 0..4u8).prop_map(|(document, style)| match style {
        0 => serde_json::to_string_pretty(&document).unwrap(),
        1 => document.to_string().replace('é', "\\u00e9").replace('😀', "\\ud83d\\uDE00").replace("us", "\\u0075s"),
        _ => document.to_string(),
    })
}

fn reference(schema: &str) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(&serde_json::from_str(schema).unwrap()).unwrap()
}

fn fields() -> Fields {
    Fields { key: Some("user".into()), id: Some("id".into()) }
}

/// `Some(valid?)` by the reference; `None` where it is not JSON, or JSON that we refuse (duplicate keys).
fn by_reference(schema: &str, text: &str) -> Option<bool> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(reference(schema).is_valid(&value))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn decides_as_the_reference(schema in schemas(), text in written()) {
        let validator = Validator::compile(schema, &fields(), 64).unwrap();
        let valid = by_reference(schema, &text).expect("written by serde_json");
        let scanned = validator.scan(text.as_bytes(), 0).unwrap();
        prop_assert_eq!(scanned.end, text.len());
        prop_assert!(!matches!(scanned.verdict, Verdict::Flawed(_)), "{:?}", scanned.verdict);
        if scanned.verdict == Verdict::Valid {
            prop_assert!(valid);
        }
        let value: Value = serde_json::from_str(&text).unwrap();
        match validator.check(text.as_bytes()) {
            Ok(checked) => {
                prop_assert!(valid);
                let user = value.get("user");
                let key = checked.key.map(|key| String::from_utf8(key.into_owned()).unwrap());
                if let Some(user) = user.and_then(Value::as_str) {
                    prop_assert_eq!(key.as_deref(), Some(user));
                } else if user.is_none_or(|user| user.is_null() || user.is_object() || user.is_array()) {
                    prop_assert_eq!(key, None);
                }
                let id = checked.id.map(|id| serde_json::from_str::<Value>(&text[id]).unwrap());
                prop_assert_eq!(id.as_ref(), value.get("id"));
            }
            Err(reasons) => {
                prop_assert!(!valid && !reasons.is_empty());
                for reason in reasons {
                    prop_assert!(value.pointer(&reason.path).is_some(), "{:?}", reason);
                }
            }
        }
    }

    #[test]
    fn never_accepts_mangled_text_that_the_reference_refuses(
        schema in schemas(), text in written(), at in any::<prop::sample::Index>(), cut in 0..3usize,
        insert in prop::sample::select(vec![
            "", "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-", ".", "e9", "1e999", "\n", " ", "\u{1}", "\\ud800",
            "\\ud800\\ud800", "\\udc00", "tru", "null", "\\u12", "\\x", "é", "\"user\":\"x\",",
        ]),
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes.splice(at..(at + cut).min(bytes.len()), insert.bytes());
        let validator = Validator::compile(schema, &fields(), 64).unwrap();
        let accepted = validator.check(&bytes);
        let by_reference = std::str::from_utf8(&bytes).ok().and_then(|text| by_reference(schema, text));
        match &accepted {
            Ok(_) => prop_assert_eq!(by_reference, Some(true)),
            // Only a duplicate key (and depth, not reached here) is refused on top of what the reference refuses.
            Err(reasons) => prop_assert!(
                by_reference != Some(true) || reasons.iter().any(|reason| reason.message.starts_with("duplicate key")),
                "{:?} {}", reasons, String::from_utf8_lossy(&bytes)
            ),
        }
    }

    #[test]
    fn any_bytes_have_an_outcome(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\u019de-.tfn \xff\xc3\xa9".to_vec()), 0..40)) {
        let validator = Validator::any(&fields(), 8);
        let json = serde_json::from_slice::<Value>(&bytes).is_ok();
        if validator.check(&bytes).is_ok() {
            prop_assert!(json);
        }
    }
}
