//! Transactions end to end with librdkafka: copied exactly once though copiers and the server itself are killed, and the
//! engine counts what was committed and nothing else.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use playhouse_testkit::{Builder, Playhouse};

fn builder(directory: &Path) -> Builder {
    Playhouse::builder(env!("CARGO_BIN_EXE_playhouse")).data(directory)
}

/// The script of tests/clients, which ends by itself.
fn script(playhouse: &Playhouse, arguments: &[&str]) -> Command {
    let python = std::env::var("PLAYHOUSE_TEST_PYTHON")
        .unwrap_or_else(|_| panic!("PLAYHOUSE_TEST_PYTHON is not set: `cargo xtask test --real` sets it"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/transactions_confluent.py");
    let mut command = Command::new("timeout");
    command.arg("300").arg(python).arg(path).arg(playhouse.kafka().to_string()).args(arguments);
    command
}

#[test]
#[ignore = "needs confluent-kafka"]
fn committed_is_seen_aborted_is_not_and_the_second_producer_fences_the_first_off() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = builder(directory.path()).start();
    assert!(script(&playhouse, &["basics"]).status().unwrap().success());
}

#[test]
#[ignore = "needs confluent-kafka"]
fn a_copy_is_exactly_once_though_copiers_and_the_server_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = builder(directory.path()).start();
    // Every life at the same door.
    let builder = builder(directory.path()).set("kafka.port", playhouse.kafka().port());
    let mut copying = script(&playhouse, &["exactly-once", "3000", "7"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(copying.stdout.take().unwrap()).lines();
    println!("{}", said.next().unwrap().unwrap());
    let mut await_said = |what: &str| {
        let found = said.by_ref().map(Result::unwrap).find(|line| line == what);
        assert!(found.is_some(), "the script ended before a copier said {what:?} again");
    };
    let mut playhouse = playhouse;
    for life in 1..=3 {
        // Each life does some work, and ends in the middle of a transaction.
        (0..life).for_each(|_| await_said("copied"));
        await_said("copying");
        playhouse.kill();
        playhouse = builder.start();
    }
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert!(copying.wait().unwrap().success(), "{rest:?}");
    println!("{}", rest.last().map_or("", String::as_str));
}

#[test]
#[ignore = "needs confluent-kafka"]
fn the_engine_counts_what_was_committed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let playhouse = builder(directory.path()).start();
    assert!(script(&playhouse, &["events", "multimedia_events"]).status().unwrap().success());
    playhouse.in_sight();
    let landed = playhouse.query("select id from events order by id");
    let landed: Vec<String> = landed.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(landed, ["committed-0", "committed-1", "committed-2", "plain"]);
}
