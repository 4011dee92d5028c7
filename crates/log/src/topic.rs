//! A topic: a name, an id, settings and its partitions.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::Partition;
use crate::disk::{Disk, read_file, write_atomically};
use crate::partition::PartitionIdentity;
use crate::settings::{LiveSettings, TopicSettings};
use crate::shared::Shared;

const MAGIC: &str = "playhouse-topic";
const VERSION: u32 = 1;
const MAX_PARTITIONS: i32 = 10_000;
/// Up to so many partitions are opened one after the other.
const OPENED_ALONE: i32 = 16;
const OPENERS: i32 = 4;

#[derive(Debug, thiserror::Error)]
pub enum CreateTopicError {
    #[error("topic {0:?} already exists")]
    Exists(String),
    #[error("topic name {0:?} is not valid: use 1 to 249 of a-z A-Z 0-9 . _ - and neither \".\" nor \"..\"")]
    InvalidName(String),
    #[error("{0} partitions are not between 1 and 10000")]
    InvalidPartitions(i32),
    #[error("cannot create topic files: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum AlterTopicError {
    #[error("there is no topic {0:?}")]
    Unknown(String),
    #[error("{asked} partitions: the topic has {current}, and the number can only grow, up to 10000")]
    InvalidPartitions { asked: i32, current: i32 },
    #[error("cannot write topic files: {0}")]
    Io(#[from] std::io::Error),
}

/// `topics/<name>.json`: a topic exists when this file does.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct TopicFile {
    magic: String,
    version: u32,
    name: String,
    id: Uuid,
    settings: TopicSettings,
}

#[derive(Debug)]
pub struct Topic {
    name: String,
    id: Uuid,
    settings: LiveSettings,
    partitions: Vec<Arc<Partition>>,
}

impl Topic {
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn id(&self) -> Uuid {
        self.id
    }
    pub fn settings(&self) -> TopicSettings {
        (*self.settings.get()).clone()
    }
    /// The same, shared: for whoever only looks, at every request.
    pub fn settings_in_force(&self) -> Arc<TopicSettings> {
        self.settings.get()
    }
    pub fn partitions(&self) -> &[Arc<Partition>] {
        &self.partitions
    }
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// Checks what a topic is to be created with.
    pub(crate) fn check(name: &str, settings: &TopicSettings) -> Result<(), CreateTopicError> {
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !letters || name.is_empty() || name.len() > 249 || name == "." || name == ".." {
            return Err(CreateTopicError::InvalidName(name.to_owned()));
        }
        if !(1..=MAX_PARTITIONS).contains(&settings.partitions) {
            return Err(CreateTopicError::InvalidPartitions(settings.partitions));
        }
        Ok(())
    }

    /// Partitions first, the topic's file last: half a topic does not exist.
    pub(crate) fn create(
        shared: &Arc<Shared>,
        root: &Path,
        name: &str,
        settings: TopicSettings,
    ) -> Result<Topic, CreateTopicError> {
        let live = LiveSettings::new(settings.clone());
        let partitions = create_partitions(shared, root, name, 0..settings.partitions, &live)?;
        let id = Uuid::new_v4();
        write_topic(&*shared.disk, root, name, id, settings)?;
        Ok(Topic { name: name.to_owned(), id, settings: live, partitions })
    }

    /// The same topic with settings in force from now on. The number of partitions stays.
    pub(crate) fn alter(&self, shared: &Shared, root: &Path, mut settings: TopicSettings) -> io::Result<()> {
        settings.partitions = self.settings.get().partitions;
        write_topic(&*shared.disk, root, &self.name, self.id, settings.clone())?;
        self.settings.set(settings);
        Ok(())
    }

    /// The same topic with more partitions. Who holds this one sees the old number; both share partitions and settings.
    pub(crate) fn grow(&self, shared: &Arc<Shared>, root: &Path, total: i32) -> Result<Topic, AlterTopicError> {
        let mut settings = self.settings();
        let current = settings.partitions;
        if total <= current || total > MAX_PARTITIONS {
            return Err(AlterTopicError::InvalidPartitions { asked: total, current });
        }
        settings.partitions = total;
        let mut partitions = self.partitions.clone();
        partitions.extend(create_partitions(shared, root, &self.name, current..total, &self.settings)?);
        write_topic(&*shared.disk, root, &self.name, self.id, settings.clone())?;
        self.settings.set(settings);
        Ok(Topic { name: self.name.clone(), id: self.id, settings: self.settings.clone(), partitions })
    }

    pub(crate) fn open(shared: &Arc<Shared>, root: &Path, path: &Path) -> io::Result<Topic> {
        let disk = &*shared.disk;
        let contents = read_file(disk, path)?.unwrap_or_default();
        let damaged =
            |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()));
        let file: TopicFile = serde_json::from_slice(&contents).map_err(|error| damaged(error.to_string()))?;
        if file.magic != MAGIC || file.version != VERSION {
            return Err(damaged(format!("{} version {} is not {MAGIC} version {VERSION}", file.magic, file.version)));
        }
        Topic::check(&file.name, &file.settings).map_err(|error| damaged(error.to_string()))?;
        let TopicFile { name, id, settings, .. } = file;
        let (count, settings) = (settings.partitions, LiveSettings::new(settings));
        let open = |index| Partition::open(Arc::clone(shared), identity(root, &name, index, &settings));
        let partitions = side_by_side(count, open)?;
        Ok(Topic { name, id, settings, partitions })
    }

    /// The topic's file first: from then on it does not exist, whatever is left of it.
    pub(crate) fn delete(&self, shared: &Shared, root: &Path) -> io::Result<()> {
        let disk = &*shared.disk;
        disk.remove_file(&topic_path(root, &self.name))?;
        disk.sync_dir(&topics_directory(root))?;
        for partition in &self.partitions {
            partition.fail("the topic is deleted");
            let _turn = partition.wait_for_cleaning();
            partition.forget_size();
            disk.remove_dir_all(&partition_directory(root, &self.name, partition.index()))?;
        }
        disk.sync_dir(root)
    }
}

pub(crate) fn topics_directory(root: &Path) -> PathBuf {
    root.join("topics")
}

fn topic_path(root: &Path, name: &str) -> PathBuf {
    topics_directory(root).join(format!("{name}.json"))
}

fn partition_directory(root: &Path, name: &str, index: i32) -> PathBuf {
    root.join(format!("{name}-{index}"))
}

fn create_partitions(
    shared: &Arc<Shared>,
    root: &Path,
    name: &str,
    indexes: std::ops::Range<i32>,
    settings: &LiveSettings,
) -> io::Result<Vec<Arc<Partition>>> {
    let disk = &*shared.disk;
    let mut partitions = Vec::new();
    for index in indexes {
        let directory = partition_directory(root, name, index);
        if disk.exists(&directory) {
            // Left over from a topic that was deleted, or never finished.
            disk.remove_dir_all(&directory)?;
        }
        partitions.push(Partition::create(Arc::clone(shared), identity(root, name, index, settings))?);
    }
    disk.sync_dir(root)?;
    Ok(partitions)
}

/// Many are opened on several threads: each waits for the disk.
fn side_by_side(
    count: i32,
    open: impl Fn(i32) -> io::Result<Arc<Partition>> + Sync,
) -> io::Result<Vec<Arc<Partition>>> {
    if count <= OPENED_ALONE {
        return (0..count).map(open).collect();
    }
    let share = (count + OPENERS - 1) / OPENERS;
    let open = &open;
    let parts: Vec<io::Result<Vec<Arc<Partition>>>> = std::thread::scope(|scope| {
        let openers = (0..OPENERS).map(|opener| {
            let range = (opener * share).min(count)..((opener + 1) * share).min(count);
            scope.spawn(move || range.map(open).collect())
        });
        let openers: Vec<_> = openers.collect();
        let join = |opener: std::thread::ScopedJoinHandle<'_, _>| {
            opener.join().unwrap_or_else(|_| Err(io::Error::other("opening a partition panicked")))
        };
        openers.into_iter().map(join).collect()
    });
    let mut partitions = Vec::with_capacity(count as usize);
    for part in parts {
        partitions.extend(part?);
    }
    Ok(partitions)
}

fn write_topic(disk: &dyn Disk, root: &Path, name: &str, id: Uuid, settings: TopicSettings) -> io::Result<()> {
    let file = TopicFile { magic: MAGIC.into(), version: VERSION, name: name.to_owned(), id, settings };
    write_atomically(disk, &topic_path(root, name), &serde_json::to_vec_pretty(&file)?)
}

fn identity(root: &Path, name: &str, index: i32, settings: &LiveSettings) -> PartitionIdentity {
    let directory = partition_directory(root, name, index);
    PartitionIdentity { topic: name.to_owned(), index, directory, settings: settings.clone() }
}
