//! Version 3: clusters, topics, settings, and records as a stream. What is expected is what the public specification says.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use playhouse_proxy::ProxyConfig;
use serde_json::{Value, json};

use support::{Answer, House};

const JSON: &str = "application/json";

fn cluster(house: &House) -> String {
    let clusters = house.get("/v3/clusters").ok();
    assert_eq!(clusters["kind"], "KafkaClusterList");
    clusters["data"][0]["cluster_id"].as_str().unwrap().to_owned()
}

fn make(house: &House, topic: &str, partitions: i32) -> String {
    let topics = format!("/v3/clusters/{}/topics", cluster(house));
    let made = house.post(&topics, JSON, json!({"topic_name": topic, "partitions_count": partitions}));
    assert_eq!(made.status, 201, "{made:?}");
    format!("{topics}/{topic}")
}

/// The delivery reports of a stream that is sent as a whole.
fn reports(house: &House, path: &str, body: &str) -> Vec<Value> {
    let answer = house.request("POST", path, &[("Content-Type", JSON)], body);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(JSON)), "{}", answer.text());
    let reports = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
    reports.map(Result::unwrap).collect()
}

fn codes(reports: &[Value]) -> Vec<i64> {
    reports.iter().map(|report| report["error_code"].as_i64().unwrap()).collect()
}

#[test]
fn a_cluster_names_what_it_has() {
    let house = House::start();
    let id = cluster(&house);
    let path = format!("/v3/clusters/{id}");
    let described = house.get(&path);
    assert_eq!(described.media, JSON);
    let url = format!("http://{}{path}", house.proxy);
    let described = described.ok();
    assert_eq!(described["metadata"], json!({"self": url, "resource_name": format!("crn:///kafka={id}")}));
    assert_eq!(described["kind"], "KafkaCluster");
    assert_eq!(described["topics"], json!({"related": format!("{url}/topics")}));
    assert_eq!(described["controller"], json!({"related": format!("{url}/brokers/1")}));
    house.get("/v3/clusters/another").refused(404, 404);
    assert_eq!(house.get("/v3/clusters/another").media, JSON);
    house.get("/v3/nothing").refused(404, 404);

    let brokers = house.get(&format!("{path}/brokers")).ok();
    assert_eq!((&brokers["kind"], &brokers["data"][0]["broker_id"]), (&json!("KafkaBrokerList"), &json!(1)));
    assert_eq!(house.get(&format!("{path}/brokers/1")).ok()["port"], house.broker.port());
    house.get(&format!("{path}/brokers/2")).refused(404, 404);
    house.get_in(&path, "text/html").refused(406, 406);
}

#[test]
fn topics_are_made_shown_reshaped_and_deleted() {
    let house = House::start();
    let topics = format!("/v3/clusters/{}/topics", cluster(&house));
    let path = make(&house, "topic-1", 3);
    let shown = house.get(&path).ok();
    for (member, value) in [
        ("kind", json!("KafkaTopic")),
        ("topic_name", json!("topic-1")),
        ("is_internal", json!(false)),
        ("replication_factor", json!(1)),
        ("partitions_count", json!(3)),
        ("partitions", json!({"related": format!("http://{}{path}/partitions", house.proxy)})),
        ("configs", json!({"related": format!("http://{}{path}/configs", house.proxy)})),
    ] {
        assert_eq!(shown[member], value, "{member}");
    }
    assert!(house.get(&topics).ok()["data"].as_array().unwrap().contains(&shown));
    let again = house.post(&topics, JSON, json!({"topic_name": "topic-1"}));
    again.refused(400, 40002);
    house.post(&topics, JSON, json!({"topic_name": "a b"})).refused(400, 40002);
    house.post(&topics, JSON, json!({"topic": "a"})).refused(400, 400);
    house.post(&topics, "text/plain", json!({"topic_name": "a"})).refused(415, 415);
    let checked = json!({"topic_name": "checked", "partitions_count": 2, "validate_only": true});
    assert_eq!(house.post(&topics, JSON, checked).ok()["partitions_count"], 2);
    house.get(&format!("{topics}/checked")).refused(404, 40403);

    let partitions = house.get(&format!("{path}/partitions")).ok();
    assert_eq!((&partitions["kind"], partitions["data"].as_array().unwrap().len()), (&json!("KafkaPartitionList"), 3));
    let partition = house.get(&format!("{path}/partitions/2")).ok();
    assert_eq!((&partition["kind"], &partition["partition_id"]), (&json!("KafkaPartition"), &json!(2)));
    assert_eq!(partition["leader"]["related"], format!("http://{}{path}/partitions/2/replicas/1", house.proxy));
    house.get(&format!("{path}/partitions/3")).refused(404, 40403);
    let replica = house.get(&format!("{path}/partitions/2/replicas/1")).ok();
    assert_eq!((&replica["is_leader"], &replica["is_in_sync"]), (&json!(true), &json!(true)));
    assert_eq!(house.get(&format!("{path}/partitions/2/replicas")).ok()["data"], json!([replica]));

    let raised = Answer::from(house.request("PATCH", &path, &[("Content-Type", JSON)], r#"{"partitions_count":5}"#));
    assert_eq!(raised.ok()["partitions_count"], 5);
    let fewer = Answer::from(house.request("PATCH", &path, &[("Content-Type", JSON)], r#"{"partitions_count":2}"#));
    fewer.refused(400, 40002);

    assert_eq!(house.delete(&path).status, 204);
    house.delete(&path).refused(404, 40403);
    house.get(&path).refused(404, 40403);
    assert_eq!(house.get(&path).body["message"], "This server does not host this topic-partition.");
}

#[test]
fn settings_of_a_topic_are_read_and_altered() {
    let house = House::start();
    let topics = format!("/v3/clusters/{}/topics", cluster(&house));
    let configs = json!([{"name": "cleanup.policy", "value": "compact"}]);
    let made = house.post(&topics, JSON, json!({"topic_name": "kept", "configs": configs}));
    assert_eq!(made.status, 201, "{made:?}");
    let path = format!("{topics}/kept/configs");
    let list = house.get(&path).ok();
    assert_eq!(list["kind"], "KafkaTopicConfigList");
    let policy = house.get(&format!("{path}/cleanup.policy")).ok();
    assert!(list["data"].as_array().unwrap().contains(&policy));
    for (member, value) in [
        ("kind", json!("KafkaTopicConfig")),
        ("value", json!("compact")),
        ("is_default", json!(false)),
        ("is_sensitive", json!(false)),
        ("source", json!("DYNAMIC_TOPIC_CONFIG")),
    ] {
        assert_eq!(policy[member], value, "{member}");
    }
    house.get(&format!("{path}/no.such.setting")).refused(404, 404);
    house.get(&format!("{topics}/nothing/configs")).refused(404, 40403);

    let put = |name: &str, value: &str| {
        let body = json!({"value": value}).to_string();
        Answer::from(house.request("PUT", &format!("{path}/{name}"), &[("Content-Type", JSON)], &body))
    };
    assert_eq!(put("retention.ms", "1000000").status, 204);
    assert_eq!(house.get(&format!("{path}/retention.ms")).ok()["value"], "1000000");
    put("retention.ms", "soon").refused(400, 40002);
    assert_eq!(house.delete(&format!("{path}/retention.ms")).status, 204);
    assert_eq!(house.get(&format!("{path}/retention.ms")).ok()["is_default"], true);
    let changes = json!({"data": [{"name": "cleanup.policy", "operation": "DELETE"}, {"name": "retention.ms", "value": "5000000"}]});
    assert_eq!(house.post(&format!("{path}:alter"), JSON, changes).status, 204);
    assert_eq!(house.get(&format!("{path}/cleanup.policy")).ok()["value"], "delete");
    assert_eq!(house.get(&format!("{path}/retention.ms")).ok()["value"], "5000000");
}

#[test]
fn each_record_has_its_report_in_order() {
    let house = House::start();
    let path = format!("{}/records", make(&house, "topic-1", 2));
    let body = r#"{"partition_id":1,"headers":[{"name":"Header-1","value":"SGVhZGVyLTE="}],"key":{"type":"BINARY","data":"Zm9vYmFy"},"value":{"type":"JSON","data":{"a": 1}},"timestamp":"2021-02-05T19:14:42Z"}
        {"partition_id":1,"value":{"type":"STRING","data":"text"}}{"partition_id":1}"#;
    let reports = reports(&house, &path, body);
    assert_eq!(codes(&reports), [200, 200, 200]);
    let expected = json!({
        "error_code": 200,
        "cluster_id": cluster(&house),
        "topic_name": "topic-1",
        "partition_id": 1,
        "offset": 0,
        "timestamp": "2021-02-05T19:14:42Z",
        "key": {"type": "BINARY", "size": 6},
        "value": {"type": "JSON", "size": 8},
    });
    assert_eq!(reports[0], expected);
    assert_eq!((&reports[1]["offset"], &reports[2]["offset"]), (&json!(1), &json!(2)));
    assert!(reports[2]["key"].is_null() && reports[2]["value"].is_null());
}

#[test]
fn a_bad_record_has_a_bad_report_and_its_neighbours_have_good_ones() {
    let house = House::start();
    let path = format!("{}/records", make(&house, "topic-1", 1));
    let body = r#"{"value":{"type":"JSON","data":1}}{"value":{"type":"BINARY","data":"?"}}{"vaule":1}
        {"value":{"type":"AVRO","schema_id":1,"data":1}}{"partition_id":7}{"value":{"type":"JSON","data":2}}"#;
    let several = reports(&house, &path, body);
    assert_eq!(codes(&several), [200, 400, 400, 42205, 40403, 200]);
    assert_eq!((&several[0]["offset"], &several[5]["offset"]), (&json!(0), &json!(1)));
    // Where the next record begins is not known any more.
    let cut = reports(&house, &path, r#"{"value":{"type":"JSON","data":3}}{"value":{'type':1}}{"value":null}"#);
    assert_eq!(codes(&cut), [200, 400]);
    let truncated = reports(&house, &path, r#"{"value":{"type":"JSON","data":4}}{"value":"#);
    assert_eq!(codes(&truncated), [200, 400]);
}

#[test]
fn a_stream_that_never_begins_is_refused_as_a_whole() {
    let house = House::start_with(ProxyConfig { request_bytes_max: 1_000, ..ProxyConfig::default() });
    let path = format!("{}/records", make(&house, "topic-1", 1));
    house.post(&path, JSON, "[1]").refused(400, 400);
    house.post(&path, JSON, "{'key':1}").refused(400, 400);
    house
        .post(&path, JSON, format!(r#"{{"value":{{"type":"STRING","data":"{}"}}}}"#, "x".repeat(1_000)))
        .refused(413, 413);
    house.post(&path, "text/plain", "{}").refused(415, 415);
    let topics = path.rsplit_once("/topic-1").unwrap().0;
    house.post(&format!("{topics}/nothing/records"), JSON, "{}").refused(404, 40403);
    house.get(&format!("{topics}/nothing")).refused(404, 40403);
    assert!(reports(&house, &path, "").is_empty());
}

#[test]
fn a_stream_longer_than_a_request_may_be_goes_through() {
    let house = House::start_with(ProxyConfig { request_bytes_max: 2_000, ..ProxyConfig::default() });
    let path = format!("{}/records", make(&house, "topic-1", 1));
    let body: String = (0..2_000).map(|n| format!(r#"{{"value":{{"type":"JSON","data":{n}}}}}"#)).collect();
    let reports = reports(&house, &path, &body);
    let offsets: Vec<i64> = reports.iter().map(|report| report["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, (0..2_000).collect::<Vec<_>>());
}

#[test]
fn reports_come_while_the_stream_goes_on() {
    let house = House::start();
    let path = format!("{}/records", make(&house, "topic-1", 1));
    let mut stream = TcpStream::connect(house.proxy).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n",
        house.proxy
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    for offset in 0..3 {
        let record = format!(r#"{{"value":{{"type":"JSON","data":{offset}}}}}"#);
        // Cut in the middle of a record.
        for part in [&record[..10], &record[10..]] {
            write!(stream, "{:x}\r\n{part}\r\n", part.len()).unwrap();
        }
        let report = lines.find(|line| line.starts_with('{')).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["error_code"], &report["offset"]), (&json!(200), &json!(offset)));
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert!(lines.any(|line| line == "0"), "the response ends with the request");
}
