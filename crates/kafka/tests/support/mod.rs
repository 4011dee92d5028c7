//! A broker on a free port over a log in a temporary directory, and a client that speaks raw frames.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use playhouse_gate::{Gate, GateConfig, TopicRule};
use playhouse_kafka::{KafkaConfig, KafkaServer, Metrics};
use playhouse_log::batch::{BatchBuilder, Compression};
use playhouse_log::disk::RealDisk;
use playhouse_log::{Log, LogConfig, TopicSettings};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const TOPIC: &str = "events";
/// Its values are checked: objects with the field `user`.
pub const CHECKED: &str = "checked";
pub const PARTITIONS: i32 = 2;

pub struct Broker {
    pub address: SocketAddr,
    pub log: Arc<Log>,
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    directory: TempDir,
}

impl Broker {
    pub async fn start() -> Broker {
        Broker::start_with(KafkaConfig::default()).await
    }

    pub async fn start_with(config: KafkaConfig) -> Broker {
        Broker::open(tempfile::tempdir().unwrap(), config).await
    }

    pub async fn start_with_disk_budget(bytes: u64) -> Broker {
        let log = LogConfig { disk_budget_bytes: bytes, ..LogConfig::default() };
        Broker::open_with(tempfile::tempdir().unwrap(), KafkaConfig::default(), log).await
    }

    async fn open(directory: TempDir, config: KafkaConfig) -> Broker {
        Broker::open_with(directory, config, LogConfig::default()).await
    }

    async fn open_with(directory: TempDir, config: KafkaConfig, log: LogConfig) -> Broker {
        let (log, gate) = open_gate(directory.path(), log);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = KafkaServer::new(gate, config).unwrap();
        let metrics = server.metrics();
        let serving = tokio::spawn(server.serve(listener, stop.clone()));
        Broker { address, log, metrics, stop, serving, directory }
    }

    pub async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        self.log.close().unwrap();
        self.directory
    }

    pub async fn restart(self) -> Broker {
        let directory = self.stop().await;
        Broker::open(directory, KafkaConfig::default()).await
    }

    pub async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), next_id: 1 }
    }

    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }
}

fn open_gate(directory: &Path, config: LogConfig) -> (Arc<Log>, Arc<Gate>) {
    let log = Log::open(Arc::new(RealDisk), directory, config).unwrap();
    let config = GateConfig {
        default_topic: TOPIC.to_owned(),
        in_flight_bytes: 64 << 20,
        max_event_bytes: 1 << 20,
        max_depth: 32,
        max_events_per_request: 10_000,
        auto_create_topics: true,
        new_topic: TopicSettings { partitions: PARTITIONS, ..TopicSettings::default() },
    };
    let rule = TopicRule {
        topic: TOPIC.to_owned(),
        schema: None,
        schema_id: None,
        key_field: None,
        id_field: None,
        keep_bad: true,
    };
    let checked = TopicRule {
        topic: CHECKED.to_owned(),
        schema: Some(r#"{"type":"object","required":["user"]}"#.to_owned()),
        ..rule.clone()
    };
    let gate = Gate::new(log.clone(), config, vec![rule, checked]).unwrap();
    (log, gate)
}

pub struct Client {
    pub stream: TcpStream,
    next_id: i32,
}

impl Client {
    /// Sends without waiting; returns the correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut body = BytesMut::new();
        header.encode(&mut body, R::header_version(version)).unwrap();
        request.encode(&mut body, version).unwrap();
        self.send_frame(&body).await;
        id
    }

    pub async fn send_frame(&mut self, body: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_i32(body.len() as i32);
        frame.put_slice(body);
        self.stream.write_all(&frame).await.unwrap();
    }

    pub async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let mut frame = self.receive_frame().await.expect("a response");
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes after the response", frame.len());
        (header.correlation_id, response)
    }

    /// `None` when the broker has closed the connection.
    pub async fn receive_frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.unwrap();
        Some(Bytes::from(frame))
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request).await;
        let (answered, response) = self.receive::<R>(version).await;
        assert_eq!(answered, id);
        response
    }

    pub async fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }
}

/// One batch of these values.
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(1_000, None, Some(value.as_bytes()), &[]);
    }
    Bytes::from(builder.build())
}

/// One batch of an idempotent producer.
pub fn sequenced(producer_id: i64, sequence: i32, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer_id, 0, sequence);
    for value in values {
        builder.push(1_000, None, Some(value.as_bytes()), &[]);
    }
    Bytes::from(builder.build())
}

/// The values of whole batches.
pub fn values(mut batches: Bytes) -> Vec<String> {
    use playhouse_log::batch::{Records, split_first};
    let mut out = Vec::new();
    while batches.has_remaining() {
        let (_, length) = split_first(&batches).unwrap();
        let records = Records::decompress(&batches.split_to(length), 1 << 20).unwrap();
        out.extend(records.iter().map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()));
    }
    out
}

/// Writes the decision of a transaction as the coordinator does, in Kafka's format.
pub fn write_transaction_state(
    log: &Log,
    id: &str,
    producer_id: i64,
    epoch: i16,
    commit: bool,
    partitions: &[(&str, i32)],
) {
    let mut key = BytesMut::new();
    key.put_i16(0);
    key.put_i16(id.len() as i16);
    key.put_slice(id.as_bytes());
    let mut value = BytesMut::new();
    value.put_i16(0);
    value.put_i64(producer_id);
    value.put_i16(epoch);
    value.put_i32(60_000);
    value.put_i8(if commit { 2 } else { 3 });
    value.put_i32(partitions.len() as i32);
    for (topic, partition) in partitions {
        value.put_i16(topic.len() as i16);
        value.put_slice(topic.as_bytes());
        value.put_i32(1);
        value.put_i32(*partition);
    }
    value.put_i64(1);
    value.put_i64(1);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(1, Some(&key), Some(&value), &[]);
    log.topic(playhouse_kafka::TRANSACTIONS_TOPIC).unwrap().partitions()[0].append(&builder.build()).unwrap();
}
