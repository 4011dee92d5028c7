//! The server: which services there are, what a connection may take, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use playhouse_gate::{Access, Gate};
use playhouse_http::{Incoming, Traffic};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::answers::Untaken;
use crate::doorway::{Doorway, Rules};
use crate::incoming::connections;
use crate::ingest::IngestService;
use crate::metered::Arrival;
use crate::v1::ingest_server::IngestServer;

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
/// A peer that answers no ping for so long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// What a peer may send of one stream, and of a connection, before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

#[derive(Debug, Clone)]
pub struct GrpcConfig {
    /// Further connections wait in the listener's backlog.
    pub connections_max: usize,
    /// Calls of one connection at once.
    pub streams_max: u32,
    /// A larger message is refused, and its call with it.
    pub message_bytes_max: usize,
    /// Of requests of all connections, from arrival to durable.
    pub in_flight_bytes: usize,
    pub arrival: Arrival,
    /// A caller that takes nothing of its answers for so long loses its connection.
    pub answer_patience: Duration,
    /// Who may send, and how much.
    pub access: Arc<Access>,
    /// Counts connections and calls.
    pub traffic: Arc<Traffic>,
    /// How long calls under way may delay the shutdown.
    pub shutdown_grace: Duration,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        GrpcConfig {
            connections_max: 512,
            streams_max: 64,
            message_bytes_max: 16 << 20,
            in_flight_bytes: 128 << 20,
            arrival: Arrival::default(),
            answer_patience: Duration::from_secs(20),
            access: Arc::default(),
            traffic: Arc::default(),
            shutdown_grace: Duration::from_millis(1000),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    #[error("cannot set up reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("connections cannot be served: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves until `stop`, then lets calls under way finish within the grace and drops the rest.
pub async fn serve(
    listener: TcpListener,
    gate: Arc<Gate>,
    config: GrpcConfig,
    stop: CancellationToken,
) -> Result<(), GrpcError> {
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<IngestServer<IngestService>>().await;
    let service = IngestServer::new(IngestService { gate, access: config.access.clone(), stop: stop.clone() })
        .max_decoding_message_size(config.message_bytes_max);
    let untaken = Arc::new(Untaken::default());
    let doorway = Doorway(Arc::new(Rules {
        access: config.access,
        traffic: config.traffic.clone(),
        budget: Arc::new(Semaphore::new(config.in_flight_bytes.min(Semaphore::MAX_PERMITS))),
        untaken: untaken.clone(),
        arrival: config.arrival,
        answer_patience: config.answer_patience,
    }));
    let server = Server::builder()
        .max_concurrent_streams(config.streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_INTERVAL))
        .layer(doorway)
        .add_service(service)
        .add_service(health)
        .add_service(descriptors().build_v1()?)
        // What most clients of today ask.
        .add_service(descriptors().build_v1alpha()?);
    let stopped = stop.clone();
    let ending = async move {
        stopped.cancelled().await;
        reporter.set_not_serving::<IngestServer<IngestService>>().await;
    };
    let incoming = Incoming::new(listener, config.connections_max, config.traffic.clone());
    let incoming = connections(incoming, config.answer_patience, config.traffic);
    let served = server.serve_with_incoming_shutdown(incoming, ending);
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(config.shutdown_grace).await;
    };
    tokio::select! {
        served = served => Ok(served?),
        never = untaken.watch(config.answer_patience) => match never {},
        () = too_late => {
            tracing::warn!("gRPC calls still under way at shutdown were dropped");
            Ok(())
        }
    }
}
