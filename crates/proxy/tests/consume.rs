//! Version 2: consumer instances. What is expected is what the public specification says.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use playhouse_client::{Client, Options};
use playhouse_proxy::ProxyConfig;
use playhouse_testkit::wait_until;
use serde_json::{Value, json};

use support::{Answer, BINARY_V2, House, JSON_V2, V2};

const DEADLINE: Duration = Duration::from_secs(30);

/// The path of a new instance.
fn create(house: &House, group: &str, name: &str, more: Value) -> String {
    let mut body = json!({"name": name, "format": "json", "auto.offset.reset": "earliest"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = house.post(&format!("/consumers/{group}"), V2, body).ok();
    let path = format!("/consumers/{group}/instances/{name}");
    assert_eq!(made, json!({"instance_id": name, "base_uri": format!("http://{}{path}", house.proxy)}));
    path
}

fn produce(house: &House, topic: &str, values: impl IntoIterator<Item = i64>) {
    let records: Vec<Value> = values.into_iter().map(|value| json!({"key": value, "value": value})).collect();
    let answer = house.post(&format!("/topics/{topic}"), JSON_V2, json!({"records": records})).ok();
    assert!(answer["offsets"].as_array().unwrap().iter().all(|it| it["error_code"].is_null()), "{answer}");
}

fn no_content(answer: &Answer) {
    assert_eq!((answer.status, &answer.body), (204, &Value::Null), "{answer:?}");
}

fn read(house: &House, path: &str) -> Vec<Value> {
    house.get_in(&format!("{path}/records?timeout=1000"), JSON_V2).ok().as_array().unwrap().clone()
}

/// Values of reads until there are so many.
fn read_values(house: &House, path: &str, count: usize) -> Vec<i64> {
    let mut values = Vec::new();
    wait_until("all records are read", DEADLINE, || {
        values.extend(read(house, path).iter().map(|record| record["value"].as_i64().unwrap()));
        if values.len() >= count { Ok(()) } else { Err(format!("{values:?}")) }
    });
    values
}

#[test]
fn an_instance_is_made_once_and_ends() {
    let house = House::start();
    let path = create(&house, "g", "one", json!({}));
    house.post("/consumers/g", V2, json!({"name": "one"})).refused(409, 40902);
    create(&house, "other", "one", json!({}));
    no_content(&house.delete(&path));
    house.delete(&path).refused(404, 40403);
    for (method, part) in [
        ("GET", "subscription"),
        ("DELETE", "subscription"),
        ("GET", "assignments"),
        ("GET", "offsets"),
        ("GET", "records"),
        ("POST", "offsets"),
        ("POST", "positions"),
        ("POST", "positions/beginning"),
        ("POST", "positions/end"),
    ] {
        Answer::from(house.request(method, &format!("{path}/{part}"), &[], "")).refused(404, 40403);
    }
    create(&house, "g", "one", json!({}));
    let unnamed = house.post("/consumers/g/", V2, "{}").ok();
    assert!(unnamed["base_uri"].as_str().unwrap().ends_with(unnamed["instance_id"].as_str().unwrap()));
}

#[test]
fn settings_that_are_none_are_refused() {
    let house = House::start();
    for body in [json!({"format": "xml"}), json!({"auto.offset.reset": "now"}), json!({"fetch.min.bytes": -10})] {
        house.post("/consumers/g", V2, body).refused(422, 42204);
    }
    house.post("/consumers/g", V2, json!({"id": "of version 1"})).refused(422, 422);
    house.post("/consumers/g", V2, "{").refused(400, 400);
    house.post("/consumers/g", "text/plain", "{}").refused(415, 415);
}

#[test]
fn a_subscriber_reads_what_is_produced_and_moves_on() {
    let house = House::start();
    house.topic("test", 3);
    produce(&house, "test", 0..10);
    let path = create(&house, "g", "one", json!({}));
    house.get_in(&format!("{path}/records"), JSON_V2).refused(409, 40903);
    assert_eq!(house.get(&format!("{path}/subscription")).ok(), json!({"topics": []}));
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
    assert_eq!(house.get(&format!("{path}/subscription")).ok(), json!({"topics": ["test"]}));

    let mut values = read_values(&house, &path, 10);
    values.sort_unstable();
    assert_eq!(values, (0..10).collect::<Vec<_>>());
    let held = |partition: i32| json!({"topic": "test", "partition": partition});
    let assigned = house.get(&format!("{path}/assignments")).ok();
    assert_eq!(assigned, json!({"partitions": [held(0), held(1), held(2)]}));

    assert!(read(&house, &path).is_empty());
    produce(&house, "test", 10..12);
    assert_eq!(read_values(&house, &path, 2).len(), 2);

    no_content(&house.delete(&format!("{path}/subscription")));
    assert_eq!(house.get(&format!("{path}/subscription")).ok(), json!({"topics": []}));
    house.get_in(&format!("{path}/records"), JSON_V2).refused(409, 40903);
}

#[test]
fn records_come_in_the_consumers_format() {
    let house = House::start();
    house.topic("test", 1);
    house
        .post(
            "/topics/test",
            BINARY_V2,
            json!({"records": [{"key": "a2V5", "value": "Y29uZmx1ZW50"}, {"value": null}]}),
        )
        .ok();
    let place = json!({"partitions": [{"topic": "test", "partition": 0}]});
    let path = create(&house, "g", "binary", json!({"format": "binary"}));
    no_content(&house.post(&format!("{path}/assignments"), V2, &place));
    house.get_in(&format!("{path}/records"), JSON_V2).refused(406, 40601);
    house.get_in(&format!("{path}/records"), "text/html").refused(406, 406);
    let read = house.get_in(&format!("{path}/records?timeout=3000&max_bytes=300000"), BINARY_V2);
    assert_eq!(read.media, BINARY_V2);
    let expected = json!([
        {"topic": "test", "key": "a2V5", "value": "Y29uZmx1ZW50", "partition": 0, "offset": 0},
        {"topic": "test", "key": null, "value": null, "partition": 0, "offset": 1},
    ]);
    assert_eq!(read.ok(), expected);

    // Not JSON: told where, and not passed over by itself.
    let path = create(&house, "g", "json", json!({}));
    no_content(&house.post(&format!("{path}/assignments"), V2, &place));
    for _ in 0..2 {
        let refused = house.get_in(&format!("{path}/records?timeout=3000"), JSON_V2);
        refused.refused(500, 50002);
        assert!(refused.body["message"].as_str().unwrap().contains("offset 0 in partition 0"), "{refused:?}");
    }
    let behind = json!({"offsets": [{"topic": "test", "partition": 0, "offset": 1}]});
    no_content(&house.post(&format!("{path}/positions"), V2, behind));
    assert_eq!(self::read(&house, &path)[0]["offset"], 1);

    let path = create(&house, "g", "avro", json!({"format": "avro"}));
    no_content(&house.post(&format!("{path}/assignments"), V2, &place));
    house.get_in(&format!("{path}/records?timeout=3000"), JSON_V2).refused(406, 40601);
    house.get(&format!("{path}/records?timeout=3000")).refused(500, 50002);
}

#[test]
fn what_is_subscribed_and_what_is_assigned_exclude_each_other() {
    let house = House::start();
    house.topic("test", 1);
    let path = create(&house, "g", "one", json!({}));
    let subscription = format!("{path}/subscription");
    house.post(&subscription, V2, json!({"topics": ["test"], "topic_pattern": "t.*"})).refused(409, 40903);
    house.post(&subscription, V2, json!({})).refused(422, 422);
    house.post(&subscription, V2, json!({"topic_pattern": "("})).refused(422, 422);
    no_content(&house.post(&subscription, V2, json!({"topics": ["test"]})));
    let place = json!({"partitions": [{"topic": "test", "partition": 0}]});
    house.post(&format!("{path}/assignments"), V2, &place).refused(409, 40903);
    house.post(&subscription, V2, json!({"topic_pattern": "t.*"})).refused(409, 40903);
    no_content(&house.delete(&subscription));
    no_content(&house.post(&format!("{path}/assignments"), V2, &place));
    house.post(&subscription, V2, json!({"topics": ["test"]})).refused(409, 40903);
    house.post(&format!("{path}/assignments"), V2, "{}").refused(422, 422);
}

#[test]
fn a_pattern_finds_its_topics() {
    let house = House::start();
    for topic in ["plays-de", "plays-fr", "pauses-de"] {
        house.topic(topic, 1);
        produce(&house, topic, [1]);
    }
    let path = create(&house, "g", "one", json!({}));
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topic_pattern": "plays-.*"})));
    read_values(&house, &path, 2);
    assert_eq!(house.get(&format!("{path}/subscription")).ok(), json!({"topics": ["plays-de", "plays-fr"]}));
    assert!(read(&house, &path).is_empty());
}

#[test]
fn positions_are_sought() {
    let house = House::start();
    house.topic("test", 1);
    produce(&house, "test", 0..5);
    let path = create(&house, "g", "one", json!({"auto.offset.reset": "latest"}));
    let place = json!({"partitions": [{"topic": "test", "partition": 0}]});
    no_content(&house.post(&format!("{path}/assignments"), V2, &place));
    assert!(read(&house, &path).is_empty(), "the latest");
    no_content(&house.post(&format!("{path}/positions/beginning"), V2, &place));
    assert_eq!(read_values(&house, &path, 5), [0, 1, 2, 3, 4]);
    no_content(&house.post(
        &format!("{path}/positions"),
        V2,
        json!({"offsets": [{"topic": "test", "partition": 0, "offset": 3}]}),
    ));
    assert_eq!(read_values(&house, &path, 2), [3, 4]);
    no_content(&house.post(&format!("{path}/positions/end"), V2, &place));
    assert!(read(&house, &path).is_empty());
    let elsewhere = json!({"offsets": [{"topic": "faulty", "partition": 0, "offset": 10}]});
    house.post(&format!("{path}/positions"), V2, elsewhere).refused(409, 40903);
    house.post(&format!("{path}/positions"), V2, "{}").refused(422, 422);
    // Beyond the end: back to where `auto.offset.reset` says.
    no_content(&house.post(
        &format!("{path}/positions"),
        V2,
        json!({"offsets": [{"topic": "test", "partition": 0, "offset": 99}]}),
    ));
    assert!(read(&house, &path).is_empty());
    produce(&house, "test", [5]);
    assert_eq!(read_values(&house, &path, 1), [5]);
}

#[test]
fn offsets_are_committed_and_the_next_instance_goes_on_there() {
    let house = House::start();
    house.topic("test", 1);
    produce(&house, "test", 0..5);
    let place = json!({"partitions": [{"topic": "test", "partition": 0}]});
    let manual = json!({"auto.commit.enable": "false"});
    let path = create(&house, "g", "one", manual.clone());
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
    assert_eq!(read_values(&house, &path, 5).len(), 5);
    let offsets = format!("{path}/offsets");
    let committed = |house: &House, offsets: &str| -> Value {
        Answer::from(house.request(
            "GET",
            offsets,
            &[("Content-Type", V2), ("Content-Length", &place.to_string().len().to_string())],
            &place.to_string(),
        ))
        .ok()
    };
    assert_eq!(committed(&house, &offsets), json!({"offsets": []}));
    let explicit = json!({"offsets": [{"topic": "test", "partition": 0, "offset": 2}]});
    no_content(&house.post(&offsets, V2, &explicit));
    let at = |offset: i64| json!({"offsets": [{"topic": "test", "partition": 0, "offset": offset, "metadata": ""}]});
    assert_eq!(committed(&house, &offsets), at(3), "of a record that is done with, the next is committed");
    no_content(&house.delete(&path));

    let path = create(&house, "g", "two", manual.clone());
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
    assert_eq!(read_values(&house, &path, 2), [3, 4]);
    let offsets = format!("{path}/offsets");
    no_content(&Answer::from(house.request("POST", &offsets, &[], "")));
    assert_eq!(house.get(&offsets).ok(), at(5), "all that was read, and of what it holds");
    let elsewhere = json!({"partitions": [{"topic": "test", "partition": 7}]}).to_string();
    let length = elsewhere.len().to_string();
    let headers = [("Content-Type", V2), ("Content-Length", length.as_str())];
    Answer::from(house.request("GET", &offsets, &headers, &elsewhere)).refused(404, 40402);
    no_content(&house.delete(&path));

    // By itself, when it ends.
    produce(&house, "test", 5..7);
    let path = create(&house, "g", "three", json!({}));
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
    assert_eq!(read_values(&house, &path, 2), [5, 6]);
    no_content(&house.delete(&path));
    let path = create(&house, "g", "four", json!({}));
    no_content(&house.post(&format!("{path}/assignments"), V2, &place));
    assert_eq!(house.get(&format!("{path}/offsets")).ok(), at(7));
}

#[test]
fn without_a_place_to_begin_it_is_an_error_if_so_asked() {
    let house = House::start();
    house.topic("test", 1);
    let path = create(&house, "g", "one", json!({"auto.offset.reset": "none"}));
    no_content(&house.post(
        &format!("{path}/assignments"),
        V2,
        json!({"partitions": [{"topic": "test", "partition": 0}]}),
    ));
    house.get_in(&format!("{path}/records?timeout=1000"), JSON_V2).refused(500, 50002);
}

#[test]
fn a_small_limit_takes_several_reads_and_loses_nothing() {
    let house = House::start();
    house.topic("test", 2);
    produce(&house, "test", 0..200);
    let path = create(&house, "g", "one", json!({}));
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
    let mut seen = BTreeSet::new();
    let mut reads = 0;
    wait_until("all records are read", DEADLINE, || {
        let records = house.get_in(&format!("{path}/records?timeout=1000&max_bytes=40"), JSON_V2).ok();
        let values: Vec<i64> = records.as_array().unwrap().iter().map(|it| it["value"].as_i64().unwrap()).collect();
        assert!(values.len() <= 20, "{values:?}");
        reads += 1;
        for value in values {
            assert!(seen.insert(value), "{value} came twice");
        }
        if seen.len() == 200 { Ok(()) } else { Err(format!("{} of 200", seen.len())) }
    });
    assert!(reads >= 10, "{reads}");
}

#[test]
fn two_instances_share_a_topic_and_one_takes_over() {
    let house = House::start();
    house.topic("test", 4);
    let paths = ["one", "two"].map(|name| {
        let path = create(&house, "g", name, json!({}));
        no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
        path
    });
    let held = |path: &str| house.get(&format!("{path}/assignments")).ok()["partitions"].as_array().unwrap().len();
    wait_until("each has its half", DEADLINE, || {
        let held = [held(&paths[0]), held(&paths[1])];
        if held == [2, 2] { Ok(()) } else { Err(format!("{held:?}")) }
    });
    produce(&house, "test", 0..100);
    let mut values = Vec::new();
    wait_until("all records are read", DEADLINE, || {
        for path in &paths {
            values.extend(read(&house, path).iter().map(|record| record["value"].as_i64().unwrap()));
        }
        if values.len() >= 100 { Ok(()) } else { Err(format!("{} records", values.len())) }
    });
    values.sort_unstable();
    assert_eq!(values, (0..100).collect::<Vec<_>>(), "each record once");

    no_content(&house.delete(&paths[0]));
    wait_until("the other has all", DEADLINE, || {
        let held = held(&paths[1]);
        if held == 4 { Ok(()) } else { Err(format!("{held}")) }
    });
    produce(&house, "test", 100..110);
    let mut values = read_values(&house, &paths[1], 10);
    values.sort_unstable();
    assert_eq!(values, (100..110).collect::<Vec<_>>());
}

#[test]
fn a_topic_made_later_is_found() {
    let house = House::start();
    let path = create(&house, "g", "one", json!({}));
    no_content(&house.post(
        &format!("{path}/assignments"),
        V2,
        json!({"partitions": [{"topic": "later", "partition": 0}]}),
    ));
    assert!(read(&house, &path).is_empty());
    house.topic("later", 1);
    produce(&house, "later", [7]);
    assert_eq!(read_values(&house, &path, 1), [7]);
}

#[test]
fn an_idle_instance_ends_and_leaves_its_group() {
    let idle = Duration::from_millis(1_500);
    let house = House::start_with(ProxyConfig { consumer_idle_timeout: idle, ..ProxyConfig::default() });
    house.topic("test", 1);
    let path = create(&house, "g", "one", json!({}));
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
    // The client of another process sees it come and go; asking the instance itself would keep it.
    let members = || -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = Client::connect(&house.broker.to_string(), Options::default()).await.unwrap();
            client.group("g").await.map_or(0, |group| group.members.len())
        })
    };
    wait_until("it is a member", DEADLINE, || if members() == 1 { Ok(()) } else { Err("no member".to_owned()) });
    wait_until("it has left", DEADLINE, || if members() == 0 { Ok(()) } else { Err("a member".to_owned()) });
    house.get(&format!("{path}/assignments")).refused(404, 40403);
}

#[test]
fn instances_are_bounded_in_number() {
    let house = House::start_with(ProxyConfig { consumers_max: 2, ..ProxyConfig::default() });
    let path = create(&house, "g", "one", json!({}));
    create(&house, "g", "two", json!({}));
    house.post("/consumers/g", V2, json!({"name": "three"})).refused(503, 50301);
    no_content(&house.delete(&path));
    create(&house, "g", "three", json!({}));
}

#[test]
fn a_read_that_nobody_waits_for_moves_nothing() {
    let house = House::start();
    house.topic("test", 1);
    let path = create(&house, "g", "one", json!({}));
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
    assert!(read(&house, &path).is_empty());
    // Hangs up while it waits.
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(house.proxy).unwrap();
    write!(stream, "GET {path}/records?timeout=20000 HTTP/1.1\r\nHost: {}\r\nAccept: {JSON_V2}\r\n\r\n", house.proxy)
        .unwrap();
    drop(stream);
    produce(&house, "test", 0..3);
    assert_eq!(read_values(&house, &path, 3), [0, 1, 2]);
}

#[test]
fn a_read_ends_with_its_instance() {
    let house = House::start();
    house.topic("test", 1);
    let path = create(&house, "g", "one", json!({}));
    no_content(&house.post(&format!("{path}/subscription"), V2, json!({"topics": ["test"]})));
    assert!(read(&house, &path).is_empty());
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| house.get_in(&format!("{path}/records?timeout=60000"), JSON_V2));
        // Whichever comes first, the read does not outlast its instance.
        no_content(&house.delete(&path));
        reading.join().unwrap().refused(404, 40403);
    });
}
