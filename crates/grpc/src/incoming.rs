//! Connections as tonic takes them: those of [`Incoming`], which give up on a peer that does not read, and which a call can
//! cut.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use playhouse_http::{Incoming, Place, StallGuard, Traffic};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

pub(crate) struct Connection {
    stream: StallGuard,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Place,
}

/// Whose connection it is. Handlers find it among the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Ends the connection and all of its calls.
    pub(crate) cut: CancellationToken,
}

pub(crate) fn connections(
    incoming: Incoming,
    write_timeout: Duration,
    traffic: Arc<Traffic>,
) -> impl Stream<Item = io::Result<Connection>> {
    futures::stream::unfold(incoming, move |incoming| {
        let traffic = traffic.clone();
        async move {
            let (stream, address, place) = incoming.next().await;
            let peer = Peer { address, cut: CancellationToken::new() };
            let connection = Connection {
                stream: StallGuard::new(stream, write_timeout, traffic),
                cut: Box::pin(peer.cut.clone().cancelled_owned()),
                peer,
                _place: place,
            };
            Some((Ok(connection), incoming))
        }
    })
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 reads for as long as a connection lives.
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its answers")));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
