//! What patches and expressions make of events, and what they cannot be made to do.

use std::time::{Duration, Instant};

use playhouse_repair::{ChangeError, Event, Expression, InvalidChange, JsonPatch};
use serde_json::json;

const BYTES_MAX: usize = 1 << 20;

fn event(raw: &[u8]) -> Event<'_> {
    Event { bad_id: "0-7", topic: "clicks", received_at_ms: 1_756_641_600_123, raw }
}

fn patched(patch: serde_json::Value, raw: &str) -> Result<String, ChangeError> {
    let patch = JsonPatch::new(patch, BYTES_MAX).unwrap();
    patch.apply(&event(raw.as_bytes())).map(|bytes| String::from_utf8(bytes).unwrap())
}

fn sql(expression: &str) -> Result<Expression, InvalidChange> {
    Expression::new(expression, BYTES_MAX, Duration::from_millis(200))
}

fn changed(expression: &str, raw: &[u8]) -> Result<String, ChangeError> {
    let bytes = sql(expression).unwrap_or_else(|error| panic!("{expression}: {error}")).apply(&event(raw))?;
    Ok(String::from_utf8(bytes).unwrap())
}

#[test]
fn every_operation_of_rfc_6902() {
    let raw = r#"{"user": 7, "tags": ["a", "b"], "old": {"x": 1}}"#;
    for (patch, after) in [
        (json!([{"op": "replace", "path": "/user", "value": "7"}]), r#"{"old":{"x":1},"tags":["a","b"],"user":"7"}"#),
        (json!([{"op": "add", "path": "/tags/-", "value": null}]), r#"{"old":{"x":1},"tags":["a","b",null],"user":7}"#),
        (json!([{"op": "remove", "path": "/old"}]), r#"{"tags":["a","b"],"user":7}"#),
        (json!([{"op": "move", "from": "/old/x", "path": "/x"}]), r#"{"old":{},"tags":["a","b"],"user":7,"x":1}"#),
        (json!([{"op": "copy", "from": "/tags/0", "path": "/old"}]), r#"{"old":"a","tags":["a","b"],"user":7}"#),
        (json!([{"op": "add", "path": "/tags/1", "value": "x"}]), r#"{"old":{"x":1},"tags":["a","x","b"],"user":7}"#),
        (json!([{"op": "add", "path": "", "value": []}]), "[]"),
        (json!([{"op": "move", "from": "/user", "path": "/user"}]), r#"{"old":{"x":1},"tags":["a","b"],"user":7}"#),
        (json!([{"op": "test", "path": "/old", "value": {"x": 1.0}}]), r#"{"old":{"x":1},"tags":["a","b"],"user":7}"#),
        (
            json!([{"op": "test", "path": "/user", "value": 7, "comment": "ignored"}]),
            r#"{"old":{"x":1},"tags":["a","b"],"user":7}"#,
        ),
        (json!([]), r#"{"old":{"x":1},"tags":["a","b"],"user":7}"#),
    ] {
        assert_eq!(patched(patch.clone(), raw).unwrap(), after, "{patch}");
    }
    let failing = json!([{"op": "add", "path": "/ok", "value": 1}, {"op": "test", "path": "/user", "value": "7"}]);
    assert!(matches!(patched(failing, raw), Err(ChangeError::Operation { index: 1, .. })));
    for operation in [
        json!({"op": "remove", "path": "/absent"}),
        json!({"op": "replace", "path": "/absent", "value": 1}),
        json!({"op": "add", "path": "/absent/x", "value": 1}),
        json!({"op": "add", "path": "/tags/3", "value": 1}),
        json!({"op": "add", "path": "/user/x", "value": 1}),
        json!({"op": "copy", "from": "/absent", "path": "/x"}),
        json!({"op": "move", "from": "/old", "path": "/old/x/y"}),
        json!({"op": "test", "path": "/absent", "value": null}),
    ] {
        let outcome = patched(json!([operation]), raw);
        assert!(matches!(outcome, Err(ChangeError::Operation { index: 0, .. })), "{operation}: {outcome:?}");
    }
}

#[test]
fn the_name_of_a_schema_stays_before_the_event() {
    let patch = JsonPatch::new(json!([{"op": "remove", "path": "/a"}]), BYTES_MAX).unwrap();
    for name in [&b"\0\0\0\0\x07"[..], b"\x010123456789abcdef"] {
        assert_eq!(patch.apply(&event(&[name, b"{\"a\": 1}"].concat())).unwrap(), [name, b"{}"].concat());
    }
    for cut in [&b"\0"[..], b"\0\0\0\0\x07", b"\x01"] {
        assert!(matches!(patch.apply(&event(cut)), Err(ChangeError::NotJson(_))));
    }
}

#[test]
fn a_patch_that_is_none_is_told_at_once() {
    for wrong in [
        json!({}),
        json!([{"op": "ad", "path": "/a"}]),
        json!([{"op": "remove"}]),
        json!([{"op": "remove", "path": "a"}]),
    ] {
        assert!(matches!(JsonPatch::new(wrong.clone(), BYTES_MAX), Err(InvalidChange::Patch(_))), "{wrong}");
    }
    let many = serde_json::Value::Array(vec![json!({"op": "test", "path": "", "value": 1}); 1001]);
    assert!(matches!(JsonPatch::new(many, BYTES_MAX), Err(InvalidChange::TooManyOperations { found: 1001, .. })));
}

#[test]
fn a_patch_neither_rounds_nor_explodes() {
    let add = json!([{"op": "add", "path": "/a", "value": 1}]);
    assert!(matches!(patched(add.clone(), "{\"a\""), Err(ChangeError::NotJson(_))));
    let error = patched(add, r#"{"n": 123456789012345678901}"#).unwrap_err();
    assert!(error.to_string().contains("123456789012345678901"), "{error}");
    let doubling: Vec<_> = (0..100).map(|n| json!({"op": "copy", "from": "", "path": format!("/{}", n % 2)})).collect();
    let doubling = serde_json::Value::Array(doubling);
    assert!(matches!(patched(doubling, r#"{"text": "lorem ipsum"}"#), Err(ChangeError::TooLarge(BYTES_MAX))));
}

#[test]
fn expressions_see_the_event() {
    let raw = br#"{"id": "a",  "n": 123456789012345678901, "user": 7}"#;
    for (expression, after) in [
        ("json_set(raw, '$.user', 'u')", r#"{"id":"a","n":123456789012345678901,"user":"u"}"#),
        (
            "json_set(raw, '$.user', CAST(raw ->> 'user' AS TEXT)) -- quoted",
            r#"{"id":"a","n":123456789012345678901,"user":"7"}"#,
        ),
        (
            "json_object('at', received_at, 'ms', received_at_ms)",
            r#"{"at":"2025-08-31T12:00:00.123Z","ms":1756641600123}"#,
        ),
        ("topic || '/' || bad_id", "clicks/0-7"),
        ("(SELECT json_group_object(key, value) FROM json_each(raw) WHERE key <> 'n')", r#"{"id":"a","user":7}"#),
        (
            "CASE WHEN json_valid(raw) THEN replace(raw, '7', '8') ELSE raw END",
            r#"{"id": "a",  "n": 123456889012345688901, "user": 8}"#,
        ),
        ("x'6869'", "hi"),
    ] {
        assert_eq!(changed(expression, raw).unwrap(), after, "{expression}");
    }
    assert_eq!(changed("hex(raw) || typeof(raw)", b"\xff").unwrap(), "FFblob");
}

#[test]
fn an_expression_gives_the_event_or_says_why_not() {
    for (expression, raw, told) in [
        ("NULL", "{}", "NULL"),
        ("raw ->> 'absent'", "{}", "NULL"),
        ("1 + 1", "{}", "a number"),
        ("json_set(raw, '$.a', 1)", "no json", "malformed JSON"),
    ] {
        let error = changed(expression, raw.as_bytes()).expect_err(expression);
        assert!(error.to_string().contains(told), "{expression}: {error}");
    }
}

#[test]
fn nothing_but_expressions_gets_in() {
    for wrong in [
        "",
        "1, 2",
        "json_sett(raw, '$.a', 1)",
        "\"raww\"",
        "missing",
        "raw) FROM event; DROP TABLE event; SELECT (1",
        "raw) ; SELECT (1",
        "1); ATTACH DATABASE '/tmp/x.db' AS x; SELECT (1",
        "load_extension('/tmp/x.so')",
        "(SELECT * FROM pragma_database_list)",
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)",
        "readfile('/etc/passwd')",
        "?",
        "writefile('/tmp/x', raw)",
    ] {
        match sql(wrong) {
            Err(InvalidChange::Sql(_)) => {}
            // A further parameter is nobody's.
            Ok(expression) => assert!(expression.apply(&event(b"{}")).is_err(), "{wrong:?} is let in"),
            Err(other) => panic!("{wrong:?}: {other}"),
        }
    }
}

#[test]
fn size_and_time_are_limited() {
    for large in ["zeroblob(1 << 30)", "replace(hex(zeroblob(1 << 20)), '0', raw)", "hex(zeroblob(600000))"] {
        let outcome = changed(large, b"{\"a\": \"long enough\"}").map(|made| made.len());
        assert!(matches!(outcome, Err(ChangeError::TooLarge(BYTES_MAX))), "{large}: {outcome:?}");
    }
    // SQLite's own answer to a width without measure.
    assert!(matches!(changed("printf('%1000000000s', 'x')", b"{}"), Err(ChangeError::NoText("NULL"))));
    let items = format!("[{}0]", "0,".repeat(2000));
    let began = Instant::now();
    let slow = "(SELECT count(*) || '' FROM json_each(raw) a, json_each(raw) b, json_each(raw) c)";
    assert!(matches!(changed(slow, items.as_bytes()), Err(ChangeError::TooSlow(200))));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // The sandbox is as good as before.
    let expression = sql("CASE WHEN raw = 'fast' THEN raw ELSE (SELECT count(*) || '' FROM json_each(raw) a, json_each(raw) b, json_each(raw) c) END").unwrap();
    assert!(expression.apply(&event(items.as_bytes())).is_err());
    assert_eq!(expression.apply(&event(b"fast")).unwrap(), b"fast");
}
