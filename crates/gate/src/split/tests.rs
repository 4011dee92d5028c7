use playhouse_schema::Fields;
use proptest::prelude::*;

use super::*;

const MAX_BYTES: usize = 200;

/// Every piece: its text and the keyword of its first reason.
fn split(body: &[u8]) -> Vec<(String, String)> {
    let validator =
        Validator::compile(r#"{"type":"object","required":["id"]}"#, &Fields { key: None, id: Some("id".into()) }, 8)
            .unwrap();
    Splitter::new(&validator, body, MAX_BYTES)
        .map(|piece| {
            let raw = String::from_utf8_lossy(&body[piece.range]).into_owned();
            (raw, piece.verdict.err().map_or_else(|| "ok".to_owned(), |(_, reasons)| reasons[0].keyword.clone()))
        })
        .collect()
}

fn check(body: &str, expected: &[(&str, &str)]) {
    let pieces = split(body.as_bytes());
    let pieces: Vec<_> = pieces.iter().map(|(raw, keyword)| (raw.as_str(), keyword.as_str())).collect();
    assert_eq!(pieces, expected, "{body:?}");
}

const A: &str = r#"{"id":"a"}"#;
const B: &str = r#"{"id":"b", "n":[1,{"x":"]},{"}]}"#;
const PRETTY: &str = "{\n  \"id\": \"c\",\n  \"list\": [\n    {\"id\": 1}\n  ]\n}";

#[test]
fn one_object_an_array_or_lines() {
    check(A, &[(A, "ok")]);
    check(&format!(" \r\n{A}\n "), &[(A, "ok")]);
    check(&format!("\u{feff}{A}"), &[(A, "ok")]);
    check(PRETTY, &[(PRETTY, "ok")]);
    check(&format!("{PRETTY}\n{PRETTY}\n{A}"), &[(PRETTY, "ok"), (PRETTY, "ok"), (A, "ok")]);
    check(&format!("{A}\r\n\r\n  \n{B}\r\n"), &[(A, "ok"), (B, "ok")]);
    check(&format!(" [ {A} ,\n{PRETTY},{B}]\n"), &[(A, "ok"), (PRETTY, "ok"), (B, "ok")]);
    for nothing in ["", " \n\r\n", "\u{feff}", "[]", " [ ] "] {
        check(nothing, &[]);
    }
}

#[test]
fn a_broken_line_spoils_only_itself() {
    for broken in [
        "{\"id\":\"x\"",
        "{\"id\":\"x",
        "{",
        "}",
        "hello",
        "{\"id\":\"x\"} {\"id\":\"y\"}",
        "{\"id\":\"x\"},",
        "\"",
        "[",
    ] {
        check(&format!("{A}\n{broken}\n{B}"), &[(A, "ok"), (broken, "json"), (B, "ok")]);
        if broken != "[" {
            check(&format!("{broken}\r\n{A}\n{B}"), &[(broken, "json"), (A, "ok"), (B, "ok")]);
        }
        check(&format!("{A}\n{broken}"), &[(A, "ok"), (broken, "json")]);
    }
    check(&format!("{A}\n5\n{B}"), &[(A, "ok"), ("5", "type"), (B, "ok")]);
    check(&format!("{{\"x\":1}}\n{A}"), &[("{\"x\":1}", "required"), (A, "ok")]);
}

#[test]
fn a_broken_object_over_many_lines_is_one_event() {
    let broken = PRETTY.replace(']', "");
    check(&broken, &[(&broken, "json")]);
    let cut = &PRETTY[..PRETTY.len() - 1].trim_end();
    check(cut, &[(cut, "json")]);
}

#[test]
fn a_broken_array_keeps_what_came_before() {
    check(&format!("[{A},{B},{{\"id\":}},{A}]"), &[(A, "ok"), (B, "ok"), (&format!("{{\"id\":}},{A}]"), "json")]);
    check(&format!("[{A}"), &[(A, "ok"), ("", "json")]);
    check(&format!("[{A},"), &[(A, "ok"), ("", "json")]);
    check(&format!("[{A},]"), &[(A, "ok"), ("]", "json")]);
    check(&format!("[{A} {B}]"), &[(A, "ok"), (&format!("{B}]"), "json")]);
    check(&format!("[{A}] {B}"), &[(A, "ok"), (B, "json")]);
    check("[", &[("", "json")]);
    check("[,", &[(",", "json")]);
}

#[test]
fn flaws_do_not_reach_the_neighbours() {
    let deep = format!("{{\"id\":{}{}}}", "[".repeat(9), "]".repeat(9));
    let large = format!("{{\"id\":\"{}\"}}", "x".repeat(MAX_BYTES));
    for (bad, keyword) in [
        (&*deep, "depth"),
        (&*large, "size"),
        (r#"{"id":1,"id":2}"#, "json"),
        (r#"{"id":"\ud800"}"#, "json"),
        (r#"{"id":1e999}"#, "json"),
    ] {
        check(&format!("[{A},{bad},{B}]"), &[(A, "ok"), (bad, keyword), (B, "ok")]);
        check(&format!("{A}\n{bad}\n{B}"), &[(A, "ok"), (bad, keyword), (B, "ok")]);
    }
}

#[test]
fn hostile_bodies_take_linear_time() {
    // Each line alone would be read to the end of the body, were it not for its own end.
    for line in ["[", "{\"a\":", "{\"a\":[", "\"", "{\"a\":1,"] {
        let body = format!("{A}\n{}", format!("{line}\n").repeat(200_000));
        let keywords: Vec<_> = split(body.as_bytes()).into_iter().map(|(_, keyword)| keyword).collect();
        assert_eq!(keywords.len(), 200_001);
        assert!(keywords[1..].iter().all(|keyword| keyword == "json"), "{line}");
        assert_eq!(split(&body.as_bytes()[A.len() + 1..]).len(), 1, "{line}");
    }
}

#[test]
fn other_encodings_are_told() {
    let latin1 = [A.as_bytes(), b"\n{\"id\":\"\xe9\"}\n", B.as_bytes()].concat();
    let keywords: Vec<_> = split(&latin1).into_iter().map(|(_, keyword)| keyword).collect();
    assert_eq!(keywords, ["ok", "encoding", "ok"]);
    let utf16: Vec<u8> =
        [0xfeff].into_iter().chain(format!("{A}\n{B}").encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(split(&utf16)[0].1, "encoding");
    assert_eq!(split(b"\x1f\x8b\x08\x00\x00")[0].1, "encoding");
}

#[test]
fn positions_are_told() {
    let validator = Validator::any(&Fields::default(), 8);
    let reason = |body: &str| match Splitter::new(&validator, body.as_bytes(), 100).last().unwrap().verdict {
        Err((_, reasons)) => reasons[0].message.clone(),
        Ok(()) => panic!("valid"),
    };
    assert_eq!(reason("{}\n{\"a\" 1}"), "not JSON: \":\" expected at byte 5");
    assert_eq!(reason("[{}, {\"a\" 1}]"), "not JSON: \":\" expected at byte 5 (byte 10 of the request)");
}

fn event() -> impl Strategy<Value = String> {
    let text = "[a-z{}\\[\\],: é]{0,8}";
    (text, prop::option::of(text), any::<bool>()).prop_map(|(id, other, pretty)| {
        let value = serde_json::json!({"id": id, "other": other, "list": [{"a": other}, [], {}]});
        if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() }
    })
}

proptest! {
    #[test]
    fn events_come_back_as_sent(events in prop::collection::vec(event(), 1..8), crlf: bool) {
        let expected: Vec<_> = events.iter().map(|event| (event.clone(), "ok".to_owned())).collect();
        let line_end = if crlf { "\r\n" } else { "\n" };
        prop_assert_eq!(&split(events.join(line_end).as_bytes()), &expected);
        prop_assert_eq!(&split(format!("[{}]", events.join(&format!(",{line_end}"))).as_bytes()), &expected);
    }

    #[test]
    fn a_mangled_line_spoils_only_itself(
        lines in prop::collection::vec(event(), 3..8), which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(), byte in prop::sample::select(b"{}[]\",:\\x0\x01\xff".to_vec()),
    ) {
        let mut lines: Vec<Vec<u8>> = lines
            .iter()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap().to_string().into_bytes())
            .collect();
        // The first line shows that events are lines.
        let which = 1 + which.index(lines.len() - 1);
        let at = at.index(lines[which].len());
        lines[which][at] = byte;
        let pieces = split(&lines.join(&b'\n'));
        prop_assert_eq!(pieces.len(), lines.len());
        for (number, (piece, line)) in pieces.iter().zip(&lines).enumerate() {
            prop_assert!(number == which || piece == &(String::from_utf8(line.clone()).unwrap(), "ok".into()));
        }
    }

    #[test]
    fn any_bytes_are_taken_apart(body in prop::collection::vec(prop::sample::select(b"{}[]\",:\\u0a\n\r \xff\xc3\xa9".to_vec()), 0..60)) {
        let validator = Validator::any(&Fields::default(), 4);
        let mut end = 0;
        for piece in Splitter::new(&validator, &body, 100) {
            prop_assert!(piece.range.start >= end && piece.range.end <= body.len());
            end = piece.range.end;
        }
    }
}
