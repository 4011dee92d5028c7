//! A door on a free port over a gate on a simulated disk, and a client that writes raw bytes.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use playhouse_gate::{Access, Auth, Gate, GateConfig, RateLimits, TopicRule};
use playhouse_http::ingest::{self, IngestConfig, IngestDoor, Origins};
use playhouse_http::{BodyLimits, ByteBudget, ServeOptions, Traffic, serve};
use playhouse_log::disk::SimulatedDisk;
use playhouse_log::{Log, LogConfig, TopicSettings};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SCHEMA: &str = r#"{
    "type": "object",
    "required": ["id", "user"],
    "properties": {"id": {"type": "string"}, "user": {"type": "string"}, "position_ms": {"type": "integer", "minimum": 0}}
}"#;

pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct Limits {
    pub body: BodyLimits,
    pub serve: ServeOptions,
    pub budget_bytes: usize,
    pub gate_bytes: usize,
    pub events_per_request: usize,
    pub origins: Origins,
    pub auth: Auth,
    pub rates: RateLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: BodyLimits::default(),
            serve: ServeOptions::default(),
            budget_bytes: 64 << 20,
            gate_bytes: 64 << 20,
            events_per_request: 10_000,
            origins: Origins::default(),
            auth: Auth::None,
            rates: RateLimits::default(),
        }
    }
}

pub struct Served {
    pub traffic: Arc<Traffic>,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
}

pub async fn listen(options: ServeOptions, router: impl FnOnce(SocketAddr) -> Router) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let traffic = options.traffic.clone();
    let task = tokio::spawn(serve(listener, router(address), options, shutdown.clone()));
    Served { traffic, address, shutdown, task }
}

impl Served {
    /// Requests answered with this status.
    pub fn answered(&self, status: u16) -> u64 {
        let requests = self.traffic.snapshot().requests;
        requests.iter().filter(|it| it.1 == status).map(|it| it.2).sum()
    }
}

pub struct Door {
    pub served: Served,
    pub gate: Arc<Gate>,
    pub disk: SimulatedDisk,
    pub ingest: Arc<IngestDoor>,
    pub budget: Arc<ByteBudget>,
}

pub fn gate(limits: &Limits) -> (Arc<Gate>, SimulatedDisk) {
    let disk = SimulatedDisk::new();
    (gate_on(&disk, limits), disk)
}

fn gate_on(disk: &SimulatedDisk, limits: &Limits) -> Arc<Gate> {
    let log = Log::open(Arc::new(disk.clone()), Path::new("/log"), LogConfig::default()).unwrap();
    let config = GateConfig {
        default_topic: "multimedia_events".to_string(),
        in_flight_bytes: limits.gate_bytes,
        max_event_bytes: 1 << 20,
        max_depth: 32,
        max_events_per_request: limits.events_per_request,
        auto_create_topics: false,
        new_topic: TopicSettings::default(),
    };
    let rule = TopicRule {
        topic: "multimedia_events".to_string(),
        schema: Some(SCHEMA.to_string()),
        schema_id: None,
        key_field: Some("user".to_string()),
        id_field: Some("id".to_string()),
        keep_bad: true,
    };
    Gate::new(log, config, vec![rule]).unwrap()
}

pub async fn door(limits: Limits) -> Door {
    door_on(SimulatedDisk::new(), limits).await
}

/// With whatever is on the disk.
pub async fn door_on(disk: SimulatedDisk, limits: Limits) -> Door {
    let gate = gate_on(&disk, &limits);
    let budget = ByteBudget::new(limits.budget_bytes);
    let config = IngestConfig {
        body: limits.body,
        origins: limits.origins,
        access: Arc::new(Access::new(limits.auth, &limits.rates)),
        ..IngestConfig::default()
    };
    let ingest = IngestDoor::new(gate.clone(), config, budget.clone()).unwrap();
    let served = listen(limits.serve, |_| ingest::router(ingest.clone())).await;
    Door { served, gate, disk, ingest, budget }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that this is a problem document of that status and type; returns its detail.
    pub fn problem(&self, status: u16, name: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], status);
        assert_eq!(json["type"], format!("urn:playhouse:problem:{name}"));
        assert!(!json["title"].as_str().unwrap().is_empty());
        json["detail"].as_str().unwrap().to_string()
    }
}

pub fn request(method_and_path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method_and_path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

pub async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Reads one answer; its body ends where Content-Length says.
pub async fn answer(stream: &mut TcpStream) -> Answer {
    let read = async {
        let mut bytes = Vec::new();
        loop {
            if let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap().to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                let length: usize = length.parse().unwrap();
                if bytes.len() >= head_end + 4 + length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    let body = String::from_utf8(bytes[head_end + 4..][..length].to_vec()).unwrap();
                    return Answer { status, head, body };
                }
            }
            let read = stream.read_buf(&mut bytes).await.unwrap();
            assert!(read > 0, "the connection ended after {:?}", String::from_utf8_lossy(&bytes));
        }
    };
    timeout(DEADLINE, read).await.expect("an answer in time")
}

pub async fn send(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(address).await;
    stream.write_all(bytes).await.unwrap();
    answer(&mut stream).await
}

pub async fn post(door: &Door, headers: &str, body: &[u8]) -> Answer {
    send(door.served.address, &request("POST /events", headers, body)).await
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &request(&format!("GET {path}"), "", b"")).await
}

/// True once the peer has closed.
pub async fn closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("closed in time").is_ok() && rest.is_empty()
}

/// The head in lower case, and the body, of one request on a connection of its own.
pub async fn raw(address: SocketAddr, method_and_path: &str) -> (String, Vec<u8>) {
    let mut stream = connect(address).await;
    stream.write_all(&request(method_and_path, "connection: close\r\n", b"")).await.unwrap();
    let mut bytes = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&bytes[..end]).to_lowercase(), bytes[end + 4..].to_vec())
}

/// The values of all records of a topic, in the order of their times.
pub fn records(door: &Door, topic: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for partition in door.gate.log().topic(topic).unwrap().partitions() {
        let mut bytes = partition.read(0, 1 << 20).unwrap();
        while !bytes.is_empty() {
            let (header, size) = playhouse_log::batch::split_first(&bytes).unwrap();
            let batch = playhouse_log::batch::Records::decompress(&bytes.split_to(size), 1 << 20).unwrap();
            for record in batch.iter() {
                found.push((header.base_timestamp_ms, record.unwrap().value.unwrap_or_default().to_vec()));
            }
        }
    }
    found.sort_by_key(|(time_ms, _)| *time_ms);
    found.into_iter().map(|(_, value)| value).collect()
}

pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}
