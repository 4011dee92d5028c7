//! Topics whose values are checked: the settings that say so, and what a producer is told of a bad batch (KIP-467).

mod support;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use support::{Broker, CHECKED, Client, TOPIC, sequenced};

const SET: i8 = 0;
const DELETE: i8 = 1;
const GOOD: &str = r#"{"user":"u"}"#;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Value of one setting, and the source of each value it could have, most specific first.
async fn described(client: &mut Client, topic: &str, setting: &str) -> (String, Vec<(String, i8)>) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text(setting)]));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let result = client.call(4, &request).await.results.remove(0);
    let config = &result.configs[0];
    assert!(config.documentation.as_ref().is_some_and(|it| !it.is_empty()));
    let sources = config.synonyms.iter().map(|it| (it.value.as_ref().unwrap().to_string(), it.source)).collect();
    (config.value.as_ref().unwrap().to_string(), sources)
}

async fn alter(client: &mut Client, topic: &str, setting: &str, operation: i8, value: Option<&str>) -> i16 {
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text(setting))
        .with_config_operation(operation)
        .with_value(value.map(text));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.call(1, &request).await.responses[0].error_code
}

fn request(acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(TopicName(text(CHECKED))).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

async fn produce(client: &mut Client, version: i16, records: Bytes) -> PartitionProduceResponse {
    client.call(version, &request(-1, records)).await.responses.remove(0).partition_responses.remove(0)
}

#[tokio::test]
async fn whether_a_topic_is_checked_is_a_setting_of_it() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let validation = "playhouse.validation";
    assert_eq!(described(&mut client, TOPIC, validation).await, ("none".into(), vec![("none".into(), 5)]));
    // The configuration has a schema for this one.
    let configured = vec![("full".to_owned(), 4), ("none".to_owned(), 5)];
    assert_eq!(described(&mut client, CHECKED, validation).await, ("full".into(), configured.clone()));
    assert_eq!(described(&mut client, CHECKED, "playhouse.on.invalid").await.0, "quarantine");
    assert_eq!(described(&mut client, CHECKED, "playhouse.subject").await.0, "");

    assert_eq!(alter(&mut client, CHECKED, validation, SET, Some("none")).await, 0);
    assert_eq!(alter(&mut client, CHECKED, "playhouse.on.invalid", SET, Some("reject")).await, 0);
    for (setting, value) in [(validation, "some"), ("playhouse.on.invalid", "drop"), ("playhouse.schema", "x")] {
        let error = alter(&mut client, CHECKED, setting, SET, Some(value)).await;
        assert_eq!(error, ResponseError::InvalidConfig.code(), "{setting}");
    }
    drop(client);
    let broker = broker.restart().await;
    let mut client = broker.client().await;
    let (value, sources) = described(&mut client, CHECKED, validation).await;
    assert_eq!((value.as_str(), &sources[0], &sources[1..]), ("none", &("none".into(), 1), &configured[..]));
    assert_eq!(produce(&mut client, 9, sequenced(7, 0, &["anything"])).await.error_code, 0);

    assert_eq!(alter(&mut client, CHECKED, validation, DELETE, None).await, 0);
    assert_eq!(described(&mut client, CHECKED, validation).await, ("full".into(), configured));
    let refused = produce(&mut client, 9, sequenced(7, 1, &["anything"])).await;
    assert_eq!(refused.error_code, ResponseError::InvalidRecord.code());
}

#[tokio::test]
async fn a_rejected_batch_names_its_records_and_leaves_the_sequence() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    // Bad records alone are taken out, as a topic has it that says nothing else.
    let quarantined = produce(&mut client, 9, sequenced(7, 0, &["{}"])).await;
    assert_eq!((quarantined.error_code, quarantined.base_offset), (0, 0));
    assert_eq!(alter(&mut client, CHECKED, "playhouse.on.invalid", SET, Some("reject")).await, 0);

    let batch = sequenced(7, 1, &[GOOD, "{}", GOOD, "{"]);
    for version in 3..=12 {
        let refused = produce(&mut client, version, batch.clone()).await;
        assert_eq!((refused.error_code, refused.base_offset), (ResponseError::InvalidRecord.code(), -1));
        if version < 8 {
            continue;
        }
        let message = refused.error_message.unwrap();
        assert!(message.starts_with("2 of 4 records are invalid, and nothing was appended"), "{message}");
        let told = refused.record_errors.iter().map(|it| {
            let message = it.batch_index_error_message.as_ref().unwrap().as_str();
            (it.batch_index, message.split(' ').next_back().unwrap())
        });
        assert_eq!(told.collect::<Vec<_>>(), [(1, "(required)"), (3, "(json)")]);
    }
    // What comes next has the sequence that was refused.
    let taken = produce(&mut client, 9, sequenced(7, 1, &[GOOD, GOOD])).await;
    assert_eq!((taken.error_code, taken.base_offset), (0, 1));
    assert_eq!(broker.log.topic(CHECKED).unwrap().partitions()[0].high_watermark(), 3);

    // Nobody waits for an answer: the connection ends.
    client.send(9, &request(0, sequenced(7, 3, &["{}"]))).await;
    assert!(client.is_closed().await);
}
