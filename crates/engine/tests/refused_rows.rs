//! Rows that a sink's target refuses: bad events, once, and left out of the target for good.

mod common;

use common::{Events, House, SQL, expected_per_user};
use playhouse_engine::FailedStage;
use playhouse_log::disk::SimulatedDisk;

/// The ids that were kept as bad events, in order.
fn bad_ids(house: &House) -> Vec<usize> {
    assert!(house.bad().iter().all(|record| record.stage == FailedStage::Sink("store".to_owned())));
    let id = |payload: String| payload.split('"').nth(3).unwrap().parse().unwrap();
    let mut ids: Vec<usize> = house.bad_payloads().into_iter().map(id).collect();
    ids.sort_unstable();
    ids
}

fn every(step: usize, sent: usize) -> Vec<usize> {
    (0..sent).step_by(step).collect()
}

fn others(step: usize, sent: usize) -> Vec<usize> {
    (0..sent).filter(|id| id % step != 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_bad_events_and_everything_else_has_them() {
    let house = House::new(SimulatedDisk::new());
    house.sink.refuse(every(50, 500));
    let engine = house.start().await;
    house.send(&Events::range(0..300)).await;
    house.caught_up(&engine).await;
    house.send(&Events::range(200..500)).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), others(50, 500));
    assert_eq!(bad_ids(&house), every(50, 500));
    assert_eq!(house.view(&engine, "per_user"), expected_per_user(0..500));
    let refused: u64 = engine.status().sinks.iter().map(|sink| sink.status.rows_refused).sum();
    assert_eq!((refused, engine.status().failed), (10, 0));
    engine.stop().await;
}

/// Which record a row was made of is told by what the plans give for parts of an epoch.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_found_though_plans_leave_rows_out() {
    let mut house = House::new(SimulatedDisk::new());
    let insert = "INSERT INTO store SELECT id, user_id, event_time FROM events";
    house.sql = SQL.replace(insert, &format!("{insert} WHERE user_id <> 'user-3' AND CAST(id AS BIGINT) % 10 > 1"));
    house.sink.refuse((0..700).filter(|id| id % 4 == 0));
    let engine = house.start().await;
    for round in 0..7 {
        house.send(&Events::range(round * 100..round * 100 + 100)).await;
        house.send(&Events::range(round * 50..round * 100 + 50)).await;
        house.send_raw(&[b"not json".to_vec()]).await;
    }
    house.caught_up(&engine).await;
    engine.stop().await;
    let shown = |id: &usize| id % 7 != 3 && id % 10 > 1;
    assert_eq!(house.sink.ids(), (0..700).filter(|id| shown(id) && id % 4 != 0).collect::<Vec<_>>());
    let mut house = house;
    house.forget_undecodable();
    assert_eq!(bad_ids(&house), (0..700).filter(|id| shown(id) && id % 4 == 0).collect::<Vec<_>>());
}

/// Once it is a bad event it is left out, even if the target would take it by now.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_stays_out_whatever_becomes_of_the_commit() {
    let house = House::new(SimulatedDisk::new());
    house.sink.refuse(every(10, 200));
    house.sink.fail_after_refusals(usize::MAX);
    let engine = house.start().await;
    house.send(&Events::range(0..100)).await;
    common::until("refused rows", || house.bad().len() >= 5).await;
    // The same process goes on, and so does another one.
    drop(engine);
    house.sink.refuse([]);
    let kept = bad_ids(&house);
    let engine = house.start().await;
    house.send(&Events::range(100..200)).await;
    house.caught_up(&engine).await;
    let there: Vec<usize> = (0..200).filter(|id| !kept.contains(id)).collect();
    assert_eq!(house.sink.ids(), there);
    assert_eq!(bad_ids(&house), kept);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_after_it_told_tells_no_second_time() {
    let house = House::new(SimulatedDisk::new());
    house.sink.refuse(every(10, 300));
    house.sink.fail_after_refusals(3);
    let engine = house.start().await;
    house.send(&Events::range(0..300)).await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), others(10, 300));
    assert_eq!(bad_ids(&house), every(10, 300));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_at_the_target_or_a_bad_event_wherever_the_power_goes() {
    let mut house = House::new(SimulatedDisk::new());
    house.sink.refuse(every(9, 5000));
    let mut sent = 0;
    for round in 0..12u64 {
        house.sink.fail_after_refusals(round as usize % 3);
        let engine = house.start().await;
        for _ in 0..4 {
            house.send(&Events::range(sent..sent + 60)).await;
            sent += 60;
        }
        if round % 2 == 0 {
            house.some_epochs(&engine, round).await;
        }
        house = house.power_cut(round).await;
        drop(engine);
    }
    house.sink.fail_after_refusals(0);
    let engine = house.start().await;
    house.caught_up(&engine).await;
    assert_eq!(house.sink.ids(), others(9, sent));
    assert_eq!(bad_ids(&house), every(9, sent));
    engine.stop().await;
}
