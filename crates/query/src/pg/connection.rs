//! One client's connection, from start-up to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{Sink, SinkExt, StreamExt};
use pgwire::api::auth::noop::NoopStartupHandler;
use pgwire::api::{ClientInfo, DefaultClient, NoopHandler, PgWireConnectionState};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::response::GssEncResponse;
use pgwire::messages::response::SslResponse;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage, SslNegotiationMetaMessage};
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use super::PgConfig;
use super::cancel::{Session, Sessions};
use super::context::Base;
use super::cursor::Prepared;
use super::errors::{error, fatal, info, user};
use super::frames::Checked;
use super::service::Service;
use crate::{Catalog, QueryError};

const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an error message may wait for a client that does not read.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// Where the wire library's `SET statement_timeout` keeps it.
const TIMEOUT_SETTING: &str = "statement_timeout_ms";

type Client = Framed<Checked, PgWireMessageServerCodec<Prepared>>;

/// What all connections share.
pub(super) struct Door {
    config: PgConfig,
    service: Arc<Service>,
    sessions: Arc<Sessions>,
    startup: Arc<Startup>,
}

struct Startup {
    sessions: Arc<Sessions>,
    statement_timeout: Duration,
}

#[async_trait]
impl NoopStartupHandler for Startup {
    async fn post_startup<C>(&self, client: &mut C, _message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let (pid, secret) = client.pid_and_secret_key();
        client.session_extensions().insert(self.sessions.enter(pid, &secret));
        let timeout_ms = self.statement_timeout.as_millis().to_string();
        client.metadata_mut().insert(TIMEOUT_SETTING.to_owned(), timeout_ms);
        Ok(())
    }
}

impl Door {
    pub(super) fn new(catalog: Catalog, config: PgConfig) -> Result<Door, QueryError> {
        let service = Arc::new(Service::new(Arc::new(Base::new(catalog, &config)?)));
        let sessions = Arc::new(Sessions::default());
        let startup = Arc::new(Startup { sessions: sessions.clone(), statement_timeout: config.statement_timeout });
        Ok(Door { config, service, sessions, startup })
    }

    pub(super) async fn serve(&self, socket: TcpStream, peer: SocketAddr, stop: CancellationToken) {
        let mut client = framed(socket, peer, self.config.message_bytes_max);
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = timeout(STARTUP_TIMEOUT, self.start(&mut client)) => ended.unwrap_or(Err(None)),
        };
        let ended = match ended {
            Ok(()) => self.answer(&mut client, &stop).await,
            Err(ended) => Err(ended),
        };
        if let Err(Some(error)) = ended {
            tracing::debug!(%peer, %error, "PostgreSQL connection ended");
            let message = PgWireBackendMessage::ErrorResponse(error.into());
            let _ = timeout(FAREWELL_TIMEOUT, client.send(message)).await;
        }
        let _ = timeout(FAREWELL_TIMEOUT, client.close()).await;
    }

    /// Declines encryption, then takes the start-up message or a cancel request.
    async fn start(&self, client: &mut Client) -> Result<(), Option<ErrorInfo>> {
        while matches!(client.state(), PgWireConnectionState::AwaitingSslRequest) {
            let reply = match next(client).await? {
                PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresSsl(_)) => {
                    PgWireBackendMessage::SslResponse(SslResponse::Refuse)
                }
                PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresGss(_)) => {
                    PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse)
                }
                _ => {
                    client.set_state(PgWireConnectionState::AwaitingStartup);
                    break;
                }
            };
            client.send(reply).await.map_err(|_| None)?;
        }
        while !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            let message = next(client).await?;
            let is_cancel = matches!(message, PgWireFrontendMessage::CancelRequest(_));
            self.process(message, client).await.map_err(|error| Some(info(error)))?;
            if is_cancel {
                return Err(None);
            }
        }
        Ok(())
    }

    async fn answer(&self, client: &mut Client, stop: &CancellationToken) -> Result<(), Option<ErrorInfo>> {
        let stopping = || Some(fatal("57P01", "the server is shutting down"));
        let session = client.session_extensions().get::<Session>();
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return Err(stopping()),
                message = next(client) => message?,
            };
            if matches!(message, PgWireFrontendMessage::Terminate(_)) {
                return Ok(());
            }
            let extended = message.is_extended_query();
            let cancelled = session.as_ref().map(|session| session.begin()).unwrap_or_default();
            let limit = self.statement_timeout(client);
            let outcome = tokio::select! {
                outcome = self.process(message, client) => outcome,
                () = cancelled.cancelled() => Err(PgWireError::QueryCanceled),
                () = tokio::time::sleep(limit) => Err(user(error("57014", format!(
                    "cancelled after the statement timeout of {} s", limit.as_secs_f64()
                )))),
                () = stop.cancelled() => return Err(stopping()),
            };
            if let Err(failed) = outcome {
                let failed = info(failed);
                if failed.is_fatal() {
                    return Err(Some(failed));
                }
                match timeout(FAREWELL_TIMEOUT, process_error(client, user(failed), extended)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return Err(None),
                }
            }
        }
    }

    async fn process(&self, message: PgWireFrontendMessage, client: &mut Client) -> PgWireResult<()> {
        let copy = Arc::new(NoopHandler);
        let (startup, service) = (self.startup.clone(), self.service.clone());
        process_message(message, client, startup, service.clone(), service, copy, self.sessions.clone()).await
    }

    /// The client's own, unless it is longer than what the door allows.
    fn statement_timeout(&self, client: &Client) -> Duration {
        let own = client.metadata().get(TIMEOUT_SETTING).and_then(|value| value.parse().ok());
        own.map_or(self.config.statement_timeout, |own| self.config.statement_timeout.min(Duration::from_millis(own)))
    }
}

/// Says that there is no room, and closes.
pub(super) async fn refuse(socket: TcpStream, peer: SocketAddr) {
    let mut client = framed(socket, peer, 0);
    let full = fatal("53300", "too many connections: raise query.postgres_connections_max or close some");
    let farewell = async {
        let _ = client.send(PgWireBackendMessage::ErrorResponse(full.into())).await;
        let _ = client.close().await;
    };
    let _ = timeout(Duration::from_millis(100), farewell).await;
}

fn framed(socket: TcpStream, peer: SocketAddr, message_bytes_max: usize) -> Client {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let socket = Checked::new(socket, message_bytes_max);
    Framed::new(socket, PgWireMessageServerCodec::new(DefaultClient::new(peer, false)))
}

/// The next message; `Err(None)` where the client has gone.
async fn next(client: &mut Client) -> Result<PgWireFrontendMessage, Option<ErrorInfo>> {
    match client.next().await {
        Some(Ok(message)) => Ok(message),
        Some(Err(PgWireError::IoError(failed))) if failed.kind() == io::ErrorKind::InvalidData => {
            Err(Some(fatal("08P01", failed.to_string())))
        }
        Some(Err(PgWireError::IoError(_))) | None => Err(None),
        Some(Err(failed)) => Err(Some(fatal("08P01", failed.to_string()))),
    }
}
