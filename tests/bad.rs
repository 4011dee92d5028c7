//! `playhouse bad` against a running Playhouse: what it lists, shows and counts.

use std::process::{Command, Output};

use playhouse_testkit::Playhouse;
use serde_json::Value;

struct World {
    playhouse: Playhouse,
    _directory: tempfile::TempDir,
}

impl World {
    fn start() -> World {
        let directory = tempfile::tempdir().unwrap();
        let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
        World { playhouse, _directory: directory }
    }

    fn bad(&self, arguments: &[&str]) -> Output {
        let admin = format!("http://{}", self.playhouse.admin());
        let mut command = Command::new("timeout");
        command.arg("60").arg(env!("CARGO_BIN_EXE_playhouse")).arg("bad").args(arguments).args(["--admin", &admin]);
        command.output().unwrap()
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
fn without_a_server_the_command_says_which_one_it_looked_for() {
    let nobody = ["bad", "list", "--admin", "http://127.0.0.1:1"];
    let output = Command::new(env!("CARGO_BIN_EXE_playhouse")).args(nobody).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--admin"), "{output:?}");
}
