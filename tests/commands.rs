//! The commands that speak to a Kafka broker, against a running Playhouse: what they print and how they end.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use playhouse_testkit::Playhouse;
use serde_json::Value;

struct World {
    bootstrap: String,
    /// Where it is not another's broker.
    _playhouse: Option<(Playhouse, tempfile::TempDir)>,
}

impl World {
    fn start() -> World {
        let directory = tempfile::tempdir().unwrap();
        let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
        World { bootstrap: playhouse.kafka().to_string(), _playhouse: Some((playhouse, directory)) }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        run(&[arguments, &["--bootstrap", &self.bootstrap]].concat(), input)
    }

    /// What it prints, where it succeeds.
    fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat(), "")).unwrap()
    }

    /// What it says on standard error, where it fails.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, "");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(output.stdout, b"");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("timeout")
        .arg("60")
        .arg(env!("CARGO_BIN_EXE_playhouse"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(124), "{arguments:?} does not end");
    output
}

#[test]
fn a_topic_is_made_described_altered_and_deleted() {
    let world = World::start();
    let made = ["topic", "create", "clicks", "--partitions", "2", "--set", "cleanup.policy=compact"];
    assert_eq!(world.ok(&made, ""), "made topic clicks\n");
    assert!(world.fails(&made).contains("\"clicks\" already exists"));
    world.ok(&[&made[..], &["--if-not-exists"]].concat(), "");
    assert!(world.ok(&["topic", "list"], "").contains("clicks"));
    let described = world.json(&["topic", "describe", "clicks"]);
    assert_eq!(described["settings"], serde_json::json!({"cleanup.policy": "compact"}));
    let altered =
        ["topic", "alter", "clicks", "--partitions", "3", "--set", "retention.ms=5", "--unset", "cleanup.policy"];
    world.ok(&altered, "");
    let described = world.json(&["topic", "describe", "clicks"]);
    assert_eq!(described["settings"], serde_json::json!({"retention.ms": "5"}));
    assert_eq!(described["partitions"].as_array().unwrap().len(), 3);
    assert!(world.fails(&["topic", "alter", "clicks", "--set", "retention=5"]).contains("unknown topic setting"));
    assert!(world.fails(&["topic", "alter", "clicks", "--partitions", "1"]).contains("only grow"));
    world.ok(&["topic", "delete", "clicks"], "");
    assert!(world.fails(&["topic", "describe", "clicks"]).contains("clicks"));
    let listed = world.json(&["topic", "list"]);
    assert!(listed.as_array().unwrap().iter().all(|topic| topic["name"] != "clicks"));
}

#[test]
fn what_is_produced_is_tapped_as_it_was_sent() {
    let world = World::start();
    world.ok(&["topic", "create", "clicks", "--partitions", "1"], "");
    let lines = "alice:{\"type\":\"play\", \"at\":1.50}\nbob:{\"type\":\"pause\",\"at\":20}\ncarol:not json\n";
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let arguments =
            ["produce", "clicks", "--key-separator", ":", "--header", "by=test", "--compression", codec, "-q"];
        world.ok(&arguments, lines);
    }
    let tapped = world.ok(&["tap", "clicks", "--from", "start", "--stop"], "");
    assert_eq!(tapped.lines().count(), 15);
    assert!(tapped.lines().next().unwrap().ends_with(r#" clicks/0/0 alice {"type":"play", "at":1.50}"#), "{tapped}");
    let filtered = ["tap", "clicks", "--from", "-3", "--stop", "--filter", "at>=2", "--json"];
    let found: Value = serde_json::from_str(&world.ok(&filtered, "")).unwrap();
    assert_eq!(
        (&found["offset"], &found["key"], &found["value"]["type"]),
        (&13.into(), &"bob".into(), &"pause".into())
    );
    assert_eq!(found["headers"], serde_json::json!([{"name": "by", "value": "test"}]));
    assert_eq!(world.ok(&["tap", "clicks", "--from", "4", "-n", "2"], "").lines().count(), 2);
    world.ok(&["produce", "clicks", "--key", "alice", "--null-value"], "");
    assert!(world.ok(&["tap", "clicks", "--from", "-1", "--stop"], "").ends_with(" clicks/0/15 alice null\n"));
    assert!(world.fails(&["tap", "clicks", "--partition", "7"]).contains("no partition 7"));
    assert!(world.fails(&["produce", "missing"]).contains("missing"));
}

#[test]
fn a_groups_offsets_are_moved_and_its_lag_shown() {
    let world = World::start();
    world.ok(&["topic", "create", "clicks", "--partitions", "1"], "");
    let lines: String = (0..100).map(|number| format!("{number}\n")).collect();
    world.ok(&["produce", "clicks"], &lines);
    assert!(world.fails(&["group", "describe", "readers"]).contains("no such group"));
    let to = |place: &str, more: &[&str]| {
        let arguments = [&["group", "reset-offsets", "readers", "--topic", "clicks", "--to", place], more].concat();
        world.json(&arguments)[0]["after"].as_i64().unwrap()
    };
    assert_eq!(to("-10", &["--dry-run"]), 90);
    world.fails(&["group", "describe", "readers"]);
    assert_eq!(to("40", &[]), 40);
    let described = world.json(&["group", "describe", "readers"]);
    assert_eq!((&described["state"], &described["partitions"][0]["lag"]), (&"Empty".into(), &60.into()));
    assert_eq!((to("start", &[]), to("end", &[]), to("1h", &[]), to("2999-01-01T00:00:00Z", &[])), (0, 100, 0, 100));
    assert!(world.ok(&["group", "list"], "").contains("readers"));
}

#[test]
fn wrong_usage_and_absent_brokers_have_their_own_exit_codes() {
    let absent = run(&["topic", "list", "--bootstrap", "127.0.0.1:1", "--timeout", "1s"], "");
    assert_eq!(absent.status.code(), Some(1));
    let said = String::from_utf8(absent.stderr).unwrap();
    assert!(said.contains("127.0.0.1:1") && said.contains("--bootstrap"), "{said}");
    for wrong in [
        &["topic", "alter", "clicks"][..],
        &["tap"],
        &["tap", "t", "--from", "soon"],
        &["produce", "t", "--compression", "zip"],
    ] {
        assert_eq!(run(wrong, "").status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
#[ignore = "needs Apache Kafka"]
fn the_commands_work_against_apache_kafka() {
    let bootstrap = std::env::var("PLAYHOUSE_TEST_KAFKA").expect("`cargo xtask test --real` sets PLAYHOUSE_TEST_KAFKA");
    let world = World { bootstrap, _playhouse: None };
    let topic = format!("commands-{}", std::process::id());
    world.ok(&["topic", "create", &topic, "--partitions", "2", "--set", "cleanup.policy=compact"], "");
    world.ok(&["topic", "alter", &topic, "--partitions", "3", "--set", "retention.ms=50000"], "");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        world.ok(&["produce", &topic, "--key-separator", ":", "--compression", codec], "a:{\"n\":1}\nb:{\"n\":2}\n");
    }
    let tapped = world.ok(&["tap", &topic, "--from", "start", "--stop", "--filter", "n=2"], "");
    assert_eq!(tapped.lines().count(), 5, "{tapped}");
    let described = world.json(&["topic", "describe", &topic]);
    assert_eq!(described["settings"], serde_json::json!({"cleanup.policy": "compact", "retention.ms": "50000"}));
    let written = described["partitions"].as_array().unwrap().iter().map(|it| it["next"].as_i64().unwrap());
    assert_eq!(written.sum::<i64>(), 10);
    world.ok(&["group", "reset-offsets", &topic, "--topic", &topic, "--to", "start"], "");
    let group = world.json(&["group", "describe", &topic]);
    let lag = group["partitions"].as_array().unwrap().iter().map(|it| it["lag"].as_i64().unwrap());
    assert_eq!((group["state"].as_str(), lag.sum::<i64>()), (Some("Empty"), 10));
    assert!(world.json(&["group", "list"]).as_array().unwrap().iter().any(|it| it["group"] == topic.as_str()));
    world.ok(&["topic", "delete", &topic], "");
}
