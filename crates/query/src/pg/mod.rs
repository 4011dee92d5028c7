//! The PostgreSQL door: any PostgreSQL client may ask, in SQL, and nothing can be written.
//!
//! - [`PgServer`]: listener, connection limit, shutdown;
//! - [`connection`]: one client: statement timeout, cancel requests; [`frames`]: messages of bounded size, well-formed;
//! - [`service`]: simple and extended queries; every statement runs on a session of its own that carries its snapshot;
//! - [`statements`]: which statements pass; [`session`]: those that DataFusion does not see (SET, BEGIN, cursors);
//! - [`errors`]: SQLSTATE codes; [`threads`]: what statements run on.
//!
//! Whoever reaches the port is let in: where it listens is the caller's decision.

mod cancel;
mod connection;
mod context;
mod cursor;
mod errors;
mod fractions;
mod frames;
mod json;
mod service;
mod session;
mod statements;
mod threads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Catalog, QueryError};
use connection::Door;
use threads::Threads;

/// As many as DataFusion cuts a statement into (`context.rs`).
const THREADS: usize = 2;

#[derive(Debug, Clone)]
pub struct PgConfig {
    /// Longest run of one statement; a client can shorten it with `SET statement_timeout`.
    pub statement_timeout: Duration,
    pub connections_max: usize,
    /// Memory of all running statements together; beyond it they spill to `spill_dir`.
    pub memory_bytes: usize,
    pub spill_dir: PathBuf,
    pub spill_bytes_max: u64,
    /// Largest message that a client may send.
    pub message_bytes_max: usize,
}

impl PgConfig {
    pub fn new(spill_dir: impl Into<PathBuf>) -> PgConfig {
        PgConfig {
            statement_timeout: Duration::from_secs(300),
            connections_max: 100,
            memory_bytes: 256 << 20,
            spill_dir: spill_dir.into(),
            spill_bytes_max: 10 << 30,
            message_bytes_max: 4 << 20,
        }
    }
}

pub struct PgServer {
    listener: TcpListener,
    address: SocketAddr,
    door: Arc<Door>,
    connections_max: usize,
    threads: Threads,
}

impl PgServer {
    pub async fn bind(address: SocketAddr, catalog: Catalog, config: PgConfig) -> Result<PgServer, QueryError> {
        let failed = |error| QueryError::Listen { address, setting: "query.postgres", error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        PgServer::new(listener, catalog, config)
    }

    /// Serves on a listener that is bound already.
    pub fn new(listener: TcpListener, catalog: Catalog, config: PgConfig) -> Result<PgServer, QueryError> {
        let address = listener.local_addr().map_err(QueryError::Threads)?;
        let connections_max = config.connections_max;
        let door = Arc::new(Door::new(catalog, config)?);
        let threads = Threads::start(THREADS).map_err(QueryError::Threads)?;
        Ok(PgServer { listener, address, door, connections_max, threads })
    }

    /// Where it listens: with port 0 the one that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; running statements are then cut off, each with an error to its client.
    pub async fn serve(self, stop: CancellationToken) {
        let permits = Arc::new(Semaphore::new(self.connections_max));
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = clients.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a PostgreSQL connection failed");
                    }
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => match permits.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let (door, stop) = (self.door.clone(), stop.clone());
                        let client = async move {
                            door.serve(socket, peer, stop).await;
                            drop(permit);
                        };
                        clients.spawn_on(client, self.threads.handle());
                    }
                    Err(_) => {
                        tracing::warn!(%peer, limit = self.connections_max, "too many PostgreSQL connections");
                        connection::refuse(socket, peer).await;
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a PostgreSQL connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        while clients.join_next().await.is_some() {}
    }
}
