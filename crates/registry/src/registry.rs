//! The state in memory: one snapshot for readers, and one ahead of it for the next to change it.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use playhouse_log::{AppendError, Log};
use playhouse_schema::formats::Schema;
use playhouse_schema::registry::{Decision, Limits, ParsedCache, Registered, RegistryError, Rules, State};
use uuid::Uuid;

use crate::topic::{OpenError, SchemasTopic};

#[derive(Debug, Clone)]
pub struct RegistryConfig {
    pub limits: Limits,
    /// Of parsed schemas, about; past it those not asked for lately are parsed again when they are.
    pub parsed_bytes_max: usize,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        RegistryConfig { limits: Limits::default(), parsed_bytes_max: 64 << 20 }
    }
}

/// The state as of some moment.
#[derive(Debug)]
pub struct Snapshot {
    state: State,
    /// It has all changes below this offset, and no other.
    next_offset: i64,
}

impl Deref for Snapshot {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Refused(#[from] RegistryError),
    #[error("the change could not be stored: {0}")]
    Store(#[from] AppendError),
    #[error("the registry is stopping")]
    Stopped,
}

#[derive(Debug)]
pub struct Registry {
    topic: SchemasTopic,
    /// What is durable.
    published: ArcSwap<Snapshot>,
    /// What is appended: the next change is decided on it, so that many can wait for one sync.
    ahead: Mutex<Arc<Snapshot>>,
    cache: ParsedCache,
    limits: Limits,
}

impl Registry {
    /// Reads the topic back (blocking), having made it if there is none.
    pub fn open(log: &Log, config: RegistryConfig) -> Result<Arc<Registry>, OpenError> {
        let topic = SchemasTopic::open(log)?;
        let (state, next_offset) = topic.read()?;
        let snapshot = Arc::new(Snapshot { state, next_offset });
        Ok(Arc::new(Registry {
            topic,
            published: ArcSwap::new(snapshot.clone()),
            ahead: Mutex::new(snapshot),
            cache: ParsedCache::new(config.parsed_bytes_max),
            limits: config.limits,
        }))
    }

    /// All that is known and durable, at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// The hot path: neither a lock nor a copy of the snapshot's counter.
    pub fn schema(&self, id: i32) -> Option<Arc<Registered>> {
        self.published.load().by_id(id).cloned()
    }

    /// As [`Registry::schema`].
    pub fn schema_by_guid(&self, guid: Uuid) -> Option<Arc<Registered>> {
        self.published.load().by_guid(guid).cloned()
    }

    /// The latest version of a subject that is not deleted. As [`Registry::schema`].
    pub fn latest(&self, subject: &str) -> Option<Arc<Registered>> {
        self.published.load().latest(subject).cloned()
    }

    /// Whether the schema is a version of the subject, deleted or not: data written with it may still come.
    pub fn is_under(&self, subject: &str, id: i32) -> bool {
        self.published.load().is_under(subject, id)
    }

    /// The same of all schemas with that guid: imports may have left several.
    pub fn guid_is_under(&self, subject: &str, guid: Uuid) -> bool {
        let snapshot = self.published.load();
        snapshot.ids_of_guid(guid).iter().any(|id| snapshot.is_under(subject, *id))
    }

    /// A registered schema, parsed. The first to ask parses it, which may take a while.
    pub fn parsed(&self, schema: &Arc<Registered>) -> Result<Arc<Schema>, RegistryError> {
        self.cache.get(&self.published.load(), schema)
    }

    /// What questions that compare schemas need beside the state.
    pub fn rules(&self) -> Rules<'_> {
        Rules { cache: &self.cache, limits: &self.limits }
    }

    /// Decides a change and carries it out: with the answer comes the state that has it, which is durable by then. What
    /// changes nothing waits likewise for the changes that made it so. Once begun it is carried out, whether the caller
    /// waits for it or not.
    pub async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        decide: impl FnOnce(&State, &Rules<'_>) -> Result<Decision<T>, RegistryError> + Send + 'static,
    ) -> Result<(T, Arc<Snapshot>), ChangeError> {
        let registry = self.clone();
        let changed = tokio::spawn(async move {
            let deciding = registry.clone();
            // Schemas are parsed and compared in here.
            let appended = tokio::task::spawn_blocking(move || deciding.append(decide)).await;
            let (answer, ahead) = appended.map_err(|_| ChangeError::Stopped)??;
            registry.topic.durable(ahead.next_offset).await?;
            registry.publish(&ahead);
            Ok((answer, ahead))
        });
        changed.await.map_err(|_| ChangeError::Stopped)?
    }

    fn append<T>(
        &self,
        decide: impl FnOnce(&State, &Rules<'_>) -> Result<Decision<T>, RegistryError>,
    ) -> Result<(T, Arc<Snapshot>), ChangeError> {
        let mut ahead = self.ahead.lock();
        let Decision { changes, answer } = decide(&ahead.state, &self.rules())?;
        if !changes.is_empty() {
            let next_offset = self.topic.append(&changes)?;
            let mut state = ahead.state.clone();
            changes.into_iter().for_each(|change| state.apply(change));
            *ahead = Arc::new(Snapshot { state, next_offset });
        }
        Ok((answer, ahead.clone()))
    }

    /// Whoever was woken later may bring the older one.
    fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.published.rcu(
            |current| {
                if current.next_offset < snapshot.next_offset { snapshot.clone() } else { current.clone() }
            },
        );
    }
}
