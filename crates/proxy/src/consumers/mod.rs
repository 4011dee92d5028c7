//! Consumer instances: each a member of a group, or a reader of partitions it was given, kept between requests.
//!
//! - [`Consumers`]: the instances by group and name, bounded in number; idle ones end;
//! - `settings`: what an instance is made with;
//! - `consumer`: one instance: what it is subscribed to, where it reads on, what it commits;
//! - `reading`: records, from wherever it is;
//! - `membership`: the task that keeps a subscribed instance in its group between requests.

mod consumer;
mod membership;
mod reading;
mod settings;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ProxyMetrics;
use crate::brokers::Brokers;

pub(crate) use consumer::{Consumer, ConsumerError, Subscribe, Where};
pub(crate) use reading::ReadLimits;
pub(crate) use settings::{Body, Settings, TIMEOUT_MAX};

/// How often idle instances are looked for, at most.
const SWEEP_MAX: Duration = Duration::from_secs(5);
/// At the end of the process nobody waits longer for instances to leave their groups.
const CLOSE_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Consumers {
    instances: Mutex<HashMap<(String, String), Arc<Instance>>>,
    max: usize,
    idle_timeout: Duration,
    metrics: Arc<ProxyMetrics>,
}

struct Instance {
    consumer: Arc<Consumer>,
    requests: AtomicUsize,
    used: Mutex<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("Consumer instance with the specified name already exists.")]
    Exists,
    #[error("all {0} consumer instances are taken: delete one, retry later, or raise rest_proxy.consumers_max")]
    TooMany(usize),
}

impl Consumers {
    pub(crate) fn new(max: usize, idle_timeout: Duration, metrics: Arc<ProxyMetrics>) -> Consumers {
        Consumers { instances: Mutex::new(HashMap::new()), max, idle_timeout, metrics }
    }

    /// The name of the new instance, which reaches the brokers as its maker does.
    pub(crate) fn create(
        &self,
        group: &str,
        settings: Settings,
        brokers: &Arc<Brokers>,
    ) -> Result<String, CreateError> {
        let name = settings.name.clone().unwrap_or_else(|| format!("rest-consumer-{}", Uuid::new_v4()));
        let mut instances = self.instances();
        let key = (group.to_owned(), name.clone());
        if instances.contains_key(&key) {
            return Err(CreateError::Exists);
        }
        if instances.len() >= self.max {
            return Err(CreateError::TooMany(self.max));
        }
        let consumer = Consumer::new(group, settings, brokers.clone());
        let instance = Instance { consumer, requests: AtomicUsize::new(0), used: Mutex::new(Instant::now()) };
        instances.insert(key, Arc::new(instance));
        self.count(&instances);
        Ok(name)
    }

    /// An instance, which does not count as idle for as long as this is held. Others' are not there for a caller.
    pub(crate) fn enter(&self, group: &str, name: &str, brokers: &Brokers) -> Option<Entered> {
        let instances = self.instances();
        let instance = instances.get(&(group.to_owned(), name.to_owned()))?;
        let instance = instance.consumer.is_of(brokers).then(|| instance.clone())?;
        instance.requests.fetch_add(1, Ordering::Relaxed);
        Some(Entered(instance))
    }

    /// Ends an instance; false where there is none.
    pub(crate) async fn remove(&self, group: &str, name: &str, brokers: &Brokers) -> bool {
        let key = (group.to_owned(), name.to_owned());
        let removed = {
            let mut instances = self.instances();
            let mine = instances.get(&key).is_some_and(|instance| instance.consumer.is_of(brokers));
            let removed = if mine { instances.remove(&key) } else { None };
            self.count(&instances);
            removed
        };
        match removed {
            Some(instance) => {
                instance.consumer.close().await;
                true
            }
            None => false,
        }
    }

    /// Ends idle instances until `stop`, then all.
    pub(crate) async fn sweep(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = sleep((self.idle_timeout / 4).min(SWEEP_MAX)) => {}
                () = stop.cancelled() => break,
            }
            let idle = self.take_idle();
            futures::future::join_all(idle.iter().map(|consumer| consumer.close())).await;
        }
        let all: Vec<Arc<Instance>> = self.instances().drain().map(|(_, instance)| instance).collect();
        let closing = futures::future::join_all(all.iter().map(|instance| instance.consumer.close()));
        let _ = timeout(CLOSE_MAX, closing).await;
    }

    fn take_idle(&self) -> Vec<Arc<Consumer>> {
        let mut idle = Vec::new();
        let mut instances = self.instances();
        instances.retain(|(group, name), instance| {
            let stays = !instance.is_idle(self.idle_timeout);
            if !stays {
                tracing::info!(%group, %name, "a consumer instance of the REST proxy was idle and ends");
                idle.push(instance.consumer.clone());
            }
            stays
        });
        self.count(&instances);
        idle
    }

    fn count(&self, instances: &HashMap<(String, String), Arc<Instance>>) {
        self.metrics.consumers.store(instances.len(), Ordering::Relaxed);
    }

    fn instances(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Instance>>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance {
    fn is_idle(&self, after: Duration) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.requests.load(Ordering::Relaxed) == 0 && used.elapsed() > after
    }
}

/// A request at work with an instance.
pub(crate) struct Entered(Arc<Instance>);

impl Deref for Entered {
    type Target = Arc<Consumer>;

    fn deref(&self) -> &Arc<Consumer> {
        &self.0.consumer
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
