//! The PostgreSQL door as psql sees it. Needs `psql` on the path, so CI runs it with `--ignored`.

use std::process::Command;

use crate::support::{TestDoor, open};

fn psql(door: &TestDoor, arguments: &[&str], command: &str) -> (bool, String, String) {
    let output = Command::new("psql")
        .args(["-X", "-h", "127.0.0.1", "-U", "anyone", "-d", "whatever", "-p", &door.address.port().to_string()])
        .args(arguments)
        .args(["-c", command])
        .env("PGCONNECT_TIMEOUT", "10")
        .output()
        .expect("psql must be installed for this test");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn asked(door: &TestDoor, arguments: &[&str], command: &str) -> String {
    let (success, output, error) = psql(door, arguments, command);
    assert!(success && error.is_empty(), "{command}\n{output}\n{error}");
    output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs psql"]
async fn psql_asks_and_is_answered() {
    let door = open().await;
    let sql = "select country, count(*) from events group by 1 order by 2 desc, 1 limit 5";
    assert_eq!(asked(&door, &["-At"], sql), "CZ|350\nUS|350\n|350\n");
    let sql = "select id, event_time, date, score from events where watched_ms = 10010";
    assert_eq!(asked(&door, &["-At"], sql), "event1001|2025-08-31 12:00:01.001+00|2025-08-31|500.5\n");
    assert_eq!(asked(&door, &["-At"], "select max(a), max(b) from left_view join right_view using (k)"), "1|1\n");
    assert_eq!(asked(&door, &["-At"], "select reasons::text from bad_events limit 1").matches("required").count(), 2);
    assert_eq!(asked(&door, &["-At", "-v", "FETCH_COUNT=300"], "select id from events").lines().count(), 1050);
    assert!(asked(&door, &["-At"], "explain select count(*) from events").contains("logical_plan"));
    let (success, _, error) = psql(&door, &["-v", "VERBOSITY=verbose"], "create table t (a int)");
    assert!(!success && error.contains("0A000") && error.contains("pipelines/*.sql"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs psql"]
async fn psql_describes_what_there_is() {
    let door = open().await;
    let tables = asked(&door, &["-At"], "\\d");
    for table in ["events", "late_events", "bad_events", "left_view", "right_view"] {
        assert!(tables.contains(&format!("public|{table}|")), "{tables}");
    }
    let tables = asked(&door, &["-At"], "\\dt");
    assert!(tables.contains("public|events|table") && !tables.contains("left_view"), "{tables}");
    assert!(asked(&door, &["-At"], "\\dv").contains("public|left_view|view"));
    let columns = asked(&door, &["-At"], "\\d events");
    for column in
        ["id|text", "event_time|timestamp with time zone", "watched_ms|bigint", "score|double precision", "date|date"]
    {
        assert!(columns.contains(column), "{column} is missing in\n{columns}");
    }
    assert!(asked(&door, &["-At"], "\\d bad_events").contains("raw|bytea"));
    assert!(asked(&door, &["-At"], "\\d left_view").contains("a|bigint"));
}
