//! The proxy in front of a broker on a free port, over a log in a temporary directory; requests as a caller sends them.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use playhouse_gate::{Gate, GateConfig, TopicRule};
use playhouse_kafka::{KafkaConfig, KafkaServer};
use playhouse_log::disk::RealDisk;
use playhouse_log::{Log, LogConfig, TopicSettings};
use playhouse_proxy::ProxyConfig;
use playhouse_registry::{Registry, RegistryConfig};
use playhouse_testkit::http::{self, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub const V2: &str = "application/vnd.kafka.v2+json";
pub const JSON_V2: &str = "application/vnd.kafka.json.v2+json";
pub const BINARY_V2: &str = "application/vnd.kafka.binary.v2+json";

pub struct House {
    pub proxy: SocketAddr,
    pub broker: SocketAddr,
    pub log: Arc<Log>,
    pub registry: Arc<Registry>,
    stop: CancellationToken,
    runtime: Option<Runtime>,
    _directory: TempDir,
}

impl House {
    pub fn start() -> House {
        House::start_with(ProxyConfig::default())
    }

    pub fn start_with(config: ProxyConfig) -> House {
        let directory = tempfile::tempdir().unwrap();
        let (log, registry, gate) = open_gate(directory.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let (proxy, broker) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let broker = listener.local_addr().unwrap();
            let server = KafkaServer::new(gate, KafkaConfig::default()).unwrap();
            tokio::spawn(server.serve(listener, stop.clone()));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let proxy = listener.local_addr().unwrap();
            let registry = registry.clone();
            tokio::spawn(playhouse_proxy::serve(listener, broker.to_string(), registry, config, stop.clone()));
            (proxy, broker)
        });
        House { proxy, broker, log, registry, stop, runtime: Some(runtime), _directory: directory }
    }

    pub fn topic(&self, name: &str, partitions: i32) {
        self.log.ensure_topic(name, TopicSettings { partitions, ..TopicSettings::default() }).unwrap();
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        http::request(self.proxy, method, path, headers, body.as_bytes())
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "").into()
    }

    pub fn get_in(&self, path: &str, accept: &str) -> Answer {
        self.request("GET", path, &[("Accept", accept)], "").into()
    }

    pub fn post(&self, path: &str, media: &str, body: impl ToString) -> Answer {
        self.request("POST", path, &[("Content-Type", media)], &body.to_string()).into()
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[], "").into()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// Status, content type and body; the body is null where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub media: String,
    pub body: Value,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        let media = response.header("content-type").unwrap_or_default().to_owned();
        let body = if response.body.is_empty() { Value::Null } else { response.json() };
        Answer { status: response.status, media, body }
    }
}

impl Answer {
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: u32) {
        assert_eq!((self.status, self.body["error_code"].as_u64()), (status, Some(code.into())), "{self:?}");
        assert!(self.body["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
    }
}

pub fn open_gate(directory: &std::path::Path) -> (Arc<Log>, Arc<Registry>, Arc<Gate>) {
    let log = Log::open(Arc::new(RealDisk), directory, LogConfig::default()).unwrap();
    let config = GateConfig {
        default_topic: "events".to_owned(),
        in_flight_bytes: 64 << 20,
        max_event_bytes: 1 << 20,
        max_depth: 32,
        max_events_per_request: 10_000,
        auto_create_topics: true,
        new_topic: TopicSettings { partitions: 2, ..TopicSettings::default() },
    };
    let rule = TopicRule {
        topic: "events".to_owned(),
        schema: None,
        schema_id: None,
        key_field: None,
        id_field: None,
        keep_bad: true,
    };
    let registry = Registry::open(&log, RegistryConfig::default()).unwrap();
    let gate = Gate::with_registry(log.clone(), config, vec![rule], registry.clone()).unwrap();
    (log, registry, gate)
}
