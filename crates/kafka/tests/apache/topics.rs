//! Topics and settings: made, described, altered, deleted; and what the cluster says of itself.

use std::collections::BTreeSet;

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig as Incremental,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use uuid::Uuid;

use crate::{Side, error, name, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// As the source of a setting: nowhere.
const DEFAULT: i8 = 5;

pub async fn ask(side: &mut Side) {
    versions(side).await;
    made(side).await;
    grown(side).await;
    described(side).await;
    configs(side).await;
    altered(side).await;
    cluster(side).await;
    deleted(side).await;
}

async fn versions(side: &mut Side) {
    let client = |software: &str| {
        ApiVersionsRequest::default()
            .with_client_software_name(text(software))
            .with_client_software_version(text("1.0"))
    };
    for (case, request) in [("good", client("a-client")), ("none", client("")), ("odd", client("-a client!"))] {
        let response = side.client.call(3, &request).await;
        note!(side, format!("api_versions.software.{case}"), error(response.error_code));
    }
}

fn topic(name: &TopicName) -> CreatableTopic {
    CreatableTopic::default().with_name(name.clone()).with_num_partitions(1).with_replication_factor(1)
}

async fn create(side: &mut Side, case: &str, topics: Vec<CreatableTopic>, validate_only: bool) {
    let request =
        CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(topics).with_validate_only(validate_only);
    let response = side.client.call(7, &request).await;
    let shown = response.topics.iter().map(|it| {
        let configs = it.configs.as_ref().map(|it| it.len() > 20);
        let named = (validate_only || it.topic_id != Uuid::nil(), it.error_message.is_some());
        (error(it.error_code), it.num_partitions, it.replication_factor, named, configs)
    });
    let mut shown: Vec<_> = shown.collect();
    shown.sort();
    note!(side, format!("create_topics.{case}"), shown);
}

async fn made(side: &mut Side) {
    let named = |side: &Side, what: &str| topic(&name(&side.name(what)));
    let it = named(side, "made");
    create(side, "dry", vec![it.clone()], true).await;
    create(side, "one", vec![it.clone()], false).await;
    create(side, "again", vec![it.clone()], false).await;
    create(side, "again.dry", vec![it.clone()], true).await;
    let twice = named(side, "twice");
    create(side, "twice", vec![twice.clone(), twice, named(side, "beside")], false).await;
    create(side, "beside", vec![named(side, "beside")], false).await;
    for wrong in ["", ".", "..", "a/b", "a b", "ü", &"x".repeat(250)] {
        let case = format!("name.{}", if wrong.len() > 9 { "long" } else { wrong });
        create(side, &case, vec![topic(&name(wrong))], false).await;
    }
    create(side, "name.longest", vec![topic(&name(&format!("{}{}", "x".repeat(249 - 8), side.run.clone())))], true)
        .await;
    create(side, "dot", vec![named(side, "with.dot")], false).await;
    create(side, "dot.collides", vec![named(side, "with_dot")], false).await;
    for partitions in [0, -1, -2] {
        let it = named(side, &format!("p{partitions}")).with_num_partitions(partitions);
        create(side, &format!("partitions.{partitions}"), vec![it], true).await;
    }
    for replicas in [0, -1, -2, 2] {
        let it = named(side, &format!("r{replicas}")).with_replication_factor(replicas);
        create(side, &format!("replicas.{replicas}"), vec![it], true).await;
    }
    let assigned = |partition: i32, broker: i32| {
        CreatableReplicaAssignment::default().with_partition_index(partition).with_broker_ids(vec![BrokerId(broker)])
    };
    let by_hand = |it: CreatableTopic, assignments| {
        it.with_num_partitions(-1).with_replication_factor(-1).with_assignments(assignments)
    };
    let it = named(side, "assigned");
    create(side, "assigned", vec![by_hand(it.clone(), vec![assigned(0, 1), assigned(1, 1)])], true).await;
    create(side, "assigned.gap", vec![by_hand(it.clone(), vec![assigned(0, 1), assigned(2, 1)])], true).await;
    create(side, "assigned.twice", vec![by_hand(it.clone(), vec![assigned(0, 1), assigned(0, 1)])], true).await;
    create(side, "assigned.elsewhere", vec![by_hand(it.clone(), vec![assigned(0, 7)])], true).await;
    create(side, "assigned.and_counted", vec![it.with_assignments(vec![assigned(0, 1)])], true).await;
    for (setting, value) in [
        ("retention.ms", Some("1000")),
        ("retention.ms", Some("soon")),
        ("retention.ms", Some("-2")),
        ("retention.ms", None),
        ("no.such.setting", Some("1")),
        ("cleanup.policy", Some("burn")),
        ("cleanup.policy", Some("compact,delete")),
        ("compression.type", Some("brotli")),
        ("segment.bytes", Some("1")),
        ("min.insync.replicas", Some("0")),
        ("message.timestamp.type", Some("Never")),
        ("min.cleanable.dirty.ratio", Some("1.5")),
    ] {
        let config = CreatableTopicConfig::default().with_name(text(setting)).with_value(value.map(text));
        let it = named(side, "configured").with_configs(vec![config]);
        create(side, &format!("config.{setting}.{}", value.unwrap_or("null")), vec![it], true).await;
    }
}

async fn grown(side: &mut Side) {
    let (topic, _) = side.topic("grown", 2, &[]).await;
    let none = name(&side.name("none"));
    let asked = |topic: &TopicName, count: i32| {
        CreatePartitionsTopic::default().with_name(topic.clone()).with_count(count).with_assignments(None)
    };
    let on = |broker: i32| CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(broker)]);
    for (case, topics) in [
        ("fewer", vec![asked(&topic, 1)]),
        ("same", vec![asked(&topic, 2)]),
        ("no_topic", vec![asked(&none, 3)]),
        ("negative", vec![asked(&topic, -1)]),
        ("twice", vec![asked(&topic, 3), asked(&topic, 4)]),
        ("assigned.few", vec![asked(&topic, 4).with_assignments(Some(vec![on(1)]))]),
        ("assigned.elsewhere", vec![asked(&topic, 3).with_assignments(Some(vec![on(7)]))]),
        ("assigned", vec![asked(&topic, 3).with_assignments(Some(vec![on(1)]))]),
        ("more", vec![asked(&topic, 5)]),
    ] {
        for dry in [true, false] {
            let request = CreatePartitionsRequest::default()
                .with_timeout_ms(30_000)
                .with_validate_only(dry)
                .with_topics(topics.clone());
            let response = side.client.call(3, &request).await;
            let shown = response.results.iter().map(|it| (it.name.to_string(), error(it.error_code)));
            let mut shown: Vec<_> = shown.collect();
            shown.sort();
            note!(side, format!("create_partitions.{case}.{}", if dry { "dry" } else { "wet" }), shown);
        }
    }
}

async fn described(side: &mut Side) {
    let (topic, id) = side.topic("described", 3, &[]).await;
    let none = name(&side.name("none"));
    for version in 0..=13 {
        for (case, asked) in [("known", &topic), ("unknown", &none), ("invalid", &name("a/b"))] {
            if version < 4 && case != "known" {
                // It would be made.
                continue;
            }
            let asked = MetadataRequestTopic::default().with_name(Some(asked.clone()));
            let mut request = MetadataRequest::default().with_topics(Some(vec![asked]));
            request.allow_auto_topic_creation = version < 4;
            // Who may do what is told to those who ask.
            request.include_topic_authorized_operations = version >= 8;
            request.include_cluster_authorized_operations = (8..=10).contains(&version);
            let response = side.client.call(version, &request).await;
            let topics = response.topics.iter().map(|it| {
                let partitions = it.partitions.iter().map(|it| {
                    let replicas = (it.replica_nodes.clone(), it.isr_nodes.clone(), it.offline_replicas.clone());
                    (it.partition_index, error(it.error_code), it.leader_epoch, replicas)
                });
                let mut partitions: Vec<_> = partitions.collect();
                partitions.sort_by_key(|it| it.0);
                let name = it.name.as_ref().map(|it| it.to_string());
                let operations = it.topic_authorized_operations;
                (error(it.error_code), name, it.topic_id == id, it.is_internal, operations, partitions)
            });
            let topics: Vec<_> = topics.collect();
            let whole = (response.brokers.len(), response.cluster_authorized_operations, error(response.error_code));
            note!(side, format!("metadata.{case}.v{version}"), (topics, whole));
        }
    }
    for (case, id) in [("known", id), ("unknown", Uuid::from_u128(77))] {
        for (with, named) in [("", None), (".empty_name", Some(name("")))] {
            let asked = MetadataRequestTopic::default().with_name(named).with_topic_id(id);
            let request = MetadataRequest::default().with_topics(Some(vec![asked]));
            let it = side.client.call(12, &request).await.topics.remove(0);
            let found = (error(it.error_code), it.name.map(|it| it.to_string()), it.partitions.len());
            note!(side, format!("metadata.id.{case}{with}"), found);
        }
    }
    let none_asked = MetadataRequest::default().with_topics(Some(Vec::new()));
    let listed = side.client.call(9, &none_asked).await.topics.len();
    note!(side, "metadata.none", listed);

    let partitions = |topics: Vec<&TopicName>, limit: i32, cursor: Option<Cursor>| {
        let topics = topics.into_iter().map(|it| TopicRequest::default().with_name(it.clone())).collect();
        DescribeTopicPartitionsRequest::default()
            .with_topics(topics)
            .with_response_partition_limit(limit)
            .with_cursor(cursor)
    };
    let at = |partition: i32| Cursor::default().with_topic_name(topic.clone()).with_partition_index(partition);
    for (case, request) in [
        ("known", partitions(vec![&topic], 100, None)),
        ("unknown", partitions(vec![&none, &topic], 100, None)),
        ("some", partitions(vec![&topic], 2, None)),
        ("rest", partitions(vec![&topic], 2, Some(at(2)))),
        ("limit_0", partitions(vec![&topic], 0, None)),
    ] {
        let response = side.client.call(0, &request).await;
        let topics = response.topics.iter().map(|it| {
            let partitions = it.partitions.iter().map(|it| (it.partition_index, it.leader_id, it.isr_nodes.clone()));
            let name = it.name.as_ref().map(|it| it.to_string());
            (error(it.error_code), name, it.topic_authorized_operations, partitions.collect::<Vec<_>>())
        });
        let mut topics: Vec<_> = topics.collect();
        topics.sort();
        let next = response.next_cursor.map(|it| (it.topic_name.to_string(), it.partition_index));
        note!(side, format!("describe_topic_partitions.{case}"), (topics, next));
    }
}

async fn configs(side: &mut Side) {
    let (topic, _) = side.topic("configs", 1, &[("retention.ms", "5000")]).await;
    let resource = |kind: i8, of: &str, keys: Option<&[&str]>| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(of))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()))
    };
    let none = side.name("none");
    let cases = [
        ("set", resource(TOPIC, &topic, Some(&["retention.ms"]))),
        ("default", resource(TOPIC, &topic, Some(&["cleanup.policy", "flush.ms", "max.compaction.lag.ms"]))),
        ("nothing", resource(TOPIC, &topic, Some(&["no.such.setting"]))),
        ("no_topic", resource(TOPIC, &none, None)),
        ("empty_topic", resource(TOPIC, "", None)),
        ("other_broker", resource(BROKER, "77", None)),
        ("bad_broker", resource(BROKER, "one", None)),
        ("bad_kind", resource(99, "one", None)),
        ("broker", resource(BROKER, "1", Some(&["offset.metadata.max.bytes", "socket.request.max.bytes"]))),
    ];
    for (case, resource) in cases {
        for version in 1..=4 {
            let request = DescribeConfigsRequest::default()
                .with_resources(vec![resource.clone()])
                .with_include_synonyms(true)
                .with_include_documentation(false);
            let response = side.client.call(version, &request).await;
            let it = &response.results[0];
            let configs = it.configs.iter().map(|it| {
                let value = it.value.as_ref().map(|it| it.to_string());
                let synonyms = it.synonyms.iter().filter(|it| it.source != DEFAULT);
                let synonyms = synonyms.map(|it| (it.name.to_string(), it.source)).collect::<Vec<_>>();
                let kind = (it.read_only, it.is_sensitive, it.config_type);
                (it.name.to_string(), value, it.config_source, kind, synonyms)
            });
            let mut configs: Vec<_> = configs.collect();
            configs.sort();
            note!(side, format!("describe_configs.{case}.v{version}"), (error(it.error_code), configs));
        }
    }
    // Every setting of Kafka's topics is there, with its default and its kind.
    let request = DescribeConfigsRequest::default().with_resources(vec![resource(TOPIC, &topic, None)]);
    let response = side.client.call(4, &request).await;
    for it in &response.results[0].configs {
        if !it.name.starts_with("playhouse.") {
            let value = it.value.as_ref().map(|it| it.to_string());
            note!(side, format!("topic_setting.{}", it.name), (value, it.config_source, it.config_type));
        }
    }
}

/// A setting, an operation and a value.
type Change<'a> = (&'a str, i8, Option<&'a str>);

async fn altered(side: &mut Side) {
    let (topic, _) = side.topic("altered", 1, &[]).await;
    let none = side.name("none");
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    let cases: Vec<(&str, i8, &str, Vec<Change<'_>>)> = vec![
        ("set", TOPIC, &topic, vec![("retention.ms", set, Some("7000")), ("segment.ms", set, Some("8000"))]),
        ("delete", TOPIC, &topic, vec![("retention.ms", delete, None)]),
        ("delete.again", TOPIC, &topic, vec![("retention.ms", delete, None)]),
        ("append", TOPIC, &topic, vec![("cleanup.policy", append, Some("compact"))]),
        ("append.again", TOPIC, &topic, vec![("cleanup.policy", append, Some("compact"))]),
        ("subtract", TOPIC, &topic, vec![("cleanup.policy", subtract, Some("delete"))]),
        ("subtract.other", TOPIC, &topic, vec![("cleanup.policy", subtract, Some("delete"))]),
        ("append.to_number", TOPIC, &topic, vec![("retention.ms", append, Some("1"))]),
        ("twice", TOPIC, &topic, vec![("retention.ms", set, Some("1")), ("retention.ms", delete, None)]),
        ("null", TOPIC, &topic, vec![("retention.ms", set, None)]),
        ("wrong", TOPIC, &topic, vec![("retention.ms", set, Some("x"))]),
        ("unknown", TOPIC, &topic, vec![("no.such.setting", set, Some("1"))]),
        ("unknown.delete", TOPIC, &topic, vec![("no.such.setting", delete, None)]),
        ("no_topic", TOPIC, &none, vec![("retention.ms", set, Some("1"))]),
        ("empty_topic", TOPIC, "", vec![("retention.ms", set, Some("1"))]),
        ("other_broker", BROKER, "77", vec![("log.retention.ms", set, Some("1"))]),
        ("bad_kind", 99, "x", vec![("retention.ms", set, Some("1"))]),
        ("nothing", TOPIC, &topic, vec![]),
    ];
    for (case, kind, of, changes) in cases {
        for dry in [true, false] {
            let configs = changes.iter().map(|(setting, operation, value)| {
                Incremental::default()
                    .with_name(text(setting))
                    .with_config_operation(*operation)
                    .with_value(value.map(text))
            });
            let resource = IncrementalResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(of))
                .with_configs(configs.collect());
            let request =
                IncrementalAlterConfigsRequest::default().with_validate_only(dry).with_resources(vec![resource]);
            let response = side.client.call(1, &request).await;
            let shown: Vec<_> = response.responses.iter().map(|it| error(it.error_code)).collect();
            note!(side, format!("incremental_alter.{case}.{}", if dry { "dry" } else { "wet" }), shown);
        }
        settings(side, &format!("incremental_alter.{case}.after"), &topic).await;
    }
    for (case, configs) in [
        ("set", vec![("retention.ms", Some("7000"))]),
        ("other", vec![("segment.ms", Some("7000"))]),
        ("wrong", vec![("segment.ms", Some("x"))]),
        ("unknown", vec![("no.such.setting", Some("x"))]),
        ("null", vec![("segment.ms", None)]),
        ("none", vec![]),
    ] {
        let configs = configs
            .into_iter()
            .map(|(setting, value)| AlterableConfig::default().with_name(text(setting)).with_value(value.map(text)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(&topic))
            .with_configs(configs.collect());
        let response = side.client.call(2, &AlterConfigsRequest::default().with_resources(vec![resource])).await;
        note!(side, format!("alter.{case}"), error(response.responses[0].error_code));
        settings(side, &format!("alter.{case}.after"), &topic).await;
    }
}

/// Those set on the topic, once they do not change any more: some brokers tell of a change a moment after it.
async fn settings(side: &mut Side, case: &str, topic: &str) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let mut before = None;
    loop {
        let response = side.client.call(4, &request).await;
        let set = response.results[0].configs.iter().filter(|it| it.config_source == 1);
        let set: BTreeSet<_> =
            set.map(|it| (it.name.to_string(), it.value.as_ref().map(|it| it.to_string()))).collect();
        if before.as_ref() == Some(&set) {
            note!(side, case, set);
            return;
        }
        before = Some(set);
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
}

async fn cluster(side: &mut Side) {
    for version in 0..=2 {
        for kind in [1, 2, 3] {
            if version == 0 && kind > 1 {
                continue;
            }
            let request = DescribeClusterRequest::default()
                .with_endpoint_type(if version == 0 { 1 } else { kind })
                .with_include_cluster_authorized_operations(true);
            let response = side.client.call(version, &request).await;
            let brokers: Vec<_> =
                response.brokers.iter().map(|it| (it.broker_id, it.rack.is_some(), it.is_fenced)).collect();
            let told = (error(response.error_code), response.endpoint_type, response.cluster_id.len() > 8);
            let operations = response.cluster_authorized_operations;
            note!(side, format!("describe_cluster.{kind}.v{version}"), (told, operations, brokers));
        }
    }
    let (topic, _) = side.topic("dirs", 2, &[]).await;
    for version in 1..=4 {
        let none = name(&side.name("none"));
        for (case, asked) in [("known", &topic), ("unknown", &none)] {
            let asked = DescribableLogDirTopic::default().with_topic(asked.clone()).with_partitions(vec![0, 1, 7]);
            let request = DescribeLogDirsRequest::default().with_topics(Some(vec![asked]));
            let mut response = side.client.call(version, &request).await;
            // A new topic's directories are there a moment after it.
            for _ in 0..100 {
                let there =
                    response.results.iter().flat_map(|it| &it.topics).map(|it| it.partitions.len()).sum::<usize>();
                if case == "unknown" || there == 2 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                response = side.client.call(version, &request).await;
            }
            let shown = response.results.iter().map(|it| {
                let topics = it.topics.iter().map(|it| {
                    let mut partitions: Vec<_> = it
                        .partitions
                        .iter()
                        .map(|it| (it.partition_index, it.partition_size, it.offset_lag, it.is_future_key))
                        .collect();
                    partitions.sort();
                    (it.name.to_string(), partitions)
                });
                let sizes = (it.total_bytes > 0, it.usable_bytes > 0);
                (error(it.error_code), sizes, topics.collect::<Vec<_>>())
            });
            let shown: Vec<_> = shown.collect();
            note!(side, format!("log_dirs.{case}.v{version}"), (error(response.error_code), shown));
        }
    }
    let response = side.client.call(0, &ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    note!(side, "reassignments", (error(response.error_code), response.topics.len()));
    for version in 0..=6 {
        for kind in [0, 1, 2, 9] {
            if version == 0 && kind > 0 {
                continue;
            }
            let request = FindCoordinatorRequest::default().with_key_type(kind);
            let request = match version {
                0..=3 => request.with_key(text("x")),
                _ => request.with_coordinator_keys(vec![text("x"), text("y")]),
            };
            // The topics behind it are made when they are first asked for.
            let mut shown = Vec::new();
            for _ in 0..100 {
                let response = side.client.call(version, &request).await;
                let many = response.coordinators.iter();
                shown = many.map(|it| (it.key.to_string(), it.node_id.0, error(it.error_code))).collect();
                shown.push(("one".to_owned(), response.node_id.0, error(response.error_code)));
                if !shown.iter().any(|(.., error)| error == "CoordinatorNotAvailable") {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            note!(side, format!("find_coordinator.{kind}.v{version}"), shown);
        }
    }
}

async fn deleted(side: &mut Side) {
    let (one, _) = side.topic("deleted-one", 1, &[]).await;
    let (two, id) = side.topic("deleted-two", 1, &[]).await;
    let none = name(&side.name("none"));
    let state =
        |name: Option<&TopicName>, id: Uuid| DeleteTopicState::default().with_name(name.cloned()).with_topic_id(id);
    let nil = Uuid::nil();
    for (case, topics) in [
        ("no_topic", vec![state(Some(&none), nil)]),
        ("no_topic_id", vec![state(None, Uuid::from_u128(77))]),
        ("neither", vec![state(None, nil)]),
        ("both", vec![state(Some(&one), id)]),
        ("twice", vec![state(Some(&one), nil), state(Some(&one), nil)]),
        ("one", vec![state(Some(&one), nil)]),
        ("again", vec![state(Some(&one), nil)]),
        ("by_id", vec![state(None, id)]),
    ] {
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(topics);
        let response = side.client.call(6, &request).await;
        let shown = response.responses.iter().map(|it| {
            let name = it.name.as_ref().map(|it| it.to_string());
            (error(it.error_code), name, it.topic_id == id, it.topic_id == nil)
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        note!(side, format!("delete_topics.{case}"), shown);
    }
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topic_names(vec![two]);
    let again = side.client.call(5, &request).await.responses[0].error_code;
    note!(side, "delete_topics.by_name.again", error(again));
}
