//! `pipelines/multimedia.sql`, as it runs by default.

use std::time::{Duration, Instant};

use playhouse_engine::sql::{AggregateKind, CompileOptions, Pipeline};

use crate::support::{decode, full_options, names, quick_options, repository_file, rows, run};

async fn compile(options: CompileOptions) -> Pipeline {
    let sql = String::from_utf8(repository_file("pipelines/multimedia.sql").to_vec()).unwrap();
    Pipeline::compile(&sql, options).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn pipeline() -> Pipeline {
    compile(quick_options()).await
}

const EVENT: &str = r#"{"id":"event1","timestamp":"2025-08-31T12:00:03Z","type":"heartbeat","user":"user123",
 "session":"s-81","content":"track-1","position_ms":61000,"watched_ms":10000,"ip":"8.8.8.8",
 "user_agent":"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1",
 "metadata":{"quality":"1080p"}}"#;
const BARE: &str = r#"{"id":"event2","timestamp":"2025-08-31T12:00:04Z","type":"page_view","user":"u2"}"#;

#[tokio::test]
async fn an_event_comes_out_enriched() {
    let pipeline = compile(full_options()).await;
    let result = run(&pipeline, &[EVENT, BARE]).await;
    let enriched = pipeline.sinks.iter().find(|sink| sink.target.name == "lake_events").unwrap();
    assert_eq!(
        names(&enriched.target.schema).join(","),
        "id,event_time,type,user_id,session_id,content_id,position_ms,watched_ms,ip,user_agent,metadata,country,device,\
         os,browser,title,artist,genre,duration_ms,ingested_at,ingest_id,date"
    );
    assert_eq!(
        rows(&result.streams[enriched.stream]),
        [
            "event1|2025-08-31T12:00:03Z|heartbeat|user123|s-81|track-1|61000|10000|8.8.8.8|Mozilla/5.0 (iPhone; CPU \
             iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 \
             Safari/604.1|{\"quality\":\"1080p\"}|US|iPhone|iOS|Mobile Safari|For Those About To Rock (We Salute \
             You)|AC/DC|Rock|343719|2023-11-14T22:13:20Z|multimedia_events/3/0|2025-08-31",
            "event2|2025-08-31T12:00:04Z|page_view|u2|~|~|~|~|83.149.9.216|curl/8.1|~|RU|Other|Other|curl|~|~|~|~|\
             2023-11-14T22:13:20Z|multimedia_events/3/1|2025-08-31",
        ]
    );
    let raw = pipeline.sinks.iter().find(|sink| sink.target.name == "lake_raw").unwrap();
    assert_eq!(names(&raw.target.schema).join(","), "event_time,topic,partition,offset,ingested_at,raw,date");
    assert_eq!(result.streams[raw.stream][0].num_rows(), 2);
}

#[tokio::test]
async fn its_shape() {
    let pipeline = pipeline().await;
    assert_eq!(pipeline.streams.len(), 2, "three sinks share one SELECT");
    let sinks: Vec<_> = pipeline.sinks.iter().map(|sink| (sink.target.name.as_str(), sink.stream)).collect();
    assert_eq!(sinks, [("lake_events", 0), ("table_events", 0), ("cache_events", 0), ("lake_raw", 1)]);
    assert_eq!(pipeline.sinks[1].target.primary_key, ["id"]);
    assert_eq!(pipeline.sinks[2].target.options["key"], "event:{id}");
    let source = &pipeline.sources[0];
    assert_eq!(source.topic, "multimedia_events");
    assert_eq!(source.schema.field(source.dedup.as_ref().unwrap().column).name(), "id");
    assert_eq!(source.schema.field(source.watermark.as_ref().unwrap().column).name(), "event_time");
    assert_eq!(source.dedup.as_ref().unwrap().window, Duration::from_secs(86_400));
    let views: Vec<_> = pipeline.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(views, ["unique_users_per_day", "concurrent_viewers", "watch_time", "events_by_type"]);
    assert!(pipeline.views.iter().all(|view| view.windowed && view.source == 0));
    let viewers = &pipeline.views[1];
    assert_eq!(viewers.allowed_lateness, Some(Duration::from_secs(30)));
    assert_eq!(viewers.retention, Duration::from_secs(600));
    assert_eq!(viewers.aggregates[0].kind, AggregateKind::CountDistinct);
    assert_eq!(pipeline.views[0].allowed_lateness, None);
}

#[tokio::test]
async fn partial_rows() {
    let pipeline = pipeline().await;
    let result = run(&pipeline, &[BARE, EVENT]).await;
    // Window start and end, content, title; the session; then row and window end.
    assert_eq!(
        rows(&result.partials[1]),
        ["2025-08-31T12:00:00Z|2025-08-31T12:00:10Z|track-1|For Those About To Rock (We Salute You)|s-81|1|\
          2025-08-31T12:00:10Z"]
    );
    assert_eq!(
        rows(&result.partials[3]),
        [
            "2025-08-31T00:00:00Z|2025-09-01T00:00:00Z|page_view|0|2025-09-01T00:00:00Z",
            "2025-08-31T00:00:00Z|2025-09-01T00:00:00Z|heartbeat|1|2025-09-01T00:00:00Z",
        ]
    );
}

#[tokio::test]
async fn row_numbers_survive_filtering_before_the_run() {
    let pipeline = pipeline().await;
    let batch = decode(&pipeline, &[BARE, EVENT]);
    let result = pipeline.run(vec![batch.slice(1, 1)]).await.unwrap();
    assert!(rows(&result.partials[1])[0].ends_with("|s-81|1|2025-08-31T12:00:10Z"));
}

#[tokio::test]
async fn the_fingerprint_follows_text_and_data() {
    let sql = String::from_utf8(repository_file("pipelines/multimedia.sql").to_vec()).unwrap();
    let fingerprint = async |sql: &str, change: fn(&mut CompileOptions)| {
        let mut options = quick_options();
        change(&mut options);
        Pipeline::compile(sql, options).await.unwrap().fingerprint
    };
    let first = fingerprint(&sql, |_| {}).await;
    assert_eq!(first, fingerprint(&format!("-- a comment\n{sql}"), |_| {}).await);
    assert_ne!(first, fingerprint(&sql.replace("10' SECOND", "20' SECOND"), |_| {}).await);
    assert_ne!(
        first,
        fingerprint(&sql, |options| {
            options.variables.insert("topic".into(), "other".into());
        })
        .await
    );
    let smaller = |options: &mut CompileOptions| {
        let catalogue = options.builtin.get_mut("catalogue").unwrap();
        let line = catalogue.iter().position(|byte| *byte == b'\n').unwrap();
        *catalogue = catalogue.slice(..line);
    };
    assert_ne!(first, fingerprint(&sql, smaller).await);
}

#[tokio::test]
async fn an_idle_epoch_costs_little() {
    let pipeline = pipeline().await;
    run(&pipeline, &[EVENT]).await;
    let empty = decode(&pipeline, &[]);
    let rounds = 20;
    let started = Instant::now();
    for _ in 0..rounds {
        let result = pipeline.run(vec![empty.clone()]).await.unwrap();
        assert!(result.streams.iter().chain(&result.partials).all(Vec::is_empty));
    }
    // Well under 1 ms with optimisation; the bound here is for an unoptimised build on a busy machine.
    let each = started.elapsed() / rounds;
    assert!(each < Duration::from_millis(20), "{each:?}");
    eprintln!("an idle epoch takes {each:?}");
}
