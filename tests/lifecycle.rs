//! Starting, stopping and failing to start.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use playhouse_testkit::{Builder, Playhouse};

const BINARY: &str = env!("CARGO_BIN_EXE_playhouse");

fn event(id: &str) -> String {
    format!(r#"{{"id":"{id}","timestamp":"2025-08-31T12:00:00Z","type":"play","user":"u-{id}"}}"#)
}

fn events(ids: std::ops::Range<u32>) -> String {
    ids.map(|number| event(&number.to_string()) + "\n").collect()
}

fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    Command::new(BINARY).args(arguments).current_dir(directory.path()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The start fails with one line that has all of this in it.
fn assert_fails(builder: &Builder, told: &[&str]) {
    let (status, stderr) = builder.fail();
    assert!(!status.success(), "the exit code tells: {status}, {stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.is_empty()).collect();
    let [line] = lines.as_slice() else { panic!("one line, not {}: {stderr}", lines.len()) };
    for part in told {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[test]
fn starts_says_where_and_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(BINARY).data(directory.path().join("made/on the way")).start();
    assert!(playhouse.is_ready());
    for (path, ready) in [("/health/ready", r#"{"ready":true}"#), ("/health/live", r#"{"live":true}"#)] {
        let answer = playhouse.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, ready));
    }
    for door in ["ingest", "kafka", "grpc", "registry", "rest_proxy", "postgres", "redis", "admin"] {
        assert!(playhouse.has_door(door), "{door} is not printed: {}", playhouse.stdout());
    }
    assert!(playhouse.get("/metrics").text().contains("playhouse_"));
    assert_eq!(playhouse.get("/api/openapi.json").json()["openapi"].as_str().map(|version| &version[..2]), Some("3."));
    assert_eq!(playhouse.stderr(), "", "nothing to complain about");
}

#[test]
fn sigterm_stops_within_two_seconds_and_a_restart_loses_and_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(BINARY).data(directory.path());
    let mut sent = 0;
    for round in 0..4 {
        let playhouse = builder.start();
        assert_eq!(playhouse.post("/events", events(sent..sent + 500), &[]).0, 200);
        sent += 500;
        if round % 2 == 0 {
            playhouse.in_sight();
        }
        // In the odd rounds, while the engine is at work.
        let took = playhouse.stop();
        assert!(took < Duration::from_secs(2), "stopping took {took:?}");
    }
    let playhouse = builder.start();
    // The client did not hear of its success, and sends once more.
    assert_eq!(playhouse.post("/events", events(1500..2000), &[]).0, 200);
    playhouse.in_sight();
    for table in ["events", "events_raw"] {
        assert_eq!(playhouse.count(&format!("select count(*) from {table}")), 2000, "{table}");
    }
    assert_eq!(playhouse.count("select count(distinct id) from events"), 2000);
    assert_eq!(playhouse.count("select users from unique_users_per_day"), 2000);
    assert_eq!(playhouse.count("select events from events_by_type"), 2000);
    let keys: Vec<String> = (0..2000).map(|number| format!("event:{number}")).collect();
    assert!(playhouse.redis_values(&keys).iter().all(Option::is_some), "the cache is filled again after a restart");
}

#[test]
fn a_demo_has_an_audience() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(BINARY).data(directory.path()).arg("--demo").start();
    playhouse_testkit::wait_until("viewers are watching", Duration::from_secs(60), || {
        let watching = playhouse.count("select count(*) from concurrent_viewers");
        if watching > 0 { Ok(()) } else { Err(format!("{watching} rows")) }
    });
    assert_eq!(playhouse.count("select count(*) from bad_events"), 0);
    assert!(playhouse.count("select count(distinct country) from events") > 0, "addresses have countries");
    playhouse.stop();
}

#[test]
fn the_topic_is_renamed_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(BINARY).data(directory.path()).env("KAFKA_TOPIC", "viewer_events").start();
    let (status, answer) = playhouse.post("/events", event("1"), &[]);
    assert_eq!(status, 200);
    assert!(answer.contains(r#""topic":"viewer_events""#), "{answer}");
    assert_eq!(playhouse.post("/events/viewer_events", event("2"), &[]).0, 200);
    assert_eq!(playhouse.post("/events/multimedia_events", event("3"), &[]).0, 404, "the old name is gone");
    playhouse.in_sight();
    let places = playhouse.query("select id, ingest_id from events order by id");
    assert_eq!(places.len(), 2);
    assert!(places.iter().all(|row| row[1].as_deref().unwrap().starts_with("viewer_events/")), "{places:?}");
    assert_eq!(playhouse.query("select distinct topic from events_raw"), [[Some("viewer_events".to_owned())]]);
    assert_eq!(playhouse.status()["engine"]["inputs"][0]["topic"], "viewer_events");
}

#[test]
fn a_busy_port_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for door in ["ingest", "kafka", "grpc", "registry", "rest_proxy", "postgres", "redis", "admin"] {
        let directory = tempfile::tempdir().unwrap();
        let builder = Playhouse::builder(BINARY).data(directory.path()).set(&format!("{door}.port"), port);
        assert_fails(&builder, &[&format!("port {port} is in use"), &format!("{door}.port")]);
    }
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let builder = Playhouse::builder(BINARY);
    assert_fails(&builder.clone().data(file.join("data")), &["a file/data", "--data"]);
    assert_fails(&builder.data("/proc/playhouse"), &["/proc/playhouse", "--data"]);
}

#[test]
fn a_data_directory_has_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(BINARY).data(directory.path());
    let playhouse = builder.start();
    assert_fails(&builder, &["in use by process", &playhouse.pid().to_string()]);
    assert_eq!(playhouse.post("/events", event("1"), &[]).0, 200, "the first goes on");
}

#[test]
fn a_broken_pipeline_file_is_named_with_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken.sql");
    let shipped =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/multimedia.sql")).unwrap();
    let builder = Playhouse::builder(BINARY).data(directory.path().join("data")).set("pipeline.file", file.display());
    assert_fails(&builder, &["broken.sql", "pipeline.file"]);
    for (from, to, told) in [
        ("CREATE VIEW addressed", "CREAT VIEW addressed", "CREAT"),
        ("ua_device(", "ua_devise(", "ua_devise"),
        ("e.session_id, e.content_id", "e.sesion_id, e.content_id", "sesion_id"),
        ("connector = 'tables'", "connector = 'table'", "tables"),
        ("commit_interval = '60 seconds'", "comit_interval = '60 seconds'", "commit_interval"),
        ("ingested_at,                                  -- when", "now() AS ingested_at, -- when", "now"),
    ] {
        assert!(shipped.contains(from), "{from} is no longer in the pipeline");
        std::fs::write(&file, shipped.replacen(from, to, 1)).unwrap();
        assert_fails(&builder, &["broken.sql", told]);
    }
    assert!(!directory.path().join("data").exists(), "what fails does so before anything is made");
    std::fs::write(&file, shipped).unwrap();
    builder.start();
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(BINARY).data(directory.path());
    assert_fails(&builder.clone().set("ingest.prot", 1), &["ingest.prot", "ingest.port"]);
    assert_fails(&builder.clone().set("durability", "fsnyc"), &["durability", "fsync"]);
    assert_fails(&builder.clone().set("limits.event_bytes", "many"), &["limits.event_bytes", "many"]);
    assert_fails(&builder.clone().env("PLAYHOUSE_TABELS", "none"), &["PLAYHOUSE_TABELS", "PLAYHOUSE_TABLES"]);
    let file = directory.path().join("playhouse.toml");
    std::fs::write(&file, "[kafka]\nprt = 1\n").unwrap();
    assert_fails(&builder.arg("--config").arg(&file), &["playhouse.toml", "kafka.prt", "kafka.port"]);
}

#[test]
fn doors_stay_on_this_machine_unless_told() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(BINARY).data(directory.path()).set("ingest.host", "0.0.0.0");
    assert_fails(&builder, &["ingest.host", "allow_remote_without_authentication"]);
    builder.set("allow_remote_without_authentication", true).start();
}

#[test]
fn help_config_and_doctor_help() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    for command in ["up", "replay", "generate", "config", "doctor"] {
        assert!(stdout(&help).contains(&format!("\n  {command} ")), "{command} is not in the help");
        let own = run(&[command, "--help"]);
        assert!(own.status.success() && stdout(&own).contains("Usage:"), "{command} --help");
    }

    let config = run(&["config", "--set", "kafka.port=9999"]);
    assert!(config.status.success());
    let line = |name: &str| stdout(&config).lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("topic").contains("\"multimedia_events\"") && line("topic").contains("default"), "{}", line("topic"));
    assert!(stdout(&config).contains("port = 9999"), "{}", stdout(&config));
    assert!(stdout(&config).parse::<toml::Table>().is_ok(), "what is printed is a configuration file");

    let free = ["ingest", "kafka", "grpc", "registry", "rest_proxy", "postgres", "redis", "admin"]
        .map(|door| format!("--set={door}.port=0"));
    let doctor: Vec<&str> = ["doctor"].into_iter().chain(free.iter().map(String::as_str)).collect();
    let healthy = run(&doctor);
    assert!(healthy.status.success(), "{}", stdout(&healthy));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("--set=kafka.port={}", taken.local_addr().unwrap().port());
    let sick = run(&[
        "doctor",
        &free[0],
        &busy,
        &free[2],
        &free[3],
        &free[4],
        &free[5],
        "--set=tables=postgres://127.0.0.1:1/none",
    ]);
    assert!(!sick.status.success(), "{}", stdout(&sick));
    let failed: Vec<String> =
        stdout(&sick).lines().filter(|line| line.starts_with("fail")).map(str::to_owned).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed[0].contains("kafka.port") && failed[1].contains("tables"), "{failed:?}");
}

#[test]
fn works_from_another_directory() {
    let elsewhere = tempfile::tempdir().unwrap();
    let builder = Playhouse::builder(BINARY).data("relative/data");
    let mut command = builder.command();
    let mut child = command.current_dir(elsewhere.path()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let up = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let seen = up.map_while(Result::ok).find(|line| line.contains("admin"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(seen.is_some(), "it did not come up");
    assert!(elsewhere.path().join("relative/data/log").is_dir(), "data is beside where it was started");
}
