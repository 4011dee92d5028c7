//! Other people's Kafka clients: each script of `tests/clients` runs against Playhouse and against Apache Kafka, and has
//! to see the same. What differs is explained in docs/kafka-compatibility.md, by the name of the check.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use playhouse_testkit::Playhouse;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: `cargo xtask test --real` sets it"))
}

/// The outcome of each check.
fn outcomes(script: &str, bootstrap: &str, more: &[String]) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let output = Command::new("timeout")
        .arg("600")
        .arg(variable("PLAYHOUSE_TEST_PYTHON"))
        .arg(path)
        .arg(bootstrap)
        .args(more)
        .output()
        .unwrap();
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} ends with {}: {said}", output.status);
    let outcomes: BTreeMap<String, String> = printed
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(check, outcome)| (check.to_owned(), outcome.to_owned()))
        .collect();
    assert!(!outcomes.is_empty(), "{script} checks nothing: {said}");
    println!("{script} against {bootstrap}: {outcomes:#?}\n{said}");
    outcomes
}

fn agree(script: &str, more: &[String]) {
    let explained = include_str!("../docs/kafka-compatibility.md");
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let ours = outcomes(script, &playhouse.kafka().to_string(), more);
    let theirs = outcomes(script, &variable("PLAYHOUSE_TEST_KAFKA"), more);
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (check, outcome) in &ours {
        let is_explained = explained.contains(&format!("`{check}`"));
        let same = *outcome == theirs[check] && outcome == "ok";
        assert!(same != is_explained, "{check}: Playhouse {outcome:?}, Apache Kafka {:?}", theirs[check]);
    }
}

/// It has nobody to compare with: all of its checks have to be ok.
#[test]
#[ignore = "needs grpcio"]
fn grpcio() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto").display().to_string();
    let outcomes = outcomes("grpc_ingest.py", &playhouse.grpc().to_string(), &[proto]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

/// Keys are Playhouse's own.
#[test]
#[ignore = "needs kcat, confluent-kafka, kafka-python and Kafka's tools"]
fn sasl_plain() {
    let directory = tempfile::tempdir().unwrap();
    let key = |name: &str, rights: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_playhouse"));
        let output = command.args(["key", "create", name]).args(rights).arg("--data").arg(directory.path()).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    };
    let sends = key("sends", &["--topic", "keyed"]);
    let reads = key("reads", &["--topic", "keyed", "--may", "read"]);
    let admin = key("admin", &["--admin"]);
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.set("auth", "keys").start();
    let jars = variable("PLAYHOUSE_TEST_KAFKA_JARS");
    let outcomes = outcomes("sasl.py", &playhouse.kafka().to_string(), &[sends, reads, admin, jars]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

/// Apache Kafka checks no values.
#[test]
#[ignore = "needs confluent-kafka and kafka-python"]
fn producers_of_rejected_batches() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let outcomes = outcomes("rejected.py", &playhouse.kafka().to_string(), &[]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

/// What is expected is written down in the public reference of the API.
#[test]
#[ignore = "needs curl"]
fn curl_and_the_rest_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let outcomes = outcomes("rest_proxy.py", &playhouse.rest_proxy().to_string(), &[]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

/// Nor has this: Apache Kafka has no registry.
#[test]
#[ignore = "needs confluent-kafka"]
fn confluents_registry_client() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let registry = playhouse.registry().to_string();
    let outcomes = outcomes("registry.py", &playhouse.kafka().to_string(), &[registry]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

#[test]
#[ignore = "needs Apache Kafka and confluent-kafka"]
fn librdkafka() {
    agree("confluent.py", &[]);
}

#[test]
#[ignore = "needs Apache Kafka and kafka-python"]
fn kafka_python() {
    agree("kafka_python.py", &[]);
}

#[test]
#[ignore = "needs Apache Kafka and aiokafka"]
fn aiokafka() {
    agree("aio.py", &[]);
}

#[test]
#[ignore = "needs Apache Kafka and its tools"]
fn kafkas_newest_tools() {
    agree("java_tools.py", &[variable("PLAYHOUSE_TEST_KAFKA_JARS")]);
}

#[test]
#[ignore = "needs Apache Kafka and its tools"]
fn kafkas_tools_of_the_line_before() {
    agree("java_tools.py", &[variable("PLAYHOUSE_TEST_KAFKA_JARS_BEFORE")]);
}
