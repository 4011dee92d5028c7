//! Live views against the generator's truth: every answer exact, whatever is repeated, invalid or late.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use playhouse_testkit::Playhouse;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_playhouse");

fn generate(arguments: &[&str]) -> String {
    let output = Command::new(BINARY).arg("generate").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn truth(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn expected(truth: &Value, what: &str) -> BTreeMap<String, i64> {
    let counts = truth[what].as_object().unwrap_or_else(|| panic!("no {what} in the truth"));
    counts.iter().map(|(key, count)| (key.clone(), count.as_i64().unwrap())).collect()
}

fn answers(playhouse: &Playhouse, sql: &str) -> BTreeMap<String, i64> {
    let rows = playhouse.query(sql);
    rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].as_deref().unwrap().parse().unwrap())).collect()
}

#[test]
fn views_equal_the_truth() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(BINARY).data(directory.path().join("data")).start();
    let file = directory.path().join("truth.json");
    let url = format!("http://{}", playhouse.ingest());
    let summary = generate(&[
        "--events=20000",
        "--seed=7",
        "--users=3000",
        "--invalid=1%",
        "--late=2%",
        "--duplicate=1%",
        "--url",
        &url,
        "--truth",
        file.to_str().unwrap(),
    ]);
    let truth = truth(&file);
    let said = |name: &str| truth[name].as_i64().unwrap();
    assert!(said("invalid") > 100 && said("duplicates") > 100 && said("late") > 200, "{truth}");
    assert_eq!(said("sent"), 20_000);
    assert!(summary.contains(&format!("{} accepted, {} rejected", said("valid"), said("invalid"))), "{summary}");
    playhouse.in_sight();

    assert_eq!(playhouse.count("select count(*) from events"), said("distinct"));
    assert_eq!(playhouse.count("select count(distinct id) from events"), said("distinct"));
    assert_eq!(playhouse.count("select count(*) from events_raw"), said("distinct"));
    assert_eq!(playhouse.count("select count(*) from bad_events"), said("invalid"));
    let engine = &playhouse.status()["engine"];
    assert_eq!((engine["duplicates"].as_i64(), engine["undecodable"].as_i64()), (Some(said("duplicates")), Some(0)));

    let ask = |sql: &str| answers(&playhouse, sql);
    let users = expected(&truth, "unique_users_per_day");
    assert_eq!(ask("select day, users from unique_users_per_day"), users);
    assert_eq!(ask("select date, count(distinct user_id) from events group by 1"), users);
    let watched = expected(&truth, "watched_ms_by_content");
    let watch_time =
        "select content_id, sum(watched_ms)::bigint as watched from watch_time group by 1 having sum(watched_ms) > 0";
    assert_eq!(ask(watch_time), watched);
    let by_type = expected(&truth, "events_by_type");
    assert_eq!(ask("select type, sum(events)::bigint from events_by_type group by 1"), by_type);
    assert_eq!(ask("select type, count(*) from events group by 1"), by_type);
    let by_day = expected(&truth, "events_per_day");
    assert_eq!(ask("select day, sum(events)::bigint from events_by_type group by 1"), by_day);
    assert_eq!(ask("select date, count(*) from events group by 1"), by_day);

    // What came too late for windows of seconds is told, and counted above all the same.
    let late = playhouse.count("select count(*) from late_events");
    assert!(late > 0, "minutes and hours are late for concurrent_viewers");
    let views = playhouse.query("select distinct view from late_events");
    assert_eq!(views, [[Some("concurrent_viewers".to_owned())]]);
    let catalogue =
        "select count(*) from events where content_id is not null and (title is null or duration_ms is null)";
    assert_eq!(playhouse.count(catalogue), 0, "the audience plays what the catalogue has");

    // A restart answers the same, out of the checkpoint and the epoch log.
    playhouse.stop();
    let playhouse = Playhouse::builder(BINARY).data(directory.path().join("data")).start();
    playhouse.in_sight();
    assert_eq!(answers(&playhouse, "select day, users from unique_users_per_day"), users);
    assert_eq!(answers(&playhouse, watch_time), watched);
    assert_eq!(playhouse.count("select count(*) from late_events"), late);
    assert_eq!(playhouse.count("select count(*) from events"), said("distinct"));
}

#[test]
fn old_traffic_beside_live_traffic_counts_in_daily_views_and_is_late_for_short_windows() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(BINARY).data(directory.path()).start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    // By whichever user: every partition has live traffic.
    let event = |id: &str, user: u32, time: &str| {
        format!(
            "{{\"id\":\"{id}{user}\",\"timestamp\":\"{time}\",\"type\":\"heartbeat\",\"user\":\"u{user}\",\"session\":\"{id}-s{user}\",\"content\":\"track-1\",\"watched_ms\":10000}}\n"
        )
    };
    let live: String = (0..100).map(|user| event("live", user, &rfc3339(now))).collect();
    assert_eq!(playhouse.post("/events", live, &[]).0, 200);
    playhouse.in_sight();
    let watching = "select sum(viewers)::bigint from concurrent_viewers";
    assert_eq!(playhouse.count(watching), 100);

    let old: String = (0..40).map(|user| event("old", user, "2015-05-17T10:05:03Z")).collect();
    assert_eq!(playhouse.post("/events", old, &[]).0, 200);
    playhouse.in_sight();
    assert_eq!(playhouse.count("select users from unique_users_per_day where day = '2015-05-17'"), 40);
    assert_eq!(playhouse.count("select watched_ms from watch_time where day = '2015-05-17'"), 400_000);
    assert_eq!(playhouse.count("select viewers from watch_time where day = '2015-05-17'"), 40);
    assert_eq!(playhouse.count(watching), 100, "nobody of 2015 is watching now");
    let late = playhouse.query("select view, event_time, count(*) from late_events group by 1, 2");
    let [row] = late.as_slice() else { panic!("one view, one time: {late:?}") };
    assert_eq!((row[0].as_deref(), row[2].as_deref()), (Some("concurrent_viewers"), Some("40")));
    assert!(row[1].as_deref().unwrap().starts_with("2015-05-17 10:05:03"), "{row:?}");
    let places = "select count(*) from late_events l join events_raw r on l.topic = r.topic and l.partition = r.partition and l.\"offset\" = r.\"offset\"";
    assert_eq!(playhouse.count(places), 40, "each late row says where its event is");
    assert_eq!(playhouse.count("select count(*) from events where date = '2015-05-17'"), 40);

    // A clock that is ahead moves no watermark: live traffic after it is still on time.
    let ahead: String = (0..100).map(|user| event("ahead", user, "2099-01-01T00:00:00Z")).collect();
    assert_eq!(playhouse.post("/events", ahead, &[]).0, 200);
    let again: String = (0..100).map(|user| event("again", user, &rfc3339(now))).collect();
    assert_eq!(playhouse.post("/events", again, &[]).0, 200);
    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from late_events"), 40);
    assert_eq!(playhouse.count("select count(*) from events"), 340);
}

fn rfc3339(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
