mod common;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use playhouse_gate::{BadFilter, GateConfig, RequestError, Stage, partition_of};
use playhouse_log::{Durability, LogConfig, TimestampType, TopicSettings};

#[tokio::test]
async fn an_accepted_event_is_stored_as_sent() {
    let house = House::new();
    let event = event("é\\\"1", "user123");
    let reply = house.ingest(event.clone()).await;
    let partition = partition_of(b"user123", 4);
    assert_eq!(
        reply,
        serde_json::json!({"accepted": 1, "rejected": 0, "results": [{
            "index": 0, "id": "é\"1", "status": "accepted", "topic": TOPIC, "partition": partition, "offset": 0
        }]})
    );
    let headers = [("source_address", "83.149.9.216"), ("user_agent", "curl/8"), ("schema_id", "7")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let expected = Stored { offset: 0, key: Some("user123".into()), value: Some(event.clone()), headers };
    assert_eq!(house.everything(TOPIC), [expected]);
    assert_eq!(house.log.topic(TOPIC).unwrap().settings().timestamp_type, TimestampType::LogAppendTime);
    let counters = house.gate.counters();
    assert_eq!((counters.accepted, counters.rejected, counters.accepted_bytes), (1, 0, event.len() as u64));
    assert_eq!(counters.in_flight_bytes, 0);
}

#[tokio::test]
async fn results_and_partitions_keep_the_order_of_the_request() {
    let house = House::new();
    house.ingest(event("first", "user-3")).await;
    let mut lines: Vec<String> = (0..3000).map(|n| event(&format!("e{n}"), &format!("user-{}", n % 37))).collect();
    lines[5] = "broken".into();
    lines[2999] = lines[2999].replace("play", "");
    let reply = house.ingest(lines.join("\n")).await;
    assert_eq!((&reply["accepted"], &reply["rejected"]), (&2998.into(), &2.into()));

    let stored: HashMap<(i64, i64), String> = (0..4)
        .flat_map(|partition| house.stored(TOPIC, partition).into_iter().map(move |record| (partition, record)))
        .map(|(partition, record)| ((partition.into(), record.offset), record.value.unwrap()))
        .collect();
    let mut last = HashMap::new();
    for (index, result) in reply["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!(result["index"], index);
        if [5, 2999].contains(&index) {
            assert_eq!(result["status"], "rejected");
            continue;
        }
        let place = (result["partition"].as_i64().unwrap(), result["offset"].as_i64().unwrap());
        assert_eq!(stored[&place], lines[index]);
        assert_eq!(result["id"], format!("e{index}"));
        assert_eq!(place.0, i64::from(partition_of(format!("user-{}", index % 37).as_bytes(), 4)));
        let before = last.insert(place.0, place.1);
        assert!(before.is_none_or(|before| before + 1 == place.1));
    }
    assert_eq!(stored.len(), 2999);
}

#[tokio::test]
async fn a_rejected_event_is_kept_with_every_reason() {
    let house = House::new();
    let invalid = r#"{"id":"bad","timestamp":"yesterday","type":"","ip":"x"}"#;
    let body =
        [event("a", "u").as_bytes(), invalid.as_bytes(), b"{\"id\":\"\xff\"}", event("b", "u").as_bytes()].join(&b'\n');
    let reply = house.ingest(body).await;
    let statuses: Vec<_> = reply["results"].as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["accepted", "rejected", "rejected", "accepted"]);
    assert_eq!(reply["results"][1]["id"], "bad");
    let mut keywords: Vec<_> =
        reply["results"][1]["reasons"].as_array().unwrap().iter().map(|r| r["keyword"].as_str().unwrap()).collect();
    keywords.sort_unstable();
    assert_eq!(keywords, ["anyOf", "format", "minLength", "required"]);
    assert_eq!(reply["results"][2]["id"], serde_json::Value::Null);

    let bad = house.bad();
    assert_eq!(bad.len(), 2);
    assert_eq!((bad[0].bad_id.as_str(), bad[1].bad_id.as_str()), ("0-0", "0-1"));
    assert_eq!(bad[0].raw, invalid.as_bytes());
    assert_eq!(serde_json::to_value(&bad[0].reasons).unwrap(), reply["results"][1]["reasons"]);
    assert_eq!((&bad[0].stage, &bad[1].stage), (&Stage::Validate, &Stage::Decode));
    assert_eq!((bad[0].topic.as_str(), bad[0].source_protocol.as_str(), bad[0].schema_id), (TOPIC, "rest", Some(7)));
    assert_eq!(bad[0].source_address.as_deref(), Some("83.149.9.216"));
    assert!(bad[0].received_at_ms > 1_600_000_000_000);
    assert_eq!(bad[1].raw, b"{\"id\":\"\xff\"}");
    assert_eq!(house.everything(TOPIC).len(), 2);
}

#[tokio::test]
async fn bad_events_come_in_pages() {
    let house = House::new();
    for request in 0..3 {
        house.ingest((0..50).map(|n| format!("no json {request} {n}\n")).collect::<String>()).await;
    }
    let reader = house.gate.bad_events();
    let (mut position, mut raws) = (Vec::new(), Vec::new());
    loop {
        let page = reader.read(&mut position, 37).unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 37);
        raws.extend(page.into_iter().map(|row| String::from_utf8(row.raw).unwrap()));
    }
    let expected: Vec<_> = (0..150).map(|n| format!("no json {} {}", n / 50, n % 50)).collect();
    // A body without a single JSON line is one bad event: nothing shows that its lines are events.
    assert_eq!(raws.len(), 3);
    assert_eq!(raws.join("\n"), expected.join("\n"));
    house.ingest((0..150).map(|n| format!("{{\"n\": {n}}}\n")).collect::<String>()).await;
    let mut count = 0;
    loop {
        match reader.read(&mut position, 37).unwrap().len() {
            0 => break,
            rows => count += rows,
        }
    }
    assert_eq!(count, 150);
}

#[tokio::test]
async fn a_bad_event_carries_the_error_headers_of_kafka_connect() {
    let house = House::new();
    house.ingest("{\"id\": 7").await;
    let stored = house.stored("bad_events", 0);
    let names: Vec<&str> =
        stored[0].headers.iter().map(|(name, _)| name.trim_start_matches("__connect.errors.")).collect();
    assert_eq!(names, ["topic", "stage", "class.name", "exception.class.name", "exception.message"]);
    let values: Vec<&str> = stored[0].headers.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values[..4], [TOPIC, "decode", "playhouse.gate", "playhouse.json"]);
    assert_eq!(values[4], house.bad()[0].reasons[0].message);
}

#[tokio::test]
async fn bad_events_are_selected_found_and_counted() {
    let house = House::new();
    house.ingest("no json").await;
    house.ingest((0..250).map(|n| format!("{{\"n\": {n}}}\n")).collect::<String>()).await;
    let reader = house.gate.bad_events();
    let required = BadFilter { keyword: Some("required".into()), ..BadFilter::default() };
    let (mut position, mut found) = (Vec::new(), Vec::new());
    loop {
        let page = reader.select(&required, &mut position, 100).unwrap();
        assert!(page.rows.len() <= 100);
        found.extend(page.rows);
        if page.is_end {
            break;
        }
    }
    assert_eq!(found.len(), 250);
    for row in &found {
        assert_eq!(reader.find(&row.bad_id).unwrap().as_ref(), Some(row));
    }
    for nobody in ["0-251", "1-0", "0--1", "0-01", "0-", "x", "", "0-99999999999999999999"] {
        assert_eq!(reader.find(nobody).unwrap(), None, "{nobody:?}");
    }
    let stats = reader.stats(&BadFilter::default()).unwrap().unwrap();
    assert_eq!((stats.count, stats.topics.counts[TOPIC]), (251, 251));
    assert_eq!((stats.stages.counts["decode"], stats.stages.counts["validate"]), (1, 250));
    let newer = BadFilter { since_ms: Some(stats.newest_ms.unwrap() + 1), ..BadFilter::default() };
    assert_eq!(reader.stats(&newer).unwrap().unwrap().count, 0);
    let far = BadFilter { since_ms: Some(stats.newest_ms.unwrap() + 3_600_000), ..BadFilter::default() };
    assert_eq!(reader.select(&far, &mut Vec::new(), 10).unwrap().rows, []);
}

#[tokio::test]
async fn a_topic_may_opt_out_of_keeping() {
    let house = House::new();
    let reply = house.ingest_to("quiet", "{}").await;
    assert_eq!(reply["rejected"], 1);
    assert!(house.bad().is_empty());
}

#[tokio::test]
async fn limits_have_precise_reasons() {
    let house = House::new();
    let large = event("large", &"x".repeat(64 << 10));
    let deep = format!(r#"{{"id":"deep","metadata":{}{}}}"#, "[".repeat(20), "]".repeat(20));
    let good = event("good", "u");
    let reply = house.ingest(format!("[{large},{deep},{good}]")).await;
    assert_eq!(reply["results"][0]["reasons"][0]["keyword"], "size");
    let message = format!("the event of {} bytes is larger than the limit of 65536", large.len());
    assert_eq!(reply["results"][0]["reasons"][0]["message"], message);
    assert_eq!(reply["results"][1]["reasons"][0]["keyword"], "depth");
    assert_eq!(reply["results"][2]["status"], "accepted");
    let bad = house.bad();
    assert_eq!(bad[0].raw, &large.as_bytes()[..64 << 10]);
    assert!(bad[0].reasons.iter().any(|reason| reason.message.starts_with("only the first 65536 of")));

    let many = "{}\n".repeat(5001);
    let error = house.gate.ingest(TOPIC, many.into(), &origin()).await.unwrap_err();
    assert!(matches!(error, RequestError::TooManyEvents(5000)), "{error}");
    for empty in ["", "\n \n", "[]"] {
        let error = house.gate.ingest(TOPIC, empty.into(), &origin()).await.unwrap_err();
        assert!(matches!(error, RequestError::Empty));
    }
    for unknown in ["nowhere", "bad_events", "__consumer_offsets"] {
        let error = house.gate.ingest(unknown, good.clone().into(), &origin()).await.unwrap_err();
        assert!(matches!(error, RequestError::UnknownTopic(_)));
    }
    // None of these left anything behind.
    assert_eq!((house.everything(TOPIC).len(), house.bad().len()), (1, 2));
    assert_eq!(house.gate.counters().in_flight_bytes, 0);
}

#[tokio::test]
async fn without_a_schema_any_bytes_are_taken() {
    let house = House::new();
    let bodies: [&[u8]; 6] = [
        b"plain text\nof two lines",
        b"\xff\x00\n\xfe",
        b"[not json",
        b"{\"a\":1}\nnot json",
        b"5\n6",
        b"{\"a\":1,\"a\":2}",
    ];
    for body in bodies {
        let reply = house.ingest_to("anything", body).await;
        assert_eq!((&reply["accepted"], &reply["rejected"]), (&1.into(), &0.into()), "{body:?}");
    }
    let reply = house.ingest_to("anything", "[{\"user\":\"u\",\"id\":5},\n[]]").await;
    assert_eq!(reply["accepted"], 2);
    assert_eq!(reply["results"][0]["id"], 5);
    let keyed = house.stored("anything", partition_of(b"u", 4));
    assert!(keyed.iter().any(|record| record.key.as_deref() == Some("u")));
    assert_eq!(house.everything("anything").len(), bodies.len() + 2);
    assert_eq!(house.log.topic("anything").unwrap().settings().timestamp_type, TimestampType::CreateTime);
    let reply = house.ingest_to("anything", vec![b'x'; 65 << 10]).await;
    assert_eq!(reply["results"][0]["reasons"][0]["keyword"], "size");
}

#[tokio::test]
async fn pushes_back() {
    let house = House::with(
        GateConfig { in_flight_bytes: 10_000, ..config() },
        LogConfig { durability: Durability::Os, ..LogConfig::default() },
    );
    let body = || Bytes::from(format!("{}\n", event("a", "u")).repeat(60));
    let size = body().len();
    assert!((4_000..5_000).contains(&size), "{size}");
    let held = house.gate.ingest(TOPIC, body(), &origin()).await.unwrap();
    assert!(house.gate.counters().in_flight_bytes >= size as u64);
    let error = house.gate.ingest(TOPIC, body(), &origin()).await.unwrap_err();
    assert!(
        matches!(error, RequestError::Busy { retry_after, .. } if retry_after == Duration::from_secs(1)),
        "{error}"
    );
    drop(held);
    house.ingest(body()).await;

    let error = house.gate.ingest(TOPIC, body().repeat(2).into(), &origin()).await.unwrap_err();
    assert!(matches!(error, RequestError::TooLarge { limit: 10_000, .. }), "{error}");
    // Rejected events make replies that are larger than the request.
    let error = house.gate.ingest(TOPIC, "{}\n".repeat(100).into(), &origin()).await.unwrap_err();
    assert!(matches!(error, RequestError::TooLarge { limit: 10_000, .. }), "{error}");
    assert!(house.bad().is_empty());

    house.gate.set_overload(Some("the engine is 3 GB behind".into()));
    let error = house.gate.ingest(TOPIC, body(), &origin()).await.unwrap_err();
    assert_eq!(error.to_string(), "the engine is 3 GB behind: retry after 5 s");
    house.gate.set_overload(None);
    house.ingest(body()).await;
    assert_eq!(house.gate.counters().in_flight_bytes, 0);
}

#[tokio::test]
async fn a_full_disk_pushes_back() {
    let house = House::with(
        GateConfig { new_topic: TopicSettings { segment_bytes: 1 << 20, ..TopicSettings::default() }, ..config() },
        LogConfig { durability: Durability::Os, disk_budget_bytes: 50_000, ..LogConfig::default() },
    );
    let mut error = None;
    for request in 0..10_000 {
        let event = event(&format!("{request}-{}", "x".repeat(200)), "u");
        if let Err(refused) = house.gate.ingest(TOPIC, event.into(), &origin()).await {
            error = Some(refused);
            break;
        }
    }
    match error.expect("the budget ends") {
        RequestError::Busy { retry_after, reason } => {
            assert_eq!(retry_after, Duration::from_secs(30));
            assert!(reason.contains("50000"), "{reason}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(house.gate.counters().in_flight_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_take_turns_and_are_durable() {
    let house = std::sync::Arc::new(House::with(
        GateConfig { in_flight_bytes: 64 << 20, max_events_per_request: 100_000, ..config() },
        LogConfig { durability: Durability::Fsync, ..LogConfig::default() },
    ));
    let lines: String = (0..20_000).map(|n| event(&format!("e{n}"), &format!("user-{n}")) + "\n").collect();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (house, lines) = (house.clone(), lines.clone());
            tokio::spawn(async move { house.gate.ingest(TOPIC, lines.into(), &origin()).await.unwrap().accepted })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 20_000);
    }
    // The high watermark is the durable offset.
    let durable: i64 =
        house.log.topic(TOPIC).unwrap().partitions().iter().map(|partition| partition.high_watermark()).sum();
    assert_eq!(durable, 80_000);
    assert_eq!(house.everything(TOPIC).len(), 80_000);
}

#[test]
fn a_broken_schema_names_its_topic() {
    let directory = tempfile::tempdir().unwrap();
    let log = playhouse_log::Log::open(
        std::sync::Arc::new(playhouse_log::disk::RealDisk),
        directory.path(),
        LogConfig::default(),
    )
    .unwrap();
    let error = playhouse_gate::Gate::new(log, config(), vec![rule("mine", Some("{\"type\": 3}"))]).err().unwrap();
    assert!(error.to_string().starts_with("schema of topic \"mine\": "), "{error}");
}
