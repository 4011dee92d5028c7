//! What every sink must do, whatever the store: the suite that runs against all of them.

#![allow(dead_code, reason = "every test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use playhouse_engine::sink::{Scope, Sink, SinkError, Target};
use playhouse_engine::{Position, TopicPartition};

pub const NOON: i64 = 1_756_641_600_000_000;
pub const DAY: i32 = 20_331;

/// A store under test.
#[async_trait]
pub trait Store: Sync {
    fn sink(&self) -> Box<dyn Sink>;
    /// All rows, as (id, position_ms), sorted.
    async fn rows(&self) -> Vec<(String, Option<i64>)>;
    /// A newer row replaces the older with its id.
    fn upserts(&self) -> bool;
    /// The store has its rows and position again after the process that wrote them is gone.
    fn durable(&self) -> bool {
        true
    }
}

pub fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("event_time", utc, true),
        Field::new("type", DataType::Utf8, true),
        Field::new("position_ms", DataType::Int64, true),
        Field::new("ratio", DataType::Float64, true),
        Field::new("live", DataType::Boolean, true),
        Field::new("metadata", DataType::Utf8, true),
        Field::new("date", DataType::Date32, true),
    ]))
}

pub fn target(name: &str, options: &[(&str, &str)], primary_key: &[&str]) -> Target {
    Target {
        name: name.to_owned(),
        options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        schema: schema(),
        primary_key: primary_key.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// One row by id and position; the rest follows from them. Rows of one batch lie on two days.
pub fn rows(values: &[(&str, Option<i64>)]) -> RecordBatch {
    let at: Vec<i64> = (0..values.len() as i64).map(|row| NOON + row).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(values.iter().map(|(id, _)| Some(*id)).collect::<StringArray>()),
        Arc::new(TimestampMicrosecondArray::from(at).with_timezone("UTC")),
        Arc::new(values.iter().map(|_| Some("video_view")).collect::<StringArray>()),
        Arc::new(values.iter().map(|(_, position)| *position).collect::<Int64Array>()),
        Arc::new(values.iter().map(|_| Some(0.5)).collect::<Float64Array>()),
        Arc::new(values.iter().map(|_| Some(true)).collect::<BooleanArray>()),
        Arc::new(values.iter().map(|_| Some(r#"{"quality":"1080p"}"#)).collect::<StringArray>()),
        Arc::new((0..values.len()).map(|row| Some(DAY + (row % 2) as i32)).collect::<Date32Array>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns of the schema")
}

pub fn position(offsets: &[(i32, i64)]) -> Position {
    let mut position = Position::default();
    for (partition, next) in offsets {
        position.set(TopicPartition { topic: "multimedia-events".into(), partition: *partition }, *next);
    }
    position
}

pub fn scope() -> Scope {
    Scope { log_id: uuid::Uuid::new_v4(), pipeline: "multimedia".to_owned() }
}

pub fn expected(values: &[(&str, Option<i64>)]) -> Vec<(String, Option<i64>)> {
    values.iter().map(|(id, position)| ((*id).to_owned(), *position)).collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// The whole suite, on a store that is empty.
pub async fn conform(store: &dyn Store) {
    refuses_use_before_open(store).await;
    let scope = scope();
    commits_rows_with_their_position(store, &scope).await;
    replay_changes_nothing(store, &scope).await;
    two_writers_do_not_double(store, &scope).await;
    other_scope_starts_over(store, &scope).await;
    if store.upserts() {
        newest_wins(store, &scope).await;
    }
}

async fn refuses_use_before_open(store: &dyn Store) {
    let mut sink = store.sink();
    assert!(matches!(sink.write(&rows(&[("x", None)])).await, Err(SinkError::Unavailable(_))));
    assert!(matches!(sink.commit(&position(&[(0, 1)])).await, Err(SinkError::Unavailable(_))));
}

async fn commits_rows_with_their_position(store: &dyn Store, scope: &Scope) {
    let first = [("a", Some(1)), ("b", None), ("c", Some(3))];
    let second = [("d", Some(4)), ("e", Some(5))];
    let mut sink = store.sink();
    assert_eq!(sink.open(scope).await.expect("opened"), None, "a new scope has no position");
    assert_eq!(sink.staged_bytes(), 0);
    sink.write(&rows(&first[..2])).await.expect("staged");
    sink.write(&rows(&first[2..])).await.expect("staged");
    assert!(sink.staged_bytes() > 0);
    assert_eq!(store.rows().await, [], "staged rows are not visible");
    sink.commit(&position(&[(0, 2), (1, 1)])).await.expect("committed");
    assert_eq!(sink.staged_bytes(), 0);
    assert_eq!(store.rows().await, expected(&first));

    sink.write(&rows(&second)).await.expect("staged");
    drop(sink);
    let mut sink = store.sink();
    assert_eq!(sink.open(scope).await.expect("opened again"), Some(position(&[(0, 2), (1, 1)])));
    assert_eq!(store.rows().await, expected(&first), "what was staged and not committed is gone");
    sink.write(&rows(&second)).await.expect("staged");
    sink.commit(&position(&[(0, 3), (1, 2)])).await.expect("committed");
    assert_eq!(store.rows().await, expected(&[&first[..], &second[..]].concat()));

    sink.commit(&position(&[(0, 3), (1, 9)])).await.expect("a position can move without rows");
    sink.close().await;
    assert_eq!(sink.open(scope).await.expect("opened again"), Some(position(&[(0, 3), (1, 9)])));
}

async fn replay_changes_nothing(store: &dyn Store, scope: &Scope) {
    let before = store.rows().await;
    let mut sink = store.sink();
    let at = sink.open(scope).await.expect("opened").expect("a position");
    for replayed in [position(&[(0, 2), (1, 1)]), position(&[(0, 3)]), at.clone()] {
        sink.write(&rows(&[("a", Some(100)), ("replayed", Some(1))])).await.expect("staged");
        sink.commit(&replayed).await.expect("skipped");
        assert_eq!(store.rows().await, before, "rows at or before the stored position are there already");
    }
    sink.close().await;
    assert_eq!(sink.open(scope).await.expect("opened"), Some(at), "the position never goes back");
}

async fn two_writers_do_not_double(store: &dyn Store, scope: &Scope) {
    let (mut one, mut other) = (store.sink(), store.sink());
    one.open(scope).await.expect("opened");
    other.open(scope).await.expect("opened");
    other.write(&rows(&[("f", Some(6))])).await.expect("staged");
    other.commit(&position(&[(0, 4), (1, 9)])).await.expect("committed");
    let after = store.rows().await;
    one.write(&rows(&[("f", Some(6)), ("g", Some(7))])).await.expect("staged");
    let refused = one.commit(&position(&[(0, 5), (1, 9)])).await;
    assert!(matches!(refused, Err(SinkError::Unavailable(_))), "it would write f again: {refused:?}");
    assert_eq!(store.rows().await, after);
    assert_eq!(one.open(scope).await.expect("opened again"), Some(position(&[(0, 4), (1, 9)])));
    one.write(&rows(&[("g", Some(7))])).await.expect("staged");
    one.commit(&position(&[(0, 5), (1, 9)])).await.expect("committed");
    let mut with_g = after;
    with_g.push(("g".to_owned(), Some(7)));
    assert_eq!(store.rows().await, with_g);
}

async fn other_scope_starts_over(store: &dyn Store, known: &Scope) {
    let at = store.sink().open(known).await.expect("opened");
    let mut sink = store.sink();
    for fresh in [scope(), Scope { pipeline: "multi".into(), ..known.clone() }] {
        assert_eq!(sink.open(&fresh).await.expect("opened"), None, "{fresh:?}");
        sink.write(&rows(&[("h", Some(8))]).slice(0, 0)).await.expect("no rows are fine");
        sink.commit(&position(&[(0, 1)])).await.expect("committed");
        sink.close().await;
    }
    assert_eq!(store.sink().open(known).await.expect("opened"), at, "scopes do not share positions");
}

async fn newest_wins(store: &dyn Store, scope: &Scope) {
    let mut sink = store.sink();
    let mut at = sink.open(scope).await.expect("opened").expect("a position");
    let partition = TopicPartition { topic: "multimedia-events".into(), partition: 0 };
    for (batches, newest) in [
        (vec![rows(&[("k", Some(1)), ("k", Some(2)), ("a", Some(50))])], Some(2)),
        (vec![rows(&[("k", Some(3))]), rows(&[("k", Some(4)), ("l", None)])], Some(4)),
        (vec![rows(&[("k", None)])], None),
    ] {
        for batch in &batches {
            sink.write(batch).await.expect("staged");
        }
        at.set(partition.clone(), at.get(&partition) + 10);
        sink.commit(&at).await.expect("committed");
        let found = store.rows().await;
        assert_eq!(found.iter().filter(|(id, _)| id == "k").collect::<Vec<_>>(), [&("k".to_owned(), newest)]);
    }
    assert!(store.rows().await.contains(&("a".to_owned(), Some(50))), "an update reaches rows of an earlier commit");
}
