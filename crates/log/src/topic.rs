//! A topic: a name, an id, settings and its partitions.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::Partition;
use crate::disk::{read_file, write_atomically};
use crate::partition::PartitionIdentity;
use crate::shared::Shared;

const MAGIC: &str = "playhouse-topic";
const VERSION: u32 = 1;
const MAX_PARTITIONS: i32 = 10_000;

/// Who stamps a record's time. Topics with a schema use [`TimestampType::LogAppendTime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TopicSettings {
    pub partitions: i32,
    pub timestamp_type: TimestampType,
    /// How long records are kept after their segment's newest timestamp; `None` keeps them for ever.
    pub retention_ms: Option<i64>,
    /// How many bytes a partition keeps; `None` sets no limit.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    /// The largest record batch accepted, in bytes (Kafka's `max.message.bytes`).
    pub max_batch_bytes: usize,
}
impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings {
            partitions: 4,
            timestamp_type: TimestampType::CreateTime,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            segment_bytes: 256 << 20,
            max_batch_bytes: 16 << 20,
        }
    }
}

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
    settings: TopicSettings,
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
        self.settings.clone()
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
        let disk = &*shared.disk;
        let mut partitions = Vec::new();
        for index in 0..settings.partitions {
            let directory = partition_directory(root, name, index);
            if disk.exists(&directory) {
                // Left over from a topic that was deleted, or never finished.
                disk.remove_dir_all(&directory)?;
            }
            partitions.push(Partition::create(Arc::clone(shared), identity(root, name, index, &settings))?);
        }
        disk.sync_dir(root)?;
        let id = Uuid::new_v4();
        let file =
            TopicFile { magic: MAGIC.into(), version: VERSION, name: name.to_owned(), id, settings: settings.clone() };
        let contents = serde_json::to_vec_pretty(&file).map_err(io::Error::from)?;
        write_atomically(disk, &topic_path(root, name), &contents)?;
        Ok(Topic { name: name.to_owned(), id, settings, partitions })
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
        let open = |index| Partition::open(Arc::clone(shared), identity(root, &name, index, &settings));
        let partitions = (0..settings.partitions).map(open).collect::<io::Result<_>>()?;
        Ok(Topic { name, id, settings, partitions })
    }

    /// The topic's file first: from then on it does not exist, whatever is left of it.
    pub(crate) fn delete(&self, shared: &Shared, root: &Path) -> io::Result<()> {
        let disk = &*shared.disk;
        disk.remove_file(&topic_path(root, &self.name))?;
        disk.sync_dir(&topics_directory(root))?;
        for partition in &self.partitions {
            partition.fail("the topic is deleted");
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

fn identity(root: &Path, name: &str, index: i32, settings: &TopicSettings) -> PartitionIdentity {
    let directory = partition_directory(root, name, index);
    PartitionIdentity { topic: name.to_owned(), index, directory, settings: settings.clone() }
}
