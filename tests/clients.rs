//! Other people's Kafka clients: each script or program of `tests/clients` runs against Playhouse and against Apache Kafka, and has
//! to see the same. What differs is explained in docs/kafka-compatibility.md, by the name of the check.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use playhouse_testkit::Playhouse;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: `cargo xtask test --real` sets it"))
}

/// What is run with a broker's address: a script, or a program.
#[derive(Clone, Copy)]
enum Client<'a> {
    Python(&'a str),
    Go(&'a str),
    /// From its source, with the jars that this variable names.
    Java(&'a str, &'a str),
}

impl Client<'_> {
    fn command(self) -> Command {
        let path = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
        let mut command = Command::new("timeout");
        command.arg("600");
        match self {
            Client::Python(script) => command.arg(variable("PLAYHOUSE_TEST_PYTHON")).arg(path(script)),
            Client::Go(program) => command.arg(Path::new(&variable("PLAYHOUSE_TEST_GO_CLIENTS")).join(program)),
            Client::Java(source, jars) => {
                let jars = format!("{}/*", variable(jars));
                // Both brokers, their clients and the tests share the machine.
                let options = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &jars];
                command.args(options).arg(path(source))
            }
        };
        command
    }
}

/// The outcome of each check.
fn outcomes(client: Client<'_>, bootstrap: &str, more: &[String]) -> BTreeMap<String, String> {
    let mut command = client.command();
    let output = command.arg(bootstrap).args(more).output().unwrap();
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ends with {}: {said}", output.status);
    let outcomes: BTreeMap<String, String> = printed
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(check, outcome)| (check.to_owned(), outcome.to_owned()))
        .collect();
    assert!(!outcomes.is_empty(), "{command:?} checks nothing: {said}");
    println!("{command:?} against {bootstrap}: {outcomes:#?}\n{said}");
    outcomes
}

fn agree(client: Client<'_>, more: &[String]) {
    let explained = include_str!("../docs/kafka-compatibility.md");
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let ours = outcomes(client, &playhouse.kafka().to_string(), more);
    let theirs = outcomes(client, &variable("PLAYHOUSE_TEST_KAFKA"), more);
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
    let outcomes = outcomes(Client::Python("grpc_ingest.py"), &playhouse.grpc().to_string(), &[proto]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

fn is_for_tests(variable: &std::ffi::OsStr) -> bool {
    variable.to_string_lossy().starts_with("PLAYHOUSE_TEST_")
}

/// Keys are Playhouse's own.
#[test]
#[ignore = "needs kcat, confluent-kafka, kafka-python and Kafka's tools"]
fn sasl_plain() {
    let directory = tempfile::tempdir().unwrap();
    let key = |name: &str, rights: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_playhouse"));
        // What the tests are told by is no setting.
        std::env::vars_os().map(|(name, _)| name).filter(|name| is_for_tests(name)).for_each(|name| {
            command.env_remove(name);
        });
        command.args(["key", "create", name]).args(rights).arg("--data").arg(directory.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let sends = key("sends", &["--topic", "keyed"]);
    let reads = key("reads", &["--topic", "keyed", "--may", "read"]);
    let admin = key("admin", &["--admin"]);
    let builder = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path());
    let playhouse = builder.set("auth", "keys").start();
    let jars = variable("PLAYHOUSE_TEST_KAFKA_JARS");
    let outcomes = outcomes(Client::Python("sasl.py"), &playhouse.kafka().to_string(), &[sends, reads, admin, jars]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

/// Apache Kafka checks no values.
#[test]
#[ignore = "needs confluent-kafka and kafka-python"]
fn producers_of_rejected_batches() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let outcomes = outcomes(Client::Python("rejected.py"), &playhouse.kafka().to_string(), &[]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

/// What is expected is written down in the public reference of the API.
#[test]
#[ignore = "needs curl"]
fn curl_and_the_rest_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let outcomes = outcomes(Client::Python("rest_proxy.py"), &playhouse.rest_proxy().to_string(), &[]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

#[test]
#[ignore = "needs curl and confluent-kafka"]
fn curl_and_the_rest_proxy_with_schemas() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let more = [playhouse.registry().to_string(), playhouse.kafka().to_string()];
    let outcomes = outcomes(Client::Python("rest_proxy_schemas.py"), &playhouse.rest_proxy().to_string(), &more);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

/// Nor has this: Apache Kafka has no registry.
#[test]
#[ignore = "needs confluent-kafka"]
fn confluents_registry_client() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let registry = playhouse.registry().to_string();
    let outcomes = outcomes(Client::Python("registry.py"), &playhouse.kafka().to_string(), &[registry]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

#[test]
#[ignore = "needs confluent-kafka and grpcio"]
fn confluents_serializers() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory.path()).start();
    let registry = playhouse.registry().to_string();
    let outcomes = outcomes(Client::Python("serializers.py"), &playhouse.kafka().to_string(), &[registry]);
    assert!(outcomes.values().all(|outcome| outcome == "ok"), "{outcomes:#?}");
}

#[test]
#[ignore = "needs Apache Kafka and confluent-kafka"]
fn librdkafka() {
    agree(Client::Python("confluent.py"), &[]);
}

#[test]
#[ignore = "needs Apache Kafka and kafka-python"]
fn kafka_python() {
    agree(Client::Python("kafka_python.py"), &[]);
}

#[test]
#[ignore = "needs Apache Kafka and aiokafka"]
fn aiokafka() {
    agree(Client::Python("aio.py"), &[]);
}

#[test]
#[ignore = "needs Apache Kafka and its tools"]
fn kafkas_newest_tools() {
    agree(Client::Python("java_tools.py"), &[variable("PLAYHOUSE_TEST_KAFKA_JARS")]);
}

#[test]
#[ignore = "needs Apache Kafka and its tools"]
fn kafkas_tools_of_the_line_before() {
    agree(Client::Python("java_tools.py"), &[variable("PLAYHOUSE_TEST_KAFKA_JARS_BEFORE")]);
}

#[test]
#[ignore = "needs Apache Kafka and its Java clients"]
fn kafkas_newest_clients() {
    agree(Client::Java("JavaClients.java", "PLAYHOUSE_TEST_KAFKA_JARS"), &[]);
}

#[test]
#[ignore = "needs Apache Kafka and its Java clients"]
fn kafkas_clients_of_the_line_before() {
    agree(Client::Java("JavaClients.java", "PLAYHOUSE_TEST_KAFKA_JARS_BEFORE"), &[]);
}

#[test]
#[ignore = "needs Apache Kafka and its Connect"]
fn kafka_connect() {
    agree(Client::Python("connect.py"), &[variable("PLAYHOUSE_TEST_KAFKA_JARS")]);
}

#[test]
#[ignore = "needs Apache Kafka and franz-go"]
fn franz_go() {
    agree(Client::Go("franz"), &[]);
}

#[test]
#[ignore = "needs Apache Kafka and sarama"]
fn sarama() {
    agree(Client::Go("sarama"), &[]);
}
