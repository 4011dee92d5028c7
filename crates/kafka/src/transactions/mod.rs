//! Transactions: the coordinator of all transactional ids (KIP-98).
//!
//! [`state`] decides, [`store`] remembers; this module gives them time, concurrency and the log. A transaction is decided
//! when its `Prepare…` state is durable: from then on its markers are written into its partitions, again after a crash if
//! need be, until all of them are there.
//!
//! One lock per transactional id orders everything that concerns it. Who writes a batch of the transaction shares the lock
//! from the check to the append, and who ends it has it alone: so no batch comes after its marker, whatever connection it
//! was on.

mod records;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use playhouse_log::{AppendError, Log};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio_util::sync::CancellationToken;

use crate::config::TransactionConfig;
use crate::groups::{Groups, OFFSETS_TOPIC, unix_ms};
use state::{End, Init};
use store::Store;

pub(crate) use state::{Place, Producer, Status, Transaction};
pub use store::{TRANSACTIONS_TOPIC, TransactionsError};

/// How often transactions are looked at that have been open too long, or whose markers could not be written.
const TICK: Duration = Duration::from_secs(1);

pub(crate) struct Transactions {
    log: Arc<Log>,
    groups: Arc<Groups>,
    store: Store,
    by_id: Mutex<HashMap<String, Entry>>,
    config: TransactionConfig,
}

type Entry = Arc<RwLock<Transaction>>;

/// While it is held, the transaction does not end.
pub(crate) struct Writing(#[allow(dead_code)] OwnedRwLockReadGuard<Transaction>);

impl Transactions {
    /// Reads the states of all transactional ids, and ends what a crash has left undecided in partitions though nobody knows
    /// of it any more. Blocks while it does.
    pub(crate) fn open(
        log: Arc<Log>,
        groups: Arc<Groups>,
        config: TransactionConfig,
    ) -> Result<Arc<Transactions>, TransactionsError> {
        let (store, known) = Store::open(&log)?;
        abort_orphans(&log, &groups, &known)?;
        let by_id = known.into_iter().map(|(id, state)| (id, Arc::new(RwLock::new(state)))).collect();
        Ok(Arc::new(Transactions { log, groups, store, by_id: Mutex::new(by_id), config }))
    }

    /// Aborts what has been open for too long and finishes what is decided, until `shutdown`. What was decided before a
    /// crash is finished at once.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            self.tick().await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn tick(&self) {
        let now_ms = unix_ms();
        let entries: Vec<(String, Entry)> =
            self.by_id.lock().iter().map(|(id, entry)| (id.clone(), entry.clone())).collect();
        for (id, entry) in entries {
            // One that is busy has its turn next time.
            let Ok(mut state) = entry.try_write() else { continue };
            if let Some(aborting) = state.timed_out(now_ms) {
                tracing::warn!(id, timeout_ms = state.timeout_ms, "aborting a transaction that was open for too long");
                if self.keep(&id, &mut state, aborting).await.is_err() {
                    continue;
                }
            }
            if state.is_prepared() {
                // Told where it fails.
                let _ = self.finish(&id, &mut state).await;
            }
        }
        self.expire(now_ms);
    }

    /// A new producer, or the next epoch of the one there was.
    pub(crate) async fn init(
        self: Arc<Self>,
        id: String,
        expected: Option<Producer>,
        timeout_ms: i32,
    ) -> Result<Producer, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        if timeout_ms <= 0 || timeout_ms as u128 > self.config.timeout_max.as_millis() {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let entry = match self.entry(&id) {
            Some(entry) => entry,
            None => self.create(&id, timeout_ms).await?,
        };
        let mut state = entry.write().await;
        loop {
            let now_ms = unix_ms();
            let next = match state.init(expected, timeout_ms, now_ms)? {
                Init::Repeated => return Ok(state.producer),
                Init::Next(next) => next,
                Init::NeedsProducerId => Transaction::new(self.producer_id().await?, timeout_ms, now_ms),
                Init::AbortFirst(aborting) => {
                    self.keep(&id, &mut state, aborting).await?;
                    self.finish(&id, &mut state).await?;
                    continue;
                }
            };
            self.keep(&id, &mut state, next).await?;
            return Ok(state.producer);
        }
    }

    /// An id that is not known yet. It begins before epoch 0, so that its init gives that.
    async fn create(&self, id: &str, timeout_ms: i32) -> Result<Entry, ResponseError> {
        self.make_room(unix_ms())?;
        let mut new = Transaction::new(self.producer_id().await?, timeout_ms, unix_ms());
        new.producer.epoch = -1;
        Ok(self.by_id.lock().entry(id.to_owned()).or_insert_with(|| Arc::new(RwLock::new(new))).clone())
    }

    pub(crate) async fn producer_id(&self) -> Result<i64, ResponseError> {
        let log = self.log.clone();
        let allocated = tokio::task::spawn_blocking(move || log.allocate_producer_id()).await;
        allocated.map_err(std::io::Error::other).and_then(|id| id).map_err(|error| {
            tracing::error!(%error, "cannot allocate a producer id");
            ResponseError::CoordinatorNotAvailable
        })
    }

    pub(crate) async fn add(
        self: Arc<Self>,
        id: String,
        producer: Producer,
        partitions: Vec<Place>,
    ) -> Result<(), ResponseError> {
        let entry = self.entry(&id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        let mut state = entry.write().await;
        match state.add(producer, &partitions, unix_ms())? {
            Some(next) => self.keep(&id, &mut state, next).await,
            None => Ok(()),
        }
    }

    /// Returns when the end is durable in all partitions.
    pub(crate) async fn end(
        self: Arc<Self>,
        id: String,
        producer: Producer,
        commit: bool,
    ) -> Result<(), ResponseError> {
        let entry = self.entry(&id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        let mut state = entry.write().await;
        match state.end(producer, commit, unix_ms())? {
            End::Repeated => Ok(()),
            End::Prepared(prepared) => {
                self.keep(&id, &mut state, prepared).await?;
                self.finish(&id, &mut state).await
            }
        }
    }

    /// Checks that the producer may write to these partitions in its transaction, and keeps it open meanwhile.
    pub(crate) async fn writing(&self, id: &str, producer: Producer, place: &Place) -> Result<Writing, ResponseError> {
        let entry = self.entry(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        let state = entry.read_owned().await;
        state.may_write(producer, place)?;
        Ok(Writing(state))
    }

    /// All transactional ids with their states, sorted; one whose state is just changing is waited for.
    pub(crate) async fn list(&self) -> Vec<(String, Transaction)> {
        let entries: BTreeMap<String, Entry> =
            self.by_id.lock().iter().map(|(id, entry)| (id.clone(), entry.clone())).collect();
        let mut listed = Vec::with_capacity(entries.len());
        for (id, entry) in entries {
            listed.push((id, entry.read().await.clone()));
        }
        listed
    }

    pub(crate) async fn describe(&self, id: &str) -> Option<Transaction> {
        let entry = self.entry(id)?;
        let state = entry.read().await;
        Some(state.clone())
    }

    fn entry(&self, id: &str) -> Option<Entry> {
        self.by_id.lock().get(id).cloned()
    }

    /// Puts a state in force once it is durable.
    async fn keep(&self, id: &str, state: &mut Transaction, next: Transaction) -> Result<(), ResponseError> {
        let written = match self.store.write(id, Some(&next), unix_ms()) {
            Ok(appended) => self.store.durable(appended).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| unavailable(id, &error))?;
        *state = next;
        Ok(())
    }

    /// Tells the partitions how a prepared transaction ended. What cannot be told now is tried again later.
    async fn finish(&self, id: &str, state: &mut Transaction) -> Result<(), ResponseError> {
        let marker = state.marker();
        let mut waits = Vec::with_capacity(state.partitions.len());
        for (topic, index) in &state.partitions {
            // A topic that was deleted needs no marker.
            let Some(partition) = self.log.topic(topic).and_then(|topic| topic.partition(*index).cloned()) else {
                continue;
            };
            let told = if topic == OFFSETS_TOPIC {
                self.groups.end_transaction(&marker)
            } else {
                partition.end_transaction(&marker)
            };
            match told {
                Ok(appended) => waits.push((partition, appended.next_offset)),
                // A later epoch has been here: so was this marker.
                Err(AppendError::ProducerFenced { .. }) => {}
                Err(error) => return Err(unavailable(id, &error)),
            }
        }
        for (partition, next_offset) in waits {
            partition.durable(next_offset).await.map_err(|error| unavailable(id, &error))?;
        }
        let complete = state.completed(unix_ms());
        // It need not be durable: after a crash the markers are written once more, and end nothing twice.
        self.store.write(id, Some(&complete), unix_ms()).map_err(|error| unavailable(id, &error))?;
        *state = complete;
        Ok(())
    }

    /// Forgets ids that have been idle for long.
    fn expire(&self, now_ms: i64) {
        let oldest_ms = now_ms - self.config.id_retention.as_millis() as i64;
        self.forget(|state| state.updated_ms < oldest_ms, usize::MAX);
    }

    /// Where there are too many ids, forgets the tenth that has been idle longest.
    fn make_room(&self, now_ms: i64) -> Result<(), ResponseError> {
        if self.by_id.lock().len() < self.config.ids_max {
            return Ok(());
        }
        let states: Vec<i64> = self
            .by_id
            .lock()
            .values()
            .filter_map(|entry| entry.try_read().ok().filter(|state| state.is_idle()).map(|state| state.updated_ms))
            .collect();
        let surplus = (self.config.ids_max / 10).max(1);
        let mut times = states;
        times.sort_unstable();
        let newest_forgotten = times.get(surplus.min(times.len()).saturating_sub(1)).copied();
        self.forget(|state| newest_forgotten.is_some_and(|newest| state.updated_ms <= newest.min(now_ms)), surplus);
        if self.by_id.lock().len() < self.config.ids_max {
            return Ok(());
        }
        tracing::warn!(limit = self.config.ids_max, "too many transactional ids are in use");
        Err(ResponseError::CoordinatorNotAvailable)
    }

    fn forget(&self, select: impl Fn(&Transaction) -> bool, most: usize) {
        let mut by_id = self.by_id.lock();
        let mut left = most;
        by_id.retain(|id, entry| {
            if left == 0 {
                return true;
            }
            // One that somebody is using stays: the count is that of the map and of this guard's own.
            let Ok(state) = entry.try_write() else { return true };
            if Arc::strong_count(entry) > 1 || !state.is_idle() || !select(&state) {
                return true;
            }
            match self.store.write(id, None, unix_ms()) {
                Ok(_) => {
                    left -= 1;
                    false
                }
                Err(error) => {
                    tracing::warn!(id, %error, "cannot forget a transactional id");
                    true
                }
            }
        });
    }
}

fn unavailable(id: &str, error: &AppendError) -> ResponseError {
    tracing::error!(id, %error, "cannot write what becomes of a transaction");
    ResponseError::CoordinatorNotAvailable
}

/// Transactions that are open in a partition but not for the coordinator would hold back its readers for ever: they are
/// aborted. None is left by a crash of ours, but for one: of a log whose `__transaction_state` was lost.
fn abort_orphans(log: &Log, groups: &Groups, known: &HashMap<String, Transaction>) -> Result<(), TransactionsError> {
    let open: HashMap<i64, &Transaction> = known.values().map(|state| (state.producer.id, state)).collect();
    for topic in log.topics() {
        for partition in topic.partitions() {
            if partition.last_stable_offset() == partition.high_watermark() {
                continue;
            }
            let place = (topic.name().to_owned(), partition.index());
            for producer in partition.producers().into_iter().filter(|producer| producer.transaction_start.is_some()) {
                let owner = open.get(&producer.producer_id);
                if owner.is_some_and(|state| state.partitions.contains(&place)) {
                    continue;
                }
                let marker = playhouse_log::TransactionMarker {
                    producer_id: producer.producer_id,
                    producer_epoch: producer.producer_epoch,
                    coordinator_epoch: 0,
                    commit: false,
                };
                tracing::warn!(
                    topic = topic.name(),
                    partition = partition.index(),
                    producer_id = producer.producer_id,
                    "aborting a transaction that no transactional id knows of"
                );
                if topic.name() == OFFSETS_TOPIC {
                    groups.end_transaction(&marker)?;
                } else {
                    partition.end_transaction(&marker)?;
                }
            }
        }
    }
    Ok(())
}
