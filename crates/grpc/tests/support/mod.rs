//! A gRPC door on a free port over a gate on a simulated disk; a client, and one that writes frames as it likes.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest as H2Sender};
use h2::{RecvStream, SendStream};
use playhouse_gate::{Gate, GateConfig, TopicRule};
use playhouse_grpc::v1::{SendReply, SendRequest};
use playhouse_grpc::{GrpcConfig, serve};
use playhouse_log::disk::SimulatedDisk;
use playhouse_log::{Log, LogConfig, TopicSettings};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{HeaderMap, Request};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

pub const TOPIC: &str = "events";
pub const DEADLINE: Duration = Duration::from_secs(30);
pub const SEND: &str = "/playhouse.v1.Ingest/Send";
pub const SEND_STREAM: &str = "/playhouse.v1.Ingest/SendStream";

pub struct Door {
    pub address: SocketAddr,
    pub gate: Arc<Gate>,
    _stop: DropGuard,
}

pub async fn door(config: GrpcConfig) -> Door {
    let log = Log::open(Arc::new(SimulatedDisk::new()), Path::new("/log"), LogConfig::default()).unwrap();
    let gate_config = GateConfig {
        default_topic: TOPIC.to_owned(),
        in_flight_bytes: 64 << 20,
        max_event_bytes: 1 << 20,
        max_depth: 32,
        max_events_per_request: 200_000,
        auto_create_topics: false,
        new_topic: TopicSettings::default(),
    };
    let rule = TopicRule {
        topic: TOPIC.to_owned(),
        schema: Some(r#"{"type":"object","required":["id"]}"#.to_owned()),
        schema_id: None,
        key_field: None,
        id_field: Some("id".to_owned()),
        keep_bad: true,
    };
    let other = TopicRule { topic: "other".to_owned(), schema: None, ..rule.clone() };
    let gate = Gate::new(log, gate_config, vec![rule, other]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, gate.clone(), config, stop.clone()));
    Door { address, gate, _stop: stop.drop_guard() }
}

pub async fn client(door: &Door) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", door.address)).unwrap();
    Grpc::new(endpoint.connect().await.unwrap())
}

pub fn batch(ids: impl IntoIterator<Item = String>) -> SendRequest {
    let events = ids.into_iter().map(|id| format!(r#"{{"id":"{id}"}}"#).into());
    SendRequest { topic: String::new(), events: events.collect() }
}

pub async fn send(client: &mut Grpc<Channel>, request: SendRequest) -> Result<SendReply, Status> {
    send_as(client, request, None).await
}

pub async fn send_as(
    client: &mut Grpc<Channel>,
    request: SendRequest,
    authorization: Option<&str>,
) -> Result<SendReply, Status> {
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(request);
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    let path = PathAndQuery::from_static(SEND);
    client.unary(request, path, ProstCodec::default()).await.map(tonic::Response::into_inner)
}

/// Until what is asked holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

/// HTTP/2 without gRPC's manners.
pub struct Raw(H2Sender<Bytes>);

pub async fn raw(door: &Door) -> Raw {
    let stream = TcpStream::connect(door.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    Raw(sender)
}

impl Raw {
    pub async fn call(&mut self, path: &str, headers: &[(&str, &str)]) -> (ResponseFuture, SendStream<Bytes>) {
        self.0 = self.0.clone().ready().await.unwrap();
        let request = Request::post(format!("http://door{path}")).header("content-type", "application/grpc");
        let request = request.header("te", "trailers");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.0.send_request(request.body(()).unwrap(), false).unwrap()
    }
}

/// A message's beginning, as long as it says it is.
pub fn prefixed(length: usize, body: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend(body);
    bytes.into()
}

/// The status that a call ends with, in front or at the end.
pub async fn ending(answer: ResponseFuture) -> Status {
    let ended = async {
        let response = match answer.await {
            Ok(response) => response,
            Err(error) => return Status::unknown(error.to_string()),
        };
        let (head, mut body) = response.into_parts();
        match status(&head.headers) {
            Some(status) => status,
            None => trailing(&mut body).await,
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("the call ends")
}

async fn trailing(body: &mut RecvStream) -> Status {
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => body.flow_control().release_capacity(data.len()).unwrap(),
            Err(error) => return Status::unknown(error.to_string()),
        }
    }
    match body.trailers().await {
        Ok(Some(trailers)) => status(&trailers).expect("a status at the end"),
        other => Status::unknown(format!("{other:?}")),
    }
}

fn status(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

pub fn code(outcome: &Result<SendReply, Status>) -> Code {
    outcome.as_ref().map_or_else(Status::code, |_| Code::Ok)
}
