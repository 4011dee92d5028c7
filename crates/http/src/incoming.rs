//! Connections of a listener, bounded in number: further ones wait in its backlog.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Traffic;

/// Pause after a failed accept (mostly no file descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub struct Incoming {
    listener: TcpListener,
    places: Arc<Semaphore>,
    traffic: Arc<Traffic>,
}

/// A connection's place among those that are allowed; free again when dropped.
#[derive(Debug)]
pub struct Place {
    traffic: Arc<Traffic>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.traffic.disconnected();
    }
}

impl Incoming {
    pub fn new(listener: TcpListener, connections_max: usize, traffic: Arc<Traffic>) -> Incoming {
        Incoming { listener, places: Arc::new(Semaphore::new(connections_max)), traffic }
    }

    /// The next connection. Safe to cancel.
    pub async fn next(&self) -> (TcpStream, SocketAddr, Place) {
        loop {
            let Ok(permit) = self.places.clone().acquire_owned().await else {
                // The semaphore is never closed.
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                    }
                    self.traffic.connected();
                    return (stream, peer, Place { traffic: self.traffic.clone(), _permit: permit });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
