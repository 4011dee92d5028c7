//! Topics: what there is, made, changed and deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use tokio::time::sleep;

use crate::client::{METADATA, To, retry};
use crate::connection::Versions;
use crate::error::check;
use crate::{Client, Error, text, topic_name};

const CREATE_TOPICS: Versions = (2, 6);
const DELETE_TOPICS: Versions = (1, 5);
const CREATE_PARTITIONS: Versions = (0, 3);
const DESCRIBE_CONFIGS: Versions = (1, 4);
const INCREMENTAL_ALTER_CONFIGS: Versions = (0, 1);
/// `ConfigResource.Type`.
const TOPIC: i8 = 2;
/// `ConfigSource`: set on this topic.
const SET_ON_TOPIC: i8 = 1;
/// Making a topic takes a broker about so long.
const MAKING_PAUSE: Duration = Duration::from_millis(300);
const SET: i8 = 0;
const DELETE: i8 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    /// The cluster's own.
    pub internal: bool,
    /// By index.
    pub partitions: Vec<Partition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    /// -1 where there is none.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    /// `None` where it is kept secret or is null.
    pub value: Option<String>,
    /// Set on this topic, not a default.
    pub set: bool,
    pub source: Source,
    pub read_only: bool,
    pub sensitive: bool,
    /// Where else it is set, the one in force first.
    pub synonyms: Vec<Synonym>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    pub name: String,
    pub value: Option<String>,
    pub source: Source,
}

/// Where a setting has its value from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    Unknown,
}

impl Source {
    /// `ConfigSource`
    fn of(code: i8) -> Source {
        match code {
            SET_ON_TOPIC => Source::Topic,
            2 => Source::DynamicBroker,
            3 => Source::DynamicDefaultBroker,
            4 => Source::StaticBroker,
            5 => Source::Default,
            _ => Source::Unknown,
        }
    }
}

/// A topic to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// `None` leaves it to the broker's default, as below.
    pub partitions: Option<i32>,
    pub replication_factor: Option<i16>,
    pub settings: Vec<(String, String)>,
    /// Not made: only whether it could be is asked.
    pub only_checked: bool,
}

impl Client {
    /// All topics, by name.
    pub async fn topics(&mut self) -> Result<Vec<Topic>, Error> {
        retry!(self, client => client.metadata(None, false).await)
    }

    pub async fn topic(&mut self, name: &str) -> Result<Topic, Error> {
        let names = [name.to_owned()];
        let mut topics = retry!(self, client => client.metadata(Some(&names), false).await)?;
        topics.pop().ok_or_else(|| Error::refused(topic_named(name), 3, None))
    }

    /// As [`Client::topic`], but a broker that makes topics when they are first asked for may make this one.
    pub async fn topic_or_new(&mut self, name: &str) -> Result<Topic, Error> {
        let names = [name.to_owned()];
        let asked = retry!(self, client => client.metadata(Some(&names), true).await);
        match asked {
            // Some say so while they make it.
            Err(error) if error.code() == Some(ResponseError::UnknownTopicOrPartition) => {
                sleep(MAKING_PAUSE).await;
                self.topic(name).await
            }
            Err(error) => Err(error),
            Ok(mut topics) => topics.pop().ok_or_else(|| Error::refused(topic_named(name), 3, None)),
        }
    }

    /// `None` asks for all. Topics are not made by asking, unless `make` says so.
    async fn metadata(&mut self, names: Option<&[String]>, make: bool) -> Result<Vec<Topic>, Error> {
        let asked = names.map(|names| {
            names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name)))).collect()
        });
        let request = MetadataRequest::default().with_topics(asked).with_allow_auto_topic_creation(make);
        // Before version 4 a broker may make what it is asked for.
        let versions = if names.is_some() { (4, METADATA.1) } else { METADATA };
        let answer = self.call(To::Any, versions, &request).await?;
        let mut topics = Vec::with_capacity(answer.topics.len());
        for topic in answer.topics {
            let name = topic.name.as_ref().map_or_else(String::new, |name| name.to_string());
            check(topic.error_code, || topic_named(&name), None)?;
            let ids = |brokers: &[BrokerId]| brokers.iter().map(|it| it.0).collect();
            let mut partitions: Vec<Partition> = topic
                .partitions
                .iter()
                .map(|it| Partition {
                    index: it.partition_index,
                    leader: it.leader_id.0,
                    replicas: ids(&it.replica_nodes),
                    in_sync: ids(&it.isr_nodes),
                })
                .collect();
            partitions.sort_by_key(|it| it.index);
            topics.push(Topic { name, internal: topic.is_internal, partitions });
        }
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    pub async fn create_topic(&mut self, new: &NewTopic) -> Result<(), Error> {
        let name = new.name.as_str();
        let settings = new
            .settings
            .iter()
            .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(new.partitions.unwrap_or(-1))
            .with_replication_factor(new.replication_factor.unwrap_or(-1))
            .with_configs(settings.collect());
        let timeout_ms = self.options.request_timeout.as_millis() as i32;
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(timeout_ms)
            .with_validate_only(new.only_checked);
        retry!(self, client => {
            let answer = client.call(To::Controller, CREATE_TOPICS, &request).await?;
            answer
                .topics
                .iter()
                .try_for_each(|it| check(it.error_code, || topic_named(name), it.error_message.as_deref()))
        })
    }

    pub async fn delete_topic(&mut self, name: &str) -> Result<(), Error> {
        let timeout_ms = self.options.request_timeout.as_millis() as i32;
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]).with_timeout_ms(timeout_ms);
        retry!(self, client => {
            let answer = client.call(To::Controller, DELETE_TOPICS, &request).await?;
            let mut answers = answer.responses.iter();
            answers.try_for_each(|it| check(it.error_code, || topic_named(name), it.error_message.as_deref()))
        })
    }

    /// Raises the number of partitions to `total`.
    pub async fn add_partitions(&mut self, name: &str, total: i32) -> Result<(), Error> {
        let topic =
            CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(total).with_assignments(None);
        let timeout_ms = self.options.request_timeout.as_millis() as i32;
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms);
        retry!(self, client => {
            let answer = client.call(To::Controller, CREATE_PARTITIONS, &request).await?;
            let mut answers = answer.results.iter();
            answers.try_for_each(|it| check(it.error_code, || topic_named(name), it.error_message.as_deref()))
        })
    }

    /// Every setting of a topic, by name.
    pub async fn settings(&mut self, topic: &str) -> Result<Vec<Setting>, Error> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
        retry!(self, client => {
            let answer = client.call(To::Any, DESCRIBE_CONFIGS, &request).await?;
            let mut settings = Vec::new();
            for result in answer.results {
                check(result.error_code, || topic_named(topic), result.error_message.as_deref())?;
                settings.extend(result.configs.into_iter().map(|it| Setting {
                    name: it.name.to_string(),
                    value: it.value.map(|value| value.to_string()),
                    set: it.config_source == SET_ON_TOPIC,
                    source: Source::of(it.config_source),
                    read_only: it.read_only,
                    sensitive: it.is_sensitive,
                    synonyms: it
                        .synonyms
                        .into_iter()
                        .map(|it| Synonym {
                            name: it.name.to_string(),
                            value: it.value.map(|value| value.to_string()),
                            source: Source::of(it.source),
                        })
                        .collect(),
                }));
            }
            settings.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(settings)
        })
    }

    /// Sets what has a value, and puts the rest back to its default.
    pub async fn alter_settings(
        &mut self,
        topic: &str,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), Error> {
        let configs = changes.iter().map(|(name, value)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.as_deref().map(text))
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        retry!(self, client => {
            let answer = client.call(To::Any, INCREMENTAL_ALTER_CONFIGS, &request).await?;
            let mut answers = answer.responses.iter();
            answers.try_for_each(|it| check(it.error_code, || topic_named(topic), it.error_message.as_deref()))
        })
    }
}

pub(crate) fn topic_named(name: &str) -> String {
    format!("topic {name:?}")
}
