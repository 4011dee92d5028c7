//! Accepts connections and keeps them apart: what one does or suffers concerns no other.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use playhouse_gate::{BAD_EVENTS_TOPIC, Gate, VALIDATION_SETTING, Validation};
use playhouse_log::TopicSettings;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::KafkaConfig;
use crate::connection;
use crate::groups::{Groups, GroupsError};
use crate::metrics::{self, Metrics};
use crate::quotas::Quotas;
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
    pub(crate) quotas: Quotas,
    pub(crate) metrics: Arc<Metrics>,
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

impl Shared {
    /// Whether the server itself lives on the topic: it is kept, and keeps its shape.
    pub(crate) fn is_needed(&self, topic: &str) -> bool {
        topic == BAD_EVENTS_TOPIC
            || topic == self.gate.default_topic()
            || self.config.pipeline_topics.iter().any(|it| it == topic)
    }

    /// What holds for a topic where nothing was set on it.
    pub(crate) fn topic_defaults(&self, topic: &str) -> TopicSettings {
        let mut defaults = self.config.new_topic.clone();
        let validation = self.gate.default_validation(topic);
        if validation != Validation::default() {
            defaults.notes.insert(VALIDATION_SETTING.to_owned(), validation.name().to_owned());
        }
        defaults
    }
}

pub struct KafkaServer {
    gate: Arc<Gate>,
    groups: Arc<Groups>,
    transactions: Arc<Transactions>,
    config: KafkaConfig,
    metrics: Arc<Metrics>,
}

/// Open connections of each address.
type PerAddress = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A connection's place among those that are open; free again when dropped.
struct Place {
    address: IpAddr,
    open: PerAddress,
    metrics: Arc<Metrics>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
        self.metrics.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl KafkaServer {
    /// Reads the committed offsets of consumer groups and the states of transactions from the log. Blocks while it does.
    pub fn new(gate: Arc<Gate>, config: KafkaConfig) -> Result<KafkaServer, StartError> {
        let groups = Groups::open(gate.log(), config.groups.clone())?;
        let transactions = Transactions::open(gate.log().clone(), groups.clone(), config.transactions.clone())?;
        Ok(KafkaServer { gate, groups, transactions, config, metrics: Arc::default() })
    }

    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
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
            quotas: Quotas::new(self.config.produce_bytes_per_second, self.config.fetch_bytes_per_second),
            metrics: self.metrics,
            config: self.config,
            shutdown: shutdown.clone(),
        });
        let connections = Arc::new(Semaphore::new(shared.config.connections_max));
        let open = PerAddress::default();
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
            let place = match take_place(&shared, &connections, &open, peer.ip().to_canonical()) {
                Ok(place) => place,
                Err(setting) => {
                    metrics::add(&shared.metrics.connections_refused, 1);
                    tracing::warn!(%peer, setting, "too many Kafka connections: closed one");
                    continue;
                }
            };
            let connection = connection::run(shared.clone(), stream, peer);
            let abort = abort.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = connection => {}
                    () = abort.cancelled() => {}
                }
                drop(place);
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

/// Fails with the setting that is in the way.
fn take_place(
    shared: &Shared,
    slots: &Arc<Semaphore>,
    open: &PerAddress,
    address: IpAddr,
) -> Result<Place, &'static str> {
    let slot = slots.clone().try_acquire_owned().map_err(|_| "kafka.connections_max")?;
    let mut counts = open.lock();
    let count = counts.get(&address).copied().unwrap_or(0);
    if count >= shared.config.connections_per_address_max {
        return Err("kafka.connections_per_address_max");
    }
    counts.insert(address, count + 1);
    drop(counts);
    metrics::add(&shared.metrics.connections_accepted, 1);
    metrics::add(&shared.metrics.connections_open, 1);
    Ok(Place { address, open: open.clone(), metrics: shared.metrics.clone(), _slot: slot })
}
