//! All topics of one data directory: creation, recovery, group fsync, retention, disk budget.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::disk::{Disk, create_dir_durably, read_file, write_atomically};
use crate::shared::{FLUSHERS_MAX, Shared, Wake};
use crate::topic::topics_directory;
use crate::{AlterTopicError, Clock, CreateTopicError, Partition, Topic, TopicSettings};

const MAGIC: &str = "playhouse-log";
const VERSION: u32 = 1;
/// Producer ids made durable at once; those not handed out before a crash are lost.
const PRODUCER_ID_BLOCK: i64 = 1000;
/// How often the maintainer looks whether a checkpoint is due.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(500);

/// What "acknowledged" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk: group fsync before the high watermark moves.
    #[default]
    Fsync,
    /// In the page cache, as Apache Kafka's default.
    Os,
}

#[derive(Debug, Clone)]
pub struct LogConfig {
    pub durability: Durability,
    /// Appends are refused with [`crate::AppendError::DiskBudget`] once all partitions together hold this many bytes and retention cannot help.
    pub disk_budget_bytes: u64,
    /// How often retention looks for segments to delete, and how long after opening it first does.
    pub retention_interval: Duration,
    /// How often compaction looks for partitions that want it.
    pub compaction_interval: Duration,
    pub clock: Clock,
}
impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            durability: Durability::Fsync,
            disk_budget_bytes: 50 << 30,
            retention_interval: Duration::from_secs(30),
            compaction_interval: Duration::from_secs(15),
            clock: Clock::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} was written by a newer or foreign version: {found}")]
    Format { path: String, found: String },
    #[error("cannot open the log at {path}: {source}")]
    Io { path: String, source: std::io::Error },
}

/// `meta.json`, written before anything else.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    magic: String,
    version: u32,
    id: Uuid,
    /// Ids below this one may have been handed out.
    next_producer_id: i64,
}

#[derive(Debug)]
pub struct Log {
    id: Uuid,
    directory: PathBuf,
    shared: Arc<Shared>,
    topics: Arc<RwLock<BTreeMap<String, Arc<Topic>>>>,
    /// Topics are created and deleted one at a time.
    changing: Mutex<()>,
    growth: watch::Sender<()>,
    producer_ids: Mutex<ProducerIds>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct ProducerIds {
    next: i64,
    /// Below this one they are taken in `meta.json`.
    reserved: i64,
}

impl Log {
    /// Opens or creates the log in `directory`: cuts torn tails, rebuilds indexes and producer state after a crash,
    /// starts the fsync and maintenance threads.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path, config: LogConfig) -> Result<Arc<Log>, OpenError> {
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |source: io::Error| match source.kind() {
                io::ErrorKind::InvalidData => OpenError::Format { path, found: source.to_string() },
                _ => OpenError::Io { path, source },
            }
        };
        let meta = open_meta(&*disk, directory).map_err(at(directory))?;
        let topics_directory = topics_directory(directory);
        let shared = Arc::new(Shared::new(disk, config.clock, config.durability, config.disk_budget_bytes));
        let mut topics = BTreeMap::new();
        let paths = shared.disk.list(&topics_directory).map_err(at(&topics_directory))?;
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
            let topic = Topic::open(&shared, directory, path).map_err(at(path))?;
            topics.insert(topic.name().to_owned(), Arc::new(topic));
        }
        let log = Log {
            id: meta.id,
            directory: directory.to_owned(),
            shared,
            topics: Arc::new(RwLock::new(topics)),
            changing: Mutex::new(()),
            growth: watch::Sender::new(()),
            producer_ids: Mutex::new(ProducerIds { next: meta.next_producer_id, reserved: meta.next_producer_id }),
            threads: Mutex::default(),
        };
        log.start_threads(config.retention_interval, config.compaction_interval).map_err(at(directory))?;
        Ok(Arc::new(log))
    }

    fn start_threads(&self, retention_interval: Duration, compaction_interval: Duration) -> io::Result<()> {
        self.shared.start_flusher()?;
        let (shared, topics) = (Arc::clone(&self.shared), Arc::clone(&self.topics));
        let maintainer = std::thread::Builder::new().name("log-upkeep".into()).spawn(move || {
            let mut retained = Instant::now();
            // Until a first interval has passed, readers that hold the log back may not have said so.
            let mut first = true;
            loop {
                let wake = shared.next_upkeep(UPKEEP_INTERVAL.min(retention_interval));
                if wake == Wake::Stop {
                    break;
                }
                let partitions = partitions_of(&topics);
                if retained.elapsed() >= retention_interval || (wake == Wake::OverBudget && !first) {
                    first = false;
                    retained = Instant::now();
                    partitions
                        .iter()
                        .for_each(|partition| report(partition, "delete old segments", partition.retain()));
                }
                for partition in &partitions {
                    report(partition, "write a checkpoint", partition.checkpoint(false));
                    partition.release_idle();
                }
            }
        })?;
        self.threads.lock().push(maintainer);
        let (shared, topics) = (Arc::clone(&self.shared), Arc::clone(&self.topics));
        let compactor = std::thread::Builder::new().name("log-compact".into()).spawn(move || {
            while shared.pause(compaction_interval) {
                for partition in dirtiest_first(&topics) {
                    report(&partition, "compact", partition.compact());
                }
            }
        })?;
        self.threads.lock().push(compactor);
        Ok(())
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// Made when the directory is: a wiped directory has a new one.
    pub fn id(&self) -> Uuid {
        self.id
    }
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }
    /// Sorted by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    /// Whether a topic could be created with this name and these settings.
    pub fn check_topic(&self, name: &str, settings: &TopicSettings) -> Result<(), CreateTopicError> {
        Topic::check(name, settings)?;
        if self.topic(name).is_some() { Err(CreateTopicError::Exists(name.to_owned())) } else { Ok(()) }
    }

    pub fn create_topic(&self, name: &str, settings: TopicSettings) -> Result<Arc<Topic>, CreateTopicError> {
        let _turn = self.changing.lock();
        if self.topic(name).is_some() {
            return Err(CreateTopicError::Exists(name.to_owned()));
        }
        self.create(name, settings)
    }

    /// The topic, created with `settings` if it is missing.
    pub fn ensure_topic(&self, name: &str, settings: TopicSettings) -> Result<Arc<Topic>, CreateTopicError> {
        if let Some(topic) = self.topic(name) {
            return Ok(topic);
        }
        let _turn = self.changing.lock();
        if let Some(topic) = self.topic(name) { Ok(topic) } else { self.create(name, settings) }
    }

    fn create(&self, name: &str, settings: TopicSettings) -> Result<Arc<Topic>, CreateTopicError> {
        Topic::check(name, &settings)?;
        let topic = Arc::new(Topic::create(&self.shared, &self.directory, name, settings)?);
        self.topics.write().insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Whether there was such a topic. Callers that wait on its partitions get [`crate::AppendError::Failed`].
    pub fn delete_topic(&self, name: &str) -> io::Result<bool> {
        let _turn = self.changing.lock();
        let Some(topic) = self.topic(name) else { return Ok(false) };
        topic.delete(&self.shared, &self.directory)?;
        self.topics.write().remove(name);
        Ok(true)
    }

    /// Puts settings in force, durably, from the next append on. The number of partitions stays as it is.
    pub fn alter_topic(&self, name: &str, settings: TopicSettings) -> Result<(), AlterTopicError> {
        let _turn = self.changing.lock();
        let topic = self.topic(name).ok_or_else(|| AlterTopicError::Unknown(name.to_owned()))?;
        Ok(topic.alter(&self.shared, &self.directory, settings)?)
    }

    /// Raises the number of partitions to `total`. Whoever wants to see them asks for the topic again.
    pub fn add_partitions(&self, name: &str, total: i32) -> Result<Arc<Topic>, AlterTopicError> {
        let _turn = self.changing.lock();
        let topic = self.topic(name).ok_or_else(|| AlterTopicError::Unknown(name.to_owned()))?;
        let grown = Arc::new(topic.grow(&self.shared, &self.directory, total)?);
        self.topics.write().insert(name.to_owned(), Arc::clone(&grown));
        self.growth.send_replace(());
        Ok(grown)
    }

    /// Changes whenever a topic has got more partitions: for readers that wait for all that a topic has.
    pub fn subscribe_growth(&self) -> watch::Receiver<()> {
        self.growth.subscribe()
    }

    /// A producer id never handed out before in this directory (durable before it returns), for idempotent producers.
    pub fn allocate_producer_id(&self) -> io::Result<i64> {
        let mut ids = self.producer_ids.lock();
        if ids.next == ids.reserved {
            let reserved = ids.reserved + PRODUCER_ID_BLOCK;
            write_meta(&*self.shared.disk, &self.directory, self.id, reserved)?;
            ids.reserved = reserved;
        }
        ids.next += 1;
        Ok(ids.next - 1)
    }

    /// Bytes of all partitions' records on disk.
    pub fn size_bytes(&self) -> u64 {
        self.shared.used_bytes.load(Ordering::Acquire)
    }

    /// Runs retention now; returns how many bytes it freed.
    pub fn retain(&self) -> io::Result<u64> {
        partitions_of(&self.topics).iter().try_fold(0, |freed, partition| Ok(freed + partition.retain()?))
    }

    /// Compacts now what wants it; returns how many bytes that freed.
    pub fn compact(&self) -> io::Result<u64> {
        dirtiest_first(&self.topics).iter().try_fold(0, |freed, partition| Ok(freed + partition.compact()?))
    }

    /// Writes the checkpoints now, so that a crash leaves nothing older to be read again.
    pub fn checkpoint(&self) -> io::Result<()> {
        partitions_of(&self.topics).iter().try_for_each(|partition| partition.checkpoint(true))
    }

    /// Syncs everything, writes the checkpoints with the producers' state, stops the threads. Further appends fail.
    pub fn close(&self) -> io::Result<()> {
        self.stop_threads();
        let close = |partition: &Arc<Partition>| {
            partition.flush();
            let written = partition.checkpoint(true);
            partition.fail("the log is closed");
            written
        };
        // Side by side: each waits for the disk.
        let partitions = partitions_of(&self.topics);
        let share = partitions.len().div_ceil(FLUSHERS_MAX).max(1);
        std::thread::scope(|scope| {
            let shares = partitions.chunks(share);
            let closers =
                shares.map(|share| scope.spawn(move || share.iter().map(close).fold(Ok(()), io::Result::and)));
            let closers: Vec<_> = closers.collect();
            let join = |closer: std::thread::ScopedJoinHandle<'_, io::Result<()>>| {
                closer.join().unwrap_or_else(|_| Err(io::Error::other("closing a partition panicked")))
            };
            closers.into_iter().map(join).fold(Ok(()), io::Result::and)
        })
    }

    fn stop_threads(&self) {
        let flushers = self.shared.stop();
        for thread in self.threads.lock().drain(..).chain(flushers) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}

impl Drop for Log {
    /// Nothing more is synced: whoever still waits on a partition is told so.
    fn drop(&mut self) {
        self.stop_threads();
        partitions_of(&self.topics).iter().for_each(|partition| partition.fail("the log is closed"));
    }
}

fn partitions_of(topics: &RwLock<BTreeMap<String, Arc<Topic>>>) -> Vec<Arc<Partition>> {
    topics.read().values().flat_map(|topic| topic.partitions().iter().cloned()).collect()
}

/// The partitions that want compaction.
fn dirtiest_first(topics: &RwLock<BTreeMap<String, Arc<Topic>>>) -> Vec<Arc<Partition>> {
    let mut wanting: Vec<(f64, Arc<Partition>)> = Vec::new();
    for partition in partitions_of(topics) {
        match partition.wants_compaction() {
            Ok(Some(ratio)) => wanting.push((ratio, partition)),
            Ok(None) => {}
            Err(error) => report(&partition, "compact", Err::<(), _>(error)),
        }
    }
    wanting.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    wanting.into_iter().map(|(_, partition)| partition).collect()
}

fn report<T>(partition: &Partition, what: &str, outcome: io::Result<T>) {
    if let Err(error) = outcome {
        tracing::warn!(topic = partition.topic(), partition = partition.index(), %error, "cannot {what}");
    }
}

fn open_meta(disk: &dyn Disk, directory: &Path) -> io::Result<Meta> {
    let damaged = |found: String| io::Error::new(io::ErrorKind::InvalidData, found);
    let topics = topics_directory(directory);
    let Some(contents) = read_file(disk, &meta_path(directory))? else {
        if disk.exists(&topics) {
            return Err(damaged("topics without meta.json".into()));
        }
        create_dir_durably(disk, directory)?;
        let id = Uuid::new_v4();
        write_meta(disk, directory, id, 0)?;
        disk.create_dir_all(&topics)?;
        disk.sync_dir(directory)?;
        return Ok(Meta { magic: MAGIC.into(), version: VERSION, id, next_producer_id: 0 });
    };
    let meta: Meta = serde_json::from_slice(&contents).map_err(|error| damaged(format!("meta.json: {error}")))?;
    if meta.magic != MAGIC || meta.version != VERSION {
        return Err(damaged(format!("{} version {}", meta.magic, meta.version)));
    }
    disk.create_dir_all(&topics)?;
    disk.sync_dir(directory)?;
    Ok(meta)
}

fn write_meta(disk: &dyn Disk, directory: &Path, id: Uuid, next_producer_id: i64) -> io::Result<()> {
    let meta = Meta { magic: MAGIC.into(), version: VERSION, id, next_producer_id };
    write_atomically(disk, &meta_path(directory), &serde_json::to_vec_pretty(&meta)?)
}

fn meta_path(directory: &Path) -> PathBuf {
    directory.join("meta.json")
}
