//! API keys from the command line to the ingest door.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use playhouse_testkit::{Playhouse, http, wait_until};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_playhouse");

fn key(data: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).arg("key").args(arguments).arg("--data").arg(data).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn send(playhouse: &Playhouse, key: Option<&str>, id: &str) -> u16 {
    let event = json!({"id": id, "timestamp": "2025-08-31T12:00:00Z", "type": "play", "user": "u"});
    let bearer = format!("Bearer {}", key.unwrap_or_default());
    let headers: Vec<(&str, &str)> = key.iter().map(|_| ("Authorization", bearer.as_str())).collect();
    http::post(playhouse.ingest(), "/events", &headers, event.to_string().as_bytes()).unwrap().status
}

#[test]
fn keys_are_made_and_revoked_while_the_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // Before anything has run.
    let early = said(&key(&data, &["create", "early", "--topic", "*"]));
    let playhouse = Playhouse::builder(BINARY).data(&data).set("ingest.auth", "keys").start();
    assert_eq!(send(&playhouse, Some(&early), "early"), 200);
    assert_eq!(send(&playhouse, None, "none"), 401);

    let made = said(&key(&data, &["create", "web player", "--topic", "multimedia_*", "--json"]));
    let made: Value = serde_json::from_str(&made).unwrap();
    let (id, token) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let until = |what: &str, status: u16| {
        wait_until(what, Duration::from_secs(20), || match send(&playhouse, Some(token), "made") {
            found if found == status => Ok(()),
            found => Err(found.to_string()),
        });
    };
    until("the new key is good", 200);
    let listed = said(&key(&data, &["list"]));
    assert!(listed.contains("web player") && listed.contains("multimedia_*") && listed.contains(id), "{listed}");
    assert!(!listed.contains(token), "a key is shown once");
    let stored = std::fs::read_to_string(data.join("keys/keys.json")).unwrap();
    assert!(!stored.contains(token.rsplit('_').next().unwrap()), "secrets are not stored");

    assert_eq!(said(&key(&data, &["revoke", id])), format!("revoked key {id}"));
    until("the revoked key is good for nothing", 401);
    assert_eq!(send(&playhouse, Some(&early), "still"), 200);
    let again = key(&data, &["revoke", id]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("playhouse key list"));
    let taken = key(&data, &["create", "early", "--topic", "*"]);
    assert!(String::from_utf8_lossy(&taken.stderr).contains("another name"));

    // What the command line sends has a key too.
    let url = format!("http://{}", playhouse.ingest());
    let generate = |arguments: &[&str]| {
        let output = Command::new(BINARY).args(["generate", "--events=10", "--url", &url]).args(arguments).output();
        output.unwrap()
    };
    assert!(generate(&["--api-key", &early]).status.success());
    let refused = generate(&[]);
    let refused = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.contains("401") && refused.contains("API key"), "{refused}");
}

#[test]
fn a_door_that_asks_for_keys_may_be_reached_from_anywhere_and_others_not() {
    let directory = tempfile::tempdir().unwrap();
    let open = Playhouse::builder(BINARY).data(directory.path()).set("ingest.host", "0.0.0.0");
    let (_, said) = open.fail();
    assert!(said.contains("ingest.auth"), "{said}");
    let playhouse = open.set("ingest.auth", "keys").start();
    assert_eq!(send(&playhouse, None, "none"), 401);
}

#[test]
fn each_caller_has_its_rate() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(BINARY)
        .data(directory.path())
        .set("ingest.requests_per_second", "1")
        .set("ingest.rate_burst", "2 s")
        .start();
    let statuses: Vec<u16> = (0..100).map(|number| send(&playhouse, None, &number.to_string())).collect();
    assert!(statuses[..2].iter().all(|status| *status == 200), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
}
