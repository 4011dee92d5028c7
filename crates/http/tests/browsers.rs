//! What pages, beacons and images need of the ingest door, and what every answer has.

mod common;

use common::*;
use playhouse_http::ingest::Origins;
use serde_json::json;

const GOOD: &str = r#"{"id":"e1","user":"u1"}"#;
const BAD: &str = r#"{"id":"e2"}"#;

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let door = door(Limits::default()).await;
    let theirs = post(&door, "x-request-id: trace-7\r\n", GOOD.as_bytes()).await;
    assert_eq!((theirs.status, header(&theirs, "x-request-id")), (200, Some("trace-7")));
    let refused = post(&door, "x-request-id: trace-8\r\ncontent-encoding: br\r\n", GOOD.as_bytes()).await;
    refused.problem(415, "unsupported-encoding");
    assert_eq!(
        (refused.json()["request_id"].as_str(), header(&refused, "x-request-id")),
        (Some("trace-8"), Some("trace-8"))
    );
    let missing = get(door.served.address, "/nowhere").await;
    missing.problem(404, "not-found");
    assert_eq!(missing.json()["request_id"].as_str(), header(&missing, "x-request-id"));
    let again = get(door.served.address, "/nowhere").await;
    assert_ne!(header(&missing, "x-request-id"), header(&again, "x-request-id"));
}

#[tokio::test]
async fn who_prefers_a_minimal_answer_gets_none_but_for_rejections() {
    let door = door(Limits::default()).await;
    let prefer = "prefer: return=minimal\r\n";
    let mut stream = connect(door.served.address).await;
    for _ in 0..2 {
        let request = request("POST /events", prefer, format!("{GOOD}\n{GOOD}\n").as_bytes());
        tokio::io::AsyncWriteExt::write_all(&mut stream, &request).await.unwrap();
        let accepted = answer(&mut stream).await;
        assert_eq!((accepted.status, accepted.body.as_str()), (204, ""), "{accepted:?}");
        assert_eq!(header(&accepted, "preference-applied"), Some("return=minimal"));
    }
    let some = post(&door, prefer, format!("{GOOD}\n{BAD}\n").as_bytes()).await;
    assert_eq!((some.status, &some.json()["rejected"]), (200, &json!(1)));
    assert_eq!(header(&some, "preference-applied"), None);
    assert_eq!(post(&door, prefer, BAD.as_bytes()).await.status, 422);
    assert_eq!(door.gate.counters().accepted, 5);
    assert_eq!([204, 200, 422].map(|status| door.served.answered(status)), [2, 1, 1]);
    assert_eq!(door.budget.used_bytes(), 0);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_send_and_read_and_others_may_not() {
    let origins = Origins::parse("https://www.example.com").unwrap();
    let door = door(Limits { origins, ..Limits::default() }).await;
    let ours = "origin: https://www.example.com\r\n";
    let preflight = |origin: &str| {
        let headers =
            format!("{origin}access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n");
        request("OPTIONS /events/multimedia_events", &headers, b"")
    };
    let allowed = send(door.served.address, &preflight(ours)).await;
    assert_eq!(allowed.status, 204, "{allowed:?}");
    assert_eq!(header(&allowed, "access-control-allow-origin"), Some("https://www.example.com"));
    assert!(header(&allowed, "access-control-allow-methods").unwrap().contains("post"));
    assert!(header(&allowed, "access-control-allow-headers").unwrap().contains("content-type"));
    assert!(header(&allowed, "access-control-max-age").is_some());

    // As `navigator.sendBeacon` sends a text: with credentials, and without a preflight.
    let beacon = format!("{ours}content-type: text/plain;charset=UTF-8\r\n");
    let sent = post(&door, &beacon, GOOD.as_bytes()).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    assert_eq!(header(&sent, "access-control-allow-origin"), Some("https://www.example.com"));
    assert_eq!(header(&sent, "access-control-allow-credentials"), Some("true"));
    assert_eq!(header(&sent, "vary"), Some("origin"));
    let wrong = post(&door, &format!("{ours}content-encoding: br\r\n"), b"{}").await;
    assert_eq!(
        header(&wrong, "access-control-allow-origin"),
        Some("https://www.example.com"),
        "a page reads problems too"
    );

    let theirs = "origin: https://evil.example\r\n";
    for refused in [send(door.served.address, &preflight(theirs)).await, post(&door, theirs, GOOD.as_bytes()).await] {
        assert!(refused.problem(403, "foreign-origin").contains("ingest.origins"));
        assert_eq!(header(&refused, "access-control-allow-origin"), None);
    }
    let no_page = post(&door, "", GOOD.as_bytes()).await;
    assert_eq!((no_page.status, header(&no_page, "access-control-allow-origin")), (200, None));
    assert_eq!(door.gate.counters().accepted, 2);
}

#[tokio::test]
async fn a_pixel_is_one_event() {
    let door = door(Limits::default()).await;
    let seen =
        raw(door.served.address, "GET /pixel.gif?user=7&position_ms=61000&metadata.campaign=spring%20sale").await;
    let (head, body) = seen;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: image/gif"), "{head}");
    assert!(head.contains("cache-control: no-store") && body.starts_with(b"GIF89a") && body.len() == 43, "{head}");
    let named = raw(door.served.address, "GET /events/multimedia_events/pixel.gif?user=u&id=mine").await;
    assert!(named.0.starts_with("http/1.1 200"), "{}", named.0);
    assert_eq!(door.gate.counters().accepted, 2);
    let events = records(&door, "multimedia_events");
    let sent: serde_json::Value = serde_json::from_slice(&events[0]).unwrap();
    assert_eq!((&sent["user"], &sent["position_ms"]), (&json!("7"), &json!(61000)));
    assert_eq!(sent["metadata"]["campaign"], "spring sale");
    assert!(sent["id"].as_str().unwrap().len() > 30);

    // Rejected, kept, and an image all the same.
    let rejected = raw(door.served.address, "GET /pixel.gif?position_ms=-1").await;
    assert!(rejected.0.starts_with("http/1.1 422") && rejected.1.starts_with(b"GIF89a"), "{}", rejected.0);
    assert_eq!(door.gate.counters().rejected, 1);
    // Whoever only looks has seen nothing; what contradicts itself, or names no topic, is a problem.
    let looked = raw(door.served.address, "HEAD /pixel.gif?user=u").await;
    assert!(looked.0.contains("content-type: image/gif"), "{}", looked.0);
    get(door.served.address, "/pixel.gif?user=a&user=b").await.problem(400, "bad-request");
    get(door.served.address, "/events/nowhere/pixel.gif?user=a").await.problem(404, "unknown-topic");
    get(door.served.address, "/events/bad_events/pixel.gif?user=a").await.problem(404, "unknown-topic");
    assert_eq!(door.gate.counters().accepted, 2);
}
