//! Tables: the conformance suite on SQLite and PostgreSQL, and what only a table can get wrong.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::Schema;
use async_trait::async_trait;
use common::{Store, conform, position, rows, schema, scope, target};
use playhouse_connectors::tables::TablesStore;
use playhouse_engine::sink::{Refusals, RefusedRow, Sink, SinkError, Target};
use tokio_postgres::NoTls;

/// A table of its own in either store, and plain SQL to look at it.
struct Table {
    store: TablesStore,
    name: String,
    at: At,
    _data: tempfile::TempDir,
}

enum At {
    Sqlite(std::path::PathBuf),
    Postgres(String),
}

impl Table {
    fn sqlite() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let store = TablesStore::open("embedded", data.path()).expect("needs nothing");
        let at = At::Sqlite(data.path().join("tables.db"));
        Self { store, name: "events".into(), at, _data: data }
    }

    fn postgres() -> Self {
        let address = std::env::var("PLAYHOUSE_TEST_POSTGRES")
            .expect("set PLAYHOUSE_TEST_POSTGRES, such as postgres://postgres@127.0.0.1:5432/postgres");
        let name = format!("events_{}", uuid::Uuid::new_v4().simple());
        let named = format!("{address}?application_name={name}");
        let store = TablesStore::open(&named, Path::new("unused")).expect("a good address");
        Self { store, name, at: At::Postgres(address), _data: tempfile::tempdir().expect("a directory") }
    }

    fn target(&self, primary_key: &[&str]) -> Target {
        target("tables_events", &[("table", &self.name), ("index", "event_time"), ("json", "metadata")], primary_key)
    }

    fn keyed(&self) -> Box<dyn Sink> {
        self.store.sink(&self.target(&["id"])).expect("good options")
    }

    /// Runs SQL; every column of the result as text.
    async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let sql = sql.replace("{table}", &self.name);
        match &self.at {
            At::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).expect("opened");
                let mut statement = connection.prepare(&sql).expect("good SQL");
                let width = statement.column_count();
                let text = |value: rusqlite::types::Value| match value {
                    rusqlite::types::Value::Null => None,
                    rusqlite::types::Value::Integer(value) => Some(value.to_string()),
                    rusqlite::types::Value::Real(value) => Some(value.to_string()),
                    rusqlite::types::Value::Text(value) => Some(value),
                    rusqlite::types::Value::Blob(value) => Some(format!("{value:?}")),
                };
                let mut found = statement.query([]).expect("ran");
                let mut all = Vec::new();
                while let Some(row) = found.next().expect("a row") {
                    all.push((0..width).map(|column| text(row.get(column).expect("a value"))).collect());
                }
                all
            }
            At::Postgres(address) => {
                let (client, connection) = tokio_postgres::connect(address, NoTls).await.expect("connected");
                tokio::spawn(connection);
                let messages = client.simple_query(&sql).await.expect("ran");
                let row = |message: &tokio_postgres::SimpleQueryMessage| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
                    }
                    _ => None,
                };
                messages.iter().filter_map(row).collect()
            }
        }
    }
}

#[async_trait]
impl Store for Table {
    fn sink(&self) -> Box<dyn Sink> {
        self.keyed()
    }

    async fn rows(&self) -> Vec<(String, Option<i64>)> {
        let all = self.query("SELECT id, position_ms FROM {table} ORDER BY id").await;
        all.into_iter()
            .map(|row| (row[0].clone().expect("a key"), row[1].as_ref().map(|n| n.parse().expect("a number"))))
            .collect()
    }

    fn upserts(&self) -> bool {
        true
    }
}

/// Rows with ids and metadata of the caller's.
fn with_metadata(values: &[(&str, Option<&str>)]) -> RecordBatch {
    let base = rows(&values.iter().map(|(id, _)| (*id, None)).collect::<Vec<_>>());
    let metadata: ArrayRef = Arc::new(values.iter().map(|(_, text)| *text).collect::<StringArray>());
    let columns = base
        .columns()
        .iter()
        .enumerate()
        .map(|(index, column)| if index == 6 { metadata.clone() } else { column.clone() });
    RecordBatch::try_new(schema(), columns.collect()).expect("same schema")
}

async fn keeps_every_type(table: &Table) {
    let mut sink = table.keyed();
    sink.open(&scope()).await.expect("opened");
    sink.write(&rows(&[("a", Some(i64::MIN)), ("b", None)])).await.expect("staged");
    sink.commit(&position(&[(0, 2)])).await.expect("committed");
    let row = &table.query("SELECT * FROM {table} ORDER BY id").await[0];
    let text: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap_or("null")).collect();
    match table.at {
        At::Sqlite(_) => assert_eq!(
            text,
            [
                "a",
                "2025-08-31T12:00:00.000000Z",
                "video_view",
                "-9223372036854775808",
                "0.5",
                "1",
                r#"{"quality":"1080p"}"#,
                "2025-08-31"
            ]
        ),
        At::Postgres(_) => {
            assert!(text[1].starts_with("2025-08-31 12:00:00"), "{text:?}");
            assert_eq!(
                text[2..],
                ["video_view", "-9223372036854775808", "0.5", "t", r#"{"quality": "1080p"}"#, "2025-08-31"]
            );
            let quality =
                table.query("SELECT metadata->>'quality' FROM {table} WHERE event_time = '2025-08-31T12:00:00Z'").await;
            assert_eq!(quality, [[Some("1080p".to_owned())]]);
            let indexes = table.query("SELECT indexdef FROM pg_indexes WHERE tablename = '{table}'").await;
            assert!(indexes.iter().flatten().flatten().any(|index| index.contains("(event_time)")), "{indexes:?}");
        }
    }
}

async fn unstorable_values_stop_nobody(table: &Table) {
    let scope = scope();
    let mut sink = table.keyed();
    let refused = collect_refusals(&mut *sink);
    sink.open(&scope).await.expect("opened");
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let values = [
        ("nul\0id", Some("{}")),
        ("escape", Some(r#"{"a":"\u0000"}"#)),
        ("half", Some(r#"{"a":"\ud83d"}"#)),
        ("number", Some("{\"n\":1e999999999}")),
        ("broken", Some("{\"a\":")),
        ("deep", Some(deep.as_str())),
        ("none", None),
    ];
    sink.write(&with_metadata(&values)).await.expect("staged");
    sink.commit(&position(&[(0, 7)])).await.expect("committed");
    assert_eq!(table.rows().await.len(), 7, "every row is there");
    let metadata = table.query("SELECT metadata FROM {table} WHERE id = 'number'").await;
    assert_eq!(metadata[0][0].as_deref().map(|text| text.replace(' ', "")), Some(r#"{"n":"1e999999999"}"#.to_owned()));
    assert_eq!(
        table.query("SELECT count(*) FROM {table} WHERE id = 'nul\u{fffd}id'").await[0][0].as_deref(),
        Some("1")
    );
    assert!(table.store.counters().values_replaced() >= 6);
    assert_eq!(refused.lock().expect("held by nobody")[..], []);
}

type Refused = Arc<Mutex<Vec<RefusedRow>>>;

fn collect_refusals(sink: &mut dyn Sink) -> Refused {
    let refused = Refused::default();
    let collected = refused.clone();
    let refusals: Refusals = Arc::new(move |rows| {
        collected.lock().expect("held by nobody").extend(rows);
        Box::pin(async { Ok(()) })
    });
    assert!(sink.refuse_to(refusals));
    refused
}

impl Table {
    /// A table with a constraint that the rows do not know of.
    async fn create_with_check(&self) {
        let check = "CREATE TABLE {table} (id TEXT PRIMARY KEY, event_time TIMESTAMPTZ, type TEXT, position_ms BIGINT CHECK (position_ms < 1000),
            ratio DOUBLE PRECISION, live BOOLEAN, metadata JSONB, date DATE)";
        let sqlite =
            check.replace("TIMESTAMPTZ", "TIMESTAMP").replace("DOUBLE PRECISION", "DOUBLE").replace("JSONB", "TEXT");
        self.query(if matches!(self.at, At::Sqlite(_)) { &sqlite } else { check }).await;
    }
}

async fn refused_rows_are_told_of_and_left_out(table: &Table) {
    table.create_with_check().await;
    let scope = scope();
    let mut sink = table.keyed();
    let refused = collect_refusals(&mut *sink);
    sink.open(&scope).await.expect("opened");
    let ids: Vec<String> = (0..3000).map(|n| format!("id-{n}")).collect();
    let bad = [0, 1, 1499, 2999];
    let values: Vec<(&str, Option<i64>)> =
        ids.iter().enumerate().map(|(n, id)| (id.as_str(), Some(if bad.contains(&n) { 1000 } else { 1 }))).collect();
    // Numbers run on over the batches of a commit.
    for part in values.chunks(1000) {
        sink.write(&rows(part)).await.expect("staged");
    }
    sink.commit(&position(&[(0, 3000)])).await.expect("committed");
    assert_eq!(table.rows().await.len(), 2996);
    let mut told = std::mem::take(&mut *refused.lock().expect("held by nobody"));
    told.sort_by_key(|row| row.row);
    assert_eq!(told.iter().map(|row| row.row as usize).collect::<Vec<_>>(), bad);
    assert!(told.iter().all(|row| row.reason.to_lowercase().contains("constraint")), "{told:?}");
    // And begin anew with every commit.
    sink.write(&rows(&[("x", Some(1)), ("y", Some(1000))])).await.expect("staged");
    sink.commit(&position(&[(0, 3002)])).await.expect("committed");
    assert_eq!(refused.lock().expect("held by nobody").iter().map(|row| row.row).collect::<Vec<_>>(), [1]);
    assert_eq!(sink.open(&scope).await.expect("opened"), Some(position(&[(0, 3002)])));
}

async fn nothing_is_committed_before_refused_rows_are_kept(table: &Table) {
    table.create_with_check().await;
    let scope = scope();
    let mut sink = table.keyed();
    let refusals: Refusals = Arc::new(|_| Box::pin(async { Err(SinkError::Unavailable("no room".into())) }));
    sink.refuse_to(refusals);
    assert_eq!(sink.open(&scope).await.expect("opened"), None);
    sink.write(&rows(&[("good", Some(1)), ("bad", Some(1000))])).await.expect("staged");
    let failed = sink.commit(&position(&[(0, 2)])).await;
    assert!(matches!(&failed, Err(SinkError::Unavailable(reason)) if reason == "no room"), "{failed:?}");
    assert_eq!(table.rows().await, []);
    collect_refusals(&mut *sink);
    assert_eq!(sink.open(&scope).await.expect("opened again"), None);
    sink.write(&rows(&[("good", Some(1)), ("bad", Some(1000))])).await.expect("staged");
    sink.commit(&position(&[(0, 2)])).await.expect("committed");
    assert_eq!(table.rows().await, [("good".to_owned(), Some(1))]);
}

/// A number that no column of the table holds.
async fn a_value_that_does_not_fit_is_refused_like_any(table: &Table) {
    let mut target = table.target(&["id"]);
    let unsigned = arrow::datatypes::DataType::UInt64;
    let plain = schema();
    let fields = plain.fields().iter().enumerate().map(|(index, field)| match index {
        3 => Arc::new(field.as_ref().clone().with_data_type(unsigned.clone())),
        _ => field.clone(),
    });
    target.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut sink = table.store.sink(&target).expect("good options");
    let refused = collect_refusals(&mut *sink);
    sink.open(&scope()).await.expect("opened");
    let base = rows(&[("a", None), ("b", None), ("c", None)]);
    let mut columns = base.columns().to_vec();
    columns[3] = Arc::new(UInt64Array::from(vec![1, u64::MAX, 3]));
    let batch = RecordBatch::try_new(target.schema.clone(), columns).expect("columns of the schema");
    sink.write(&batch).await.expect("staged");
    sink.commit(&position(&[(0, 3)])).await.expect("committed");
    assert_eq!(table.rows().await, [("a".to_owned(), Some(1)), ("c".to_owned(), Some(3))]);
    let refused = refused.lock().expect("held by nobody");
    assert_eq!(refused.iter().map(|row| row.row).collect::<Vec<_>>(), [1]);
    assert!(refused[0].reason.contains("18446744073709551615"), "{refused:?}");
}

async fn appends_without_a_key(table: &Table) {
    let mut sink = table.store.sink(&table.target(&[])).expect("good options");
    let scope = scope();
    sink.open(&scope).await.expect("opened");
    for next in [1, 2] {
        sink.write(&rows(&[("same", Some(next))])).await.expect("staged");
        sink.commit(&position(&[(0, next)])).await.expect("committed");
    }
    assert_eq!(table.query("SELECT count(*) FROM {table}").await[0][0].as_deref(), Some("2"));
}

async fn another_shape_is_refused_by_name(table: &Table) {
    let mut sink = table.keyed();
    sink.open(&scope()).await.expect("opened");
    let fields: Vec<_> = schema()
        .fields()
        .iter()
        .map(|field| {
            if field.name() == "position_ms" {
                Arc::new(field.as_ref().clone().with_data_type(arrow::datatypes::DataType::Utf8))
            } else {
                field.clone()
            }
        })
        .collect();
    let mut other = table.target(&["id"]);
    other.schema = Arc::new(Schema::new(fields.clone()));
    let error = table.store.sink(&other).expect("good options").open(&scope()).await.expect_err("wrong type");
    let text = error.to_string();
    assert!(matches!(error, SinkError::Fatal(_)), "{text}");
    assert!(["position_ms", "bigint", "text"].iter().all(|word| text.to_lowercase().contains(word)), "{text}");

    other.schema = Arc::new(Schema::new(
        [fields, vec![Arc::new(arrow::datatypes::Field::new("country", arrow::datatypes::DataType::Utf8, true))]]
            .concat(),
    ));
    let text = table
        .store
        .sink(&Target {
            schema: Arc::new(Schema::new(
                [schema().fields().to_vec(), vec![other.schema.fields()[8].clone()]].concat(),
            )),
            ..other
        })
        .expect("good options")
        .open(&scope())
        .await
        .expect_err("missing column")
        .to_string();
    assert!(text.contains("country") && text.contains("ADD COLUMN"), "{text}");

    let text = table
        .store
        .sink(&table.target(&["id", "type"]))
        .expect("good options")
        .open(&scope())
        .await
        .expect_err("no such key")
        .to_string();
    assert!(text.contains("unique"), "{text}");
}

async fn everything(table: fn() -> Table) {
    conform(&table()).await;
    keeps_every_type(&table()).await;
    unstorable_values_stop_nobody(&table()).await;
    refused_rows_are_told_of_and_left_out(&table()).await;
    nothing_is_committed_before_refused_rows_are_kept(&table()).await;
    a_value_that_does_not_fit_is_refused_like_any(&table()).await;
    appends_without_a_key(&table()).await;
    another_shape_is_refused_by_name(&table()).await;
}

#[tokio::test]
async fn sqlite_conforms() {
    everything(Table::sqlite).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server, address in PLAYHOUSE_TEST_POSTGRES"]
async fn postgres_conforms() {
    everything(Table::postgres).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server, address in PLAYHOUSE_TEST_POSTGRES"]
async fn a_lost_connection_is_unavailable_and_loses_nothing() {
    let table = Table::postgres();
    let scope = scope();
    let mut sink = table.keyed();
    sink.open(&scope).await.expect("opened");
    sink.write(&rows(&[("a", Some(1))])).await.expect("staged");
    table.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{table}'").await;
    let lost = sink.commit(&position(&[(0, 1)])).await;
    assert!(matches!(lost, Err(SinkError::Unavailable(_))), "{lost:?}");
    assert_eq!(sink.open(&scope).await.expect("opened again"), None);
    sink.write(&rows(&[("a", Some(1))])).await.expect("staged");
    sink.commit(&position(&[(0, 1)])).await.expect("committed");
    assert_eq!(table.rows().await, [("a".to_owned(), Some(1))]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("postgres://nobody@{}/nothing", listener.local_addr().expect("bound"));
    drop(listener);
    let store = TablesStore::open(&address, Path::new("unused")).expect("a good address");
    let mut sink = store.sink(&target("tables_events", &[], &["id"])).expect("good options");
    assert!(matches!(sink.open(&scope()).await, Err(SinkError::Unavailable(_))));
}

#[test]
fn wrong_options_are_named() {
    let data = tempfile::tempdir().expect("a directory");
    let store = TablesStore::open("embedded", data.path()).expect("needs nothing");
    for (options, key, word) in [
        (&[("index", "evnt_time")][..], "id", "evnt_time"),
        (&[("json", "meta")][..], "id", "meta"),
        (&[("commit_bytes", "lots")][..], "id", "commit_bytes"),
        (&[][..], "ident", "ident"),
    ] {
        let error = store.sink(&target("tables_events", options, &[key])).err().expect("refused").to_string();
        assert!(error.contains(word) && error.contains("tables_events"), "{error}");
    }
    for address in ["sqlite", "mysql://host/db", "postgres://host/db?sslmode=require", "postgres://host/db?nonsense=1"]
    {
        assert!(matches!(TablesStore::open(address, data.path()), Err(SinkError::Fatal(_))), "{address}");
    }
}
