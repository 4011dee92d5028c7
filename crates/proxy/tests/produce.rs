//! Version 2: topics, partitions, producing. What is expected is what the public specification says.

mod support;

use playhouse_client::offsets::At;
use playhouse_client::{Client, Options};
use playhouse_log::TopicSettings;
use playhouse_proxy::ProxyConfig;
use serde_json::{Value, json};

use support::{BINARY_V2, House, JSON_V2, V2};

/// Key, value and partition of everything in a topic, as another client sees it.
fn records(house: &House, topic: &str) -> Vec<(Option<String>, Option<String>, i32)> {
    let read = async {
        let mut client = Client::connect(&house.broker.to_string(), Options::default()).await.unwrap();
        let mut positions = client.offsets(topic, At::Earliest).await.unwrap();
        let ends = client.offsets(topic, At::Latest).await.unwrap();
        let mut records = Vec::new();
        while positions != ends {
            records.extend(client.fetch(topic, &mut positions, std::time::Duration::from_secs(1)).await.unwrap());
        }
        records.sort_by_key(|it| (it.partition, it.offset));
        records
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8(bytes).unwrap());
    runtime.block_on(read).into_iter().map(|it| (text(it.key), text(it.value), it.partition)).collect()
}

#[test]
fn topics_and_partitions_are_described() {
    let house = House::start();
    house.topic("test", 2);
    let topics = house.get("/topics");
    assert_eq!((topics.status, topics.media.as_str()), (200, V2));
    assert!(topics.body.as_array().unwrap().contains(&json!("test")), "{topics:?}");
    let partition = |index: i32| json!({"partition": index, "leader": 1, "replicas": [{"broker": 1, "leader": true, "in_sync": true}]});
    assert_eq!(house.get("/topics/test").ok()["partitions"], json!([partition(0), partition(1)]));
    assert_eq!(house.get("/topics/test/").ok()["name"], "test");
    assert!(house.get("/topics/test").ok()["configs"].is_object());
    assert_eq!(house.get("/topics/test/partitions").ok(), json!([partition(0), partition(1)]));
    assert_eq!(house.get("/topics/test/partitions/1").ok(), partition(1));
    assert_eq!(house.get("/brokers").ok(), json!({"brokers": [1]}));

    house.get("/topics/nothing").refused(404, 40401);
    house.get("/topics/nothing/partitions").refused(404, 40401);
    house.get("/topics/nothing/partitions/0").refused(404, 40401);
    house.get("/topics/test/partitions/2").refused(404, 40402);
    house.get("/topics/test/partitions/2/offsets").refused(404, 40402);
    house.get("/topics/test/partitions/first").refused(404, 404);
    house.get("/nowhere").refused(404, 404);
    house.delete("/topics").refused(405, 405);
    assert_eq!(house.get("/topics/nothing").body["message"], "Topic not found.");
    assert_eq!(house.get("/topics/nothing").media, V2);
}

#[test]
fn an_answer_comes_as_it_is_asked_for() {
    let house = House::start();
    for media in [V2, "application/vnd.kafka+json", "application/json"] {
        assert_eq!(house.get_in("/topics", media).media, media);
    }
    house.get_in("/topics", "text/html").refused(406, 406);
    house.get_in("/topics", "application/vnd.kafka.v1+json").refused(406, 406);
}

#[test]
fn json_is_produced_byte_for_byte_and_binary_decoded() {
    let house = House::start();
    house.topic("test", 4);
    let body = r#"{"records":[{"key":"somekey","value":{"foo": "bar"}},{"value":[ "foo", 1.50 ],"partition":1},{"value":53.5}]}"#;
    let answer = house.post("/topics/test", JSON_V2, body);
    assert_eq!((answer.status, answer.media.as_str()), (200, V2));
    assert_eq!((&answer.body["key_schema_id"], &answer.body["value_schema_id"]), (&Value::Null, &Value::Null));
    let offsets = answer.body["offsets"].as_array().unwrap().clone();
    assert_eq!(offsets.len(), 3);
    assert_eq!(offsets[1]["partition"], 1);
    assert!(offsets.iter().all(|it| it["offset"].is_i64() && it["error_code"].is_null() && it["error"].is_null()));
    let values: Vec<String> = records(&house, "test").into_iter().filter_map(|(_, value, _)| value).collect();
    for value in [r#"{"foo": "bar"}"#, r#"[ "foo", 1.50 ]"#, "53.5"] {
        assert!(values.iter().any(|it| it == value), "{values:?}");
    }
    assert!(records(&house, "test").iter().any(|it| it.0.as_deref() == Some(r#""somekey""#)));

    house.topic("binary", 3);
    let body = json!({"records": [{"key": "a2V5", "value": "Y29uZmx1ZW50"}, {"value": "a2Fma2E="}, {"key": "a2V5"}]});
    let answer = house.post("/topics/binary/partitions/2", BINARY_V2, body).ok();
    let places: Vec<_> =
        answer["offsets"].as_array().unwrap().iter().map(|it| (&it["partition"], &it["offset"])).collect();
    assert_eq!(places, [(&json!(2), &json!(0)), (&json!(2), &json!(1)), (&json!(2), &json!(2))]);
    let text = |text: &str| Some(text.to_owned());
    let expected = [(text("key"), text("confluent"), 2), (None, text("kafka"), 2), (text("key"), None, 2)];
    assert_eq!(records(&house, "binary"), expected);
    let ends = house.get("/topics/binary/partitions/2/offsets").ok();
    assert_eq!(ends, json!({"beginning_offset": 0, "end_offset": 3}));
}

#[test]
fn a_key_decides_the_partition_as_java_clients_have_it() {
    let house = House::start();
    house.topic("test", 4);
    let body = json!({"records": (0..20).map(|n| json!({"key": n, "value": n})).collect::<Vec<_>>()});
    for _ in 0..2 {
        house.post("/topics/test", JSON_V2, &body).ok();
    }
    for (key, _, partition) in records(&house, "test") {
        assert_eq!(playhouse_log::partition_of(key.unwrap().as_bytes(), 4), partition);
    }
}

#[test]
fn what_is_generic_is_binary() {
    let house = House::start();
    let body = json!({"records": [{"value": "a2Fma2E="}]});
    for (times, media) in [V2, "application/json", "application/vnd.kafka+json"].into_iter().enumerate() {
        house.post("/topics/made-by-asking", media, &body).ok();
        assert_eq!(records(&house, "made-by-asking").len(), times + 1);
    }
    assert!(records(&house, "made-by-asking").iter().all(|it| it.1.as_deref() == Some("kafka")));
}

#[test]
fn what_cannot_be_produced_is_told_and_nothing_is_sent() {
    let house = House::start();
    house.topic("test", 2);
    let one = json!({"records": [{"value": 1}]});
    house.post("/topics/test", "text/plain", &one).refused(415, 415);
    house.post("/topics/test", "application/vnd.kafka.json.v1+json", &one).refused(415, 415);
    let without_type = house.request("POST", "/topics/test", &[], &one.to_string());
    assert_eq!(without_type.status, 415);
    house.post("/topics/test", JSON_V2, json!({"records": []})).refused(422, 422);
    house.post("/topics/test", JSON_V2, "{\"records\":").refused(400, 400);
    house.post("/topics/test", BINARY_V2, &one).refused(422, 42203);
    house.post("/topics/test/partitions/7", JSON_V2, &one).refused(404, 40402);
    let elsewhere = json!({"records": [{"value": 1}, {"value": 2, "partition": 9}]});
    house.post("/topics/test", JSON_V2, elsewhere).refused(404, 40402);
    house.post("/topics/no%20topic%20can%20be%20called%20so", JSON_V2, &one).refused(404, 40401);
    for format in ["avro", "jsonschema", "protobuf"] {
        let media = format!("application/vnd.kafka.{format}.v2+json");
        house.post("/topics/test", &media, json!({"records": [{"key": 1, "value": 1}]})).refused(422, 42201);
        house.post("/topics/test", &media, &one).refused(422, 42202);
        house
            .post("/topics/test", &media, json!({"value_schema_id": 1, "records": [{"value": 1}]}))
            .refused(422, 42205);
    }
    assert!(records(&house, "test").is_empty());
}

#[test]
fn what_a_broker_refuses_is_told_record_by_record() {
    let house = House::start();
    let settings = TopicSettings { partitions: 2, max_batch_bytes: 10_000, ..TopicSettings::default() };
    house.log.ensure_topic("test", settings).unwrap();
    let large = "x".repeat(20_000);
    let body = json!({"records": [{"value": "fits", "partition": 0}, {"value": large, "partition": 1}]});
    let answer = house.post("/topics/test", JSON_V2, body).ok();
    assert_eq!(answer["offsets"][0]["offset"], 0);
    assert_eq!(answer["offsets"][1]["error_code"], 1, "{answer}");
    assert!(answer["offsets"][1]["partition"].is_null() && answer["offsets"][1]["error"].is_string());
    // The producer goes on after a refusal.
    let again = house.post("/topics/test/partitions/1", JSON_V2, json!({"records": [{"value": 1}]})).ok();
    assert_eq!(again["offsets"][0]["offset"], 0);
}

#[test]
fn many_records_go_in_many_batches_and_keep_their_order() {
    let house = House::start();
    house.topic("test", 2);
    let filler = "x".repeat(2_000);
    let values: Vec<Value> = (0..3_000).map(|n| json!({"value": format!("{n}{filler}"), "partition": n % 2})).collect();
    let answer = house.post("/topics/test", JSON_V2, json!({"records": values})).ok();
    let offsets: Vec<i64> =
        answer["offsets"].as_array().unwrap().iter().map(|it| it["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, (0..3_000).map(|n| n / 2).collect::<Vec<_>>());
    let seen: Vec<i64> = records(&house, "test")
        .iter()
        .map(|it| it.1.as_ref().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap())
        .collect();
    assert_eq!(seen, (0..3_000).step_by(2).chain((1..3_000).step_by(2)).collect::<Vec<_>>());
}

#[test]
fn a_request_that_is_too_large_or_finds_no_memory_is_refused() {
    let house =
        House::start_with(ProxyConfig { request_bytes_max: 1_000, memory_bytes: 2_000, ..ProxyConfig::default() });
    house.topic("test", 1);
    let body = |bytes: usize| json!({"records": [{"value": "x".repeat(bytes)}]});
    house.post("/topics/test", JSON_V2, body(400)).ok();
    house.post("/topics/test", JSON_V2, body(900)).refused(429, 429);
    house.post("/topics/test", JSON_V2, body(1_000)).refused(413, 413);
    house.post("/topics/test", JSON_V2, body(400)).ok();
}

#[test]
fn a_page_of_another_site_is_refused() {
    let house = House::start();
    let foreign = house.request("GET", "/topics", &[("Origin", "https://elsewhere.example")], "");
    assert_eq!(foreign.status, 421);
}

#[test]
fn brokers_may_come_later_and_go() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let proxy = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let directory = tempfile::tempdir().unwrap();
    let (_log, registry, _gate) = support::open_gate(directory.path());
    runtime.spawn(playhouse_proxy::serve(listener, nobody.to_string(), registry, ProxyConfig::default(), stop.clone()));
    let answer: support::Answer = playhouse_testkit::http::get(proxy, "/topics").unwrap().into();
    answer.refused(500, 50003);
    stop.cancel();
}
