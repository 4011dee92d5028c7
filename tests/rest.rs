//! The ingest door as an HTTP client sees it: every form of body, every way to be wrong, and what is kept of it.

use std::io::Write;

use playhouse_testkit::http::{self, Response};
use playhouse_testkit::{Playhouse, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

fn start() -> (tempfile::TempDir, Playhouse) {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    (directory, playhouse)
}

fn event(id: &str) -> Value {
    json!({"id": id, "timestamp": "2025-08-31T12:00:00Z", "type": "play", "user": format!("user of {id}")})
}

fn send(playhouse: &Playhouse, headers: &[(&str, &str)], body: &[u8]) -> Response {
    http::post(playhouse.ingest(), "/events", headers, body).unwrap()
}

fn accepted(response: &Response) -> u64 {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json()["rejected"], 0, "{}", response.text());
    response.json()["accepted"].as_u64().unwrap()
}

/// The ids that SQL knows, sorted.
fn ids(playhouse: &Playhouse) -> Vec<String> {
    let rows = playhouse.query("select id from events order by id");
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn takes_an_object_an_array_and_ndjson_plain_and_compressed() {
    let (_directory, playhouse) = start();
    let ndjson = |ids: &[&str]| ids.iter().map(|id| format!("{}\n", event(id))).collect::<String>().into_bytes();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };

    // As `curl -d @event.json` sends it.
    let form = [("Content-Type", "application/x-www-form-urlencoded"), ("User-Agent", "curl/7.88.1")];
    let response = send(&playhouse, &form, event("object").to_string().as_bytes());
    assert_eq!(accepted(&response), 1);
    let result = &response.json()["results"][0];
    assert_eq!(
        (&result["index"], &result["id"], &result["status"], &result["topic"]),
        (&json!(0), &json!("object"), &json!("accepted"), &json!("multimedia_events"))
    );
    assert!(result["partition"].is_u64() && result["offset"] == 0, "{result}");

    let pretty = serde_json::to_vec_pretty(&json!([event("array 1"), event("array 2")])).unwrap();
    assert_eq!(accepted(&send(&playhouse, &[], &pretty)), 2);
    assert_eq!(accepted(&send(&playhouse, &[], &ndjson(&["line 1", "line 2", "line 3"]))), 3);
    assert_eq!(accepted(&send(&playhouse, &[("Content-Encoding", "gzip")], &gzip(&ndjson(&["gzip 1", "gzip 2"])))), 2);
    let zstd = zstd::encode_all(&*ndjson(&["zstd"]), 3).unwrap();
    assert_eq!(accepted(&send(&playhouse, &[("Content-Encoding", "zstd")], &zstd)), 1);

    playhouse.in_sight();
    let expected = ["array 1", "array 2", "gzip 1", "gzip 2", "line 1", "line 2", "line 3", "object", "zstd"];
    assert_eq!(ids(&playhouse), expected);
    let rows = playhouse.query("select ip, user_agent, ingest_id from events where id = 'object'");
    let place = format!("multimedia_events/{}/{}", result["partition"], result["offset"]);
    let shown: Vec<&str> = rows[0].iter().flatten().map(String::as_str).collect();
    assert_eq!(shown, ["127.0.0.1", "curl/7.88.1", &place], "what the payload leaves out comes from the connection");
    // Byte for byte as sent.
    let raw = playhouse.query("select raw from events_raw where topic || '/' || partition || '/' || \"offset\" = (select ingest_id from events where id = 'object')");
    assert_eq!(raw[0][0].as_deref(), Some(&*format!("\\x{}", hex(event("object").to_string().as_bytes()))));
}

#[test]
fn an_invalid_event_has_every_reason_and_its_neighbours_are_accepted() {
    let (_directory, playhouse) = start();
    let bad = json!({"id": "", "timestamp": "yesterday", "user": 7, "position_ms": -1.5, "ip": "nowhere"});
    let response = send(&playhouse, &[], json!([event("before"), bad, event("after")]).to_string().as_bytes());
    assert_eq!(response.status, 200);
    let answer = response.json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(1)));
    let statuses: Vec<&Value> = answer["results"].as_array().unwrap().iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, ["accepted", "rejected", "accepted"]);

    let reasons = &answer["results"][1]["reasons"];
    let mut found: Vec<(&str, &str)> = reasons
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| (reason["path"].as_str().unwrap(), reason["keyword"].as_str().unwrap()))
        .collect();
    found.sort_unstable();
    let expected = [
        ("", "required"),
        ("/id", "minLength"),
        ("/ip", "anyOf"),
        ("/position_ms", "minimum"),
        ("/position_ms", "type"),
        ("/timestamp", "format"),
        ("/user", "type"),
    ];
    assert_eq!(found, expected);
    let message = |path: &str| {
        let reason = reasons.as_array().unwrap().iter().find(|reason| reason["path"] == path).unwrap();
        reason["message"].as_str().unwrap().to_owned()
    };
    assert!(message("").contains("\"type\""), "the message names what is missing: {}", message(""));
    assert!(message("/timestamp").contains("yesterday"), "the message shows what was sent: {}", message("/timestamp"));

    // Kept, as it was sent and with the same reasons, where SQL finds it.
    let rows =
        playhouse.query("select topic, source_protocol, source_address, stage, reasons, raw, attempts from bad_events");
    let [row] = rows.as_slice() else { panic!("one bad event: {rows:?}") };
    let cell = |column: usize| row[column].as_deref().unwrap();
    assert_eq!(
        (cell(0), cell(1), cell(2), cell(3), cell(6)),
        ("multimedia_events", "rest", "127.0.0.1", "validate", "0")
    );
    assert_eq!(serde_json::from_str::<Value>(cell(4)).unwrap(), *reasons);
    assert_eq!(cell(5), format!("\\x{}", hex(bad.to_string().as_bytes())));
    // And over HTTP.
    let listed = playhouse.get("/api/bad-events").json();
    assert_eq!(listed["bad_events"][0]["reasons"], *reasons);

    playhouse.in_sight();
    assert_eq!(ids(&playhouse), ["after", "before"]);
}

#[test]
fn what_is_no_event_is_rejected_precisely_kept_and_changes_nothing_else() {
    let (_directory, playhouse) = start();
    let limit = 1 << 20;
    let deep = format!("{}{}", "[".repeat(80), "]".repeat(80));
    let mut wrong_encoding = event("wrong encoding").to_string().into_bytes();
    let at = wrong_encoding.iter().position(|byte| *byte == b'w').unwrap();
    wrong_encoding[at] = 0xff;
    let with_metadata = |metadata: &str| {
        event("x").to_string().replacen('{', &format!("{{\"metadata\":{{\"a\":{metadata}}},"), 1).into_bytes()
    };
    // The body, the stage, the keyword, and what the message has to tell.
    let cases: [(&[u8], &str, &str, &str); 5] = [
        (b"hello", "decode", "json", "byte 0"),
        (b"{\"id\": \"cut", "decode", "json", "end"),
        (&wrong_encoding, "decode", "encoding", "UTF-8"),
        (&with_metadata(&deep), "decode", "depth", "64"),
        (&with_metadata(&format!("\"{}\"", "x".repeat(limit))), "decode", "size", "1048576"),
    ];
    for (number, (body, stage, keyword, told)) in cases.iter().enumerate() {
        let response = send(&playhouse, &[], body);
        assert_eq!(response.status, 422, "{keyword}: {}", response.text());
        let answer = response.json();
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(0), &json!(1)), "{keyword}");
        let reason = &answer["results"][0]["reasons"][0];
        assert_eq!(reason["keyword"], *keyword);
        assert!(reason["message"].as_str().unwrap().contains(told), "{reason}");

        let rows = playhouse.query(&format!("select stage, raw from bad_events where bad_id = '0-{number}'"));
        assert_eq!(rows[0][0].as_deref(), Some(*stage), "{keyword}");
        let kept = hex(&body[..body.len().min(limit)]);
        assert!(rows[0][1].as_deref() == Some(&*format!("\\x{kept}")), "{keyword}: not kept as it was sent");
    }
    // Broken text as a neighbour: NDJSON is cut at its line ends, whatever a line holds.
    let mut lines = format!("{}\n", event("first")).into_bytes();
    lines.extend_from_slice(&wrong_encoding);
    lines.extend_from_slice(format!("\nnot json\n{}\n", event("last")).as_bytes());
    let answer = send(&playhouse, &[], &lines).json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(2)), "{answer}");

    assert_eq!(playhouse.count("select count(*) from bad_events"), cases.len() as i64 + 2);
    playhouse.in_sight();
    assert_eq!(ids(&playhouse), ["first", "last"]);
}

#[test]
fn a_request_that_fails_as_a_whole_keeps_nothing() {
    let (_directory, playhouse) = start();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(event("whole").to_string().as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeroes = vec![0; 1 << 20];
    for _ in 0..100 {
        bomb.write_all(&zeroes).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 200_000);

    let gzipped = [("Content-Encoding", "gzip")];
    type Headers<'a> = &'a [(&'a str, &'a str)];
    // Headers, body, status, and what the detail has to tell.
    let cases: [(Headers<'_>, &[u8], u16, &str); 7] = [
        (&gzipped, &gzip[..gzip.len() / 2], 400, "cut off"),
        (&gzipped, b"not gzip at all", 400, "gzip"),
        (&gzipped, &bomb, 413, "67108864"),
        (&[("Content-Encoding", "zstd")], &gzip, 400, "zstd"),
        (&[("Content-Encoding", "br")], b"{}", 415, "gzip or zstd"),
        (&[("Content-Type", "application/json; charset=latin1")], b"{}", 415, "UTF-8"),
        (&[], b" \n ", 400, "no event"),
    ];
    for (headers, body, status, told) in cases {
        let response = send(&playhouse, headers, body);
        assert_eq!(response.status, status, "{}", response.text());
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        let detail = response.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(told), "{told:?} is not in {detail:?}");
    }
    let typo = http::post(playhouse.ingest(), "/events/multimedia_event", &[], b"{}").unwrap();
    assert_eq!(typo.status, 404);
    assert!(typo.text().contains("did you mean multimedia_events"), "{}", typo.text());
    for internal in ["bad_events", "__consumer_offsets"] {
        let refused = http::post(playhouse.ingest(), &format!("/events/{internal}"), &[], b"{}").unwrap();
        assert_eq!(refused.status, 404, "{}", refused.text());
        assert!(!refused.text().contains("did you mean"), "an internal topic is no suggestion: {}", refused.text());
    }
    assert_eq!(http::get(playhouse.ingest(), "/events").unwrap().status, 405);

    assert_eq!(accepted(&send(&playhouse, &gzipped, &gzip)), 1);
    playhouse.in_sight();
    assert_eq!(ids(&playhouse), ["whole"]);
    assert_eq!(playhouse.count("select count(*) from bad_events"), 0);
}

#[test]
fn a_slow_client_is_told_so_and_others_do_not_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse"))
        .data(directory.path())
        .set("ingest.body_patience", "500 ms")
        .start();
    let mut slow = std::net::TcpStream::connect(playhouse.ingest()).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    slow.write_all(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{\"id\":").unwrap();
    assert_eq!(accepted(&send(&playhouse, &[], event("quick").to_string().as_bytes())), 1);
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut slow, &mut answer).unwrap();
    let answer = http::parse(&answer).unwrap();
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!(answer.text().contains("bytes a second"), "{}", answer.text());
    wait_until("nothing is in flight", Duration::from_secs(10), || {
        let held = playhouse.status()["gate"]["in_flight_bytes"].clone();
        if held == 0 { Ok(()) } else { Err(held.to_string()) }
    });
}

#[test]
fn pages_and_emails_send_events_by_beacon_and_pixel() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse"))
        .data(directory.path())
        .set("ingest.origins", "https://www.example.com")
        .start();
    let page = ("Origin", "https://www.example.com");
    let beacon = [page, ("Content-Type", "text/plain;charset=UTF-8"), ("X-Request-Id", "page-1")];
    let sent = send(&playhouse, &beacon, event("beacon").to_string().as_bytes());
    assert_eq!(accepted(&sent), 1);
    assert_eq!(sent.header("access-control-allow-origin"), Some("https://www.example.com"));
    assert_eq!(sent.header("x-request-id"), Some("page-1"));
    let minimal = send(&playhouse, &[page, ("Prefer", "return=minimal")], event("minimal").to_string().as_bytes());
    assert_eq!((minimal.status, minimal.body.len()), (204, 0), "{}", minimal.text());
    let foreign = send(&playhouse, &[("Origin", "https://evil.example")], event("foreign").to_string().as_bytes());
    assert_eq!(foreign.status, 403, "{}", foreign.text());

    let path = "/pixel.gif?type=email_open&user=81&content=track-42&position_ms=7&metadata.campaign=spring%26sale";
    let agent = [("User-Agent", "curl/7.88.1")];
    let pixel = http::request(playhouse.ingest(), "GET", path, &agent, b"").unwrap();
    assert_eq!((pixel.status, pixel.header("content-type")), (200, Some("image/gif")), "{}", pixel.text());
    assert_eq!(http::get(playhouse.ingest(), "/pixel.gif?type=email_open").unwrap().status, 422, "without a user");

    playhouse.in_sight();
    let rows = playhouse.query(
        "select user_id, content_id, position_ms, metadata ->> 'campaign', user_agent, event_time > now() - interval '1 day' \
         from events where type = 'email_open'",
    );
    let [row] = rows.as_slice() else { panic!("one event: {rows:?}") };
    let row: Vec<&str> = row.iter().flatten().map(String::as_str).collect();
    assert_eq!(row, ["81", "track-42", "7", "spring&sale", "curl/7.88.1", "t"]);
    assert_eq!(playhouse.count("select count(*) from events"), 3);
    assert_eq!(playhouse.count("select count(*) from bad_events"), 1);
}

#[test]
fn a_request_with_an_idempotency_key_is_done_once_whatever_happens_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.start();
    let key = [("Idempotency-Key", "\"order-4711\"")];
    let body = json!([event("once"), event("twice")]).to_string();
    let first = send(&playhouse, &key, body.as_bytes());
    assert_eq!((accepted(&first), first.header("idempotent-replayed")), (2, None));
    playhouse.kill();

    let playhouse = builder.start();
    let again = send(&playhouse, &key, body.as_bytes());
    assert_eq!((again.status, again.json()), (200, first.json()));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let other = send(&playhouse, &key, event("other").to_string().as_bytes());
    assert_eq!(other.status, 422, "{}", other.text());
    assert!(other.json()["detail"].as_str().unwrap().contains("new key"), "{}", other.text());
    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from events"), 2);
    let metrics = playhouse.get("/metrics").text();
    assert!(metrics.contains("playhouse_ingest_replayed_total 1"), "{metrics}");
    assert!(metrics.contains("playhouse_duplicates_total 0"), "it is not even there to be dropped: {metrics}");
    let internal = http::post(playhouse.ingest(), "/events/__idempotency", &[], b"{}").unwrap();
    assert_eq!(internal.status, 404, "{}", internal.text());
}
