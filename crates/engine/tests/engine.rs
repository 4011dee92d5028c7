//! The engine over a real log: what comes out is each event once, through crashes, power cuts and sink outages.

mod common;

use common::{Events, House};
use playhouse_engine::FailedStage;
use playhouse_log::disk::SimulatedDisk;

#[tokio::test(flavor = "multi_thread")]
async fn each_event_lands_once_in_sink_and_view() {
    let house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    house.send(&Events::range(0..500)).await;
    house.send(&Events::range(250..600)).await;
    house.has_each_once(&engine, 600).await;
    let status = engine.status();
    assert_eq!((status.rows, status.duplicates), (600, 250));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_continues_where_the_state_was() {
    let house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    house.send(&Events::range(0..300)).await;
    house.caught_up(&engine).await;
    engine.stop().await;
    house.send(&Events::range(200..400)).await;
    let engine = house.start().await;
    house.has_each_once(&engine, 400).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_at_any_point_lose_and_double_nothing() {
    let mut house = House::new(SimulatedDisk::new());
    let mut sent: usize = 0;
    for round in 0..12u64 {
        let engine = house.start().await;
        for _ in 0..4 {
            let next = sent + 60;
            house.send(&Events::range(sent.saturating_sub(30)..next)).await;
            sent = next;
        }
        // Cut wherever the engine happens to be; every second time after some epochs are through.
        if round % 2 == 0 {
            house.some_epochs(&engine, round).await;
        }
        house = house.power_cut(round).await;
        drop(engine);
    }
    let engine = house.start().await;
    house.has_each_once(&engine, sent).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_outage_delays_nobody_else_and_loses_nothing() {
    let house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    house.sink.set_down(true);
    house.send(&Events::range(0..200)).await;
    house.engine_caught_up(&engine).await;
    assert_eq!(house.view(&engine, "per_user"), common::expected_per_user(0..200));
    assert!(engine.status().sinks[0].lag > 0);
    house.sink.set_down(false);
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), (0..200).collect::<Vec<_>>());
    engine.stop().await;
}

/// Memory keeps a few epochs here, and nothing across a restart: the sink's rows are computed again, without those that
/// were dropped and those that do not decode.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_down_gets_the_rows_that_the_others_got() {
    let house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    house.sink.set_down(true);
    for round in 0..30 {
        house.send(&Events::range(round * 100..round * 100 + 150)).await;
        house.send_raw(&[b"not json".to_vec()]).await;
    }
    house.engine_caught_up(&engine).await;
    assert_eq!(engine.status().duplicates, 29 * 50);
    engine.stop().await;
    let engine = house.start().await;
    house.sink.set_down(false);
    house.has_each_once(&engine, 3050).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_done_again_whole() {
    let house = House::new(SimulatedDisk::new());
    house.sink.fail_commits(3);
    let engine = house.start().await;
    house.send(&Events::range(0..200)).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), (0..200).collect::<Vec<_>>());
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_pipeline_is_rebuilt_without_doubling_rows_in_its_sinks() {
    let mut house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    house.send(&Events::range(0..300)).await;
    house.caught_up(&engine).await;
    engine.stop().await;
    house.send(&Events::range(300..350)).await;
    house.sql = common::SQL.replace("count(*) AS events", "count(*) + 0 AS events");
    let engine = house.start().await;
    house.has_each_once(&engine, 350).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_traffic_counts_where_lateness_is_unlimited_and_is_routed_where_it_is_not() {
    let house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    let today = Events::range(0..100).at("2026-03-01T12:00:00Z");
    house.send(&today).await;
    house.caught_up(&engine).await;
    let old = Events::range(100..140).at("2015-05-17T10:05:03Z");
    house.send(&old).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), (0..140).collect::<Vec<_>>(), "late rows still reach the sinks");
    assert_eq!(house.view(&engine, "per_user"), common::expected_per_user(0..140));
    assert_eq!(house.view(&engine, "recent").values().sum::<i64>(), 100);
    let late = house.late.rows();
    assert_eq!(late, 40);
    assert_eq!(engine.status().late, 40);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_no_events_are_reported_and_stop_nobody() {
    let house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    house.send_raw(&[b"not json".to_vec(), br#"{"id":7}"#.to_vec()]).await;
    house.send(&Events::range(0..50)).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), (0..50).collect::<Vec<_>>());
    assert!(house.bad().iter().all(|record| record.stage == FailedStage::Decode));
    assert_eq!((house.bad().len(), engine.status().undecodable), (2, 2));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_epoch_log_is_truncated_once_every_sink_has_its_rows() {
    let house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    for start in (0..4_000).step_by(200) {
        house.send(&Events::range(start..start + 200)).await;
        house.caught_up(&engine).await;
    }
    house.send(&Events::range(4_000..4_001)).await;
    house.caught_up(&engine).await;
    common::until("the first epochs to go", || engine.epochs().first_epoch() > 1).await;
    assert_eq!(house.sink.ids(), (0..4_001).collect::<Vec<_>>());
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_read_from_all_partitions_alike_and_makes_no_row_late() {
    let house = House::new(SimulatedDisk::new());
    for minute in 0..60 {
        let events = Events::range(minute * 40..(minute + 1) * 40).at(&format!("2026-03-01T12:{minute:02}:00Z"));
        house.send(&events).await;
    }
    let engine = house.start().await;
    house.caught_up(&engine).await;
    assert_eq!(engine.status().late, 0);
    assert_eq!(house.view(&engine, "recent").values().sum::<i64>(), 2_400);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_added_to_a_live_topic_is_read_from_its_start() {
    let house = House::new(SimulatedDisk::new());
    let engine = house.start().await;
    house.send(&Events::range(0..100)).await;
    house.caught_up(&engine).await;
    house.add_partitions(5);
    // An id that another partition brought is a duplicate all the same.
    house.send(&Events::range(50..300)).await;
    house.caught_up(&engine).await;
    assert_eq!(engine.status().inputs.len(), 5);
    assert_eq!(house.sink.ids(), (0..300).collect::<Vec<_>>());
    engine.stop().await;

    house.add_partitions(6);
    house.send(&Events::range(250..400)).await;
    let engine = house.start().await;
    house.has_each_once(&engine, 400).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_between_power_cuts_lose_and_double_nothing() {
    let mut house = House::new(SimulatedDisk::new());
    let mut sent: usize = 0;
    for round in 0..6 {
        let engine = house.start().await;
        house.send(&Events::range(sent..sent + 60)).await;
        house.add_partitions(3 + round as i32);
        house.send(&Events::range(sent + 30..sent + 200)).await;
        sent += 200;
        if round % 2 == 0 {
            house.some_epochs(&engine, round).await;
        }
        house = house.power_cut(round).await;
        drop(engine);
    }
    // Made anew from the start, with partitions that the sink knows by different positions.
    house.sql = common::SQL.replace("count(*) AS events", "count(*) + 0 AS events");
    let engine = house.start().await;
    house.has_each_once(&engine, sent).await;
    engine.stop().await;
}
