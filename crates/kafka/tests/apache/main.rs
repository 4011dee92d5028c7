//! The same requests to this broker and to Apache Kafka: what a client is told must agree. Where it may differ, the case
//! is named in docs/kafka-compatibility.md, and then it has to differ.
//!
//! `cargo xtask test --real` starts Apache Kafka and says where it is. Names are new in every run: one broker may be
//! asked again.

#[path = "../support/mod.rs"]
mod support;

/// Takes note of an outcome, which may be had of the same side.
macro_rules! note {
    ($side:expr, $case:expr, $outcome:expr $(,)?) => {{
        let (case, outcome) = ($case, $outcome);
        $side.note(case, outcome);
    }};
}

mod groups;
mod newer_groups;
mod records;
mod topics;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DescribeGroupsRequest, DescribeTransactionsRequest, FindCoordinatorRequest, GroupId,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use playhouse_kafka::{GroupConfig, KafkaConfig};
use playhouse_log::TopicSettings;
use support::{Broker, Client};
use tokio::net::TcpStream;
use uuid::Uuid;

/// One of the two brokers, and what it was seen to do.
struct Side {
    client: Client,
    address: String,
    run: String,
    seen: Vec<(String, String)>,
}

impl Side {
    async fn connect(address: String, run: &str) -> Side {
        let client = connect(&address).await;
        Side { client, address, run: run.to_owned(), seen: Vec::new() }
    }

    /// A name of this run.
    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.run)
    }

    /// One that comes again gets a number.
    fn note(&mut self, case: impl Into<String>, outcome: impl Debug) {
        let case = case.into();
        let again = self.seen.iter().filter(|(it, _)| it.split('#').next() == Some(&case)).count();
        let case = if again > 0 { format!("{case}#{}", again + 1) } else { case };
        self.seen.push((case, format!("{outcome:?}").replace(&self.run, "RUN")));
    }

    /// Another connection, for those that wait for each other.
    async fn another(&self) -> Client {
        connect(&self.address).await
    }

    /// Makes a topic and waits until it can be used.
    async fn topic(&mut self, what: &str, partitions: i32, settings: &[(&str, &str)]) -> (TopicName, Uuid) {
        let topic = name(&self.name(what));
        let configs = settings
            .iter()
            .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
        let asked = CreatableTopic::default()
            .with_name(topic.clone())
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![asked]);
        let made = self.client.call(7, &request).await.topics.remove(0);
        assert_eq!(made.error_code, 0, "{:?}", made.error_message);
        let asked = MetadataRequestTopic::default().with_name(Some(topic.clone()));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        for _ in 0..200 {
            let found = self.client.call(12, &request).await.topics.remove(0);
            let led = found.partitions.iter().all(|it| it.error_code == 0 && it.leader_id.0 >= 0);
            let there = found.error_code == 0 && led && found.partitions.len() == partitions as usize;
            if there && self.is_served(&topic, partitions).await {
                return (topic, found.topic_id);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("topic {what} does not come up");
    }
}

impl Side {
    /// A broker that nobody has asked makes its topics of groups and transactions first, and loads their partitions one by
    /// one: waits until it answers for whatever name.
    async fn coordinates(&mut self) {
        let names: Vec<StrBytes> = (0..500).map(|number| text(&self.name(&number.to_string()))).collect();
        for _ in 0..600 {
            for kind in [0, 1] {
                let asked = FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(names.clone());
                self.client.call(4, &asked).await;
            }
            let groups = names.iter().cloned().map(GroupId).collect();
            let groups = self.client.call(5, &DescribeGroupsRequest::default().with_groups(groups)).await.groups;
            let ids = names.iter().cloned().map(TransactionalId).collect();
            let asked = DescribeTransactionsRequest::default().with_transactional_ids(ids);
            let transactions = self.client.call(0, &asked).await.transaction_states;
            let asked = InitProducerIdRequest::default().with_transactional_id(None);
            let asked = asked.with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
            let producer = self.client.call(4, &asked).await;
            let coordinated = groups.iter().map(|it| it.error_code).chain(transactions.iter().map(|it| it.error_code));
            let mut codes = coordinated.chain([producer.error_code]);
            if codes.all(|code| matches!(error(code).as_str(), "none" | "TransactionalIdNotFound")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} coordinates nothing", self.address);
    }

    /// Some brokers tell of a topic before they serve it.
    async fn is_served(&mut self, topic: &TopicName, partitions: i32) -> bool {
        let asked = (0..partitions).map(|partition| {
            let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
            asked.with_current_leader_epoch(-1)
        });
        let asked = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(asked.collect());
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let told = self.client.call(7, &request).await;
        told.topics.iter().flat_map(|it| &it.partitions).all(|it| it.error_code == 0)
    }
}

async fn connect(address: &str) -> Client {
    Client { stream: TcpStream::connect(address).await.expect("the broker listens"), next_id: 1 }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// An error by its name.
fn error(code: i16) -> String {
    ResponseError::try_from_code(code).map_or("none".to_owned(), |error| format!("{error:?}"))
}

const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `$area::ask` against both and compares what each was seen to do.
macro_rules! agrees {
    ($($area:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs Apache Kafka"]
        async fn $area() {
            let theirs = std::env::var("PLAYHOUSE_TEST_KAFKA")
                .expect("PLAYHOUSE_TEST_KAFKA is set by `cargo xtask test --real`");
            let broker = start().await;
            let run = Uuid::new_v4().simple().to_string()[..8].to_owned();
            let mut ours = Side::connect(broker.bootstrap(), &run).await;
            let mut theirs = Side::connect(theirs, &run).await;
            for side in [&mut ours, &mut theirs] {
                side.coordinates().await;
                let asked = tokio::time::timeout(PATIENCE, $area::ask(side)).await;
                assert!(asked.is_ok(), "{} hangs after {:?}", side.address, side.seen.last());
            }
            compare(&ours.seen, &theirs.seen);
            broker.stop().await;
        }
    )*};
}

agrees!(records topics groups newer_groups transactions);

async fn start() -> Broker {
    let groups = GroupConfig { initial_rebalance_delay: Duration::ZERO, ..GroupConfig::default() };
    let new_topic =
        TopicSettings { partitions: 1, timestamp_after_max_ms: Some(3_600_000), ..TopicSettings::default() };
    Broker::start_with(KafkaConfig { groups, new_topic, ..KafkaConfig::default() }).await
}

fn compare(ours: &[(String, String)], theirs: &[(String, String)]) {
    let explained = include_str!("../../../../docs/kafka-compatibility.md");
    let missing = "not there".to_owned();
    let (ours, theirs): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (ours.iter().cloned().collect(), theirs.iter().cloned().collect());
    let cases: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let (ours, theirs) = (ours.get(*case).unwrap_or(&missing), theirs.get(*case).unwrap_or(&missing));
        println!("{case}: {ours}");
        let is_explained = explained.contains(&format!("`{case}`"));
        if (ours == theirs) == is_explained {
            wrong.push(format!("{case}:\n    Playhouse    {ours}\n    Apache Kafka {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
