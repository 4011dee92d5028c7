//! The broker's settings under Kafka's names, as far as they mean something here. To be read: they come from the
//! configuration file, and change with a restart.

use crate::config::KafkaConfig;
use crate::topic_configs::{DEFINITIONS, Kind};

pub(crate) struct BrokerConfig {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) kind: Kind,
    /// Apache Kafka's own default; another value is one of this server's configuration.
    pub(crate) default: &'static str,
    pub(crate) about: &'static str,
}

/// By name. `directory` is where the log lies.
pub(crate) fn describe(config: &KafkaConfig, directory: &str) -> Vec<BrokerConfig> {
    let row = |name, value: String, kind, default, about| BrokerConfig { name, value, kind, default, about };
    let ms = |duration: std::time::Duration| duration.as_millis().to_string();
    let rate = |rate: Option<u64>| rate.map_or("9223372036854775807".to_owned(), |rate| rate.to_string());
    let groups = &config.groups;
    let mut rows = vec![
        row(
            "auto.create.topics.enable",
            config.auto_create_topics.to_string(),
            Kind::Boolean,
            "true",
            "Whether a topic is made when a client first asks for it. Setting kafka.auto_create_topics.",
        ),
        row("broker.id", config.node_id.to_string(), Kind::Int, "-1", "The number of this broker."),
        row(
            "connections.max.idle.ms",
            ms(config.idle_timeout),
            Kind::Long,
            "600000",
            "An unused connection is closed after this. Setting kafka.idle_timeout.",
        ),
        row("default.replication.factor", "1".to_owned(), Kind::Int, "1", "There is one replica."),
        row("delete.topic.enable", "true".to_owned(), Kind::Boolean, "true", "Topics can be deleted."),
        row(
            "fetch.max.bytes",
            config.fetch_bytes_max.to_string(),
            Kind::Int,
            "57671680",
            "The most that one fetch returns. Setting kafka.fetch_bytes_max.",
        ),
        row(
            "group.consumer.assignors",
            "uniform,range".to_owned(),
            Kind::List,
            "uniform,range",
            "The server-side assignors; the first is the default.",
        ),
        row(
            "group.consumer.heartbeat.interval.ms",
            ms(groups.consumer_heartbeat_interval),
            Kind::Int,
            "5000",
            "Setting kafka.consumer_heartbeat_interval.",
        ),
        row(
            "group.consumer.max.size",
            groups.members_max.to_string(),
            Kind::Int,
            "2147483647",
            "Setting kafka.group_members_max.",
        ),
        row(
            "group.consumer.session.timeout.ms",
            ms(groups.consumer_session_timeout),
            Kind::Int,
            "45000",
            "Setting kafka.consumer_session_timeout.",
        ),
        row(
            "group.coordinator.rebalance.protocols",
            "classic,consumer".to_owned(),
            Kind::List,
            "classic,consumer,streams",
            "The kinds of consumer groups.",
        ),
        row(
            "group.initial.rebalance.delay.ms",
            ms(groups.initial_rebalance_delay),
            Kind::Int,
            "3000",
            "How long the first members of a group wait for more. Setting kafka.initial_rebalance_delay.",
        ),
        row(
            "group.max.session.timeout.ms",
            ms(groups.session_timeout_max),
            Kind::Int,
            "1800000",
            "Setting kafka.session_timeout_max.",
        ),
        row(
            "group.max.size",
            groups.members_max.to_string(),
            Kind::Int,
            "2147483647",
            "Setting kafka.group_members_max.",
        ),
        row(
            "group.min.session.timeout.ms",
            ms(groups.session_timeout_min),
            Kind::Int,
            "6000",
            "Setting kafka.session_timeout_min.",
        ),
        row("log.dir", directory.to_owned(), Kind::String, "/tmp/kafka-logs", "Where the log lies."),
        row("log.dirs", directory.to_owned(), Kind::String, "", "Where the log lies."),
        row(
            "max.connections",
            config.connections_max.to_string(),
            Kind::Int,
            "2147483647",
            "Setting kafka.connections_max.",
        ),
        row(
            "max.connections.per.ip",
            config.connections_per_address_max.to_string(),
            Kind::Int,
            "2147483647",
            "Setting kafka.connections_per_address_max.",
        ),
        row("node.id", config.node_id.to_string(), Kind::Int, "-1", "The number of this broker."),
        row(
            "num.partitions",
            config.new_topic.partitions.to_string(),
            Kind::Int,
            "1",
            "Partitions of a new topic. Setting embedded_log.partitions.",
        ),
        row(
            "offset.metadata.max.bytes",
            "4096".to_owned(),
            Kind::Int,
            "4096",
            "The most that a committed offset may carry beside it.",
        ),
        row(
            "offsets.retention.minutes",
            (groups.offsets_retention.as_secs() / 60).to_string(),
            Kind::Int,
            "10080",
            "Committed offsets of a group without members are kept this long. Setting kafka.offsets_retention.",
        ),
        row("offsets.topic.num.partitions", "1".to_owned(), Kind::Int, "50", "Of the topic of committed offsets."),
        row("offsets.topic.replication.factor", "1".to_owned(), Kind::Int, "3", "There is one replica."),
        row("process.roles", "broker,controller".to_owned(), Kind::List, "", "One process is both."),
        row(
            "quota.consumer.default",
            rate(config.fetch_bytes_per_second),
            Kind::Long,
            "9223372036854775807",
            "Bytes per second that a client may fetch. Setting kafka.fetch_bytes_per_second.",
        ),
        row(
            "quota.producer.default",
            rate(config.produce_bytes_per_second),
            Kind::Long,
            "9223372036854775807",
            "Bytes per second that a client may send. Setting kafka.produce_bytes_per_second.",
        ),
        row(
            "queued.max.requests",
            config.pipeline_max.to_string(),
            Kind::Int,
            "500",
            "Requests being answered, here of one connection. Setting kafka.pipeline_max.",
        ),
        row(
            "socket.request.max.bytes",
            config.frame_bytes_max.to_string(),
            Kind::Int,
            "104857600",
            "The largest request. Setting kafka.request_bytes_max.",
        ),
        row("transaction.state.log.replication.factor", "1".to_owned(), Kind::Int, "3", "There is one replica."),
    ];
    rows.extend(DEFINITIONS.iter().filter(|it| rows_of_topics(it.broker)).map(|it| BrokerConfig {
        name: it.broker,
        value: it.value(&config.new_topic, &config.new_topic),
        kind: it.kind,
        default: it.kafka_default(),
        about: it.about,
    }));
    rows.sort_by_key(|row| row.name);
    rows
}

/// Replication throttles and the settings of our own are of topics only.
fn rows_of_topics(name: &str) -> bool {
    !name.ends_with(".throttled.replicas") && !name.starts_with("playhouse.")
}
