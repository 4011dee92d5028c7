//! Large fetches, which the operating system takes from the file to the socket.

mod support;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use playhouse_log::Log;
use playhouse_log::batch::{BatchBuilder, Compression};
use support::*;
use tokio::io::AsyncReadExt;

/// From the first of two partitions, and then the second.
fn fetch(offset: i64, version: i16, log: &Log, bytes_max: i32) -> FetchRequest {
    let wanted = |partition| {
        FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(bytes_max)
    };
    let topic = FetchTopic::default().with_partitions(vec![wanted(0), wanted(1)]);
    let topic = if version >= 13 {
        topic.with_topic_id(log.topic(TOPIC).unwrap().id())
    } else {
        topic.with_topic(TopicName(StrBytes::from_static_str(TOPIC)))
    };
    FetchRequest::default().with_min_bytes(1).with_max_bytes(100 << 20).with_topics(vec![topic])
}

/// So many batches of 60 KB in each partition.
async fn fill(log: &Log, batches: usize) {
    for partition in log.topic(TOPIC).unwrap().partitions() {
        let mut next = 0;
        for number in 0..batches {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(1_000, None, Some(&vec![number as u8; 60_000]), &[]);
            next = partition.append(&builder.build()).unwrap().next_offset;
        }
        partition.durable(next).await.unwrap();
    }
}

fn in_log(log: &Log, partition: usize, offset: i64, bytes_max: usize) -> Bytes {
    log.topic(TOPIC).unwrap().partitions()[partition].read(offset, bytes_max).unwrap()
}

#[tokio::test]
async fn every_version_gives_the_batches_as_they_lie_in_the_log() {
    let broker = Broker::start().await;
    fill(&broker.log, 40).await;
    let mut client = broker.client().await;
    for version in 4..=16 {
        for bytes_max in [1, 70_000, 1 << 20] {
            let response = client.call(version, &fetch(version.into(), version, &broker.log, bytes_max)).await;
            let partitions = &response.responses[0].partitions;
            assert_eq!(partitions.len(), 2);
            for (index, partition) in partitions.iter().enumerate() {
                assert_eq!((partition.partition_index, partition.error_code), (index as i32, 0));
                assert_eq!(partition.high_watermark, 40);
                let mut expected = in_log(&broker.log, index, version.into(), bytes_max as usize);
                // Only the first batch is given where it is larger than what was asked for.
                if index == 1 && bytes_max == 1 {
                    expected.clear();
                }
                assert_eq!(partition.records.as_ref(), Some(&expected), "version {version}, {bytes_max} bytes");
            }
        }
    }
    broker.stop().await;
}

#[tokio::test]
async fn what_is_deleted_while_it_is_sent_still_arrives() {
    let broker = Broker::start().await;
    fill(&broker.log, 300).await;
    let expected = [0, 1].map(|partition| in_log(&broker.log, partition, 0, 100 << 20));
    let mut client = broker.client().await;
    client.send(11, &fetch(0, 11, &broker.log, 100 << 20)).await;
    // It has begun, and is more than a socket holds.
    client.stream.readable().await.unwrap();
    for partition in broker.log.topic(TOPIC).unwrap().partitions() {
        partition.delete_records(300).unwrap();
    }
    assert!(broker.log.retain().unwrap() > 30_000_000);
    let (_, response) = client.receive::<FetchRequest>(11).await;
    for (partition, expected) in response.responses[0].partitions.iter().zip(expected) {
        assert!(partition.records.as_ref() == Some(&expected), "partition {}", partition.partition_index);
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_harms_nobody() {
    let broker = Broker::start().await;
    fill(&broker.log, 300).await;
    for _ in 0..20 {
        let mut leaver = broker.client().await;
        leaver.send(11, &fetch(0, 11, &broker.log, 100 << 20)).await;
        leaver.stream.read_i32().await.unwrap();
    }
    let mut client = broker.client().await;
    let response = client.call(11, &fetch(0, 11, &broker.log, 100 << 20)).await;
    let records = response.responses[0].partitions[0].records.as_ref();
    assert!(records == Some(&in_log(&broker.log, 0, 0, 100 << 20)));
    broker.stop().await;
}
