//! The Redis door: reads the cache for any Redis client (RESP2, pipelining).
//!
//! - [`RedisServer`]: listener, connections, shutdown;
//! - [`resp`]: the protocol; [`commands`]: what is answered.

mod commands;
mod resp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::QueryError;
use resp::{Reply, decode, encode};

/// Replies of a pipeline are sent once they reach this size, so that a client's pipeline does not fill memory.
const REPLY_BYTES: usize = 64 << 10;
/// How long a client may leave its replies unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The cache as the door sees it. Called for every command: must not block.
pub trait CacheReader: Send + Sync {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// Milliseconds until the key expires: `None` without such a key, `Some(None)` where it does not expire.
    fn ttl_ms(&self, key: &[u8]) -> Option<Option<u64>>;
    /// Keys held.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug, Clone)]
pub struct RedisConfig {
    pub connections_max: usize,
}

impl Default for RedisConfig {
    fn default() -> RedisConfig {
        RedisConfig { connections_max: 1000 }
    }
}

pub struct RedisServer {
    listener: TcpListener,
    address: SocketAddr,
    cache: Arc<dyn CacheReader>,
    config: RedisConfig,
}

impl RedisServer {
    pub async fn bind(
        address: SocketAddr,
        cache: Arc<dyn CacheReader>,
        config: RedisConfig,
    ) -> Result<RedisServer, QueryError> {
        let failed = |error| QueryError::Listen { address, setting: "query.redis", error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(RedisServer { listener, address, cache, config })
    }

    /// Serves on a listener that is bound already.
    pub fn new(
        listener: TcpListener,
        cache: Arc<dyn CacheReader>,
        config: RedisConfig,
    ) -> std::io::Result<RedisServer> {
        let address = listener.local_addr()?;
        Ok(RedisServer { listener, address, cache, config })
    }

    /// Where it listens: with port 0 the one that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub async fn serve(self, stop: CancellationToken) {
        let permits = Arc::new(Semaphore::new(self.config.connections_max));
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = clients.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a Redis connection failed");
                    }
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((mut socket, peer)) => match permits.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let (cache, stop) = (self.cache.clone(), stop.clone());
                        clients.spawn(async move {
                            tokio::select! {
                                () = stop.cancelled() => {}
                                ended = serve(socket, cache.as_ref()) => if let Err(error) = ended {
                                    tracing::debug!(%peer, %error, "Redis connection ended");
                                }
                            }
                            drop(permit);
                        });
                    }
                    Err(_) => {
                        tracing::warn!(%peer, limit = self.config.connections_max, "too many Redis connections");
                        let _ = socket.try_write(b"-ERR max number of clients reached\r\n");
                        let _ = socket.shutdown().await;
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a Redis connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        while clients.join_next().await.is_some() {}
    }
}

async fn serve(mut socket: TcpStream, cache: &dyn CacheReader) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(4096);
    let mut output = BytesMut::with_capacity(4096);
    loop {
        loop {
            let (reply, last) = match decode(&mut input) {
                Ok(None) => break,
                Ok(Some(command)) if command.is_empty() => continue,
                Ok(Some(command)) => commands::run(&command, cache),
                Err(error) => (Reply::Error(format!("ERR {error}")), true),
            };
            encode(&reply, &mut output);
            if last {
                flush(&mut socket, &mut output).await?;
                return socket.shutdown().await;
            }
            if output.len() >= REPLY_BYTES {
                flush(&mut socket, &mut output).await?;
            }
        }
        flush(&mut socket, &mut output).await?;
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

async fn flush(socket: &mut TcpStream, output: &mut BytesMut) -> std::io::Result<()> {
    if output.is_empty() {
        return Ok(());
    }
    let bytes: Bytes = output.split().freeze();
    tokio::time::timeout(WRITE_TIMEOUT, socket.write_all(&bytes)).await?
}
