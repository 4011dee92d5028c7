//! Accepts connections and keeps them apart: what one does or suffers concerns no other.

use std::sync::Arc;
use std::time::Duration;

use playhouse_gate::Gate;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::KafkaConfig;
use crate::connection;
use crate::groups::{Groups, GroupsError};
use crate::transactions::{Transactions, TransactionsError};

/// How long answers under way may take after a shutdown began.
const DRAIN: Duration = Duration::from_millis(1500);
/// Pause after a failed accept (no file descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Shared {
    pub(crate) gate: Arc<Gate>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) config: KafkaConfig,
    /// In KiB.
    pub(crate) request_budget: Arc<Semaphore>,
    /// In KiB.
    pub(crate) response_budget: Arc<Semaphore>,
    /// Cancelled when the server stops: ends long polls.
    pub(crate) shutdown: CancellationToken,
}

/// Why the server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Groups(#[from] GroupsError),
    #[error(transparent)]
    Transactions(#[from] TransactionsError),
}

pub struct KafkaServer {
    gate: Arc<Gate>,
    groups: Arc<Groups>,
    transactions: Arc<Transactions>,
    config: KafkaConfig,
}

impl KafkaServer {
    /// Reads the committed offsets of consumer groups and the states of transactions from the log. Blocks while it does.
    pub fn new(gate: Arc<Gate>, config: KafkaConfig) -> Result<KafkaServer, StartError> {
        let groups = Groups::open(gate.log(), config.groups.clone())?;
        let transactions = Transactions::open(gate.log().clone(), groups.clone(), config.transactions.clone())?;
        Ok(KafkaServer { gate, groups, transactions, config })
    }

    /// Serves until `shutdown`, then lets answers under way finish for a moment.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        let shared = Arc::new(Shared {
            gate: self.gate,
            groups: self.groups,
            transactions: self.transactions,
            request_budget: Arc::new(Semaphore::new(
                (self.config.request_bytes_max.max(self.config.frame_bytes_max)) >> 10,
            )),
            response_budget: Arc::new(Semaphore::new(self.config.response_bytes_max >> 10)),
            config: self.config,
            shutdown: shutdown.clone(),
        });
        let connections = Arc::new(Semaphore::new(shared.config.connections_max));
        let abort = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(shared.groups.clone().run(shutdown.clone()));
        tasks.spawn(shared.transactions.clone().run(shutdown.clone()));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a Kafka connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = connections.clone().try_acquire_owned() else {
                tracing::warn!(%peer, limit = shared.config.connections_max, "too many Kafka connections: closed one");
                continue;
            };
            let connection = connection::run(shared.clone(), stream, peer);
            let abort = abort.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = connection => {}
                    () = abort.cancelled() => {}
                }
                drop(slot);
            });
        }
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            abort.cancel();
            tasks.wait().await;
        }
        Ok(())
    }
}
