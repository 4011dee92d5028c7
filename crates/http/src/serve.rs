//! HTTP/1.1 connections on a listener: bounded in number, in the time they may take, and in how long they delay exit.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::Problem;
use crate::incoming::Incoming;
use crate::request_id::RequestIds;
use crate::stall::StallGuard;
use crate::traffic::{self, Traffic};

/// Bytes hyper buffers of a connection at most; the request's head must fit.
const CONNECTION_BUFFER_BYTES: usize = 128 << 10;
/// How long a connection is kept to let the peer read an answer that came before its body had been read.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 20;

#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// For the request line and headers; an idle connection is closed after it too.
    pub header_timeout: Duration,
    /// How long a peer may read nothing of a response.
    pub write_timeout: Duration,
    /// Further connections wait in the listener's backlog.
    pub connections_max: usize,
    /// How long requests under way may delay the shutdown.
    pub shutdown_grace: Duration,
    /// Counts connections and requests.
    pub traffic: Arc<Traffic>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            header_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(20),
            connections_max: 512,
            shutdown_grace: Duration::from_millis(1500),
            traffic: Arc::default(),
        }
    }
}

/// Serves until `shutdown`, then closes the listener at once, lets requests under way finish within the grace and drops
/// the rest. Handlers find the peer's address as `ConnectInfo<SocketAddr>`.
pub async fn serve(listener: TcpListener, router: Router, options: ServeOptions, shutdown: CancellationToken) {
    let incoming = Incoming::new(listener, options.connections_max, options.traffic.clone());
    let ids = Arc::new(RequestIds::new());
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = incoming.next() => next,
        };
        while connections.try_join_next().is_some() {}
        let connection = connection(stream, peer, router.clone(), ids.clone(), options.clone(), shutdown.clone());
        connections.spawn(async move {
            let _place = place;
            connection.await;
        });
    }
    drop(incoming);
    let drained = timeout(options.shutdown_grace, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "requests still under way at shutdown were dropped");
        connections.shutdown().await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    ids: Arc<RequestIds>,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    let traffic = options.traffic.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let mut begun = traffic.begin(traffic::method(request.method()));
        request.extensions_mut().insert(ConnectInfo(peer));
        let named = ids.name(&request);
        let answered = router.clone().oneshot(request);
        Box::pin(async move {
            let response = answered.await.map(|response| named.finish(response))?;
            begun.ended(response.status().as_u16());
            Ok::<_, std::convert::Infallible>(response)
        })
    });
    let io = TokioIo::new(StallGuard::new(stream, options.write_timeout, options.traffic.clone()));
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(io, service);
    let mut closing = false;
    let served = loop {
        tokio::select! {
            served = poll_fn(|context| connection.poll_without_shutdown(context)) => break served,
            () = shutdown.cancelled(), if !closing => closing = true,
        }
        Pin::new(&mut connection).graceful_shutdown();
    };
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended early");
        let head_begun = !parts.read_buf.is_empty();
        if !error.is_timeout() || !head_begun {
            return;
        }
        if io.write_all(&too_slow(options.header_timeout)).await.is_err() {
            return;
        }
    }
    // Closing while the peer still sends makes the kernel reset the connection, and the answer is lost with it.
    if io.shutdown().await.is_ok() && !shutdown.is_cancelled() {
        let _ = timeout(LINGER, discard(&mut io)).await;
    }
}

/// Hyper has no answer of its own for a head that does not arrive.
fn too_slow(limit: Duration) -> Vec<u8> {
    let detail = format!("the request line and headers did not arrive within {} s", limit.as_secs_f32());
    let json = Problem::timeout(detail).json(None);
    let head = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        json.len()
    );
    [head.into_bytes(), json].concat()
}

async fn discard(io: &mut StallGuard) {
    let mut buffer = vec![0; 16 << 10];
    let mut discarded = 0;
    while discarded < LINGER_BYTES {
        match io.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => discarded += read,
        }
    }
}
