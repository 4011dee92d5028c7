//! What the ingest door answers.

mod common;

use std::io::Write;

use common::*;
use serde_json::json;

const GOOD: &str = r#"{"id":"e1","user":"u1"}"#;
const BAD: &str = r#"{"id":"e2","position_ms":-1}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn one_object_an_array_and_ndjson_are_taken() {
    let door = door(Limits::default()).await;
    let one = post(&door, "", GOOD.as_bytes()).await;
    assert_eq!(one.status, 200, "{one:?}");
    let result = &one.json()["results"][0];
    assert_eq!((&result["index"], &result["id"], &result["status"]), (&json!(0), &json!("e1"), &json!("accepted")));
    assert_eq!(result["topic"], "multimedia_events");
    assert!(result["partition"].is_i64() && result["offset"].is_i64());

    let array = post(&door, "content-type: application/json\r\n", format!("[{GOOD}, {GOOD}]").as_bytes()).await;
    assert_eq!((array.status, &array.json()["accepted"]), (200, &json!(2)));
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let lines = post(&door, form, format!("{GOOD}\n{GOOD}\n{GOOD}\n").as_bytes()).await;
    assert_eq!((lines.status, &lines.json()["accepted"]), (200, &json!(3)));
    let named = send(door.served.address, &request("POST /events/multimedia_events", "", GOOD.as_bytes())).await;
    assert_eq!(named.status, 200);
    assert_eq!(door.gate.counters().accepted, 7);
}

#[tokio::test]
async fn a_bad_event_leaves_its_neighbours_alone() {
    let door = door(Limits::default()).await;
    let mixed = post(&door, "", format!("{GOOD}\n{BAD}\n").as_bytes()).await;
    assert_eq!(mixed.status, 200);
    let json = mixed.json();
    assert_eq!((&json["accepted"], &json["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(json["results"][1]["status"], "rejected");
    assert_eq!(json["results"][1]["reasons"].as_array().unwrap().len(), 2, "{json}");

    let all_bad = post(&door, "", format!("[{BAD}]").as_bytes()).await;
    assert_eq!(all_bad.status, 422);
    assert_eq!(all_bad.json()["rejected"], 1);
    let not_json = post(&door, "", b"this is not json").await;
    assert_eq!(not_json.status, 422, "{not_json:?}");
}

#[tokio::test]
async fn compressed_bodies_are_taken() {
    let door = door(Limits::default()).await;
    let line = format!("{GOOD}\n");
    let members = [gzip(line.as_bytes()), gzip(line.as_bytes())].concat();
    let answer = post(&door, "content-encoding: gzip\r\n", &members).await;
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(2)));
    let frames =
        [zstd::encode_all(line.as_bytes(), 3).unwrap(), zstd::encode_all(line.as_bytes(), 3).unwrap()].concat();
    let answer = post(&door, "content-encoding: zstd\r\n", &frames).await;
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(2)));
}

#[tokio::test]
async fn chunked_bodies_and_several_requests_on_one_connection() {
    let door = door(Limits::default()).await;
    let mut stream = connect(door.served.address).await;
    for _ in 0..3 {
        let (one, two) = GOOD.split_at(9);
        let chunks = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
        let head = "POST /events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, format!("{head}{chunks}").as_bytes()).await.unwrap();
        assert_eq!(answer(&mut stream).await.status, 200);
    }
    assert_eq!(door.gate.counters().accepted, 3);
}

#[tokio::test]
async fn broken_and_unknown_encodings_are_refused() {
    let door = door(Limits::default()).await;
    let body = gzip(GOOD.as_bytes());
    let cut = post(&door, "content-encoding: gzip\r\n", &body[..body.len() - 5]).await;
    assert!(cut.problem(400, "bad-request").contains("cut off"));
    let cut = post(&door, "content-encoding: zstd\r\n", &zstd::encode_all(GOOD.as_bytes(), 1).unwrap()[..12]).await;
    assert!(cut.problem(400, "bad-request").contains("cut off"));
    let junk = post(&door, "content-encoding: gzip\r\n", GOOD.as_bytes()).await;
    assert!(junk.problem(400, "bad-request").contains("not valid gzip"));
    let stacked = post(&door, "content-encoding: gzip, zstd\r\n", &body).await;
    assert!(stacked.problem(415, "unsupported-encoding").contains("stacked"));
    let brotli = post(&door, "content-encoding: br\r\n", &body).await;
    assert!(brotli.problem(415, "unsupported-encoding").contains("gzip or zstd"));
    assert!(brotli.head.contains("accept-encoding: gzip, zstd"));
    let latin = post(&door, "content-type: application/json; charset=iso-8859-1\r\n", GOOD.as_bytes()).await;
    latin.problem(415, "unsupported-charset");
    let counters = door.gate.counters();
    assert_eq!((counters.accepted, counters.rejected), (0, 0));
    assert_eq!(door.served.answered(400) + door.served.answered(415), 6);
}

#[tokio::test]
async fn sizes_are_limited_before_and_after_decompression() {
    let mut limits = Limits::default();
    limits.body.bytes_max = 1 << 20;
    limits.body.compressed_bytes_max = 512 << 10;
    limits.events_per_request = 100;
    let door = door(limits).await;
    let zeros = vec![b' '; 40 << 20];
    for (name, bomb) in [("gzip", gzip(&zeros)), ("zstd", zstd::encode_all(&zeros[..], 1).unwrap())] {
        let answer = post(&door, &format!("content-encoding: {name}\r\n"), &bomb).await;
        let detail = answer.problem(413, "too-large");
        assert!(detail.contains(name) && detail.contains("1048576"), "{detail}");
    }
    // Announced, and larger than the socket buffers: the answer must not be lost in a reset.
    let large = post(&door, "", &zeros).await;
    assert!(large.problem(413, "too-large").contains("41943040"));
    let noise: Vec<u8> = (0..600_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    post(&door, "content-encoding: gzip\r\n", &noise).await.problem(413, "too-large");
    let many = post(&door, "", format!("{GOOD}\n").repeat(101).as_bytes()).await;
    many.problem(413, "too-many-events");
    assert_eq!(door.budget.used_bytes(), 0);
    assert_eq!(post(&door, "", GOOD.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn unknown_places_name_the_known_ones() {
    let door = door(Limits::default()).await;
    let topic = send(door.served.address, &request("POST /events/multimedia_event", "", GOOD.as_bytes())).await;
    assert!(topic.problem(404, "unknown-topic").contains("did you mean multimedia_events"));
    let long = send(door.served.address, &request(&format!("POST /events/{}", "é".repeat(5000)), "", b"")).await;
    assert!(matches!(long.status, 400 | 404), "{long:?}");
    let path = send(door.served.address, &request("POST /event", "", GOOD.as_bytes())).await;
    path.problem(404, "not-found");
    let method = get(door.served.address, "/events").await;
    method.problem(405, "method-not-allowed");
    assert!(method.head.contains("allow: post"), "{method:?}");
    post(&door, "", b"").await.problem(400, "bad-request");
    post(&door, "", b" \n\n ").await.problem(400, "bad-request");
}
