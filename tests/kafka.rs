//! The Kafka door with somebody else's client: kcat (librdkafka) produces, consumes and resumes as a group member.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use playhouse_testkit::Playhouse;

const TOPIC: &str = "multimedia_events";

fn start() -> (tempfile::TempDir, Playhouse) {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    (directory, playhouse)
}

fn event(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","timestamp":"2025-08-31T12:00:00Z","type":"play","user":"user of {id}","metadata":{{ "ü" : [1.50,  null] }}}}"#
    )
}

/// Ends by itself within a minute, or the test fails.
fn kcat(door: SocketAddr, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("timeout")
        .args(["60", "kcat", "-b", &door.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kcat is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(124), "kcat {arguments:?} does not end: {}", stderr(&output));
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> Vec<String> {
    stdout(output).lines().map(str::to_owned).collect()
}

fn column(playhouse: &Playhouse, sql: &str) -> Vec<String> {
    playhouse.query(sql).into_iter().map(|row| row[0].clone().unwrap()).collect()
}

#[test]
#[ignore = "needs kcat"]
fn produced_events_land_and_invalid_ones_are_quarantined() {
    let (_directory, playhouse) = start();
    let good: Vec<String> = (0..500).map(|number| event(&format!("k{number:03}"))).collect();
    let produced = kcat(playhouse.kafka(), &["-P", "-t", TOPIC, "-z", "lz4"], &good.join("\n"));
    assert!(produced.status.success() && !stderr(&produced).contains("failed"), "{}", stderr(&produced));

    // One bad record between good ones, all in one partition and one batch.
    let bad = r#"{"id":"bad","type":"play"}"#;
    let mixed = [event("m1"), bad.to_owned(), event("m2"), "not json".to_owned(), event("m3")].join("\n");
    let produced = kcat(playhouse.kafka(), &["-P", "-t", TOPIC, "-p", "1", "-X", "linger.ms=200"], &mixed);
    assert!(produced.status.success(), "{}", stderr(&produced));
    let alone = kcat(playhouse.kafka(), &["-P", "-t", TOPIC], r#"{"id":"bad too"}"#);
    // A batch has one answer, and what is kept in bad_events needs no second try: the producer goes on.
    assert!(alone.status.success() && !stderr(&alone).contains("failed"), "{}", stderr(&alone));

    playhouse.in_sight();
    assert_eq!(playhouse.count("select count(*) from events where id like 'k%'"), 500);
    let landed = column(&playhouse, "select id from events where id not like 'k%' order by id");
    assert_eq!(landed, ["m1", "m2", "m3"], "what was good in the batch is kept: {}", stderr(&produced));
    let stages = column(&playhouse, "select stage from bad_events where source_protocol = 'kafka' order by stage");
    assert_eq!(stages, ["decode", "validate", "validate"]);
    let reasons = column(&playhouse, "select reasons from bad_events where stage = 'validate' order by bad_id");
    assert!(reasons[0].contains("timestamp") && reasons[0].contains("user"), "{}", reasons[0]);
    let raw = column(&playhouse, "select raw::text from bad_events where stage = 'validate' order by bad_id");
    assert_eq!(raw, [bad, r#"{"id":"bad too"}"#]);
}

#[test]
#[ignore = "needs kcat"]
fn events_sent_over_http_are_consumed_byte_for_byte() {
    let (_directory, playhouse) = start();
    let sent: Vec<String> = (0..100).map(|number| event(&format!("r{number:02}"))).collect();
    let (status, answer) = playhouse.post("/events", sent.join("\n"), &[("User-Agent", "a player")]);
    assert_eq!(status, 200, "{answer}");
    let consumed = kcat(playhouse.kafka(), &["-C", "-t", TOPIC, "-o", "beginning", "-e", "-f", "%k\t%h\t%s\n"], "");
    let mut payloads = BTreeSet::new();
    for line in lines(&consumed) {
        let [key, headers, payload] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(payload.contains(&format!(r#""user":"{key}""#)), "the key is the user: {line}");
        assert!(headers.contains("source_address=127.0.0.1") && headers.contains("user_agent=a player"), "{headers}");
        payloads.insert(payload.to_owned());
    }
    assert_eq!(payloads, sent.into_iter().collect());
}

#[test]
#[ignore = "needs kcat"]
fn a_consumer_group_resumes_where_it_stopped_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.start();
    let produce = |playhouse: &Playhouse, ids: std::ops::Range<u32>| {
        let events: Vec<String> = ids.map(|number| event(&format!("g{number}"))).collect();
        let produced = kcat(playhouse.kafka(), &["-P", "-t", TOPIC], &events.join("\n"));
        assert!(produced.status.success(), "{}", stderr(&produced));
    };
    let consume = |playhouse: &Playhouse| {
        let group = ["-G", "watchers", "-e", "-X", "auto.offset.reset=earliest", TOPIC];
        let consumed = kcat(playhouse.kafka(), &group, "");
        assert!(consumed.status.success(), "{}", stderr(&consumed));
        lines(&consumed).into_iter().collect::<BTreeSet<String>>()
    };
    let expected = |ids: std::ops::Range<u32>| -> BTreeSet<String> { ids.map(|n| event(&format!("g{n}"))).collect() };

    produce(&playhouse, 0..50);
    assert_eq!(consume(&playhouse), expected(0..50));
    produce(&playhouse, 50..80);
    assert_eq!(consume(&playhouse), expected(50..80), "what was committed does not come again");
    produce(&playhouse, 80..100);
    playhouse.stop();
    let playhouse = builder.start();
    assert_eq!(consume(&playhouse), expected(80..100), "offsets outlive the process");
    assert_eq!(consume(&playhouse), expected(0..0));
}

#[test]
#[ignore = "needs kcat"]
fn any_other_topic_takes_any_bytes() {
    let (_directory, playhouse) = start();
    let produced = kcat(playhouse.kafka(), &["-P", "-t", "anything", "-k", "key"], "not json\nat all\n");
    assert!(produced.status.success(), "{}", stderr(&produced));
    let consumed = kcat(playhouse.kafka(), &["-C", "-t", "anything", "-o", "beginning", "-e", "-f", "%k=%s\n"], "");
    assert_eq!(lines(&consumed), ["key=not json", "key=at all"]);
    let refused = kcat(playhouse.kafka(), &["-P", "-t", "bad_events"], "{}\n");
    assert!(stderr(&refused).contains("failed"), "nobody writes bad events but the gate: {}", stderr(&refused));
    assert_eq!(playhouse.count("select count(*) from events"), 0);
}
