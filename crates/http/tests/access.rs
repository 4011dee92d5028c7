//! Who may send to the ingest door, and how much.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use playhouse_gate::{Auth, Grant, KeyFile, KeyRing, RateLimits};
use playhouse_log::disk::SimulatedDisk;

const GOOD: &str = r#"{"id":"e1","user":"u1"}"#;

#[tokio::test]
async fn a_key_opens_the_topics_that_it_is_for() {
    let disk = SimulatedDisk::new();
    let keys = || KeyFile::new(Arc::new(disk.clone()), Path::new("/data"));
    let player = keys().create("player", Grant::send(["multimedia_*"]), 0).unwrap();
    let other = keys().create("other", Grant::send(["other"]), 0).unwrap();
    let ring = Arc::new(KeyRing::open(keys()).unwrap());
    let door = door(Limits { auth: Auth::Keys(ring.clone()), ..Limits::default() }).await;

    let without = post(&door, "", GOOD.as_bytes()).await;
    assert!(without.problem(401, "unauthorized").contains("playhouse key create"));
    assert!(without.head.contains("www-authenticate: bearer"), "{without:?}");
    for wrong in ["authorization: Basic YTpi\r\n", "x-api-key: phk_1_2\r\n", "authorization: Bearer\r\n"] {
        post(&door, wrong, GOOD.as_bytes()).await.problem(401, "unauthorized");
    }
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    assert_eq!(post(&door, &bearer(&player.token), GOOD.as_bytes()).await.status, 200);
    assert_eq!(post(&door, &format!("x-api-key: {}\r\n", player.token), GOOD.as_bytes()).await.status, 200);
    let refused = post(&door, &bearer(&other.token), GOOD.as_bytes()).await;
    assert!(refused.problem(403, "topic-not-allowed").contains("multimedia_events"));
    // Which topics there are is nobody's business.
    let nowhere = request("POST /events/nowhere", &bearer(&other.token), GOOD.as_bytes());
    send(door.served.address, &nowhere).await.problem(403, "topic-not-allowed");
    let nowhere = request("POST /events/multimedia_nowhere", &bearer(&player.token), GOOD.as_bytes());
    send(door.served.address, &nowhere).await.problem(404, "unknown-topic");

    // Beacons and images have no headers; their key is no field of the event.
    let beacon =
        request(&format!("POST /events?api_key={}", player.token), "content-type: text/plain\r\n", GOOD.as_bytes());
    assert_eq!(send(door.served.address, &beacon).await.status, 200);
    let pixel = raw(door.served.address, &format!("GET /pixel.gif?user=u&api_key={}", player.token)).await;
    assert!(pixel.0.starts_with("http/1.1 200"), "{}", pixel.0);
    get(door.served.address, "/pixel.gif?user=u").await.problem(401, "unauthorized");
    let secret = player.token.rsplit('_').next().unwrap();
    let events = records(&door, "multimedia_events");
    assert!(events.len() == 4 && events.iter().all(|event| !String::from_utf8_lossy(event).contains(secret)));

    // The same idempotency key of another caller is another.
    let third = keys().create("third", Grant::send(["*"]), 0).unwrap();
    ring.refresh().unwrap();
    for token in [&player.token, &third.token] {
        let sent = post(&door, &format!("{}idempotency-key: 1\r\n", bearer(token)), GOOD.as_bytes()).await;
        assert!(sent.status == 200 && !sent.head.contains("idempotent-replayed"), "{sent:?}");
    }
    keys().revoke(&player.key.id).unwrap();
    ring.refresh().unwrap();
    post(&door, &bearer(&player.token), GOOD.as_bytes()).await.problem(401, "unauthorized");
    assert_eq!(door.gate.counters().accepted, 6);
}

#[tokio::test]
async fn a_caller_that_sends_too_much_is_told_when_to_come_again() {
    let disk = SimulatedDisk::new();
    let keys = || KeyFile::new(Arc::new(disk.clone()), Path::new("/data"));
    let [busy, quiet] = ["busy", "quiet"].map(|name| keys().create(name, Grant::send(["*"]), 0).unwrap().token);
    let ring = Arc::new(KeyRing::open(keys()).unwrap());
    let rates = RateLimits { requests_per_second: Some(1), burst: Duration::from_secs(3), ..RateLimits::default() };
    let door = door(Limits { auth: Auth::Keys(ring), rates, ..Limits::default() }).await;
    let from = |token: &str| format!("x-api-key: {token}\r\n");
    let mut refused = None;
    for _ in 0..50 {
        let answer = post(&door, &from(&busy), GOOD.as_bytes()).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("fifty at once are too many");
    refused.problem(429, "rate-limited");
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    assert_eq!(post(&door, &from(&quiet), GOOD.as_bytes()).await.status, 200, "others may");
    assert!(door.served.answered(429) > 0);
}

#[tokio::test]
async fn what_a_request_weighs_is_known_after_it_and_paid_by_the_next() {
    let rates = RateLimits { bytes_per_second: Some(1), burst: Duration::from_secs(10), ..RateLimits::default() };
    let door = door(Limits { rates, ..Limits::default() }).await;
    let lines = format!("{GOOD}\n").repeat(10);
    assert_eq!(post(&door, "", lines.as_bytes()).await.status, 200);
    let next = post(&door, "", GOOD.as_bytes()).await;
    next.problem(429, "rate-limited");
    assert!(next.head.contains("retry-after: 60"), "no caller waits longer than a minute: {next:?}");
}
