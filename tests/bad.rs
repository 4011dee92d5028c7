//! `playhouse bad` against a running Playhouse: what it lists, shows and counts, fixes, replays and drops; and that nothing
//! is replayed twice, whenever the process is killed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use playhouse_testkit::{Builder, Playhouse};
use serde_json::Value;

struct World {
    playhouse: Playhouse,
    directory: tempfile::TempDir,
}

impl World {
    fn start() -> World {
        World::start_with(|builder| builder)
    }

    fn start_with(settings: impl Fn(Builder) -> Builder) -> World {
        let directory = tempfile::tempdir().unwrap();
        let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
        World { playhouse: settings(builder).start(), directory }
    }

    /// Another process on the same data.
    fn restarted(self) -> World {
        let World { playhouse, directory } = self;
        playhouse.kill();
        let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
        World { playhouse, directory }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let admin = format!("http://{}", self.playhouse.admin());
        let mut command = Command::new("timeout");
        command.arg("60").arg(env!("CARGO_BIN_EXE_playhouse")).arg("bad").args(arguments).args(["--admin", &admin]);
        command
    }

    fn bad(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a repair tells on standard output, and its exit code.
    fn repair(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.bad(arguments);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// The bad ids that the records of the default topic came from, in any order.
    fn replayed(&self) -> Vec<String> {
        let kafka = self.playhouse.kafka().to_string();
        let tap = ["tap", "multimedia_events", "--from", "start", "--stop", "--json", "--bootstrap", &kafka];
        let output = Command::new(env!("CARGO_BIN_EXE_playhouse")).args(tap).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let bad_id = |record: Value| {
            let headers = record["headers"].as_array()?;
            let header = headers.iter().find(|header| header["name"] == "playhouse.bad_id")?;
            Some(header["value"].as_str()?.to_owned())
        };
        records.filter_map(bad_id).collect()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.bad(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.bad(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn bad_events_are_listed_shown_and_counted_from_the_command_line() {
    let world = World::start();
    let lines: String = (0..250).map(|n| format!("{{\"id\": \"{n}\", \"user\": {n}}}\n")).collect();
    assert_eq!(world.playhouse.post("/events", lines + "not json\n", &[]).0, 422);

    // More than one page.
    let all = world.ok(&["list", "--json", "-n", "1000"]);
    assert_eq!(all.lines().count(), 251);
    let typed = world.ok(&["list", "--json", "-n", "1000", "--keyword", "type", "--path", "/user", "--since", "1h"]);
    assert_eq!(typed.lines().count(), 250);
    assert_eq!(world.ok(&["list", "--json", "-n", "7"]).lines().count(), 7);
    let table = world.ok(&["list", "--stage", "decode"]);
    assert!(table.starts_with("BAD_ID") && table.lines().count() == 2, "{table}");
    assert_eq!(world.ok(&["list", "--until", "1h"]).lines().count(), 1);

    let first: Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
    let shown: Value = serde_json::from_str(&world.ok(&["show", first["bad_id"].as_str().unwrap()])).unwrap();
    assert_eq!(shown, first);
    assert!(world.fails(&["show", "0-9999"]).contains("0-9999"));
    assert!(world.fails(&["list", "--stage", "sinks"]).contains("sink:<name>"));

    let stats: Value = serde_json::from_str(&world.ok(&["stats", "--json"])).unwrap();
    assert_eq!(stats["count"], world.playhouse.count("select count(*) from bad_events"));
    assert_eq!(stats["stages"][0], serde_json::json!({"stage": "decode", "count": 1}));
    assert!(world.ok(&["stats", "--topic", "elsewhere"]).starts_with("0 bad events"));
}

#[test]
fn bad_events_are_fixed_and_counted_once() {
    let world = World::start();
    let bad = "{\"id\":\"a\",\"timestamp\":\"2025-08-31T12:00:00Z\",\"type\":\"play\"}\n{\"id\":\"b\"}\nnot json\n{\"id\":\"c\"}\n";
    assert_eq!(
        world.playhouse.post("/events", bad, &[("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/120.0")]).0,
        422
    );

    let patch = r#"[{"op": "add", "path": "/user", "value": "u"}]"#;
    let (code, told) = world.repair(&["fix", "0-0", "0-1", "--patch", patch, "--dry-run"]);
    assert_eq!(code, Some(1), "{told}");
    for part in [
        "0-0  multimedia_events  would pass",
        r#"+ {"id":"a","timestamp""#,
        "0-1  multimedia_events  still bad: required",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    assert!(told.ends_with("1 still bad, 1 would pass\n"), "{told}");
    assert!(world.replayed().is_empty());

    assert_eq!(world.repair(&["fix", "0-0", "--patch", patch]), (Some(0), "1 fixed\n".to_owned()));
    assert_eq!(world.repair(&["fix", "0-0", "--patch", patch]), (Some(0), "1 already fixed\n".to_owned()));
    let file = world.directory.path().join("patch.json");
    std::fs::write(
        &file,
        r#"[{"op": "add", "path": "/user", "value": "u"}, {"op": "add", "path": "/type", "value": "play"},
        {"op": "add", "path": "/timestamp", "value": "2025-08-31T12:00:00Z"}]"#,
    )
    .unwrap();
    let file = format!("@{}", file.display());
    assert_eq!(world.repair(&["fix", "--keyword", "required", "--patch", &file]), (Some(0), "2 fixed\n".to_owned()));
    let (code, told) = world.repair(&["replay", "--all"]);
    assert!(code == Some(1) && told.contains("still bad: json") && told.ends_with("1 still bad\n"), "{told}");
    assert_eq!(world.repair(&["drop", "--stage", "decode"]), (Some(0), "1 dropped\n".to_owned()));
    assert_eq!(world.repair(&["replay", "--all"]), (Some(0), "no bad event\n".to_owned()));

    // After a restart it is all as it was.
    let world = world.restarted();
    let rows = world.playhouse.query("select bad_id, attempts, fixed_as, dropped from bad_events order by bad_id");
    let rows: Vec<Vec<&str>> =
        rows.iter().map(|row| row.iter().map(|it| it.as_deref().unwrap_or("-")).collect()).collect();
    assert_eq!((rows[2][1], rows[2][2], rows[2][3]), ("1", "-", "t"), "{rows:?}");
    for row in [0, 1, 3] {
        assert!(rows[row][2].starts_with("multimedia_events/") && rows[row][3] == "f", "{rows:?}");
    }
    assert!(world.ok(&["stats"]).starts_with("4 bad events (3 fixed, 1 dropped), "));
    assert_eq!(world.ok(&["list", "--state", "fixed", "--json"]).lines().count(), 3);
    let mut replayed = world.replayed();
    replayed.sort();
    assert_eq!(replayed, ["0-0", "0-1", "0-3"]);
    world.playhouse.in_sight();
    let events = world.playhouse.query("select id, user_id, browser from events order by id");
    let events: Vec<Vec<&str>> =
        events.iter().map(|row| row.iter().map(|it| it.as_deref().unwrap_or("-")).collect()).collect();
    assert_eq!(events, [["a", "u", "Firefox"], ["b", "u", "Firefox"], ["c", "u", "Firefox"]]);

    for (wrong, told) in [
        (&["fix", "--all", "--sql", "nonsense"][..], "no such column"),
        (&["fix", "--all", "--patch", "{"], "--patch is not JSON"),
        (&["replay"], "which bad events?"),
        (&["replay", "0-1", "--all"], "not both"),
        (&["replay", "0-77"], "0-77"),
    ] {
        let output = world.bad(wrong);
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{wrong:?}: {output:?}");
    }
    assert_eq!(world.bad(&["fix", "--all"]).status.code(), Some(2), "what to do is part of the usage");
}

#[test]
fn a_flood_of_bad_events_stays_within_its_quota_and_is_told() {
    let world = World::start_with(|builder| builder.set("bad_events.disk_quota", "1 MB"));
    let mut sent = 0;
    // Numbers that a compressor makes little of.
    let mut number = 1u64;
    for _ in 0..20 {
        let mut lines = String::new();
        for _ in 0..500 {
            let noise: String = (0..12)
                .map(|_| {
                    number = number.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    format!("{:x}", number >> 8)
                })
                .collect();
            lines.push_str(&format!("{{\"id\":\"{noise}\"}}\n"));
        }
        assert_eq!(world.playhouse.post("/events", lines, &[]).0, 422);
        sent += 500;
    }
    let status = &world.playhouse.status()["bad_events"];
    assert!(status["bytes"].as_u64().unwrap() <= 1_100_000, "{status}");
    let displaced = status["displaced"].as_i64().unwrap();
    assert_eq!(displaced + world.playhouse.count("select count(*) from bad_events"), sent);
    assert!(world.ok(&["stats"]).contains(&format!("\n{displaced} older ones were displaced, last at 2")));
    let metric = format!("\nplayhouse_bad_events_displaced_total {displaced}\n");
    assert!(displaced > 0 && world.playhouse.get("/metrics").text().contains(&metric));
    let again = world.restarted();
    assert_eq!(again.playhouse.status()["bad_events"]["displaced"], displaced);
}

/// Bytes of the log of all partitions whose directories begin so.
fn bytes_of(data: &Path, partitions: &str) -> u64 {
    let directories = std::fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap());
    let ours = directories.filter(|it| it.file_name().to_string_lossy().starts_with(partitions));
    let files = ours.flat_map(|it| std::fs::read_dir(it.path()).unwrap().map(|entry| entry.unwrap()));
    let logs = files.filter(|it| it.path().extension().is_some_and(|extension| extension == "log"));
    logs.map(|it| it.metadata().unwrap().len()).sum()
}

/// SIGKILL as soon as the intent to replay, the replayed events, or what they were fixed as, reach a file; again and again,
/// until all are through.
#[test]
fn killed_between_the_steps_of_a_replay_nothing_is_doubled_or_lost() {
    const EVENTS: usize = 6_000;
    let mut world = World::start();
    let lines: String = (0..EVENTS).map(|n| format!("{{\"id\":\"e{n}\"}}\n")).collect();
    assert_eq!(world.playhouse.post("/events", lines, &[]).0, 422);
    let sql = "json_set(raw, '$.timestamp', '2025-08-31T12:00:00Z', '$.type', 'play', '$.user', 'u' || (raw ->> 'id'))";

    let mut interrupted = 0;
    for watched in ["__bad_event_state-", "multimedia_events-"].into_iter().cycle().take(8) {
        let data = world.directory.path();
        // The intent is written first, then what was fixed: by turns one or the other is what is waited for.
        let mut growths = if watched.starts_with("__") { 1 + interrupted % 3 } else { 1 };
        let mut before = bytes_of(data, watched);
        let mut fixing = world.command(&["fix", "--all", "--sql", sql]);
        let mut fixing = fixing.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while growths > 0 && fixing.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60) {
            let now = bytes_of(data, watched);
            if now != before {
                (before, growths) = (now, growths - 1);
            }
        }
        world = world.restarted();
        interrupted += usize::from(!fixing.wait().unwrap().success());
        let replayed = world.replayed();
        let distinct: BTreeSet<&String> = replayed.iter().collect();
        assert_eq!(distinct.len(), replayed.len(), "after {interrupted} interruptions");
        let fixed = world.playhouse.count("select count(*) from bad_events where fixed_as is not null");
        assert_eq!(fixed as usize, replayed.len(), "after {interrupted} interruptions");
    }
    assert!(interrupted > 4, "it was fixed before it could be interrupted");

    assert_eq!(world.repair(&["fix", "--all", "--sql", sql]).0, Some(0));
    assert_eq!(world.repair(&["fix", "--all", "--sql", sql]), (Some(0), "no bad event\n".to_owned()));
    assert_eq!(world.replayed().len(), EVENTS);
    world.playhouse.in_sight();
    let counts = "select count(*), count(distinct id) from events";
    let all = Some(EVENTS.to_string());
    assert_eq!(world.playhouse.query(counts), [[all.clone(), all]]);
}

#[test]
fn without_a_server_the_command_says_which_one_it_looked_for() {
    let nobody = ["bad", "list", "--admin", "http://127.0.0.1:1"];
    let output = Command::new(env!("CARGO_BIN_EXE_playhouse")).args(nobody).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--admin"), "{output:?}");
}
