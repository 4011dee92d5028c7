//! The same pipeline into real servers: PostgreSQL as the tables, Redis as the cache, chosen by configuration alone.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use playhouse_testkit::{Builder, Playhouse, wait_until};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_playhouse");

type Rows = Vec<Vec<Option<String>>>;

#[test]
#[ignore = "needs real servers: cargo xtask test --real"]
fn postgresql_answers_as_the_sql_door_does() {
    let database = Database::new("answers");
    let directory = tempfile::tempdir().unwrap();
    let playhouse = builder(directory.path()).env("PLAYHOUSE_TABLES", database.url()).start();
    generate(&playhouse, 5_000);
    replay(&playhouse, directory.path());
    playhouse.in_sight();

    let columns = database.query(
        "select column_name, data_type from information_schema.columns where table_name = 'events' order by ordinal_position",
    );
    let columns: BTreeMap<&str, &str> =
        columns.iter().map(|row| (row[0].as_deref().unwrap(), row[1].as_deref().unwrap())).collect();
    for (column, kind) in [
        ("id", "text"),
        ("event_time", "timestamp with time zone"),
        ("ingested_at", "timestamp with time zone"),
        ("position_ms", "bigint"),
        ("watched_ms", "bigint"),
        ("duration_ms", "bigint"),
        ("metadata", "jsonb"),
        ("date", "date"),
        ("country", "text"),
    ] {
        assert_eq!(columns.get(column), Some(&kind), "{column}: {columns:?}");
    }
    let indexes = database.query("select indexdef from pg_indexes where tablename = 'events'");
    let indexed = |on: &str| indexes.iter().flatten().flatten().any(|index| index.contains(on));
    assert!(indexed("(event_time)"), "{indexes:?}");
    assert!(indexed("UNIQUE") && indexed("(id)"), "{indexes:?}");

    // The same statement, to both.
    for sql in [
        "select count(*), count(distinct id), count(distinct user_id), min(event_time)::date, max(event_time)::date from events",
        "select country, count(*) from events group by 1 order by 2 desc, 1",
        "select metadata->>'status' as status, count(*) from events group by 1 order by 1",
        "select date, count(*), count(distinct user_id) from events group by 1 order by 1",
        "select type, count(*), sum(watched_ms)::bigint, sum(position_ms)::bigint from events group by 1 order by 1",
        "select browser, os, device, count(*) from events group by 1, 2, 3 order by 1, 2, 3",
        "select content_id, title, artist, genre, duration_ms, count(*) from events group by 1, 2, 3, 4, 5 order by 1",
        "select id, type, user_id, session_id, content_id, position_ms, watched_ms, ip, user_agent, ingest_id from events order by id",
    ] {
        // NULLs and letters sort differently here and there.
        let (mut ours, mut theirs) = (playhouse.query(sql), database.query(sql));
        ours.sort_unstable();
        theirs.sort_unstable();
        assert!(ours == theirs, "{sql}: the SQL door says {:?}, PostgreSQL {:?}", first(&ours), first(&theirs));
        assert!(!ours.is_empty());
    }
    let times =
        "select extract(epoch from event_time)::text, extract(epoch from ingested_at)::text from events order by id";
    let seconds = |rows: Rows| -> Vec<Vec<f64>> {
        rows.iter().map(|row| row.iter().map(|cell| cell.as_deref().unwrap().parse().unwrap()).collect()).collect()
    };
    assert!(seconds(playhouse.query(times)) == seconds(database.query(times)), "times differ");
    let (ours, theirs) = (
        json_column(playhouse.query("select id, metadata from events")),
        json_column(database.query("select id, metadata from events")),
    );
    assert!(ours == theirs, "metadata differs");

    // Replaying changes no row; nor does a restart.
    let all = "select md5(string_agg(events::text, '|' order by id)) from events";
    let before = database.query(all);
    replay(&playhouse, directory.path());
    playhouse.in_sight();
    assert_eq!(database.query(all), before);
    playhouse.stop();
    let playhouse = builder(directory.path()).env("PLAYHOUSE_TABLES", database.url()).start();
    playhouse.in_sight();
    assert_eq!(database.query(all), before);
}

#[test]
#[ignore = "needs real servers: cargo xtask test --real"]
fn redis_holds_the_newest_rows_with_a_time_to_live() {
    let redis = Redis::new(5);
    let directory = tempfile::tempdir().unwrap();
    let playhouse =
        builder(directory.path()).env("PLAYHOUSE_CACHE", redis.url()).set("cache_ttl", "10 minutes").start();
    assert!(!playhouse.has_door("redis"), "the cache is a server of its own");
    generate(&playhouse, 2_000);
    playhouse.in_sight();
    let rows = playhouse.query(
        "select id, type, user_id, session_id, content_id, watched_ms, ip, country, browser, title, ingest_id, metadata from events",
    );
    assert!(rows.len() > 1_900);
    let keys: Vec<String> = redis.ask(&["KEYS", "event:*"]);
    assert_eq!(keys.len(), rows.len(), "a key for each event, and none more");
    for row in &rows {
        let key = format!("event:{}", row[0].as_deref().unwrap());
        let value: Value = serde_json::from_str(&redis.ask::<String>(&["GET", &key])).unwrap();
        let names = [
            "id",
            "type",
            "user_id",
            "session_id",
            "content_id",
            "watched_ms",
            "ip",
            "country",
            "browser",
            "title",
            "ingest_id",
        ];
        for (name, cell) in names.iter().zip(row) {
            let text = match &value[*name] {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            assert_eq!(text, *cell, "{name} of {key}: {value}");
        }
        let metadata: Option<Value> = row[11].as_deref().map(|text| serde_json::from_str(text).unwrap());
        let cached = match &value["metadata"] {
            Value::String(text) => serde_json::from_str(text).ok(),
            Value::Null => None,
            other => Some(other.clone()),
        };
        assert_eq!(cached, metadata, "metadata of {key}");
    }
    for row in rows.iter().take(50) {
        let left: i64 = redis.ask(&["TTL", &format!("event:{}", row[0].as_deref().unwrap())]);
        assert!((1..=600).contains(&left), "{left} s left");
    }
}

#[test]
#[ignore = "needs real servers: cargo xtask test --real"]
fn postgresql_away_for_a_while_holds_up_nobody_and_catches_up_exactly_once() {
    let database = Database::new("outage");
    let line = Line::to(database.server);
    let directory = tempfile::tempdir().unwrap();
    let url = format!("postgres://{}@{}/{}", database.user, line.address, database.name);
    let playhouse = builder(directory.path()).env("PLAYHOUSE_TABLES", url).start();
    let send = |ids: std::ops::Range<u32>| {
        let event = |id| {
            format!(
                "{{\"id\":\"e{id}\",\"timestamp\":\"2025-08-31T12:00:00Z\",\"type\":\"play\",\"user\":\"u{id}\"}}\n"
            )
        };
        let (status, answer) = playhouse.post("/events", ids.map(event).collect::<String>(), &[]);
        assert_eq!(status, 200, "{answer}");
    };
    send(0..1000);
    playhouse.in_sight();
    assert_eq!(database.count("select count(*) from events"), 1000);

    line.cut();
    for part in 1..5 {
        send(part * 1000..(part + 1) * 1000);
    }
    // Everything else goes on.
    playhouse.caught_up_but_for(&["table_events", "lake_events", "lake_raw", "late_events"]);
    assert_eq!(playhouse.count("select count(*) from events"), 5000);
    assert_eq!(playhouse.count("select users from unique_users_per_day"), 5000);
    wait_until("the outage shows", Duration::from_secs(30), || {
        let status = playhouse.status();
        let sinks = status["engine"]["sinks"].as_array().unwrap().clone();
        let tables = sinks.into_iter().find(|sink| sink["name"] == "table_events").unwrap();
        let behind = tables["lag"] == 4000 && tables["state"] == "unavailable" && tables["error"].is_string();
        if behind { Ok(()) } else { Err(tables.to_string()) }
    });
    assert!(playhouse.is_ready());

    line.mend();
    playhouse.in_sight();
    assert_eq!(database.count("select count(*) from events"), 5000);
    assert_eq!(database.count("select count(distinct id) from events"), 5000);

    // Cut again and again in the middle of commits.
    for round in 0..5 {
        let from = 5000 + round * 1000;
        std::thread::scope(|scope| {
            scope.spawn(|| (0..10).for_each(|part| send(from + part * 100..from + (part + 1) * 100)));
            line.cut();
            line.mend();
        });
    }
    playhouse.in_sight();
    assert_eq!(database.count("select count(*) from events"), 10_000);
    let both = "select id, ingest_id from events order by id";
    assert!(database.query(both) == playhouse.query(both), "rows differ after the outages");
}

#[test]
#[ignore = "needs real servers: cargo xtask test --real"]
fn a_start_without_postgresql_serves_everything_else() {
    let database = Database::new("late_start");
    let line = Line::to(database.server);
    line.cut();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("postgres://{}@{}/{}", database.user, line.address, database.name);
    let playhouse = builder(directory.path()).env("PLAYHOUSE_TABLES", url).start();
    generate(&playhouse, 1_000);
    playhouse.caught_up_but_for(&["table_events", "lake_events", "lake_raw", "late_events"]);
    let rows = playhouse.count("select count(*) from events");
    assert!(rows > 900);
    line.mend();
    playhouse.in_sight();
    assert_eq!(database.count("select count(*) from events"), rows);
}

fn builder(directory: &Path) -> Builder {
    Playhouse::builder(BINARY).data(directory.join("data"))
}

fn generate(playhouse: &Playhouse, events: u32) {
    let url = format!("http://{}", playhouse.ingest());
    let faults = ["--invalid=1%", "--late=2%", "--duplicate=1%"];
    let output = Command::new(BINARY)
        .args(["generate", "--seed=7", "--users=500", &format!("--events={events}"), "--url", &url])
        .args(faults)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn replay(playhouse: &Playhouse, state: &Path) {
    let output = Command::new(BINARY)
        .arg("replay")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/access.log.gz"))
        .args(["--url", &format!("http://{}", playhouse.ingest())])
        .env("XDG_STATE_HOME", state)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn first(rows: &Rows) -> &[Vec<Option<String>>] {
    &rows[..rows.len().min(3)]
}

fn json_column(rows: Rows) -> BTreeMap<String, Option<Value>> {
    let parsed = |text: &str| serde_json::from_str(text).unwrap();
    rows.iter().map(|row| (row[0].clone().unwrap(), row[1].as_deref().map(parsed))).collect()
}

fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test --real -- --test stores`"))
}

/// A database of one test; dropped with it.
struct Database {
    server: SocketAddr,
    user: String,
    name: String,
    administration: String,
}

impl Database {
    fn new(test: &str) -> Database {
        let administration = environment("PLAYHOUSE_TEST_POSTGRES");
        let (user, rest) = administration.split_once("://").unwrap().1.split_once('@').unwrap();
        let server = rest.split('/').next().unwrap().parse().unwrap();
        let name = format!("playhouse_{test}_{}", std::process::id());
        let database = Database { server, user: user.to_owned(), name, administration: administration.clone() };
        ask_postgresql(&administration, &format!("create database {}", database.name)).unwrap();
        database
    }

    fn url(&self) -> String {
        format!("postgres://{}@{}/{}", self.user, self.server, self.name)
    }

    fn query(&self, sql: &str) -> Rows {
        ask_postgresql(&self.url(), sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn count(&self, sql: &str) -> i64 {
        self.query(sql)[0][0].as_deref().unwrap().parse().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = ask_postgresql(&self.administration, &format!("drop database if exists {} with (force)", self.name));
    }
}

fn ask_postgresql(url: &str, sql: &str) -> Result<Rows, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    })
}

/// One of the server's numbered databases, emptied before and after.
struct Redis {
    url: String,
    client: redis::Client,
}

impl Redis {
    fn new(number: u8) -> Redis {
        let url = format!("{}/{number}", environment("PLAYHOUSE_TEST_REDIS").trim_end_matches('/'));
        let redis = Redis { client: redis::Client::open(url.as_str()).unwrap(), url };
        redis.ask::<()>(&["FLUSHDB"]);
        redis
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.client.get_connection().unwrap()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _: () = self.ask(&["FLUSHDB"]);
    }
}

/// A line to a server that can be cut: what is under way breaks, and nobody gets through until it is mended.
struct Line {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(server: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Line {
            address: listener.local_addr().unwrap(),
            cut: Arc::new(AtomicBool::new(false)),
            open: Arc::default(),
        };
        let (cut, open) = (line.cut.clone(), line.open.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(server) else { continue };
                let mut open = open.lock().unwrap();
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    open.push(from.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        line
    }

    fn cut(&self) {
        let mut open = self.open.lock().unwrap();
        self.cut.store(true, Ordering::SeqCst);
        for stream in open.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}
