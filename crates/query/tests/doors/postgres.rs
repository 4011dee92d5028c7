//! The PostgreSQL door as a driver sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{open, open_with, snapshot};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

/// First column of all rows, over the simple protocol.
async fn simple(client: &Client, sql: &str) -> Vec<Option<String>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        })
        .collect()
}

async fn one(client: &Client, sql: &str) -> String {
    simple(client, sql).await.remove(0).unwrap_or_else(|| "NULL".to_owned())
}

async fn code(client: &Client, sql: &str) -> String {
    let simple = client.simple_query(sql).await.err().unwrap_or_else(|| panic!("{sql} passed"));
    let extended = client.query(sql, &[]).await.err().unwrap_or_else(|| panic!("{sql} passed"));
    let code = |error: tokio_postgres::Error| error.code().unwrap_or_else(|| panic!("{error}")).code().to_owned();
    let (simple, extended) = (code(simple), code(extended));
    assert_eq!(simple, extended, "{sql}: simple and extended protocol differ");
    simple
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_table_is_its_committed_part_and_its_tail() {
    let door = open().await;
    let client = door.connect().await;
    assert_eq!(one(&client, "select count(*) from events").await, "1050");
    assert_eq!(one(&client, "select sum(watched_ms) from events").await, (1049 * 1050 / 2 * 10).to_string());
    assert_eq!(one(&client, "select count(distinct id) from events where country = 'CZ'").await, "350");
    assert_eq!(one(&client, "select count(*) from events where id = 'event3' or id = 'event1003'").await, "2");
    // `score` exists only in the tail yet.
    assert_eq!(one(&client, "select count(score) from events").await, "50");
    assert_eq!(one(&client, "select max(id) from events where date = '2025-08-31'").await, "event999");
    assert_eq!(simple(&client, "select id from events order by event_time desc limit 2").await.len(), 2);
    assert_eq!(one(&client, "select count(*) from late_events").await, "0");
    assert_eq!(one(&client, "select count(*) from (select * from endless limit 10) as some").await, "10");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_arrive_in_text_and_in_binary() {
    let door = open().await;
    let client = door.connect().await;
    let sql = "select id, event_time, country, watched_ms, score, date from events where id = 'event1001'";
    let row = &client.query(sql, &[]).await.unwrap()[0];
    assert_eq!(row.get::<_, &str>(0), "event1001");
    let time: std::time::SystemTime = row.get(1);
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_micros() as i64, crate::support::NOON_US + 1_001_000);
    assert_eq!(row.get::<_, Option<&str>>(2), None);
    assert_eq!((row.get::<_, i64>(3), row.get::<_, f64>(4)), (10_010, 500.5));
    assert_eq!(row.columns()[1].type_().name(), "timestamptz");
    assert_eq!(row.columns()[5].type_().name(), "date");

    assert_eq!(
        one(&client, "select event_time from events where id = 'event1001'").await,
        "2025-08-31 12:00:01.001+00"
    );
    assert_eq!(one(&client, "select date from events where id = 'event1001'").await, "2025-08-31");

    let bad = client.query("select * from bad_events order by bad_id", &[]).await.unwrap();
    assert_eq!(bad.len(), 3);
    assert_eq!(bad[0].get::<_, &str>("bad_id"), "0-0");
    assert_eq!(bad[0].get::<_, &[u8]>("raw"), &[0, 0xff, b'{']);
    assert_eq!(bad[1].get::<_, Option<&str>>("source_address"), None);
    assert_eq!(bad[2].get::<_, &str>("stage"), "sink:tables");
    assert!(bad[0].get::<_, &str>("reasons").contains("\"keyword\":\"required\""));
    assert_eq!(one(&client, "select raw from bad_events").await, "\\x00ff7b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_and_repeated_execution() {
    let door = open().await;
    let client = door.connect().await;
    let statement =
        client.prepare("select count(*) from events where country = $1 and watched_ms >= $2").await.unwrap();
    let count: i64 = client.query_one(&statement, &[&"CZ", &0i64]).await.unwrap().get(0);
    assert_eq!(count, 350);

    // Prepared once, and each execution sees the newest epoch.
    let statement = client.prepare("select max(a) from left_view").await.unwrap();
    for epoch in [2, 3] {
        *door.current.lock().unwrap() = snapshot(epoch);
        let seen: i64 = client.query_one(&statement, &[]).await.unwrap().get(0);
        assert_eq!(seen, epoch as i64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_sees_one_epoch_while_snapshots_are_swapped() {
    let door = open().await;
    let done = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (current, done) = (door.current.clone(), done.clone());
        std::thread::spawn(move || {
            let mut epoch = 1;
            while !done.load(Ordering::SeqCst) {
                epoch += 1;
                *current.lock().unwrap() = snapshot(epoch);
            }
            epoch
        })
    };
    let client = door.connect().await;
    let sql = "select count(*), min(l.a), max(l.a), min(r.b), max(r.b)
               from left_view l join right_view r on l.k = r.k join left_view again on again.a = r.b and again.k = l.k";
    let mut epochs = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let row = client.query_one(sql, &[]).await.unwrap();
        let seen: Vec<i64> = (0..5).map(|column| row.get(column)).collect();
        assert_eq!(seen[0], 100);
        assert!(seen[1..].iter().all(|epoch| *epoch == seen[1]), "one statement saw several epochs: {seen:?}");
        epochs.insert(seen[1]);
    }
    done.store(true, Ordering::SeqCst);
    let last = swapper.join().unwrap();
    assert!(epochs.len() > 1, "the snapshots did not change under the queries (up to {last})");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_is_pinned_once_per_statement_and_only_where_it_is_scanned() {
    let door = open().await;
    let client = door.connect().await;
    *door.current.lock().unwrap() = snapshot(7);
    let pins = || door.pins.load(Ordering::SeqCst);
    one(&client, "select count(*) from left_view").await;
    assert_eq!(pins(), 0);
    one(&client, "select count(*) from events a join events b using (id)").await;
    assert_eq!(pins(), 1);
    assert_eq!(door.pinned_epoch.load(Ordering::SeqCst), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_writes_is_refused() {
    let door = open().await;
    let client = door.connect().await;
    for sql in [
        "insert into events (id) values ('x')",
        "update events set id = 'x'",
        "delete from events",
        "truncate events",
        "copy (select 1) to '/tmp/playhouse-must-not-exist'",
        "with gone as (delete from events returning id) select * from gone",
        "explain insert into events (id) values ('x')",
    ] {
        assert!(["25006", "0A000"].contains(&code(&client, sql).await.as_str()), "{sql}");
    }
    for sql in [
        "create table t (a int)",
        "create external table t (a int) stored as csv location '/etc/passwd'",
        "create view v as select 1",
        "create materialized view v as select 1",
        "create function f() returns int language sql as 'select 1'",
        "drop table events",
        "alter table events add column x int",
        "grant all on events to anyone",
        "prepare p as select 1",
        "execute p",
        "call f()",
        "listen channel",
        "vacuum",
    ] {
        let code = code(&client, sql).await;
        assert!(["0A000", "25006", "42601"].contains(&code.as_str()), "{sql}: {code}");
    }
    let error = client.simple_query("create table t (a int)").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "cannot run CREATE TABLE here");
    assert!(error.hint().unwrap().contains("pipelines/*.sql") && error.hint().unwrap().contains("pipeline.file"));
    assert!(!std::path::Path::new("/tmp/playhouse-must-not-exist").exists());
    for sql in ["set datafusion.runtime.memory_limit = '100G'", "set datafusion.execution.batch_size = 1"] {
        assert_eq!(client.simple_query(sql).await.unwrap_err().code().unwrap().code(), "42501", "{sql}");
    }
    for sql in ["select * from 'Cargo.toml'", "select * from \"/etc/passwd\"", "select * from read_csv('/etc/passwd')"]
    {
        assert!(client.simple_query(sql).await.is_err(), "{sql}");
    }
    assert_eq!(one(&client, "select count(*) from events").await, "1050");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_carry_their_sqlstate() {
    let door = open().await;
    let client = door.connect().await;
    for (sql, expected) in [
        ("select * from nowhere", "42P01"),
        ("select * from other.nowhere", "42P01"),
        ("select nothing from events", "42703"),
        ("select e.nothing from events e", "42703"),
        ("selec 1", "42601"),
        ("select 1 from", "42601"),
        ("select no_such_function(1)", "42883"),
        ("select id, count(*) from events", "42803"),
        ("select k from left_view a join right_view b on a.k = b.k", "42702"),
        ("select 1 / 0", "22012"),
        ("select cast('x' as int)", "22P02"),
        ("select 'x", "42601"),
    ] {
        assert_eq!(code(&client, sql).await, expected, "{sql}");
    }
    let error = client.simple_query("select * from nowhere").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "relation \"nowhere\" does not exist");
    assert_eq!(one(&client, "select 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_statements_in_one_message() {
    let door = open().await;
    let client = door.connect().await;
    assert_eq!(simple(&client, "begin; select 1; select 2; commit").await.len(), 2);
    assert_eq!(simple(&client, " ; ;").await.len(), 0);
    let error = client.simple_query("select 1; select * from nowhere; select 2").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_TABLE));
    assert_eq!(one(&client, "select 3").await, "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_do_nothing_but_behave() {
    let door = open().await;
    let mut client = door.connect().await;
    let transaction = client.transaction().await.unwrap();
    let count: i64 = transaction.query_one("select count(*) from events", &[]).await.unwrap().get(0);
    assert_eq!(count, 1050);
    transaction.simple_query("savepoint s").await.unwrap();
    assert!(transaction.query("select * from nowhere", &[]).await.is_err());
    transaction.simple_query("rollback to savepoint s").await.unwrap();
    assert_eq!(transaction.query("select 1", &[]).await.unwrap().len(), 1);
    assert!(transaction.query("select * from nowhere", &[]).await.is_err());
    let error = transaction.query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
    assert_eq!(client.query("select 1", &[]).await.unwrap().len(), 1);
    for sql in [
        "set application_name = 'x'",
        "set time zone 'UTC'",
        "discard all",
        "reset all",
        "unlisten *",
        "deallocate all",
    ] {
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    assert!(!one(&client, "show server_version").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_read_no_further_than_they_are_asked() {
    let door = open().await;
    let mut client = door.connect().await;
    client.simple_query("begin; declare c cursor for select id from endless").await.unwrap();
    assert_eq!(simple(&client, "fetch 3 from c").await.len(), 3);
    assert_eq!(simple(&client, "fetch next from c").await, [Some("event3".to_owned())]);
    assert_eq!(simple(&client, "fetch forward 500 from c").await.len(), 500);
    assert!(client.query("fetch 2 from c", &[]).await.unwrap()[1].get::<_, &str>(0).starts_with("event"));
    assert!(client.simple_query("fetch 99999999999999999999999 from c").await.is_err());
    client.simple_query("rollback; begin; declare d cursor for select k from left_view").await.unwrap();
    assert_eq!(simple(&client, "fetch 18446744073709551615 from d").await.len(), 100);
    assert_eq!(simple(&client, "fetch all from d").await.len(), 0);
    client.simple_query("close d").await.unwrap();
    assert!(client.simple_query("fetch 1 from d").await.is_err());
    client.simple_query("rollback").await.unwrap();
    let error = client.simple_query("declare e cursor for insert into events (id) values ('x')").await.unwrap_err();
    assert!(["42601", "25006", "0A000"].contains(&error.code().unwrap().code()));

    // Portals of the extended protocol, page by page.
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("select id from endless", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 7).await.unwrap().len(), 7);
    let next = transaction.query_portal(&portal, 2).await.unwrap();
    assert_eq!(next[0].get::<_, &str>(0), "event7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_statement_ends_at_its_timeout_or_when_cancelled() {
    let door = open_with(|config| config.statement_timeout = Duration::from_secs(20)).await;
    let client = door.connect().await;
    client.simple_query("set statement_timeout = '200ms'").await.unwrap();
    for sql in ["select count(*) from endless", "select id from endless"] {
        let error = client.simple_query(sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{sql}");
        let error = client.query(sql, &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{sql}");
    }
    client.simple_query("set statement_timeout = 0").await.unwrap();
    let cancel = client.cancel_token();
    let query = tokio::spawn(async move { (client.simple_query("select count(*) from endless").await, client) });
    // A cancel that arrives before the query does nothing: repeat until it has ended.
    let (outcome, client) = tokio::time::timeout(Duration::from_secs(15), async {
        let mut query = query;
        loop {
            cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
            if let Ok(ended) = tokio::time::timeout(Duration::from_millis(50), &mut query).await {
                break ended.unwrap();
            }
        }
    })
    .await
    .unwrap();
    let message = outcome.unwrap_err().as_db_error().unwrap().message().to_owned();
    assert_eq!(message, "canceling statement due to user request");
    assert_eq!(one(&client, "select 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_sorting_spills() {
    let door = open_with(|config| config.memory_bytes = 64 << 20).await;
    let client = door.connect().await;
    let wide = "select repeat('x', 90) || value::text as pad from generate_series(1, 1000000)";
    let sql = format!(
        "select count(*) from (select row_number() over (order by pad) as n from ({wide}) x) y where n % 2 = 0"
    );
    assert_eq!(one(&client, &sql).await, "500000");
    let error = client
        .simple_query("select array_length(array_agg(repeat('x', 400) || value::text)) from generate_series(1, 400000)")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::OUT_OF_MEMORY));
    assert_eq!(one(&client, "select 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_limited_and_end_with_the_server() {
    let door = open_with(|config| config.connections_max = 2).await;
    let (first, second) = (door.connect().await, door.connect().await);
    let settings = format!("host=127.0.0.1 port={} user=u", door.address.port());
    assert!(tokio_postgres::connect(&settings, tokio_postgres::NoTls).await.is_err());
    drop(second);
    let mut attempts = 0;
    while let Err(error) = tokio_postgres::connect(&settings, tokio_postgres::NoTls).await {
        attempts += 1;
        assert!(attempts < 500, "the place of a closed connection was not given back: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let running = tokio::spawn(async move { first.simple_query("select count(*) from endless").await });
    tokio::task::yield_now().await;
    door.stop.cancel();
    tokio::time::timeout(Duration::from_secs(2), door.server).await.unwrap().unwrap();
    assert!(running.await.unwrap().is_err());
}
