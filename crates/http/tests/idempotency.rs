//! Requests with an `Idempotency-Key`, sent once and again.

mod common;

use common::*;
use serde_json::json;
use tokio::io::AsyncWriteExt;

const GOOD: &str = r#"{"id":"e1","user":"u1"}"#;
const BAD: &str = r#"{"id":"e2"}"#;
const KEY: &str = "idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324\r\n";

fn is_replay(answer: &Answer) -> bool {
    answer.head.contains("idempotent-replayed: true")
}

#[tokio::test]
async fn what_is_sent_again_is_answered_as_the_first_time_and_done_once() {
    let door = door(Limits::default()).await;
    let mixed = format!("{GOOD}\n{BAD}\n");
    let first = post(&door, KEY, mixed.as_bytes()).await;
    assert!(first.status == 200 && !is_replay(&first), "{first:?}");
    for prefer in ["", "prefer: return=minimal\r\n"] {
        let again = post(&door, &format!("{KEY}{prefer}"), mixed.as_bytes()).await;
        assert_eq!((again.status, again.json()), (200, first.json()));
        assert!(is_replay(&again), "{again:?}");
    }
    let quoted = KEY.replace(": ", ": \"").replace("\r\n", "\"\r\n");
    assert!(is_replay(&post(&door, &quoted, mixed.as_bytes()).await));

    let minimal = "idempotency-key: minimal\r\nprefer: return=minimal\r\n";
    for replayed in [false, true] {
        let answer = post(&door, minimal, GOOD.as_bytes()).await;
        assert_eq!((answer.status, is_replay(&answer)), (204, replayed), "{answer:?}");
    }
    let first = post(&door, "idempotency-key: all bad\r\n", BAD.as_bytes()).await;
    let again = post(&door, "idempotency-key: all bad\r\n", BAD.as_bytes()).await;
    assert_eq!((first.status, again.status, is_replay(&again)), (422, 422, true));
    assert_eq!(first.json(), again.json());

    let counters = door.gate.counters();
    assert_eq!((counters.accepted, counters.rejected), (2, 2));
    assert_eq!(door.ingest.replays(), 5);
    assert_eq!(door.budget.used_bytes(), 0);
    // Without a key nothing is remembered.
    assert!(!is_replay(&post(&door, "", GOOD.as_bytes()).await));
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let door = door(Limits::default()).await;
    door.gate.log().create_topic("other", playhouse_log::TopicSettings::default()).unwrap();
    assert_eq!(post(&door, KEY, GOOD.as_bytes()).await.status, 200);
    let changed = post(&door, KEY, BAD.as_bytes()).await;
    assert!(changed.problem(422, "idempotency-key-reused").contains("new key"));
    let elsewhere = send(door.served.address, &request("POST /events/other", KEY, GOOD.as_bytes())).await;
    elsewhere.problem(422, "idempotency-key-reused");
    assert_eq!(door.gate.counters().accepted, 1);
    post(&door, "idempotency-key: \"\"\r\n", GOOD.as_bytes()).await.problem(400, "bad-request");

    // A request that fails as a whole has done nothing, and its key is free.
    let other = "idempotency-key: other\r\n";
    post(&door, other, b" ").await.problem(400, "bad-request");
    assert_eq!(post(&door, other, GOOD.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn a_request_under_way_is_not_begun_again_even_if_its_caller_hangs_up() {
    let door = door(Limits::default()).await;
    door.disk.pause_syncs(true);
    let mut first = connect(door.served.address).await;
    first.write_all(&request("POST /events", KEY, GOOD.as_bytes())).await.unwrap();
    until("the first is under way", || door.gate.counters().in_flight_bytes > 0).await;
    post(&door, KEY, BAD.as_bytes()).await.problem(422, "idempotency-key-reused");
    let second = post(&door, KEY, GOOD.as_bytes()).await;
    second.problem(409, "idempotency-key-under-way");
    assert!(second.head.contains("retry-after: 1"), "{second:?}");

    drop(first);
    door.disk.pause_syncs(false);
    let answered = tokio::time::timeout(DEADLINE, async {
        loop {
            let again = post(&door, KEY, GOOD.as_bytes()).await;
            if again.status != 409 {
                return again;
            }
            tokio::task::yield_now().await;
        }
    });
    let answered = answered.await.expect("answered in time");
    assert!(answered.status == 200 && is_replay(&answered), "{answered:?}");
    assert_eq!(answered.json()["results"][0]["offset"], json!(0));
    assert_eq!(door.gate.counters().accepted, 1);
}

#[tokio::test]
async fn answers_survive_a_power_cut() {
    let before = door(Limits::default()).await;
    let first = post(&before, KEY, GOOD.as_bytes()).await;
    let after = door_on(before.disk.power_cut(None), Limits::default()).await;
    let again = post(&after, KEY, GOOD.as_bytes()).await;
    assert!(again.status == 200 && is_replay(&again), "{again:?}");
    assert_eq!(first.json(), again.json());
    post(&after, KEY, BAD.as_bytes()).await.problem(422, "idempotency-key-reused");
    assert_eq!(after.gate.counters().accepted, 0);
}
