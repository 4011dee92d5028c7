//! The REST proxy: Kafka over HTTP, as the Confluent REST Proxy's API has it, in front of any broker.
//!
//! - `v2`: `/topics`, `/consumers`, `/brokers`: producing, reading as a member of a consumer group;
//! - `v3`: `/v3/clusters`: topics, partitions, settings, records as a stream;
//! - `consumers`: what is kept between requests of those who read;
//! - `media`, `formats`: content types, and keys and values between JSON and bytes (`formats/schemas.rs` has those with a
//!   schema of the registry);
//! - `brokers`: connections lent to one request at a time; `caller`: with whose credentials; `produce`: records on their
//!   way;
//! - `request`, `error`: bodies within limits, and `{"error_code", "message"}`.
//!
//! It speaks to brokers by `playhouse-client` only, over sockets, so it knows nothing of Playhouse's log, gate or SQL; what a
//! broker refuses, it passes on. Schemas it has from the registry of this process.

mod brokers;
mod caller;
mod consumers;
mod error;
mod formats;
mod media;
mod produce;
mod request;
mod v2;
mod v3;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use playhouse_client::Credentials;
use playhouse_http::this_machine_only;
use playhouse_http::{BodyLimits, ByteBudget, ServeOptions, Traffic};
use playhouse_registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt, service_fn};

use crate::brokers::Brokers;
use crate::consumers::Consumers;
use crate::error::ApiError;
use crate::formats::schemas::Schemas;

#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Further connections wait to be accepted.
    pub connections_max: usize,
    /// A larger request is refused.
    pub request_bytes_max: usize,
    /// Requests, and records on their way out, of all connections.
    pub memory_bytes: usize,
    /// To the brokers, apart from those that consumers have.
    pub broker_connections: usize,
    /// Consumer instances.
    pub consumers_max: usize,
    /// A consumer instance that nobody asks for anything ends after this.
    pub consumer_idle_timeout: Duration,
    /// The most that one read of a consumer returns, apart from a first record that is larger.
    pub records_bytes_max: usize,
    /// Whether the brokers do: callers then show what is shown to them.
    pub asks_for_credentials: bool,
    pub metrics: Arc<ProxyMetrics>,
}

/// What the proxy counts.
#[derive(Debug, Default)]
pub struct ProxyMetrics {
    pub traffic: Arc<Traffic>,
    consumers: AtomicUsize,
}

impl ProxyMetrics {
    /// Consumer instances.
    pub fn consumers(&self) -> usize {
        self.consumers.load(Ordering::Relaxed)
    }
}

impl Default for ProxyConfig {
    fn default() -> Self {
        ProxyConfig {
            connections_max: 256,
            request_bytes_max: 16 << 20,
            memory_bytes: 128 << 20,
            broker_connections: 8,
            consumers_max: 100,
            consumer_idle_timeout: Duration::from_secs(300),
            records_bytes_max: 8 << 20,
            asks_for_credentials: false,
            metrics: Arc::default(),
        }
    }
}

/// What every request needs.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// With the caller's credentials.
    brokers: Arc<Brokers>,
    consumers: Arc<Consumers>,
    schemas: Arc<Schemas>,
    asks_for_credentials: bool,
    records_bytes_max: usize,
    bound: SocketAddr,
    budget: Arc<ByteBudget>,
    limits: BodyLimits,
}

impl Proxy {
    fn for_caller(&self, credentials: Credentials) -> Proxy {
        Proxy { brokers: Arc::new(self.brokers.with(credentials)), ..self.clone() }
    }
}

/// Serves until `stop`. `bootstrap` are the brokers, `host:port` with commas; they need not be there yet.
pub async fn serve(
    listener: TcpListener,
    bootstrap: String,
    registry: Arc<Registry>,
    config: ProxyConfig,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let bound = listener.local_addr()?;
    let options = ServeOptions {
        connections_max: config.connections_max,
        traffic: config.metrics.traffic.clone(),
        ..ServeOptions::default()
    };
    let brokers = Arc::new(Brokers::new(bootstrap, config.broker_connections));
    let proxy = Arc::new(Proxy {
        consumers: Arc::new(Consumers::new(config.consumers_max, config.consumer_idle_timeout, config.metrics.clone())),
        brokers,
        schemas: Arc::new(Schemas::new(registry, !config.asks_for_credentials)),
        asks_for_credentials: config.asks_for_credentials,
        records_bytes_max: config.records_bytes_max,
        bound,
        budget: ByteBudget::new(config.memory_bytes),
        limits: BodyLimits {
            compressed_bytes_max: config.request_bytes_max,
            bytes_max: config.request_bytes_max,
            ..BodyLimits::default()
        },
    });
    let served = playhouse_http::serve(listener, router(proxy.clone(), bound), options, stop.clone());
    tokio::join!(served, proxy.consumers.sweep(stop));
    Ok(())
}

fn router(proxy: Arc<Proxy>, bound: SocketAddr) -> Router {
    let routes = v2::routes()
        .merge(v3::routes())
        .method_not_allowed_fallback(|| async { ApiError::plain(StatusCode::METHOD_NOT_ALLOWED).closing() })
        .fallback(|| async { ApiError::plain(StatusCode::NOT_FOUND).closing() })
        .with_state(proxy);
    let routes = this_machine_only(routes, bound);
    // Clients of this API end paths with a slash or not, as they like.
    let trimmed = service_fn(move |mut request: Request| {
        if let Some(uri) = without_slash(request.uri()) {
            *request.uri_mut() = uri;
        }
        routes.clone().oneshot(request)
    });
    Router::new().fallback_service(trimmed)
}

fn without_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/').filter(|path| !path.is_empty())?;
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{path}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_goes() {
        let trimmed = |uri: &str| without_slash(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(trimmed("/topics/?a=b/").as_deref(), Some("/topics?a=b/"));
        assert_eq!(trimmed("http://host/topics/").as_deref(), Some("http://host/topics"));
        assert_eq!(trimmed("/topics"), None);
        assert_eq!(trimmed("/"), None);
    }
}
