//! The lake: the conformance suite, and what only a lake can get wrong.

mod common;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use common::{DAY, Store, conform, position, rows, schema, scope, target};
use datafusion::prelude::SessionContext;
use playhouse_connectors::lake::{Lake, LakeTable};
use playhouse_engine::sink::{Sink, SinkError};

struct InLake {
    directory: tempfile::TempDir,
    table: Arc<LakeTable>,
}

impl InLake {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let table = open(directory.path());
        Self { directory, table }
    }

    fn data_files(&self) -> usize {
        fn count(directory: &Path) -> usize {
            let entries = std::fs::read_dir(directory).expect("listed").map(|entry| entry.expect("an entry").path());
            entries
                .map(|path| {
                    if path.is_dir() {
                        count(&path)
                    } else {
                        usize::from(path.extension().is_some_and(|e| e == "parquet"))
                    }
                })
                .sum()
        }
        let days = std::fs::read_dir(self.directory.path().join("lake/events"))
            .expect("listed")
            .map(|entry| entry.expect("an entry").path());
        days.filter(|path| path.to_string_lossy().contains("date=")).map(|day| count(&day)).sum()
    }

    async fn sql(&self, sql: &str) -> Vec<RecordBatch> {
        let session = SessionContext::new();
        let Some(provider) = self.table.pinned().provider.clone() else { return Vec::new() };
        session.register_table("events", provider).expect("registered");
        session.sql(sql).await.expect("planned").collect().await.expect("ran")
    }
}

fn open(directory: &Path) -> Arc<LakeTable> {
    Lake::open("embedded", directory).expect("a directory").table(&target("events", &[], &[])).expect("good columns")
}

#[async_trait]
impl Store for InLake {
    fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.table.sink())
    }

    async fn rows(&self) -> Vec<(String, Option<i64>)> {
        let mut found = Vec::new();
        for batch in self.sql("SELECT id, position_ms FROM events ORDER BY id").await {
            let (ids, positions) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                found.push((ids.value(row).to_owned(), positions.is_valid(row).then(|| positions.value(row))));
            }
        }
        found
    }

    fn upserts(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let lake = InLake::new();
    assert!(lake.table.pinned().provider.is_none());
    conform(&lake).await;
}

#[tokio::test]
async fn rows_read_back_as_they_were_written() {
    let lake = InLake::new();
    let mut sink = lake.table.sink();
    sink.open(&scope()).await.expect("opened");
    let written = rows(&[("a", Some(1)), ("b", None), ("c", Some(3))]);
    sink.write(&written).await.expect("staged");
    sink.commit(&position(&[(0, 3)])).await.expect("committed");
    let pinned = lake.table.pinned();
    assert_eq!(pinned.position, position(&[(0, 3)]));
    assert_eq!(pinned.provider.as_ref().expect("committed").schema(), schema());
    let read = lake.sql("SELECT * FROM events ORDER BY id").await;
    assert_eq!(arrow::compute::concat_batches(&schema(), &read).expect("same schema"), written);
    let one_day = lake.sql("SELECT id FROM events WHERE date = DATE '2025-09-01'").await;
    assert_eq!(one_day.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let in_time = lake.sql("SELECT id FROM events WHERE event_time > '2025-08-31T12:00:00Z' AND position_ms > 2").await;
    assert_eq!(in_time.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test]
async fn a_reader_keeps_its_version() {
    let lake = InLake::new();
    let mut sink = lake.table.sink();
    sink.open(&scope()).await.expect("opened");
    sink.write(&rows(&[("a", Some(1))])).await.expect("staged");
    sink.commit(&position(&[(0, 1)])).await.expect("committed");
    let before = lake.table.pinned();
    sink.write(&rows(&[("b", Some(2))])).await.expect("staged");
    sink.commit(&position(&[(0, 2)])).await.expect("committed");
    let session = SessionContext::new();
    session.register_table("events", before.provider.clone().expect("committed")).expect("registered");
    let seen = session.sql("SELECT id FROM events").await.expect("planned").collect().await.expect("ran");
    assert_eq!(seen.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    assert_eq!(before.position, position(&[(0, 1)]));
    assert_eq!(lake.rows().await.len(), 2);
}

#[tokio::test]
async fn opening_removes_what_was_never_committed() {
    let lake = InLake::new();
    let scope = scope();
    let mut sink = lake.table.sink();
    sink.open(&scope).await.expect("opened");
    // 40 days: more than files may be open, so that some are stored before any commit.
    let ids: Vec<String> = (0..400).map(|n| format!("id-{n}")).collect();
    let base = rows(&ids.iter().map(|id| (id.as_str(), Some(1))).collect::<Vec<_>>());
    let dates: ArrayRef =
        Arc::new((0..400).map(|row| if row % 50 == 0 { None } else { Some(DAY + row % 40) }).collect::<Date32Array>());
    let mut columns = base.columns().to_vec();
    columns[7] = dates;
    let many_days = RecordBatch::try_new(schema(), columns).expect("same schema");
    sink.write(&many_days).await.expect("staged");
    assert!(lake.data_files() > 0, "files are stored before the commit");
    std::mem::forget(sink);
    let mut sink = lake.table.sink();
    assert_eq!(sink.open(&scope).await.expect("opened again"), None);
    assert_eq!(lake.data_files(), 0);
    sink.write(&many_days).await.expect("staged");
    sink.commit(&position(&[(0, 400)])).await.expect("committed");
    assert_eq!(lake.rows().await.len(), 400);
    assert_eq!(
        lake.sql("SELECT id FROM events WHERE date IS NULL").await.iter().map(RecordBatch::num_rows).sum::<usize>(),
        8
    );
    let files = lake.data_files();
    sink.open(&scope).await.expect("opened again");
    assert_eq!((lake.data_files(), lake.rows().await.len()), (files, 400), "committed files stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn position_and_rows_outlive_checkpoints_and_processes() {
    let lake = InLake::new();
    let scope = scope();
    let mut sink = lake.table.sink();
    sink.open(&scope).await.expect("opened");
    for commit in 1..=53i64 {
        let id = format!("id-{commit:03}");
        sink.write(&rows(&[(&id, Some(commit))])).await.expect("staged");
        sink.commit(&position(&[(0, commit)])).await.expect("committed");
    }
    drop(sink);
    let log = lake.directory.path().join("lake/events/_delta_log");
    let checkpoints = std::fs::read_dir(&log)
        .expect("listed")
        .filter(|entry| entry.as_ref().expect("an entry").file_name().to_string_lossy().contains("checkpoint.parquet"))
        .count();
    assert_eq!(checkpoints, 1);
    // As another process, and with the commits before the checkpoint gone.
    for version in 0..40 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).expect("removed");
    }
    let again = InLake { table: open(lake.directory.path()), directory: lake.directory };
    assert_eq!(again.table.sink().open(&scope).await.expect("opened"), Some(position(&[(0, 53)])));
    assert_eq!(again.rows().await.len(), 53);
    assert_eq!(again.table.pinned().position, position(&[(0, 53)]));
}

#[tokio::test]
async fn another_shape_is_refused_by_name() {
    let lake = InLake::new();
    lake.table.sink().open(&scope()).await.expect("opened");
    let mut other = target("events", &[], &[]);
    let fields: Vec<_> = schema().fields().iter().filter(|field| field.name() != "ratio").cloned().collect();
    other.schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let store = Lake::open("embedded", lake.directory.path()).expect("a directory");
    let error = store.table(&other).expect("good columns").sink().open(&scope()).await.expect_err("another shape");
    assert!(matches!(&error, SinkError::Fatal(why) if why.contains("ratio")), "{error}");

    other.schema =
        Arc::new(arrow::datatypes::Schema::new(schema().fields().iter().take(3).cloned().collect::<Vec<_>>()));
    let error = store.table(&other).err().expect("no date").to_string();
    assert!(error.contains("date") && error.contains("events"), "{error}");
    assert!(store.table(&target("events", &[("table", "../x")], &[])).is_err());
    assert!(Lake::open("s3://bucket", lake.directory.path()).is_err());
}

#[tokio::test]
async fn many_rows_stay_within_bounds_and_arrive_whole() {
    let lake = InLake::new();
    let mut sink = lake.table.sink();
    sink.open(&scope()).await.expect("opened");
    let count = 60_000;
    for batch in 0..count / 10_000 {
        // Ids that do not compress, so that row groups fill.
        let ids: Vec<String> =
            (0..10_000).map(|n| format!("{batch}-{n}-{0}{0}{1}", uuid::Uuid::new_v4(), uuid::Uuid::new_v4())).collect();
        sink.write(&rows(&ids.iter().map(|id| (id.as_str(), Some(1))).collect::<Vec<_>>())).await.expect("staged");
    }
    assert!(sink.staged_bytes() > 1 << 20);
    sink.commit(&position(&[(0, count)])).await.expect("committed");
    assert_eq!(
        lake.sql("SELECT DISTINCT id FROM events").await.iter().map(RecordBatch::num_rows).sum::<usize>(),
        60_000
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_nobody_waits_for_is_there_or_not() {
    let lake = InLake::new();
    let scope = scope();
    for round in 1..=20i64 {
        let mut sink = lake.table.sink();
        let at = sink.open(&scope).await.expect("opened").unwrap_or_default();
        let before = lake.rows().await.len() as i64;
        assert_eq!(at.0.values().sum::<i64>(), before, "rows and position always agree");
        let id = format!("id-{round:02}");
        sink.write(&rows(&[(&id, Some(1))])).await.expect("staged");
        // Waits for less and less of the commit: polls it so often, then drops it.
        let next = position(&[(0, before + 1)]);
        let mut commit = sink.commit(&next);
        for _ in 0..round {
            if futures::poll!(commit.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    lake.table.sink().open(&scope).await.expect("opened");
    assert_eq!(lake.rows().await.len(), 20, "a commit that was begun goes on");
}
