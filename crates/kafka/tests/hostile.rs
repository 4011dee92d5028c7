//! Bytes that no client sends: each closes its own connection at most, and the others are served on.

mod support;

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{GroupId, JoinGroupRequest, MetadataRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use playhouse_kafka::{GroupConfig, KafkaConfig};
use support::{Broker, TOPIC, api_versions, batch};
use tokio::io::AsyncWriteExt;

/// Key, version, correlation id, no client id.
fn header(key: i16, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(1);
    out.put_i16(-1);
    out
}

#[tokio::test]
async fn malformed_requests_close_only_their_connection() {
    let broker = Broker::start().await;
    let mut good = broker.client().await;
    let mut frames: Vec<Vec<u8>> = Vec::new();
    // Two thousand million topics in a frame of 14 bytes.
    let mut counts = header(3, 1);
    counts.put_i32(i32::MAX);
    frames.push(counts.to_vec());
    // The same in the compact form.
    let mut counts = header(3, 9);
    counts.put_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    frames.push(counts.to_vec());
    // An API that does not exist, one not served, a version never served, Produce at the version only advertised.
    frames.push(header(999, 0).to_vec());
    frames.push(header(24, 0).to_vec());
    frames.push(header(1, 99).to_vec());
    frames.push(header(0, 0).to_vec());
    // Metadata cut off, a client id longer than the frame, one that is not text.
    frames.push(header(3, 4).to_vec());
    frames.push([&header(3, 1)[..8], &[0x7f, 0xff, 0, 0]].concat());
    frames.push([&header(3, 1)[..8], &[0, 1, 0xff, 0, 0, 0, 0]].concat());
    for frame in frames {
        let mut bad = broker.client().await;
        bad.send_frame(&frame).await;
        assert!(bad.is_closed().await, "{frame:?}");
        assert_eq!(good.call(3, &api_versions()).await.error_code, 0);
    }
    for length in [-1, 0, 7, i32::MAX, i32::MIN] {
        let mut bad = broker.client().await;
        bad.stream.write_i32(length).await.unwrap();
        bad.stream.write_all(&[0; 16]).await.unwrap();
        assert!(bad.is_closed().await, "length {length}");
    }
    assert_eq!(good.call(9, &MetadataRequest::default()).await.brokers.len(), 1);
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up() {
    let config = KafkaConfig { transfer_timeout: Duration::from_millis(200), ..KafkaConfig::default() };
    let broker = Broker::start_with(config).await;
    let mut slow = broker.client().await;
    slow.stream.write_all(&[0, 0, 0, 50, 0, 3, 0, 1]).await.unwrap();
    let began = Instant::now();
    assert!(slow.is_closed().await);
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn idle_connections_and_those_beyond_the_limit_are_closed() {
    let config = KafkaConfig { idle_timeout: Duration::from_millis(300), connections_max: 1, ..KafkaConfig::default() };
    let broker = Broker::start_with(config).await;
    let mut first = broker.client().await;
    assert_eq!(first.call(3, &api_versions()).await.error_code, 0);
    let mut second = broker.client().await;
    assert!(second.is_closed().await);
    assert!(first.is_closed().await);
    // Its place is free again, sooner or later.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut third = broker.client().await;
        third.send(3, &api_versions()).await;
        if third.receive_frame().await.is_some() {
            break;
        }
        assert!(Instant::now() < deadline);
    }
}

#[tokio::test]
async fn stopping_answers_who_waits() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    assert_eq!(client.call(3, &api_versions()).await.error_code, 0);
    let began = Instant::now();
    broker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn members_beyond_the_memory_limit_are_refused() {
    let groups = GroupConfig { members_bytes_max: 1000, ..GroupConfig::default() };
    let broker = Broker::start_with(KafkaConfig { groups, ..KafkaConfig::default() }).await;
    let mut client = broker.client().await;
    for (size, expected) in [(100, 0), (2000, ResponseError::GroupMaxSizeReached.code())] {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(vec![0; size].into());
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(format!("group-{size}"))))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        assert_eq!(client.call(2, &request).await.error_code, expected, "{size} bytes");
    }
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let config = KafkaConfig { connections_per_address_max: 1, ..KafkaConfig::default() };
    let broker = Broker::start_with(config).await;
    let mut first = broker.client().await;
    assert_eq!(first.call(3, &api_versions()).await.error_code, 0);
    assert!(broker.client().await.is_closed().await);
    assert_eq!(first.call(3, &api_versions()).await.error_code, 0);
    let door = broker.metrics.door();
    assert_eq!((door.connections_open, door.connections_accepted, door.connections_refused), (1, 1, 1));
}

#[tokio::test]
async fn a_client_beyond_its_rate_is_told_to_wait_and_not_read_meanwhile() {
    let config = KafkaConfig { produce_bytes_per_second: Some(10_000), ..KafkaConfig::default() };
    let broker = Broker::start_with(config).await;
    let mut client = broker.client().await;
    let records = batch(&["x".repeat(15_000).as_str()]);
    let data = PartitionProduceData::default().with_records(Some(records));
    let name = TopicName(StrBytes::from_static_str(TOPIC));
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
    let answer = client.call(9, &ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic])).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "what exceeded the rate is taken");
    let wait = answer.throttle_time_ms;
    assert!((400..=600).contains(&wait), "{wait}");
    let began = Instant::now();
    client.call(3, &api_versions()).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(broker.metrics.door().throttled, Duration::from_millis(wait as u64));
}

#[tokio::test]
async fn requests_are_counted_by_api() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.call(3, &api_versions()).await;
    let missing = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("no/topic"))));
    client.call(9, &MetadataRequest::default().with_topics(Some(vec![missing]))).await;
    client.send_frame(&header(999, 0)).await;
    assert!(client.is_closed().await);
    let apis = broker.metrics.apis();
    let counts: Vec<(&str, u64, u64)> = apis.iter().map(|it| (it.api.as_str(), it.requests, it.errors)).collect();
    assert_eq!(counts, [("ApiVersions", 1, 0), ("Metadata", 1, 1)]);
    assert!(apis.iter().all(|it| it.request_bytes > 8 && it.response_bytes > 8 && it.within.last() == Some(&1)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while broker.metrics.door().malformed != 1 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}
