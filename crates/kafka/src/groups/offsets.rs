//! Committed offsets, in the log's topic `__consumer_offsets`, in Apache Kafka's own record formats
//! (`OffsetCommitKey` version 1, `OffsetCommitValue` version 3), so that its readers understand them.
//!
//! A commit is one batch; memory holds the newest value of every key. The topic stays small without compaction: after
//! every [`SNAPSHOT_EVERY_BYTES`] all live values are written again, and retention may delete what is older than the
//! newest such snapshot, never the snapshot (the log is told to hold it). A compacted topic can later drop that.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use parking_lot::Mutex;
use playhouse_log::batch::{self, BatchBuilder, BatchError, Compression};
use playhouse_log::{AppendError, Appended, CreateTopicError, Log, Partition, ReadError, TimestampType, TopicSettings};

use super::consumer::records::{Records, group_of};

pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

const SNAPSHOT_EVERY_BYTES: usize = if cfg!(test) { 16 << 10 } else { 16 << 20 };
const SNAPSHOT_BATCH_BYTES: usize = 512 << 10;
const READ_BYTES: usize = 4 << 20;
const BATCH_BYTES_MAX: usize = 16 << 20;
const KEY_VERSION: i16 = 1;
const VALUE_VERSION: i16 = 3;
const HOLDER: &str = "committed offsets";

#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    #[error("cannot open the topic of committed offsets: {0}")]
    Topic(#[from] CreateTopicError),
    #[error("cannot read committed offsets: {0}")]
    Read(#[from] ReadError),
    #[error("cannot read committed offsets: {0}")]
    Batch(#[from] BatchError),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) commit_time_ms: i64,
}

pub(crate) type TopicPartition = (String, i32);
type GroupOffsets = BTreeMap<TopicPartition, Committed>;

#[derive(Debug)]
pub(crate) struct OffsetStore {
    partition: Arc<Partition>,
    bytes_max: usize,
    state: Mutex<Stored>,
}

#[derive(Debug, Default)]
struct Stored {
    groups: BTreeMap<String, GroupOffsets>,
    /// Records of groups of the newer protocol, by group.
    kept: BTreeMap<String, Records>,
    live_bytes: usize,
    since_snapshot: usize,
    /// Where the newest snapshot begins and ends, until it is durable and so may replace what came before.
    unheld: Option<(i64, i64)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("committed offsets have reached their limit of {0} bytes")]
    Full(usize),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl OffsetStore {
    pub(crate) fn open(log: &Log, bytes_max: usize) -> Result<OffsetStore, GroupsError> {
        let settings = TopicSettings {
            partitions: 1,
            timestamp_type: TimestampType::CreateTime,
            retention_ms: None,
            // Room for the snapshot in force, the one being written, and what is committed between them.
            retention_bytes: Some((4 * SNAPSHOT_EVERY_BYTES + 3 * bytes_max) as u64),
            segment_bytes: SNAPSHOT_EVERY_BYTES as u64,
            max_batch_bytes: BATCH_BYTES_MAX,
            ..TopicSettings::default()
        };
        let topic = log.ensure_topic(OFFSETS_TOPIC, settings)?;
        let partition = topic.partition(0).ok_or(CreateTopicError::InvalidPartitions(0))?.clone();
        // Nothing is deleted before the first snapshot of this run.
        partition.hold(HOLDER, partition.log_start_offset());
        let mut stored = Stored::default();
        let mut offset = partition.log_start_offset();
        while offset < partition.high_watermark() {
            let mut bytes = partition.read(offset, READ_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            stored.since_snapshot += bytes.len();
            while !bytes.is_empty() {
                let (header, length) = batch::split_first(&bytes)?;
                let records = batch::Records::decompress(&bytes.split_to(length), BATCH_BYTES_MAX)?;
                for record in records.iter() {
                    let record = record?;
                    if let Some((group, place)) = record.key.and_then(read_key) {
                        stored.put(group, place, record.value.and_then(read_value));
                    } else if let Some(key) = record.key
                        && let Some(group) = group_of(key)
                    {
                        stored.put_kept(group, key.to_vec(), record.value.map(<[u8]>::to_vec));
                    }
                }
                offset = header.base_offset + i64::from(header.last_offset_delta) + 1;
            }
        }
        Ok(OffsetStore { partition, bytes_max, state: Mutex::new(stored) })
    }

    /// Appends the offsets and shows them to readers. The caller waits for [`Self::durable`] before it says so.
    pub(crate) fn commit(
        &self,
        group: &str,
        offsets: Vec<(TopicPartition, Committed)>,
        now_ms: i64,
    ) -> Result<Option<Appended>, CommitError> {
        let mut stored = self.state.lock();
        let more: usize = offsets
            .iter()
            .filter(|(place, _)| stored.groups.get(group).is_none_or(|places| !places.contains_key(place)))
            .map(|(place, committed)| size(group, place, committed))
            .sum();
        if stored.live_bytes + more > self.bytes_max {
            return Err(CommitError::Full(self.bytes_max));
        }
        let changes: Vec<_> = offsets.into_iter().map(|(place, committed)| (place, Some(committed))).collect();
        let appended = self.append(&mut stored, group, &changes, now_ms)?;
        for (place, committed) in changes {
            stored.put(group.to_owned(), place, committed);
        }
        Ok(appended)
    }

    pub(crate) async fn durable(&self, appended: Appended) -> Result<(), AppendError> {
        self.partition.durable(appended.next_offset).await
    }

    /// Forgets offsets of one group: those that `select` chooses.
    pub(crate) fn forget(
        &self,
        group: &str,
        now_ms: i64,
        select: impl Fn(&TopicPartition, &Committed) -> bool,
    ) -> Result<Option<Appended>, AppendError> {
        let mut stored = self.state.lock();
        let places = stored.groups.get(group).into_iter().flatten();
        let changes: Vec<_> = places.filter(|(place, it)| select(place, it)).map(|(p, _)| (p.clone(), None)).collect();
        let appended = self.append(&mut stored, group, &changes, now_ms)?;
        for (place, _) in changes {
            stored.put(group.to_owned(), place, None);
        }
        Ok(appended)
    }

    pub(crate) fn get(&self, group: &str, place: &TopicPartition) -> Option<Committed> {
        self.state.lock().groups.get(group)?.get(place).cloned()
    }

    pub(crate) fn all(&self, group: &str) -> Vec<(TopicPartition, Committed)> {
        let stored = self.state.lock();
        let places = stored.groups.get(group).into_iter().flatten();
        places.map(|(place, committed)| (place.clone(), committed.clone())).collect()
    }

    pub(crate) fn has(&self, group: &str) -> bool {
        self.state.lock().groups.contains_key(group)
    }

    /// Makes `records` all that is kept of a group of the newer protocol; writes what is another than before.
    pub(super) fn keep(&self, group: &str, records: Records, now_ms: i64) -> Result<Option<Appended>, AppendError> {
        let mut stored = self.state.lock();
        let before = stored.kept.get(group);
        let known = |key: &Vec<u8>| before.and_then(|before| before.get(key));
        let written = records.iter().filter(|(key, value)| known(key) != Some(*value));
        let mut changes: Vec<_> = written.map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        let gone = before.into_iter().flat_map(Records::keys).filter(|key| !records.contains_key(*key));
        changes.extend(gone.map(|key| (key.clone(), None)));
        let appended = self.append_records(&mut stored, changes.clone(), now_ms)?;
        for (key, value) in changes {
            stored.put_kept(group.to_owned(), key, value);
        }
        Ok(appended)
    }

    /// What is kept of each group of the newer protocol.
    pub(super) fn kept(&self) -> BTreeMap<String, Records> {
        self.state.lock().kept.clone()
    }

    pub(crate) fn groups(&self) -> Vec<String> {
        self.state.lock().groups.keys().cloned().collect()
    }

    fn append(
        &self,
        stored: &mut Stored,
        group: &str,
        changes: &[(TopicPartition, Option<Committed>)],
        now_ms: i64,
    ) -> Result<Option<Appended>, AppendError> {
        let encode = |(place, committed): &(TopicPartition, Option<Committed>)| {
            (write_key(group, place), committed.as_ref().map(write_value))
        };
        self.append_records(stored, changes.iter().map(encode).collect(), now_ms)
    }

    fn append_records(
        &self,
        stored: &mut Stored,
        records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        now_ms: i64,
    ) -> Result<Option<Appended>, AppendError> {
        if records.is_empty() {
            return Ok(None);
        }
        if stored.unheld.is_none() && stored.since_snapshot >= SNAPSHOT_EVERY_BYTES {
            self.snapshot(stored, now_ms)?;
        }
        if let Some((start, end)) = stored.unheld
            && self.partition.high_watermark() >= end
        {
            self.partition.hold(HOLDER, start);
            stored.unheld = None;
        }
        let mut builder = BatchBuilder::new(Compression::None);
        for (key, value) in records {
            builder.push(now_ms, Some(&key), value.as_deref(), &[]);
        }
        let bytes = builder.build();
        stored.since_snapshot += bytes.len();
        self.partition.append(&bytes).map(Some)
    }

    /// Writes every live value again. Once that is durable, retention may delete what came before.
    fn snapshot(&self, stored: &mut Stored, now_ms: i64) -> Result<(), AppendError> {
        let mut written: Option<(i64, i64)> = None;
        let mut builder = BatchBuilder::new(Compression::None);
        let mut flush = |builder: BatchBuilder| -> Result<(), AppendError> {
            if !builder.is_empty() {
                let appended = self.partition.append(&builder.build())?;
                written = Some((written.map_or(appended.base_offset, |(start, _)| start), appended.next_offset));
            }
            Ok(())
        };
        for (group, places) in &stored.groups {
            for (place, committed) in places {
                builder.push(now_ms, Some(&write_key(group, place)), Some(&write_value(committed)), &[]);
                if builder.size_bytes() >= SNAPSHOT_BATCH_BYTES {
                    flush(std::mem::replace(&mut builder, BatchBuilder::new(Compression::None)))?;
                }
            }
        }
        for (key, value) in stored.kept.values().flatten() {
            builder.push(now_ms, Some(key), Some(value), &[]);
            if builder.size_bytes() >= SNAPSHOT_BATCH_BYTES {
                flush(std::mem::replace(&mut builder, BatchBuilder::new(Compression::None)))?;
            }
        }
        flush(builder)?;
        stored.since_snapshot = 0;
        stored.unheld = written;
        Ok(())
    }
}

impl Stored {
    fn put_kept(&mut self, group: String, key: Vec<u8>, value: Option<Vec<u8>>) {
        let kept = self.kept.entry(group.clone()).or_default();
        match value {
            Some(value) => drop(kept.insert(key, value)),
            None => drop(kept.remove(&key)),
        }
        if kept.is_empty() {
            self.kept.remove(&group);
        }
    }

    fn put(&mut self, group: String, place: TopicPartition, committed: Option<Committed>) {
        let places = self.groups.entry(group.clone()).or_default();
        let old = match committed {
            Some(committed) => {
                self.live_bytes += size(&group, &place, &committed);
                places.insert(place.clone(), committed)
            }
            None => places.remove(&place),
        };
        if let Some(old) = old {
            self.live_bytes -= size(&group, &place, &old);
        }
        if places.is_empty() {
            self.groups.remove(&group);
        }
    }
}

/// About what one value takes in a snapshot.
fn size(group: &str, place: &TopicPartition, committed: &Committed) -> usize {
    64 + group.len() + place.0.len() + committed.metadata.len()
}

pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    // Names and metadata are far below 32 KiB: the protocol's own strings are, and the API checks metadata.
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

pub(super) fn get_string(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn write_key(group: &str, (topic, partition): &TopicPartition) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + group.len() + topic.len());
    out.put_i16(KEY_VERSION);
    put_string(&mut out, group);
    put_string(&mut out, topic);
    out.put_i32(*partition);
    out
}

/// `None` for keys of other kinds (group metadata), which Kafka keeps in the same topic.
fn read_key(mut bytes: &[u8]) -> Option<(String, TopicPartition)> {
    if !(0..=KEY_VERSION).contains(&bytes.try_get_i16().ok()?) {
        return None;
    }
    let group = get_string(&mut bytes)?;
    let topic = get_string(&mut bytes)?;
    Some((group, (topic, bytes.try_get_i32().ok()?)))
}

fn write_value(committed: &Committed) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + committed.metadata.len());
    out.put_i16(VALUE_VERSION);
    out.put_i64(committed.offset);
    out.put_i32(committed.leader_epoch);
    put_string(&mut out, &committed.metadata);
    out.put_i64(committed.commit_time_ms);
    out
}

fn read_value(mut bytes: &[u8]) -> Option<Committed> {
    if bytes.try_get_i16().ok()? != VALUE_VERSION {
        return None;
    }
    Some(Committed {
        offset: bytes.try_get_i64().ok()?,
        leader_epoch: bytes.try_get_i32().ok()?,
        metadata: get_string(&mut bytes)?,
        commit_time_ms: bytes.try_get_i64().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use playhouse_log::LogConfig;
    use playhouse_log::disk::RealDisk;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 16 << 10;

    fn committed(offset: i64) -> Committed {
        Committed { offset, leader_epoch: 0, metadata: String::new(), commit_time_ms: 1 }
    }

    fn place(partition: i32) -> TopicPartition {
        ("events".to_owned(), partition)
    }

    #[tokio::test]
    async fn many_commits_take_bounded_space_and_none_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let open = || playhouse_log::Log::open(Arc::new(RealDisk), directory.path(), LogConfig::default()).unwrap();
        let log = open();
        let store = OffsetStore::open(&log, LIMIT).unwrap();
        store.commit("idle", vec![(place(0), committed(7))], 1).unwrap();
        let mut written = 0;
        for round in 0..4_000 {
            let appended = store.commit("busy", vec![(place(round % 3), committed(i64::from(round)))], 1).unwrap();
            if round % 50 == 0 {
                store.durable(appended.unwrap()).await.unwrap();
                written = written.max(log.size_bytes());
                log.retain().unwrap();
            }
        }
        store.forget("idle", 1, |place, _| place.1 == 99).unwrap();
        let last = store.commit("late", vec![(place(0), committed(1))], 1).unwrap().unwrap();
        store.durable(last).await.unwrap();
        assert!(store.partition.log_start_offset() > 0, "retention has deleted what snapshots replaced");
        assert!(written < 8 * (SNAPSHOT_EVERY_BYTES + LIMIT) as u64, "{written} bytes");
        log.close().unwrap();
        let log = open();
        let store = OffsetStore::open(&log, LIMIT).unwrap();
        assert_eq!(store.get("idle", &place(0)), Some(committed(7)));
        assert_eq!(store.all("busy").iter().map(|(_, it)| it.offset).collect::<Vec<_>>(), [3999, 3997, 3998]);
        assert_eq!(store.groups(), ["busy", "idle", "late"]);
    }

    #[tokio::test]
    async fn commits_beyond_the_limit_are_refused_and_forgetting_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let log = playhouse_log::Log::open(Arc::new(RealDisk), directory.path(), LogConfig::default()).unwrap();
        let store = OffsetStore::open(&log, LIMIT).unwrap();
        let offsets = || (0..1_000).map(|partition| (place(partition), committed(1))).collect();
        assert!(matches!(store.commit("group", offsets(), 1), Err(CommitError::Full(LIMIT))));
        assert!(!store.has("group"));
        store.commit("group", vec![(place(1), committed(1))], 1).unwrap();
        store.forget("group", 1, |_, _| true).unwrap();
        assert!(!store.has("group"));
        assert_eq!(store.state.lock().live_bytes, 0);
    }

    proptest! {
        #[test]
        fn keys_and_values_come_back(group in ".{0,40}", topic in "[a-z._-]{1,40}", partition in 0..i32::MAX,
                                     offset in 0..i64::MAX, leader_epoch in -1..9i32, metadata in ".{0,80}",
                                     commit_time_ms in 0..i64::MAX) {
            let place = (topic, partition);
            prop_assert_eq!(read_key(&write_key(&group, &place)), Some((group, place)));
            let committed = Committed { offset, leader_epoch, metadata, commit_time_ms };
            prop_assert_eq!(read_value(&write_value(&committed)), Some(committed));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_key(&bytes);
            let _ = read_value(&bytes);
        }
    }
}
