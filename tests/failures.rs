//! Events that fail behind the gate, in the pipeline or at a sink: each is a bad event once, everything else is where it
//! belongs once, whenever the process is killed; and what is repaired comes through.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use playhouse_testkit::{Builder, Playhouse};

const PIPELINE: &str = "
CREATE TABLE multimedia_events (id TEXT NOT NULL, event_time TIMESTAMPTZ NOT NULL, content_id TEXT, watched_ms BIGINT)
WITH (connector='log', topic='${topic}', format='json', fields='event_time=timestamp, content_id=content', dedup_key='id',
      dedup_window='24 hours', watermark='event_time', watermark_delay='10 seconds', idle_timeout='30 seconds');
CREATE TABLE lake_events WITH (connector='lake', table='events', commit_interval='60 seconds', commit_bytes='128 MB');
INSERT INTO lake_events
SELECT id, 1000 / watched_ms AS speed, CAST(event_time AS DATE) AS date FROM multimedia_events;
CREATE TABLE table_events WITH (connector='tables', table='contents', primary_key='id', commit_interval='20 ms');
INSERT INTO table_events SELECT id, content_id FROM multimedia_events WHERE content_id <> 'left out';
CREATE MATERIALIZED VIEW counted WITH (allowed_lateness='unlimited', retention='400 days') AS
SELECT count(*) AS events FROM TUMBLE(multimedia_events, event_time, INTERVAL '1' DAY) GROUP BY window_start, window_end;
";

/// The pipeline divides by what this one watched.
fn fails(number: usize) -> bool {
    number % 7 == 3
}

/// The table has a constraint against this one's content.
fn is_refused(number: usize) -> bool {
    number % 11 == 5 && !fails(number)
}

fn event(number: usize) -> String {
    let content = match number {
        _ if is_refused(number) => "refused",
        _ if number.is_multiple_of(5) => "left out",
        _ => "track",
    };
    let watched = if fails(number) { 0 } else { 10 };
    format!(
        r#"{{"id":"e{number}","timestamp":"2025-08-31T12:00:00Z","type":"play","user":"u{}","content":"{content}","watched_ms":{watched}}}"#,
        number % 13
    )
}

fn is_in_table(number: usize) -> bool {
    !fails(number) && !is_refused(number) && !number.is_multiple_of(5)
}

fn ids(numbers: impl Iterator<Item = usize>) -> BTreeSet<String> {
    numbers.map(|number| format!("e{number}")).collect()
}

fn count(sent: usize, which: fn(usize) -> bool) -> i64 {
    (0..sent).filter(|number| which(*number)).count() as i64
}

fn in_table(data: &Path) -> Vec<String> {
    let tables = rusqlite::Connection::open(data.join("tables.db")).unwrap();
    let mut statement = tables.prepare("SELECT id FROM contents").unwrap();
    let ids = statement.query_map([], |row| row.get(0)).unwrap();
    ids.collect::<Result<_, _>>().unwrap()
}

fn settled(playhouse: &Playhouse) {
    playhouse.caught_up_but_for(&["lake_events", "late_events"]);
}

/// All as it has to be, given how many events were sent and how many failed ones came back.
fn check(playhouse: &Playhouse, data: &Path, sent: usize, repaired: bool) {
    let (failed, refused) = (count(sent, fails), count(sent, is_refused));
    for (stage, expected) in [("enrich", failed), ("sink:table_events", refused)] {
        let kept = format!("select count(*), count(distinct raw) from bad_events where stage = '{stage}'");
        let expected = Some(expected.to_string());
        assert_eq!(playhouse.query(&kept), [[expected.clone(), expected]], "{stage}");
    }
    let came_through = sent as i64 - if repaired { 0 } else { failed };
    let through = Some(came_through.to_string());
    assert_eq!(playhouse.query("select count(*), count(distinct id) from events"), [[through.clone(), through]]);
    assert_eq!(playhouse.count("select sum(events) from counted"), came_through);
    let table = in_table(data);
    // A failed one has a content that the table takes.
    let expected = ids((0..sent).filter(|n| is_in_table(*n) || (repaired && fails(*n) && !n.is_multiple_of(5))));
    assert_eq!(table.len(), expected.len());
    assert_eq!(table.into_iter().collect::<BTreeSet<_>>(), expected);
}

fn bad(playhouse: &Playhouse, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = format!("http://{}", playhouse.admin());
    let mut command = Command::new(env!("CARGO_BIN_EXE_playhouse"));
    let output = command.arg("bad").args(arguments).args(["--admin", &admin]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn each_is_a_bad_event_once_and_comes_through_once_it_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let tables = rusqlite::Connection::open(data.join("tables.db")).unwrap();
    let table = "CREATE TABLE contents (id TEXT PRIMARY KEY NOT NULL, content_id TEXT CHECK (content_id <> 'refused'))";
    tables.execute_batch(table).unwrap();
    drop(tables);
    let pipeline = directory.path().join("pipeline.sql");
    std::fs::write(&pipeline, PIPELINE).unwrap();
    let builder: Builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse"))
        .data(&data)
        .set("pipeline.file", pipeline.display())
        .set("pipeline.epoch_rows", 64);

    let mut sent = 0;
    for round in 0..10u64 {
        let playhouse = builder.start();
        for _ in 0..3 {
            let lines: String = (sent..sent + 150).map(|number| event(number) + "\n").collect();
            assert_eq!(playhouse.post("/events", lines, &[]).0, 200);
            sent += 150;
        }
        if round % 3 == 2 {
            // Far enough for the table to have commits of its own behind it.
            settled(&playhouse);
            check(&playhouse, &data, sent, false);
        }
        playhouse.kill();
        // Once more on the way to where it was.
        builder.start_and_kill(Duration::from_millis(40 + round * 37));
    }
    let playhouse = builder.start();
    settled(&playhouse);
    check(&playhouse, &data, sent, false);
    let metrics = playhouse.get("/metrics").text();
    assert!(metrics.contains("playhouse_enrich_failed_total "), "{metrics}");
    assert!(metrics.contains("playhouse_sink_refused_total{sink=\"table_events\"}"), "{metrics}");
    let (code, shown) = bad(&playhouse, &["list", "--stage", "enrich", "--json", "-n", "1"]);
    assert!(code == Some(0) && shown.contains("lake_events: divide by zero error"), "{shown}");

    let patch = r#"[{"op": "replace", "path": "/watched_ms", "value": 10}]"#;
    let (code, told) = bad(&playhouse, &["fix", "--stage", "enrich", "--patch", patch]);
    assert_eq!((code, told), (Some(0), format!("{} fixed\n", count(sent, fails))));
    playhouse.kill();
    let playhouse = builder.start();
    settled(&playhouse);
    check(&playhouse, &data, sent, true);

    // What a sink refused is everywhere else already.
    let (code, told) = bad(&playhouse, &["replay", "--stage", "sink:table_events"]);
    assert!(code == Some(1) && told.ends_with(&format!("{} still bad\n", count(sent, is_refused))), "{told}");
    assert!(told.contains("only table_events has refused it"), "{told}");
    assert_eq!(bad(&playhouse, &["drop", "--stage", "sink:table_events"]).0, Some(0));
    check(&playhouse, &data, sent, true);
}
