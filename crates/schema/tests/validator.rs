use playhouse_schema::{Fields, Reason, SchemaError, Validator, Verdict};

const DEFAULT: &str = include_str!("../../../config/multimedia_events.schema.json");
const EVENT: &str = r#"{"id": "event1", "timestamp": "2025-08-31T12:00:00Z", "type": "video_view", "user": "user123",
 "session": "s-81", "content": "track-42", "position_ms": 61000, "watched_ms": 10000,
 "ip": "83.149.9.216", "user_agent": "Mozilla/5.0 …", "metadata": {"quality": "1080p"}}"#;

fn default() -> Validator {
    Validator::compile(DEFAULT, &Fields { key: Some("user".into()), id: Some("id".into()) }, 32).unwrap()
}

fn refused(validator: &Validator, raw: &[u8]) -> Vec<Reason> {
    validator.check(raw).expect_err("refused")
}

fn told(reasons: &[Reason]) -> Vec<(&str, &str)> {
    let mut told: Vec<_> = reasons.iter().map(|reason| (reason.path.as_str(), reason.keyword.as_str())).collect();
    told.sort_unstable();
    told
}

#[test]
fn the_scanner_decides_ordinary_events_by_itself() {
    for (from, to) in [
        ("", ""),
        ("event1", "événement"),
        ("83.149.9.216", "2001:db8::1"),
        ("Mozilla", r#"\"Mozilla\" \ud83d\ude00"#),
        (r#", "metadata": {"quality": "1080p"}"#, ""),
        (r#"{"quality": "1080p"}"#, r#"{"a":[1,2.5,-3e2,true,false,null,{"b":{}}],"b":[]}"#),
        ("\"session\"", "\"later\""),
    ] {
        let event = EVENT.replacen(from, to, 1);
        let scanned = default().scan(event.as_bytes(), 0).unwrap();
        assert_eq!((scanned.verdict, scanned.end), (Verdict::Valid, event.len()), "{event}");
    }
}

#[test]
fn finds_key_and_id() {
    let event = EVENT.replace("user123", r"us\u0065r\n");
    let checked = default().check(event.as_bytes()).unwrap();
    assert_eq!(checked.key.as_deref(), Some(&b"user\n"[..]));
    assert_eq!(&event[checked.id.unwrap()], "\"event1\"");

    let any = Validator::any(&Fields { key: Some("k".into()), id: Some("n".into()) }, 32);
    let checked = any.check(br#"{"n": 12, "k": 5}"#).unwrap();
    assert_eq!(checked.key.as_deref(), Some(&b"5"[..]));
    assert_eq!(checked.id, Some(6..8));
    assert!(any.check(br#"{"k": null, "inner": {"k": "no"}}"#).unwrap().key.is_none());
}

#[test]
fn every_reason_is_told() {
    let reasons =
        refused(&default(), br#"{"id": "", "timestamp": "yesterday", "type": 5, "position_ms": -1, "ip": "x"}"#);
    assert_eq!(
        told(&reasons),
        [
            ("", "required"),
            ("/id", "minLength"),
            ("/ip", "anyOf"),
            ("/position_ms", "minimum"),
            ("/timestamp", "format"),
            ("/type", "type")
        ]
    );
    assert!(reasons.iter().any(|reason| reason.message == "\"user\" is a required property"), "{reasons:?}");
}

#[test]
fn what_is_not_json_says_where() {
    let validator = default();
    for (raw, keyword, message) in [
        (&b"hello"[..], "json", "not JSON: a JSON value expected at byte 0"),
        (b"", "json", "not JSON: unexpected end at byte 0"),
        (b"{\"id\": \"a\"", "json", "not JSON: unexpected end at byte 10"),
        (b"{\"id\": \"a\",}", "json", "not JSON: a key in double quotes expected at byte 11"),
        (b"{\"id\": 01}", "json", "not JSON: \",\" or \"}\" expected at byte 8"),
        (b"{\"id\": \"a\nb\"}", "json", "not JSON: control character in a string at byte 9"),
        (b"{} {}", "json", "not JSON: trailing characters at byte 3"),
        (b"{\"id\": \"\xff\"}", "encoding", "not UTF-8 at byte 8"),
        (b"{\"id\": \"a\", \"id\": \"b\"}", "json", "duplicate key \"id\" at byte 12"),
        (b"{\"m\": {\"\\u0061\":1,\"a\":2}}", "json", "duplicate key \"a\" at byte 18"),
        (b"{\"id\": \"\\ud800x\"}", "json", "lone surrogate in a string at byte 8"),
        (b"{\"id\": 1e400}", "json", "number out of range at byte 7"),
    ] {
        let reasons = refused(&validator, raw);
        assert_eq!((&*reasons[0].keyword, &*reasons[0].message), (keyword, message));
    }
}

#[test]
fn many_keys_are_told_apart() {
    let any = Validator::any(&Fields::default(), 32);
    let mut text = String::from("{");
    for key in 0..5000 {
        text.push_str(&format!("\"k{key}\":{key},"));
    }
    assert!(any.check(format!("{text}\"last\":0}}").as_bytes()).is_ok());
    assert_eq!(refused(&any, format!("{text}\"k17\":0}}").as_bytes()).len(), 1);
}

#[test]
fn depth_is_bounded_and_neighbours_are_found() {
    let any = Validator::any(&Fields::default(), 32);
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(any.check(nested(32).as_bytes()).is_ok());
    assert_eq!(told(&refused(&any, nested(33).as_bytes())), [("", "depth")]);
    let deep = nested(2_000_000);
    assert_eq!(told(&refused(&any, deep.as_bytes())), [("", "depth")]);
    assert_eq!(told(&refused(&any, "{\"a\":".repeat(2_000_000).as_bytes())), [("", "json")]);

    let body = format!("{{\"a\":{}, \"b\": [1,{{\"c\":\"x\"}}]}}, 5", nested(100));
    let scanned = any.scan(body.as_bytes(), 0).unwrap();
    assert_eq!(scanned.end, body.len() - 3);
    assert!(matches!(scanned.verdict, Verdict::Flawed(_)));
}

#[test]
fn reasons_are_bounded() {
    let validator = Validator::compile(r#"{"items":{"type":"string"}}"#, &Fields::default(), 32).unwrap();
    let reasons = refused(&validator, format!("[{}1]", "1,".repeat(100_000)).as_bytes());
    assert_eq!(reasons.len(), 65);
    assert_eq!(reasons[64].message, "99937 more reasons");
    let reasons = refused(&validator, format!("[[\"{}\"]]", "é".repeat(100_000)).as_bytes());
    assert!(reasons[0].message.len() < 600, "{}", reasons[0].message.len());
}

#[test]
fn a_broken_schema_is_an_error() {
    let compile = |schema: &str| Validator::compile(schema, &Fields::default(), 32);
    assert!(matches!(compile("{"), Err(SchemaError::Json(_))));
    assert!(matches!(compile(r#"{"type": "text"}"#), Err(SchemaError::Invalid(_))));
    let remote = compile(r#"{"$ref": "http://127.0.0.1:9/schema.json"}"#);
    assert!(matches!(remote, Err(SchemaError::Remote(_))), "{remote:?}");
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    for schema in [
        r##"{"$ref":"#"}"##,
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
        r##"{"anyOf":[{"$ref":"#"},{"type":"string"}]}"##,
        r##"{"properties":{"a":{"$ref":"#"}}}"##,
    ] {
        match Validator::compile(schema, &Fields::default(), 32) {
            Ok(validator) => drop(validator.check(b"{\"a\":{\"a\":{}}}")),
            Err(error) => drop(error.to_string()),
        }
    }
}
