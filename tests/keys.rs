//! API keys from the command line to the doors.

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
    let playhouse = Playhouse::builder(BINARY).data(&data).set("auth", "keys").start();
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
    assert!(said.contains("auth = \"keys\""), "{said}");
    let playhouse = open.set("auth", "keys").start();
    assert_eq!(send(&playhouse, None, "none"), 401);
    drop(playhouse);
    let never = Playhouse::builder(BINARY).data(directory.path()).set("auth", "keys").set("postgres.host", "0.0.0.0");
    let (_, said) = never.fail();
    assert!(said.contains("postgres.host"), "{said}");
}

#[test]
fn one_key_is_good_for_the_same_on_every_door() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let make = |name: &str, rights: &[&str]| said(&key(&data, &[&["create", name], rights].concat()));
    let sends = make("sends", &["--topic", "multimedia_events"]);
    let reads = make("reads", &["--topic", "*", "--may", "read"]);
    let admin = make("admin", &["--admin"]);
    let playhouse = Playhouse::builder(BINARY).data(&data).set("auth", "keys").start();
    let ask = |door: std::net::SocketAddr, method: &str, path: &str, key: &str, media: &str, body: &str| {
        let bearer = format!("Bearer {key}");
        let mut headers = vec![("Content-Type", media)];
        headers.extend((!key.is_empty()).then_some(("Authorization", bearer.as_str())));
        http::request(door, method, path, &headers, body.as_bytes()).unwrap().status
    };
    let keys = ["", "phk_1_2", &sends, &reads, &admin];

    // The REST proxy shows the caller's key to the Kafka door, which decides.
    let event = r#"{"id":"a","timestamp":"2025-08-31T12:00:00Z","type":"play","user":"u"}"#;
    let records = format!(r#"{{"records":[{{"value":{event}}}]}}"#);
    let media = "application/vnd.kafka.json.v2+json";
    let produce = |key: &&str| ask(playhouse.rest_proxy(), "POST", "/topics/multimedia_events", key, media, &records);
    assert_eq!(keys.each_ref().map(produce), [401, 401, 200, 403, 200]);
    let list = |key: &&str| ask(playhouse.rest_proxy(), "GET", "/topics", key, "", "");
    assert_eq!(keys.each_ref().map(list), [401, 401, 200, 200, 200]);
    let v2 = "application/vnd.kafka.v2+json";
    let instance = |key: &&str| ask(playhouse.rest_proxy(), "POST", "/consumers/g", key, v2, r#"{"name":"one"}"#);
    assert_eq!([instance(&""), instance(&"phk_1_2"), instance(&reads.as_str())], [401, 401, 200]);
    let path = "/consumers/g/instances/one/subscription";
    let subscription = |key: &&str| ask(playhouse.rest_proxy(), "GET", path, key, "", "");
    assert_eq!(keys.each_ref().map(subscription), [401, 401, 404, 200, 404], "an instance is its maker's");

    let registry = playhouse.registry();
    let schema = r#"{"schemaType":"JSON","schema":"{\"type\":\"object\"}"}"#;
    let register = |key: &&str| ask(registry, "POST", "/subjects/a/versions", key, "application/json", schema);
    assert_eq!(keys.each_ref().map(register), [401, 401, 403, 403, 200]);
    let look_up = |key: &&str| ask(registry, "POST", "/subjects/a", key, "application/json", schema);
    assert_eq!(keys.each_ref().map(look_up), [401, 401, 200, 200, 200]);

    // Whose key it is the proxy does not know, so it registers no schema for anybody.
    let quoted = Value::from(r#"{"type":"object"}"#);
    let with_schema = format!(r#"{{"value_schema":{quoted},"records":[{{"value":{event}}}]}}"#);
    let media = "application/vnd.kafka.jsonschema.v2+json";
    let produce = || ask(playhouse.rest_proxy(), "POST", "/topics/multimedia_events", &sends, media, &with_schema);
    assert_eq!(produce(), 422);
    let subject = "/subjects/multimedia_events-value/versions";
    assert_eq!(ask(registry, "POST", subject, &admin, "application/json", schema), 200);
    assert_eq!(produce(), 200);

    let metrics = |key: &&str| ask(playhouse.admin(), "GET", "/metrics", key, "", "");
    assert_eq!(keys.each_ref().map(metrics), [401, 401, 403, 200, 200]);
    assert_eq!(ask(playhouse.admin(), "GET", "/health/ready", "", "", ""), 200);

    // The command line, over Kafka and over the admin API.
    let run = |arguments: &[&str], key: &str, input: &str| {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_remove("PLAYHOUSE_API_KEY").stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        if !key.is_empty() {
            command.env("PLAYHOUSE_API_KEY", key);
        }
        let mut child = command.spawn().unwrap();
        // It may end before it reads.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let broker = playhouse.kafka().to_string();
    let produce = ["produce", "multimedia_events", "--bootstrap", &broker, "--timeout", "5s", "--quiet"];
    let (done, said) = run(&produce, "", event);
    assert!(!done && said.contains("--api-key"), "{said}");
    let (done, said) = run(&produce, "phk_1_2", event);
    assert!(!done && said.contains("API key") && !said.contains("phk_1_2"), "{said}");
    assert_eq!(run(&produce, &sends, event), (true, String::new()));
    let (done, said) = run(&["topic", "create", "mine", "--bootstrap", &broker, "--timeout", "5s"], &sends, "");
    assert!(!done && said.contains("lacks the right"), "{said}");
    assert!(run(&["topic", "create", "mine", "--bootstrap", &broker], &admin, "").0);
    let url = format!("http://{}", playhouse.admin());
    let bad = ["bad", "list", "--admin", &url];
    assert!(!run(&bad, "", "").0 && !run(&bad, &sends, "").0);
    assert!(run(&bad, &reads, "").0);
    for key in [&sends, &reads, &admin] {
        let secret = key.rsplit('_').next().unwrap();
        assert!(!playhouse.stderr().contains(secret) && !playhouse.stdout().contains(secret), "keys are not logged");
    }
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
