//! Rows that a plan fails on: they are kept as bad events, once, and the others do as if they were not there.

mod common;

use std::collections::BTreeMap;

use common::{Events, House, SQL};
use playhouse_engine::FailedStage;
use playhouse_log::disk::SimulatedDisk;

/// Fails on users called `bad`, in the plan of the sink; and in one of a view on those called `worse`.
fn house() -> House {
    let mut house = House::new(SimulatedDisk::new());
    let insert = "INSERT INTO store SELECT id, user_id, event_time FROM events";
    let failing = "INSERT INTO store SELECT id, user_id, 10 / CASE WHEN user_id = 'bad' THEN 0 ELSE 1 END FROM events";
    let view = "CREATE MATERIALIZED VIEW failing WITH (allowed_lateness='unlimited', retention='30 days') AS
        SELECT user_id, sum(CAST(CASE WHEN user_id = 'worse' THEN 'x' ELSE '1' END AS BIGINT)) AS events
        FROM TUMBLE(events, event_time, INTERVAL '1' DAY) GROUP BY window_start, window_end, user_id;";
    house.sql = SQL.replace(insert, failing) + view;
    house
}

fn event(id: usize, user: &str) -> Vec<u8> {
    format!(r#"{{"id":"{id}","timestamp":"2026-03-01T12:00:00Z","user":"{user}"}}"#).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_bad_events_and_stop_nobody() {
    let house = house();
    let engine = house.start().await;
    let mut events: Vec<Vec<u8>> = (0..200).map(|id| event(id, "good")).collect();
    events[7] = event(7, "bad");
    events[8] = event(8, "bad");
    events[150] = event(150, "worse");
    house.send_raw(&events).await;
    house.caught_up(&engine).await;

    let good: Vec<usize> = (0..200).filter(|id| ![7, 8, 150].contains(id)).collect();
    assert_eq!(house.sink.ids(), good);
    for view in ["per_user", "failing"] {
        assert_eq!(house.view(&engine, view), BTreeMap::from([("good".to_owned(), 197)]), "{view}");
    }
    let mut bad = house.bad();
    bad.sort_by(|a, b| a.message.cmp(&b.message));
    assert!(bad.iter().all(|record| record.stage == FailedStage::Enrich));
    let messages: Vec<&str> = bad.iter().map(|record| record.message.as_str()).collect();
    assert!(messages[0].starts_with("failing: ") && messages[0].contains("'x'"), "{messages:?}");
    assert_eq!(messages[1..], ["store: divide by zero error"; 2]);
    let status = engine.status();
    assert_eq!((status.failed, status.rows, status.duplicates, status.stalled), (3, 197, 0, None));
    engine.stop().await;
}

/// The first that does not fail wins: the id of one that failed is free, that of one that came before it is not.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_counts_as_seen_once_it_came_through() {
    let house = house();
    let engine = house.start().await;
    let once = [event(1, "bad"), event(1, "good"), event(1, "bad"), event(2, "bad"), event(2, "bad"), event(3, "good")];
    house.send_raw(&once).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), [1, 3]);
    assert_eq!((house.bad().len(), engine.status().duplicates), (3, 1));
    house.send_raw(&[event(3, "bad"), event(2, "good")]).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), [1, 2, 3]);
    assert_eq!((house.bad().len(), engine.status().duplicates), (3, 2));
    engine.stop().await;
    // As the log of epochs has it, not only as it is in memory.
    let engine = house.start().await;
    house.send_raw(&[event(1, "good"), event(2, "bad"), event(4, "good")]).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), [1, 2, 3, 4]);
    assert_eq!(house.bad().len(), 3);
    engine.stop().await;
}

/// Its rows are computed again for a sink that was down, without those that failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_down_gets_the_rows_that_came_through() {
    let house = house();
    let engine = house.start().await;
    house.sink.set_down(true);
    for round in 0..30 {
        let rows = round * 100..round * 100 + 100;
        let user = |id: usize| if id.is_multiple_of(40) { "bad" } else { "good" };
        let events: Vec<Vec<u8>> = rows.map(|id| event(id, user(id))).collect();
        house.send_raw(&events).await;
    }
    house.engine_caught_up(&engine).await;
    assert_eq!(house.bad().len(), 75);
    engine.stop().await;
    let engine = house.start().await;
    house.sink.set_down(false);
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), (0..3000).filter(|id| id % 40 != 0).collect::<Vec<_>>());
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_kept_once_wherever_the_power_goes() {
    let mut house = house();
    let mut sent = Vec::new();
    for round in 0..12u64 {
        let engine = house.start().await;
        for _ in 0..4 {
            let first = sent.len();
            let user = |id: usize| if id.is_multiple_of(9) { "bad" } else { "good" };
            let events: Vec<Vec<u8>> = (first..first + 60).map(|id| event(id, user(id))).collect();
            house.send_raw(&events).await;
            sent.extend(events);
        }
        if round % 2 == 0 {
            house.some_epochs(&engine, round).await;
        }
        house = house.power_cut(round).await;
        drop(engine);
    }
    // Made anew from the start of the log, with all of them kept already.
    house.sql = house.sql.replace("count(*) AS events", "count(*) + 0 AS events");
    let engine = house.start().await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), (0..sent.len()).filter(|id| id % 9 != 0).collect::<Vec<_>>());
    let mut bad = house.bad_payloads();
    bad.sort();
    let mut expected: Vec<String> =
        (0..sent.len()).step_by(9).map(|id| String::from_utf8(event(id, "bad")).unwrap()).collect();
    expected.sort();
    assert_eq!(bad, expected);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fail_are_none_the_worse_for_a_flood_of_those_that_do() {
    let house = house();
    let engine = house.start().await;
    let events: Vec<Vec<u8>> = (0..500).map(|id| event(id, if id == 321 { "good" } else { "bad" })).collect();
    house.send_raw(&events).await;
    house.send(&Events::range(600..700)).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), std::iter::once(321).chain(600..700).collect::<Vec<_>>());
    assert_eq!(house.bad().len(), 499);
    engine.stop().await;
}
