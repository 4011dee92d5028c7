//! Golden messages: what a mistake in a pipeline's text is answered with.

use playhouse_engine::sql::Pipeline;

use crate::support::{TABLES, options};

/// Compiles `sql` after [`TABLES`]; lines count from `sql`'s first.
async fn message(sql: &str) -> String {
    let text = format!("{} {sql}", TABLES.replace('\n', " "));
    match Pipeline::compile(&text, options()).await {
        Ok(_) => panic!("compiles: {sql}"),
        Err(error) => error.to_string(),
    }
}

async fn check(sql: &str, expected: &str) {
    let message = message(sql).await;
    // What stands in the first line has columns that depend on TABLES.
    let found = message.strip_prefix("line ").and_then(|rest| rest.split_once(": ")).map_or("", |(_, rest)| rest);
    assert_eq!(found, expected, "\n{sql}\n{message}");
}

#[tokio::test]
async fn places() {
    let error =
        Pipeline::compile("\n\n  CREATE VIEW v AS\n  SELECT nothing FROM nowhere", options()).await.err().unwrap();
    assert_eq!((error.line, error.column, error.statement.as_str()), (4, 23, "CREATE VIEW v"), "{error}");
    let error = Pipeline::compile("SELECT 'open", options()).await.err().unwrap();
    assert_eq!((error.line, error.column), (1, 8), "{error}");
    let error = Pipeline::compile("CREATE TABLE\n t (a TEXT", options()).await.err().unwrap();
    assert_eq!(error.to_string(), "line 2, column 11: expected: ',' or ')' after column definition, found: EOF");
    let text = format!("{TABLES}\nINSERT INTO out\nSELECT id,\n   whom FROM events");
    let error = Pipeline::compile(&text, options()).await.err().unwrap();
    assert_eq!((error.line, error.column), (text.lines().count() as u64, 4), "{error}");
    assert!(error.message.starts_with("no field named whom. Did you mean 'events.who'?"), "{error}");
}

#[tokio::test]
async fn tables() {
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'log', tpic = 'x')",
        "CREATE TABLE t: unknown option 'tpic': did you mean 'topic'? (known: connector, topic, format, fields, \
         dedup_key, dedup_window, watermark, watermark_delay, idle_timeout)",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'kafka')",
        "CREATE TABLE t: unknown connector 'kafka' (known: log, file, lake, tables, cache)",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT)",
        "CREATE TABLE t: every table of a pipeline lives somewhere: add WITH (connector = '…'), such as 'log' for a topic",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'log')",
        "CREATE TABLE t: option 'topic' is missing: add topic = '…' to WITH (…)",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'log', topic = '${topc}')",
        "unknown variable 'topc': did you mean 'topic'? (known: topic)",
    )
    .await;
    check(
        "CREATE TABLE t (a TIMESTAMP) WITH (connector = 'log', topic = 'x')",
        "CREATE TABLE t: a: every time here is UTC; write TIMESTAMPTZ, not TIMESTAMP",
    )
    .await;
    check(
        "CREATE TABLE t (a NUMERIC(3)) WITH (connector = 'log', topic = 'x')",
        "CREATE TABLE t: a: type NUMERIC(3) is not known (known: TEXT, BIGINT, INTEGER, SMALLINT, DOUBLE PRECISION, REAL, \
         BOOLEAN, TIMESTAMPTZ, DATE, JSON)",
    )
    .await;
    check(
        "CREATE TABLE t (raw TEXT) WITH (connector = 'log', topic = 'x')",
        "CREATE TABLE t: raw is a column that every source has already: leave it out",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'log', topic = 'x', fields = 'b=c')",
        "CREATE TABLE t: unknown column 'b' (known: a)",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'log', topic = 'x', watermark = 'a')",
        "CREATE TABLE t: watermark = 'a': the column must be TIMESTAMPTZ",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'log', topic = 'x', dedup_window = '1 hour')",
        "CREATE TABLE t: dedup_window has no meaning without dedup_key",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'log', topic = 'x', dedup_key = 'a', dedup_window = 'long')",
        "CREATE TABLE t: 'long' is no duration: write a number and a unit, such as '10 seconds' or '7 days'",
    )
    .await;
    check(
        "CREATE TABLE t (a TEXT PRIMARY KEY) WITH (connector = 'file', path = 'builtin:song')",
        "CREATE TABLE t: unknown builtin file 'song': did you mean 'songs'? (known: songs)",
    )
    .await;
    check(
        "CREATE TABLE t (plays TEXT PRIMARY KEY) WITH (connector = 'file', path = 'builtin:songs')",
        "CREATE TABLE t: builtin:songs: record 1: /plays: expected a string, found a number",
    )
    .await;
    check(
        "CREATE TABLE events (a TEXT) WITH (connector = 'log', topic = 'x')",
        "CREATE TABLE events: events exists already",
    )
    .await;
}

#[tokio::test]
async fn sinks() {
    check(
        "CREATE TABLE t (a TEXT) WITH (connector = 'lake', table = 'x')",
        "CREATE TABLE t: a sink takes its columns from what is inserted: leave the column list out",
    )
    .await;
    check(
        "CREATE TABLE t WITH (connector = 'tables', table = 'x')",
        "CREATE TABLE t: option 'primary_key' is missing: add primary_key = '…' to WITH (…)",
    )
    .await;
    check(
        "CREATE TABLE t WITH (connector = 'tables', table = 'x', primary_key = 'ident'); INSERT INTO t SELECT id FROM events",
        "CREATE TABLE t: primary_key: unknown column 'ident' (known: id)",
    )
    .await;
    check(
        "CREATE TABLE t WITH (connector = 'cache', key = 'event:{who}'); INSERT INTO t SELECT id FROM events",
        "CREATE TABLE t: key: unknown column 'who' (known: id)",
    )
    .await;
    check(
        "INSERT INTO outt SELECT * FROM events",
        "INSERT INTO outt: unknown sink 'outt': did you mean 'out'? (known: out)",
    )
    .await;
    check(
        "INSERT INTO events SELECT * FROM events",
        "INSERT INTO events: events is no sink: CREATE TABLE … WITH (connector = '…') declares one",
    )
    .await;
    check(
        "INSERT INTO out SELECT id FROM events; INSERT INTO out SELECT who FROM events",
        "INSERT INTO out: out is written in line 1 already: a sink takes one INSERT",
    )
    .await;
    check(
        "INSERT INTO out SELECT e.*, e.id FROM events e",
        "INSERT INTO out: two columns are called id: rename one with AS",
    )
    .await;
}

#[tokio::test]
async fn two_columns_of_one_name() {
    check(
        "INSERT INTO out SELECT e.*, s.title AS id FROM events e LEFT JOIN songs s ON e.what = s.content_id",
        "INSERT INTO out: two columns are called id: rename one with AS",
    )
    .await;
}

#[tokio::test]
async fn queries() {
    for (query, expected) in [
        ("SELECT * FROM evnts", "unknown table 'evnts': did you mean 'events'? (known: events, songs)"),
        ("SELECT * FROM out", "out is a sink: it can only be written, by INSERT INTO out"),
        ("SELECT * FROM songs", "songs is a look-up table: read a source or view and join it"),
        (
            "SELECT * FROM events ORDER BY id",
            "a pipeline cannot have ORDER BY: rows have no order here; sort when you query the view",
        ),
        ("SELECT * FROM events LIMIT 3", "a pipeline cannot have LIMIT: cut when you query the view"),
        (
            "SELECT id FROM events UNION ALL SELECT id FROM events",
            "a pipeline cannot have UNION: write one statement for each side",
        ),
        ("SELECT DISTINCT id FROM events", "SELECT DISTINCT needs state: GROUP BY in a materialized view"),
        ("SELECT count(*) AS n FROM events", "aggregates need state: write CREATE MATERIALIZED VIEW"),
        (
            "SELECT id, now() AS at2 FROM events",
            "now() gives another answer on every replay: pipelines take only functions of their columns",
        ),
        (
            "SELECT id, random() AS r FROM events",
            "random() gives another answer on every replay: pipelines take only functions of their columns",
        ),
        ("SELECT id, row_number() OVER () AS r FROM events", "a pipeline cannot have a window function (OVER)"),
        (
            "SELECT a.id FROM events a JOIN events b ON a.id = b.id",
            "a and b are both streams: only look-up tables (connector = 'file') can be joined",
        ),
        ("SELECT id FROM events, songs", "FROM names several tables: join a look-up table with LEFT JOIN … ON …"),
        (
            "SELECT id FROM events e RIGHT JOIN songs s ON e.what = s.content_id",
            "RIGHT JOIN with songs: a look-up table is joined by LEFT JOIN or JOIN",
        ),
        (
            "SELECT id FROM events e JOIN songs s ON e.what = s.title",
            "a look-up table is joined on its primary key and nothing else: ON … = songs.content_id",
        ),
        (
            "SELECT id FROM events e JOIN songs s ON e.what = s.content_id AND s.plays > 1",
            "a look-up table is joined on its primary key and nothing else: ON … = songs.content_id",
        ),
        (
            "SELECT id FROM events WHERE id IN (SELECT content_id FROM songs)",
            "a pipeline cannot have a subquery in an expression: join a look-up table instead",
        ),
        (
            "SELECT * FROM TUMBLE(events, at, INTERVAL '1' DAY)",
            "TUMBLE belongs into a materialized view, around the view or source it reads",
        ),
        ("SELECT x.* FROM events e", "unknown table 'x' (known: e)"),
        (
            "WITH w AS (SELECT id FROM events) SELECT * FROM w",
            "a pipeline cannot have WITH: make it a CREATE VIEW of its own",
        ),
    ] {
        check(&format!("INSERT INTO out {query}"), &format!("INSERT INTO out: {expected}")).await;
    }
    check(
        "SELECT 1",
        "SELECT 1: a pipeline is made of CREATE TABLE, CREATE VIEW, CREATE MATERIALIZED VIEW and INSERT INTO … SELECT",
    )
    .await;
}

#[tokio::test]
async fn materialized_views() {
    for (query, expected) in [
        (
            "SELECT id FROM events",
            "a materialized view aggregates: GROUP BY is missing (for rows as they are, insert them)",
        ),
        (
            "SELECT who, stddev(n) AS s FROM events GROUP BY who",
            "aggregate stddev is not known (known: count, count distinct, sum, min, max, avg)",
        ),
        ("SELECT who, sum(DISTINCT n) AS s FROM events GROUP BY who", "sum(DISTINCT …) is not known"),
        (
            "SELECT who, count(*) AS c FROM events GROUP BY ROLLUP (who)",
            "GROUPING SETS, ROLLUP and CUBE are not known: write one view for each",
        ),
        (
            "SELECT who, count(*) AS c FROM TUMBLE(events, at, INTERVAL '1' DAY) GROUP BY who",
            "GROUP BY must name window_start, window_end: the view reads TUMBLE(…)",
        ),
        (
            "SELECT window_start, count(*) AS c FROM TUMBLE(events, att, INTERVAL '1' DAY) GROUP BY window_start",
            "unknown column 'att': did you mean 'at'? (known: id, at, who, what, n, x, raw, topic, partition, offset, ingested_at, ingest_id, source_address, source_user_agent)",
        ),
        (
            "SELECT window_start, count(*) AS c FROM TUMBLE(events, who, INTERVAL '1' DAY) GROUP BY window_start",
            "who is no TIMESTAMPTZ column: windows are made of event time",
        ),
        (
            "SELECT window_start, count(*) AS c FROM TUMBLE(events, at, INTERVAL '1' MONTH) GROUP BY window_start",
            "INTERVAL '1' MONTH: write a window's width as INTERVAL '10' SECOND, in units up to weeks",
        ),
        (
            "SELECT window_start, count(*) AS c FROM TUMBLE(events, at) GROUP BY window_start",
            "write TUMBLE(table, time_column, INTERVAL '10' SECOND)",
        ),
        (
            "SELECT window_start, count(*) AS c FROM HOP(events, at, INTERVAL '1' DAY) GROUP BY window_start",
            "unknown window 'hop' (known: tumble)",
        ),
    ] {
        check(&format!("CREATE MATERIALIZED VIEW v AS {query}"), &format!("CREATE MATERIALIZED VIEW v: {expected}"))
            .await;
    }
    check(
        "CREATE MATERIALIZED VIEW v WITH (latenes = '1 s') AS SELECT who FROM events GROUP BY who",
        "CREATE MATERIALIZED VIEW v: unknown option 'latenes' (known: allowed_lateness, retention)",
    )
    .await;
    check(
        "CREATE MATERIALIZED VIEW v WITH (allowed_lateness = '1 s') AS SELECT who FROM events GROUP BY who",
        "CREATE MATERIALIZED VIEW v: allowed_lateness has no meaning without windows: read TUMBLE(…) or leave it out",
    )
    .await;
    check(
        "CREATE TABLE t (at TIMESTAMPTZ) WITH (connector = 'log', topic = 'x'); CREATE MATERIALIZED VIEW v AS SELECT \
         window_start, count(*) AS c FROM TUMBLE(t, at, INTERVAL '1' DAY) GROUP BY window_start",
        "CREATE MATERIALIZED VIEW v: windows close by the watermark, and t declares none: add watermark = '<time column>' \
         to it or allowed_lateness = 'unlimited' here",
    )
    .await;
    check(
        "CREATE MATERIALIZED VIEW v AS SELECT who FROM events GROUP BY who; INSERT INTO out SELECT * FROM v",
        "INSERT INTO out: v is a materialized view: pipelines cannot read it, queries can",
    )
    .await;
}
