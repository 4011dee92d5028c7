//! Who may come where keys are asked for, and what each key may do.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};
use playhouse_gate::{Auth, Grant, KeyFile, KeyRing};
use playhouse_kafka::KafkaConfig;
use playhouse_log::disk::SimulatedDisk;
use support::*;
use tokio::io::AsyncWriteExt;

struct Keys {
    disk: SimulatedDisk,
    ring: Arc<KeyRing>,
}

impl Keys {
    fn new() -> Keys {
        let disk = SimulatedDisk::new();
        let ring = Arc::new(KeyRing::open(file(&disk)).unwrap());
        Keys { disk, ring }
    }

    fn make(&self, name: &str, grant: Grant) -> String {
        let token = file(&self.disk).create(name, grant, 0).unwrap().token;
        self.ring.refresh().unwrap();
        token
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig { auth: Auth::Keys(self.ring.clone()), ..KafkaConfig::default() }
    }
}

fn file(disk: &SimulatedDisk) -> KeyFile {
    KeyFile::new(Arc::new(disk.clone()), Path::new("/data"))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn token(key: &str) -> Bytes {
    Bytes::from(format!("\0anybody\0{key}"))
}

async fn handshake(client: &mut Client, version: i16) -> i16 {
    client.call(version, &SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))).await.error_code
}

async fn authenticate(client: &mut Client, key: &str) -> SaslAuthenticateResponse {
    client.call(2, &SaslAuthenticateRequest::default().with_auth_bytes(token(key))).await
}

async fn client_with(broker: &Broker, key: &str) -> Client {
    let mut client = broker.client().await;
    assert_eq!(handshake(&mut client, 1).await, 0);
    let answer = authenticate(&mut client, key).await;
    assert_eq!(answer.error_code, 0, "{answer:?}");
    client
}

fn produce_to(topic: &str) -> ProduceRequest {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch(&["a"])));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

async fn produced(client: &mut Client, topic: &str) -> i16 {
    client.call(9, &produce_to(topic)).await.responses[0].partition_responses[0].error_code
}

async fn fetched(client: &mut Client, topic: &str) -> i16 {
    use fetch_request::{FetchPartition, FetchTopic};
    let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
    client.call(12, &request).await.responses[0].partitions[0].error_code
}

async fn seen(client: &mut Client) -> Vec<String> {
    let answer = client.call(9, &MetadataRequest::default().with_topics(None)).await;
    let mut names: Vec<String> = answer.topics.iter().map(|it| it.name.as_ref().unwrap().to_string()).collect();
    names.sort();
    names
}

const DENIED: i16 = 29;

#[tokio::test]
async fn sasl_is_offered_only_where_keys_are_asked_for() {
    let offers = async |config: KafkaConfig| -> BTreeMap<i16, (i16, i16)> {
        let broker = Broker::start_with(config).await;
        let answer = broker.client().await.call(3, &api_versions()).await;
        answer.api_keys.iter().map(|it| (it.api_key, (it.min_version, it.max_version))).collect()
    };
    let open = offers(KafkaConfig::default()).await;
    assert!(!open.contains_key(&17) && !open.contains_key(&36), "{open:?}");
    let asking = offers(Keys::new().config()).await;
    assert_eq!((asking[&17], asking[&36]), ((0, 1), (0, 2)));

    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.send(1, &SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn without_a_key_nothing_is_answered_but_what_is_needed_to_show_one() {
    let keys = Keys::new();
    let broker = Broker::start_with(keys.config()).await;
    async fn refused<R: Request>(broker: &Broker, version: i16, request: R) {
        let mut client = broker.client().await;
        client.call(0, &ApiVersionsRequest::default()).await;
        client.send(version, &request).await;
        assert!(client.is_closed().await, "API {}", R::KEY);
    }
    refused(&broker, 9, MetadataRequest::default()).await;
    refused(&broker, 9, produce_to(TOPIC)).await;
    refused(&broker, 12, FetchRequest::default()).await;
    refused(&broker, 2, FindCoordinatorRequest::default()).await;
    refused(&broker, 7, CreateTopicsRequest::default()).await;
    // Out of turn.
    let mut client = broker.client().await;
    assert_eq!(authenticate(&mut client, "x").await.error_code, ResponseError::IllegalSaslState.code());
    assert!(client.is_closed().await);
    // Larger than whatever is needed for it.
    let mut client = broker.client().await;
    client.stream.write_all(&(100_000i32).to_be_bytes()).await.unwrap();
    client.stream.write_all(&[0, 36, 0, 2]).await.unwrap();
    assert!(client.is_closed().await);
    assert_eq!(broker.log.topic(TOPIC).unwrap().partition(0).unwrap().high_watermark(), 0);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_and_the_connection_closed() {
    let keys = Keys::new();
    let good = keys.make("good", Grant::send(["*"]));
    let broker = Broker::start_with(keys.config()).await;
    for wrong in ["", "phk_1_2", &good[1..], &good[..good.len() - 1]] {
        let mut client = broker.client().await;
        assert_eq!(handshake(&mut client, 1).await, 0);
        let answer = authenticate(&mut client, wrong).await;
        assert_eq!(answer.error_code, ResponseError::SaslAuthenticationFailed.code());
        assert!(client.is_closed().await, "one attempt each");
    }
    let mut client = broker.client().await;
    handshake(&mut client, 1).await;
    let odd = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(format!("a\0b\0{good}\0c")));
    assert_eq!(client.call(2, &odd).await.error_code, ResponseError::SaslAuthenticationFailed.code());
    let mut client = broker.client().await;
    let answer = client.call(1, &SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"))).await;
    assert_eq!(answer.error_code, ResponseError::UnsupportedSaslMechanism.code());
    assert_eq!(answer.mechanisms, [text("PLAIN")]);
    assert!(client.is_closed().await);
    assert_eq!(broker.metrics.door().authentications_failed, 5);

    let mut client = client_with(&broker, &good).await;
    assert_eq!(produced(&mut client, TOPIC).await, 0);
    assert_eq!(handshake(&mut client, 1).await, ResponseError::IllegalSaslState.code(), "once is enough");
}

#[tokio::test]
async fn older_clients_send_their_token_bare() {
    let keys = Keys::new();
    let good = keys.make("good", Grant::send(["*"]));
    let broker = Broker::start_with(keys.config()).await;
    let mut client = broker.client().await;
    assert_eq!(handshake(&mut client, 0).await, 0);
    client.send_frame(&token(&good)).await;
    assert_eq!(client.receive_frame().await.unwrap().len(), 0);
    assert_eq!(produced(&mut client, TOPIC).await, 0);

    let mut client = broker.client().await;
    handshake(&mut client, 0).await;
    client.send_frame(&token("phk_00")).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let keys = Keys::new();
    let config = KafkaConfig { authentication_timeout: Duration::from_millis(100), ..keys.config() };
    let broker = Broker::start_with(config).await;
    let mut silent = broker.client().await;
    let mut talking = broker.client().await;
    handshake(&mut talking, 1).await;
    assert!(silent.is_closed().await && talking.is_closed().await);
    // Whoever has shown a key may be as silent as it likes.
    let good = keys.make("good", Grant::send(["*"]));
    let mut client = client_with(&broker, &good).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(produced(&mut client, TOPIC).await, 0);
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_its_connections() {
    let keys = Keys::new();
    let (good, other) = (keys.make("good", Grant::send(["*"])), keys.make("other", Grant::send(["*"])));
    let broker = Broker::start_with(keys.config()).await;
    let mut client = client_with(&broker, &good).await;
    let mut others = client_with(&broker, &other).await;
    let id = keys.ring.principal(&good).unwrap().id;
    file(&keys.disk).revoke(&id).unwrap();
    keys.ring.refresh().unwrap();
    client.send(9, &produce_to(TOPIC)).await;
    assert!(client.is_closed().await);
    assert_eq!(produced(&mut others, TOPIC).await, 0);
}

#[tokio::test]
async fn a_key_that_sends_does_that_and_sees_its_topics_only() {
    let keys = Keys::new();
    let sends = keys.make("sends", Grant::send(["events"]));
    let broker = Broker::start_with(keys.config()).await;
    let mut client = client_with(&broker, &sends).await;
    assert_eq!(produced(&mut client, TOPIC).await, 0);
    assert_eq!(produced(&mut client, CHECKED).await, DENIED);
    assert_eq!(produced(&mut client, "nowhere").await, DENIED, "which topics there are is not told");
    assert_eq!(seen(&mut client).await, [TOPIC]);
    assert_eq!(fetched(&mut client, TOPIC).await, DENIED);

    let asked = [TOPIC, CHECKED, "nowhere"]
        .map(|topic| metadata_request::MetadataRequestTopic::default().with_name(Some(name(topic))));
    let request = MetadataRequest::default().with_topics(Some(asked.into())).with_allow_auto_topic_creation(true);
    let codes: Vec<i16> = client.call(9, &request).await.topics.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [0, DENIED, DENIED]);

    let group = 30;
    let join = JoinGroupRequest::default().with_group_id(GroupId(text("g"))).with_protocol_type(text("consumer"));
    assert_eq!(client.call(9, &join).await.error_code, group);
    assert_eq!(
        client.call(9, &OffsetFetchRequest::default().with_groups(vec![Default::default()])).await.groups[0].error_code,
        group
    );
    assert_eq!(client.call(4, &ListGroupsRequest::default()).await.error_code, 31);
    let wanted = create_topics_request::CreatableTopic::default().with_name(name("mine")).with_num_partitions(1);
    let create = CreateTopicsRequest::default().with_topics(vec![wanted.with_replication_factor(1)]);
    assert_eq!(client.call(7, &create).await.topics[0].error_code, DENIED);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name(TOPIC)]);
    assert_eq!(client.call(5, &delete).await.responses[0].error_code, DENIED);
    assert!(broker.log.topic(TOPIC).is_some() && broker.log.topic("mine").is_none());
    // It may produce idempotently, and in transactions over its topics.
    assert_eq!(client.call(4, &InitProducerIdRequest::default().with_transactional_id(None)).await.error_code, 0);
    let transactional = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("t"))))
        .with_transaction_timeout_ms(60_000);
    let producer = client.call(4, &transactional).await;
    assert_eq!(producer.error_code, 0);
    let topic = |topic| {
        add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![0])
    };
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text("t")))
        .with_v3_and_below_producer_id(producer.producer_id)
        .with_v3_and_below_producer_epoch(producer.producer_epoch)
        .with_v3_and_below_topics(vec![topic(TOPIC), topic(CHECKED)]);
    let added = client.call(3, &add).await.results_by_topic_v3_and_below;
    let codes: Vec<i16> = added.iter().map(|it| it.results_by_partition[0].partition_error_code).collect();
    assert_eq!(codes, [ResponseError::OperationNotAttempted.code(), DENIED]);
}

#[tokio::test]
async fn a_key_that_reads_does_that_and_commits_offsets_of_its_topics_only() {
    let keys = Keys::new();
    let reads = keys.make("reads", Grant::read(["events"]));
    let broker = Broker::start_with(keys.config()).await;
    let mut client = client_with(&broker, &reads).await;
    assert_eq!(fetched(&mut client, TOPIC).await, 0);
    assert_eq!(fetched(&mut client, CHECKED).await, DENIED);
    assert_eq!(fetched(&mut client, "nowhere").await, DENIED);
    assert_eq!(produced(&mut client, TOPIC).await, DENIED);
    assert_eq!(client.call(4, &InitProducerIdRequest::default().with_transactional_id(None)).await.error_code, 31);
    let commit = |topic: &str| {
        use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    };
    let code =
        async |client: &mut Client, topic| client.call(8, &commit(topic)).await.topics[0].partitions[0].error_code;
    assert_eq!(code(&mut client, TOPIC).await, 0);
    assert_eq!(code(&mut client, CHECKED).await, DENIED);
    let listed = list_offsets_request::ListOffsetsTopic::default()
        .with_name(name(CHECKED))
        .with_partitions(vec![list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1)]);
    let offsets = client.call(5, &ListOffsetsRequest::default().with_topics(vec![listed])).await;
    assert_eq!(offsets.topics[0].partitions[0].error_code, DENIED);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("g"))]);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 30);
}

#[tokio::test]
async fn an_admin_may_do_everything() {
    let keys = Keys::new();
    let admin = keys.make("admin", Grant::admin());
    let broker = Broker::start_with(keys.config()).await;
    let mut client = client_with(&broker, &admin).await;
    assert_eq!((produced(&mut client, TOPIC).await, fetched(&mut client, TOPIC).await), (0, 0));
    assert!(seen(&mut client).await.contains(&CHECKED.to_owned()));
    let wanted = create_topics_request::CreatableTopic::default().with_name(name("mine")).with_num_partitions(1);
    let create = CreateTopicsRequest::default().with_topics(vec![wanted.with_replication_factor(1)]);
    assert_eq!(client.call(7, &create).await.topics[0].error_code, 0);
    assert_eq!(client.call(4, &ListGroupsRequest::default()).await.error_code, 0);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name("mine")]);
    assert_eq!(client.call(5, &delete).await.responses[0].error_code, 0);
}

#[tokio::test]
async fn rates_go_by_the_key_whatever_a_client_calls_itself() {
    let keys = Keys::new();
    let (one, other) = (keys.make("one", Grant::send(["*"])), keys.make("other", Grant::send(["*"])));
    let config = KafkaConfig { produce_bytes_per_second: Some(50), ..keys.config() };
    let broker = Broker::start_with(config).await;
    let throttled = async |key: &str| {
        let mut client = client_with(&broker, key).await;
        client.call(9, &produce_to(TOPIC)).await.throttle_time_ms > 0
    };
    assert!(throttled(&one).await, "a batch is more than a second's worth");
    assert!(throttled(&one).await);
    let mut fresh = client_with(&broker, &other).await;
    let first = fresh.call(9, &produce_to(TOPIC)).await.throttle_time_ms;
    let mut again = client_with(&broker, &one).await;
    assert!(again.call(9, &produce_to(TOPIC)).await.throttle_time_ms > first);
}
