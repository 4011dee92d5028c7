//! Streams and materialized views over rows made by hand.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use playhouse_engine::sql::{Aggregate, AggregateKind, Finished, Pipeline};

use crate::support::{compile, full_options, names, rows, run};

async fn stream(query: &str, payloads: &[&str]) -> Vec<String> {
    let pipeline = compile(&format!("INSERT INTO out {query}")).await;
    rows(&run(&pipeline, payloads).await.streams[0])
}

#[tokio::test]
async fn projection_and_filter() {
    let events =
        [r#"{"id":"1","user":"ann","n":3,"x":0.5}"#, r#"{"id":"2","user":"bob","n":4}"#, r#"{"id":"3","n":5}"#];
    assert_eq!(stream("SELECT id, who FROM events", &events).await, ["1|ann", "2|bob", "3|~"]);
    assert_eq!(stream("SELECT n * 2 AS m, id FROM events WHERE who <> 'bob'", &events).await, ["6|1"]);
    assert_eq!(
        stream("SELECT * FROM events WHERE n = 4", &events).await,
        ["2|~|bob|~|4|~"],
        "system columns are not part of *"
    );
    assert_eq!(
        stream(r#"SELECT "offset", partition, topic, ingest_id, source_address FROM events WHERE n = 5"#, &events)
            .await,
        ["2|3|multimedia_events|multimedia_events/3/2|83.149.9.216"]
    );
    assert!(stream("SELECT id FROM events WHERE n > 100", &events).await.is_empty());
}

#[tokio::test]
async fn outputs_have_few_types() {
    let pipeline = compile(
        "INSERT INTO out SELECT to_timestamp(n) AS t, NULL AS nothing, upper(who) AS u, n + x AS s FROM events",
    )
    .await;
    let types: Vec<_> = pipeline.streams[0].schema.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Timestamp(µs, \"UTC\")", "Utf8", "Utf8", "Float64"]);
    let result = run(&pipeline, &[r#"{"id":"1","n":-1,"x":0.5,"user":"é"}"#]).await;
    assert_eq!(rows(&result.streams[0]), ["1969-12-31T23:59:59Z|~|É|-0.5"]);
}

#[tokio::test]
async fn only_what_is_read_is_decoded() {
    let pipeline =
        compile("CREATE VIEW v AS SELECT *, n + 1 AS m, raw FROM events; INSERT INTO out SELECT id, m FROM v").await;
    assert_eq!(names(&pipeline.sources[0].schema), ["id", "at", "n", "__row"], "at is the watermark's");
}

#[tokio::test]
async fn lookup_joins() {
    let events =
        [r#"{"id":"1","what":"a"}"#, r#"{"id":"2","what":"none"}"#, r#"{"id":"3"}"#, r#"{"id":"4","what":"b"}"#];
    let join = |kind: &str| {
        format!("SELECT e.id, s.title, s.plays + 1 AS p FROM events e {kind} JOIN songs s ON e.what = s.content_id")
    };
    assert_eq!(stream(&join("LEFT"), &events).await, ["1|Alpha|2", "2|~|~", "3|~|~", "4|Beta|3"]);
    assert_eq!(stream(&join(""), &events).await, ["1|Alpha|2", "4|Beta|3"]);
    assert_eq!(
        stream(&format!("{} WHERE s.title IS NULL", join("LEFT")), &events).await,
        ["2|~|~", "3|~|~"],
        "a filter on looked-up columns stays above the look-up"
    );
    assert_eq!(stream(&format!("{} WHERE e.id > '1'", join("LEFT")), &events).await.len(), 3);
    assert_eq!(
        stream(
            "SELECT e.id, s.*, t.title AS again FROM events e JOIN songs s ON s.content_id = lower(e.what) LEFT JOIN \
                songs t ON t.content_id = s.content_id",
            &events
        )
        .await,
        ["1|a|Alpha|1|Alpha", "4|b|Beta|2|Beta"]
    );
    let renamed = "CREATE VIEW v AS SELECT id, what AS content_id FROM events;
                   INSERT INTO out SELECT id, title FROM v JOIN songs USING (content_id)";
    assert_eq!(rows(&run(&compile(renamed).await, &events).await.streams[0]), ["1|Alpha", "4|Beta"]);
}

#[tokio::test]
async fn views_are_shared_and_nested() {
    let pipeline = compile(
        "CREATE TABLE out2 WITH (connector = 'lake', table = 'out2');
         CREATE VIEW a AS SELECT id, n FROM events WHERE n > 1;
         CREATE VIEW b AS SELECT id, n * 10 AS n FROM a;
         CREATE VIEW unused AS SELECT n / 0 AS broken FROM events;
         INSERT INTO out SELECT * FROM b;
         INSERT INTO out2 SELECT s.id AS key FROM (SELECT id FROM a WHERE n > 2) AS s;",
    )
    .await;
    let result = run(&pipeline, &[r#"{"id":"1","n":1}"#, r#"{"id":"2","n":2}"#, r#"{"id":"3","n":3}"#]).await;
    assert_eq!(rows(&result.streams[0]), ["2|20", "3|30"]);
    assert_eq!(rows(&result.streams[1]), ["3"]);
}

#[tokio::test]
async fn windows_at_their_edges() {
    let pipeline = compile(
        "CREATE MATERIALIZED VIEW v AS SELECT window_start, window_end, count(*) AS c
         FROM TUMBLE(events, at, INTERVAL '10' SECOND) GROUP BY window_start, window_end",
    )
    .await;
    let at = |at: &str| format!(r#"{{"id":"1","at":"{at}"}}"#);
    let events = [
        at("2025-01-01T00:00:00Z"),
        at("2025-01-01T00:00:09.999999Z"),
        at("2025-01-01T00:00:10Z"),
        at("1969-12-31T23:59:59.999999Z"),
        at("1969-12-31T23:59:50Z"),
        at("1969-12-31T23:59:49.999999Z"),
        at("1970-01-01T00:00:00Z"),
        r#"{"id":"no time, no window"}"#.to_string(),
    ];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let result = run(&pipeline, &events).await;
    assert_eq!(
        rows(&result.partials[0]),
        [
            "2025-01-01T00:00:00Z|2025-01-01T00:00:10Z|0|2025-01-01T00:00:10Z",
            "2025-01-01T00:00:00Z|2025-01-01T00:00:10Z|1|2025-01-01T00:00:10Z",
            "2025-01-01T00:00:10Z|2025-01-01T00:00:20Z|2|2025-01-01T00:00:20Z",
            "1969-12-31T23:59:50Z|1970-01-01T00:00:00Z|3|1970-01-01T00:00:00Z",
            "1969-12-31T23:59:50Z|1970-01-01T00:00:00Z|4|1970-01-01T00:00:00Z",
            "1969-12-31T23:59:40Z|1969-12-31T23:59:50Z|5|1969-12-31T23:59:50Z",
            "1970-01-01T00:00:00Z|1970-01-01T00:00:10Z|6|1970-01-01T00:00:10Z",
        ]
    );
    assert_eq!(pipeline.views[0].allowed_lateness, Some(std::time::Duration::ZERO));
}

#[tokio::test]
async fn aggregates_are_taken_apart() {
    let pipeline = compile(
        "CREATE MATERIALIZED VIEW v AS
         SELECT who, count(*) AS c, count(n) AS cn, count(DISTINCT what) AS d, sum(n) AS s, avg(n) AS a, min(x) AS lo,
                max(who) AS hi, count(*) FILTER (WHERE n > 1) AS f, sum(n) FILTER (WHERE n > 1) AS fs, sum(n) / count(n) AS q
         FROM events GROUP BY who",
    )
    .await;
    let view = &pipeline.views[0];
    let aggregate = |kind, input, input_type, output_type| Aggregate { kind, input, input_type, output_type };
    use AggregateKind::*;
    use DataType::{Float64, Int64, Utf8};
    assert_eq!(
        view.aggregates,
        [
            aggregate(Count, None, Int64, Int64),
            aggregate(Count, Some(1), Int64, Int64),
            aggregate(CountDistinct, Some(2), Utf8, Int64),
            aggregate(Sum, Some(1), Int64, Int64),
            aggregate(Avg, Some(3), Float64, Float64),
            aggregate(Min, Some(4), Float64, Float64),
            aggregate(Max, Some(0), Utf8, Utf8),
            aggregate(Count, Some(5), Int64, Int64),
            aggregate(Sum, Some(6), Int64, Int64),
        ]
    );
    assert_eq!((view.group_count, view.windowed, view.allowed_lateness), (1, false, None));
    let result = run(&pipeline, &[r#"{"id":"1","user":"ann","what":"a","n":1}"#, r#"{"id":"2","n":2,"x":1}"#]).await;
    assert_eq!(rows(&result.partials[0]), ["ann|1|a|1.0|~|~|~|0", "~|2|~|2.0|1.0|1|2|1"]);
}

#[tokio::test]
async fn finishing_groups() {
    let pipeline = compile(
        "CREATE MATERIALIZED VIEW v AS SELECT upper(who) AS name, 100 / sum(n) AS share, avg(x) AS mean
         FROM events GROUP BY who HAVING sum(n) > 0",
    )
    .await;
    let view = &pipeline.views[0];
    assert_eq!(names(&view.output_schema), ["name", "share", "mean"]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("who", Arc::new(StringArray::from(vec![Some("ann"), Some("bob"), None, Some("dan")]))),
        ("sum", Arc::new(Int64Array::from(vec![Some(50), Some(0), Some(4), None]))),
        ("avg", Arc::new(Float64Array::from(vec![Some(1.5), Some(2.5), None, None]))),
    ];
    let Finished { rows: finished, mask, failure } = view
        .finish(&RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap())
        .unwrap();
    assert_eq!(
        rows(&[finished]),
        ["ANN|2|1.5", "~|~|~", "~|25|~", "~|~|~"],
        "bob's division by zero is not computed, having been filtered out"
    );
    assert_eq!((mask, failure), (Some(BooleanArray::from(vec![true, false, true, false])), None));
}

#[tokio::test]
async fn a_view_without_groups() {
    let pipeline = compile("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c, count(*) + 1 AS d FROM events").await;
    let view = &pipeline.views[0];
    assert_eq!((view.group_count, view.aggregates.len()), (0, 1));
    assert_eq!(rows(&run(&pipeline, &[r#"{"id":"1"}"#]).await.partials[0]), ["0"]);
    let groups = RecordBatch::try_from_iter([("c", Arc::new(Int64Array::from(vec![7])) as ArrayRef)]).unwrap();
    let Finished { rows: finished, mask, .. } = view.finish(&groups).unwrap();
    assert_eq!((rows(&[finished]), mask), (vec!["7|8".to_string()], None));
}

#[tokio::test]
async fn functions_on_real_values() {
    let sql = format!(
        "{}INSERT INTO out SELECT geoip_country(who) AS c, ua_device(what) AS d, ua_os(what) AS o, ua_browser(what) AS b,
         geoip_country('83.149.9.216') AS k FROM events",
        crate::support::TABLES
    );
    let mut options = full_options();
    options.builtin = crate::support::options().builtin;
    let pipeline = Pipeline::compile(&sql, options).await.unwrap_or_else(|error| panic!("{error}"));
    let event = |ip: &str, agent: &str| format!(r#"{{"id":"1","user":"{ip}","what":"{agent}"}}"#);
    let chrome = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) \
                  Chrome/32.0.1700.77 Safari/537.36";
    let events = [
        event("83.149.9.216", chrome),
        event("::ffff:83.149.9.216", chrome),
        event("127.0.0.1", "nothing known"),
        event("0.0.0.0", ""),
        event("0.0.0.1", ""),
        event("2a00:1450:4001::1", &"x".repeat(4000)),
        event("not an address", "Googlebot/2.1 (+http://www.google.com/bot.html)"),
        r#"{"id":"1"}"#.to_string(),
    ];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let expected = [
        "RU|Mac|Mac OS X|Chrome|RU",
        "RU|Mac|Mac OS X|Chrome|RU",
        "~|Other|Other|Other|RU",
        "~|Other|Other|Other|RU",
        "~|Other|Other|Other|RU",
        "~|Other|Other|Other|RU",
        "~|Spider|Other|Googlebot|RU",
        "~|~|~|~|RU",
    ];
    // Twice: by the patterns, then by the caches.
    for _ in 0..2 {
        assert_eq!(rows(&run(&pipeline, &events).await.streams[0]), expected);
    }
}

#[tokio::test]
async fn a_failing_row_names_the_stage_and_leaves_nothing_behind() {
    let pipeline = compile("INSERT INTO out SELECT 10 / n AS q FROM events").await;
    let batch = crate::support::decode(&pipeline, &[r#"{"id":"1","n":0}"#]);
    let error = pipeline.run(vec![batch]).await.unwrap_err();
    assert!(error.to_string().starts_with("out: ") && error.to_string().contains("ivide by zero"), "{error}");
    assert_eq!(rows(&run(&pipeline, &[r#"{"id":"2","n":5}"#]).await.streams[0]), ["2"]);
}

#[tokio::test]
async fn the_rows_around_those_that_fail_come_through_in_order() {
    let sql = "INSERT INTO out SELECT id, 10 / n AS q FROM events WHERE id <> 'x' OR 10 / n > 0";
    let pipeline = compile(sql).await;
    let events: Vec<String> = (0..100)
        .map(|id| match id % 30 {
            7 => format!(r#"{{"id":"{id}","n":0}}"#),
            _ => format!(r#"{{"id":"{id}","n":5}}"#),
        })
        .collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let batch = crate::support::decode(&pipeline, &events);
    for stream in [None, Some(0)] {
        let (output, failed) = pipeline.run_around(std::slice::from_ref(&batch), stream).await.unwrap();
        assert_eq!(failed.iter().map(|row| row.row).collect::<Vec<_>>(), [7, 37, 67, 97]);
        assert_eq!(failed[0].reason, "out: divide by zero error");
        let expected: Vec<String> = (0..100).filter(|id| id % 30 != 7).map(|id| format!("{id}|2")).collect();
        assert_eq!(rows(&output.streams[0]), expected);
    }
}

/// An operand that need not have been evaluated for a row alone is evaluated for it in company.
#[tokio::test]
async fn a_row_that_fails_in_company_only_comes_through() {
    let pipeline = compile("INSERT INTO out SELECT id FROM events WHERE n <> 0 AND 10 / n > 1").await;
    let events = [r#"{"id":"1","n":5}"#, r#"{"id":"2","n":0}"#, r#"{"id":"3","n":5}"#];
    let batch = crate::support::decode(&pipeline, &events);
    let (output, failed) = pipeline.run_around(&[batch], None).await.unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(rows(&output.streams[0]), ["1", "3"]);
}

#[tokio::test]
async fn a_group_that_cannot_be_computed_is_left_out_and_told() {
    let sql = "CREATE MATERIALIZED VIEW v AS SELECT who, sum(n) / count(what) AS mean FROM events GROUP BY who";
    let pipeline = compile(sql).await;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("who", Arc::new(StringArray::from(vec!["ann", "bob", "cleo", "dan"]))),
        ("sum", Arc::new(Int64Array::from(vec![50, 7, 4, 9]))),
        ("count", Arc::new(Int64Array::from(vec![5, 0, 2, 0]))),
    ];
    let groups = RecordBatch::try_from_iter(columns).unwrap();
    let Finished { rows: finished, mask, failure } = pipeline.views[0].finish(&groups).unwrap();
    assert_eq!(rows(&[finished]), ["ann|10", "~|~", "cleo|2", "~|~"]);
    assert_eq!(mask, Some(BooleanArray::from(vec![true, false, true, false])));
    assert_eq!(failure.as_deref(), Some("v: divide by zero error"));
}
