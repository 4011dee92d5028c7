//! Settings and partitions of topics: described with where they come from, altered, kept through a restart.

mod support;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use support::{Broker, Client, TOPIC};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Value and sources of one setting.
async fn described(client: &mut Client, kind: i8, of: &str, setting: &str) -> (String, Vec<(String, i8)>) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(of))
        .with_configuration_keys(Some(vec![text(setting)]));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let result = client.call(4, &request).await.results.remove(0);
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    let config = &result.configs[0];
    assert!(config.documentation.as_ref().is_some_and(|it| !it.is_empty()));
    assert_eq!(config.config_source, config.synonyms[0].source);
    let synonyms = config.synonyms.iter().map(|it| (it.name.to_string(), it.source));
    (config.value.as_ref().unwrap().to_string(), synonyms.collect())
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
    client.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource])).await.responses[0]
        .error_code
}

async fn create(client: &mut Client, topic: &str, configs: &[(&str, &str)]) {
    let configs = configs
        .iter()
        .map(|(setting, value)| CreatableTopicConfig::default().with_name(text(setting)).with_value(Some(text(value))));
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(2)
        .with_replication_factor(3)
        .with_configs(configs.collect());
    let answer = client.call(7, &CreateTopicsRequest::default().with_topics(vec![topic])).await;
    assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
}

#[tokio::test]
async fn settings_are_altered_shown_with_their_source_and_kept() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    create(&mut client, "t", &[("cleanup.policy", "compact"), ("min.insync.replicas", "2")]).await;
    let (policy, sources) = described(&mut client, 2, "t", "cleanup.policy").await;
    assert_eq!(policy, "compact");
    assert_eq!(sources, [("cleanup.policy".to_owned(), 1), ("log.cleanup.policy".to_owned(), 5)]);
    // The log's own default differs from Apache Kafka's: shown as the broker's setting.
    let (_, sources) = described(&mut client, 2, "t", "segment.bytes").await;
    assert_eq!(sources, [("log.segment.bytes".to_owned(), 4), ("log.segment.bytes".to_owned(), 5)]);

    assert_eq!(alter(&mut client, "t", "retention.ms", SET, Some("1000")).await, 0);
    assert_eq!(alter(&mut client, "t", "cleanup.policy", APPEND, Some("delete")).await, 0);
    assert_eq!(alter(&mut client, "t", "min.insync.replicas", DELETE, None).await, 0);
    assert_eq!(broker.log.topic("t").unwrap().settings().retention_ms, Some(1000), "in force at once");
    let broker = broker.restart().await;
    let mut client = broker.client().await;
    assert_eq!(described(&mut client, 2, "t", "retention.ms").await.0, "1000");
    assert_eq!(described(&mut client, 2, "t", "cleanup.policy").await.0, "compact,delete");
    assert_eq!(
        described(&mut client, 2, "t", "min.insync.replicas").await,
        ("1".into(), vec![("min.insync.replicas".into(), 5)])
    );

    // The older API sets what it names and puts the rest back.
    let config =
        alter_configs_request::AlterableConfig::default().with_name(text("segment.ms")).with_value(Some(text("9")));
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![config]);
    let answer = client.call(2, &AlterConfigsRequest::default().with_resources(vec![resource])).await;
    assert_eq!(answer.responses[0].error_code, 0);
    assert_eq!(described(&mut client, 2, "t", "segment.ms").await.0, "9");
    assert_eq!(described(&mut client, 2, "t", "retention.ms").await.0, "604800000");
    assert_eq!(described(&mut client, 4, "1", "broker.id").await.0, "1");
}

#[tokio::test]
async fn what_cannot_be_altered_says_so() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for (topic, setting, value, error) in [
        ("missing", "retention.ms", "1", ResponseError::UnknownTopicOrPartition),
        (TOPIC, "retention.ms", "soon", ResponseError::InvalidConfig),
        (TOPIC, "retention", "1", ResponseError::InvalidConfig),
        (TOPIC, "cleanup.policy", "compact", ResponseError::PolicyViolation),
        ("__consumer_offsets", "retention.ms", "1", ResponseError::PolicyViolation),
    ] {
        assert_eq!(alter(&mut client, topic, setting, SET, Some(value)).await, error.code(), "{topic} {setting}");
    }
    assert_eq!(alter(&mut client, TOPIC, "retention.ms", SET, Some("1000000")).await, 0);
}

#[tokio::test]
async fn partitions_are_added_and_never_taken() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    create(&mut client, "t", &[]).await;
    for (topic, count, error) in [
        ("t", 5, 0),
        ("t", 5, ResponseError::InvalidPartitions.code()),
        ("t", 1, ResponseError::InvalidPartitions.code()),
        ("missing", 5, ResponseError::UnknownTopicOrPartition.code()),
        (TOPIC, 5, 0),
        ("bad_events", 5, ResponseError::PolicyViolation.code()),
        ("__consumer_offsets", 5, ResponseError::PolicyViolation.code()),
    ] {
        let asked =
            create_partitions_request::CreatePartitionsTopic::default().with_name(name(topic)).with_count(count);
        let answer = client.call(3, &CreatePartitionsRequest::default().with_topics(vec![asked])).await;
        assert_eq!(answer.results[0].error_code, error, "{topic} {count}");
    }
    let broker = broker.restart().await;
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(name("t")));
    let metadata = broker.client().await.call(9, &MetadataRequest::default().with_topics(Some(vec![asked]))).await;
    assert_eq!(metadata.topics[0].partitions.len(), 5);
}
