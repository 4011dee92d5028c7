//! Committed offsets, in the log's topic `__consumer_offsets`, in Apache Kafka's own record formats
//! (`OffsetCommitKey` version 1, `OffsetCommitValue` version 3), so that its readers understand them.
//!
//! A commit is one batch; memory holds the newest value of every key, and the topic is compacted. Offsets committed as part
//! of a transaction are a batch of that transaction: they count once its marker is there, which the transaction
//! coordinator has written here as it does everywhere, and as of the offset where they lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use parking_lot::Mutex;
use playhouse_log::batch::{self, BatchBuilder, BatchError, Compression};
use playhouse_log::{
    AlterTopicError, AppendError, Appended, CreateTopicError, Log, Partition, ReadError, TopicSettings,
    TransactionMarker,
};

use super::consumer::records::{Records, group_of};

pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The one partition of it.
pub(crate) const OFFSETS_PLACE: (&str, i32) = (OFFSETS_TOPIC, 0);

const SEGMENT_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 16 << 20 };
const BATCH_BYTES_MAX: usize = 16 << 20;
const NO_SEQUENCE: i32 = -1;
const KEY_VERSION: i16 = 1;
const VALUE_VERSION: i16 = 3;

#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    #[error("cannot open the topic of committed offsets: {0}")]
    Topic(#[from] CreateTopicError),
    #[error("cannot compact the topic of committed offsets: {0}")]
    Alter(#[from] AlterTopicError),
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
/// With the log offset that each was committed at.
type GroupOffsets = BTreeMap<TopicPartition, (i64, Committed)>;

/// Committed in a transaction that is open.
#[derive(Debug)]
struct Pending {
    at: i64,
    group: String,
    place: TopicPartition,
    committed: Committed,
}

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
    /// By producer.
    pending: BTreeMap<i64, Vec<Pending>>,
    /// Of what is live and what is pending.
    live_bytes: usize,
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
        let settings = TopicSettings::store(SEGMENT_BYTES, BATCH_BYTES_MAX);
        let topic = log.ensure_topic(OFFSETS_TOPIC, settings.clone())?;
        if !topic.settings().cleanup.compacts() {
            // Made by a version that kept it small in another way.
            log.alter_topic(OFFSETS_TOPIC, settings)?;
        }
        let partition = topic.partition(0).ok_or(CreateTopicError::InvalidPartitions(0))?.clone();
        let mut stored = Stored::default();
        for batch in partition.batches_from(0) {
            let (header, batch) = batch?;
            if header.is_control() {
                if let Some(marker) = batch::read_marker(&header, &batch) {
                    stored.end(&marker);
                }
                continue;
            }
            for record in batch::Records::decompress(&batch, BATCH_BYTES_MAX)?.iter() {
                let record = record?;
                if let Some((group, place)) = record.key.and_then(read_key) {
                    let committed = record.value.and_then(read_value);
                    match committed {
                        Some(committed) if header.is_transactional() => {
                            let pending = Pending { at: record.offset, group, place, committed };
                            stored.stage(header.producer_id, pending);
                        }
                        committed => stored.put(group, place, record.offset, committed),
                    }
                } else if let Some(key) = record.key
                    && let Some(group) = group_of(key)
                {
                    stored.put_kept(group, key.to_vec(), record.value.map(<[u8]>::to_vec));
                }
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
        let known = |place: &TopicPartition| stored.groups.get(group).is_some_and(|places| places.contains_key(place));
        let new = offsets.iter().filter(|(place, _)| !known(place));
        self.check_room(&stored, new.map(|(place, committed)| size(group, place, committed)).sum())?;
        let changes: Vec<_> = offsets.into_iter().map(|(place, committed)| (place, Some(committed))).collect();
        let appended = self.append(group, &changes, now_ms)?;
        stored.put_all(group, changes, appended);
        Ok(appended)
    }

    /// Appends offsets as part of a producer's transaction: they count once [`Self::end`] says that it was committed.
    pub(crate) fn stage(
        &self,
        group: &str,
        (producer_id, producer_epoch): (i64, i16),
        offsets: Vec<(TopicPartition, Committed)>,
        now_ms: i64,
    ) -> Result<Option<Appended>, CommitError> {
        if offsets.is_empty() {
            return Ok(None);
        }
        let mut stored = self.state.lock();
        self.check_room(&stored, offsets.iter().map(|(place, committed)| size(group, place, committed)).sum())?;
        let builder = BatchBuilder::new(Compression::None);
        let mut builder = builder.producer(producer_id, producer_epoch, NO_SEQUENCE).transactional();
        for (place, committed) in &offsets {
            builder.push(now_ms, Some(&write_key(group, place)), Some(&write_value(committed)), &[]);
        }
        let appended = self.partition.append_unsequenced(&builder.build())?;
        for (at, (place, committed)) in (appended.base_offset..).zip(offsets) {
            stored.stage(producer_id, Pending { at, group: group.to_owned(), place, committed });
        }
        Ok(Some(appended))
    }

    /// Ends a producer's transaction: what it staged counts from now on, or is forgotten.
    pub(crate) fn end(&self, marker: &TransactionMarker) -> Result<Appended, AppendError> {
        let mut stored = self.state.lock();
        let appended = self.partition.end_transaction(marker)?;
        stored.end(marker);
        Ok(appended)
    }

    /// Whether a transaction that is open would change this offset.
    pub(crate) fn is_pending(&self, group: &str, place: &TopicPartition) -> bool {
        let stored = self.state.lock();
        stored.pending.values().flatten().any(|pending| pending.group == group && pending.place == *place)
    }

    /// Whether an open transaction has offsets of the group.
    pub(crate) fn is_staged(&self, group: &str) -> bool {
        self.state.lock().pending.values().flatten().any(|pending| pending.group == group)
    }

    fn check_room(&self, stored: &Stored, more: usize) -> Result<(), CommitError> {
        if stored.live_bytes + more > self.bytes_max { Err(CommitError::Full(self.bytes_max)) } else { Ok(()) }
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
        let chosen = places.filter(|(place, (_, it))| select(place, it));
        let changes: Vec<_> = chosen.map(|(place, _)| (place.clone(), None)).collect();
        let appended = self.append(group, &changes, now_ms)?;
        stored.put_all(group, changes, appended);
        Ok(appended)
    }

    pub(crate) fn get(&self, group: &str, place: &TopicPartition) -> Option<Committed> {
        self.state.lock().groups.get(group)?.get(place).map(|(_, committed)| committed.clone())
    }

    pub(crate) fn all(&self, group: &str) -> Vec<(TopicPartition, Committed)> {
        let stored = self.state.lock();
        let places = stored.groups.get(group).into_iter().flatten();
        places.map(|(place, (_, committed))| (place.clone(), committed.clone())).collect()
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
        let appended = self.append_records(changes.clone(), now_ms)?;
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
        group: &str,
        changes: &[(TopicPartition, Option<Committed>)],
        now_ms: i64,
    ) -> Result<Option<Appended>, AppendError> {
        let encode = |(place, committed): &(TopicPartition, Option<Committed>)| {
            (write_key(group, place), committed.as_ref().map(write_value))
        };
        self.append_records(changes.iter().map(encode).collect(), now_ms)
    }

    fn append_records(
        &self,
        records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        now_ms: i64,
    ) -> Result<Option<Appended>, AppendError> {
        if records.is_empty() {
            return Ok(None);
        }
        let mut builder = BatchBuilder::new(Compression::None);
        for (key, value) in records {
            builder.push(now_ms, Some(&key), value.as_deref(), &[]);
        }
        self.partition.append(&builder.build()).map(Some)
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

    /// The changes of one batch.
    fn put_all(&mut self, group: &str, changes: Vec<(TopicPartition, Option<Committed>)>, appended: Option<Appended>) {
        let Some(appended) = appended else { return };
        for (at, (place, committed)) in (appended.base_offset..).zip(changes) {
            self.put(group.to_owned(), place, at, committed);
        }
    }

    fn put(&mut self, group: String, place: TopicPartition, at: i64, committed: Option<Committed>) {
        let places = self.groups.entry(group.clone()).or_default();
        let old = match committed {
            Some(committed) => {
                self.live_bytes += size(&group, &place, &committed);
                places.insert(place.clone(), (at, committed))
            }
            None => places.remove(&place),
        };
        if let Some((_, old)) = old {
            self.live_bytes -= size(&group, &place, &old);
        }
        if places.is_empty() {
            self.groups.remove(&group);
        }
    }

    fn stage(&mut self, producer_id: i64, pending: Pending) {
        self.live_bytes += size(&pending.group, &pending.place, &pending.committed);
        self.pending.entry(producer_id).or_default().push(pending);
    }

    fn end(&mut self, marker: &TransactionMarker) {
        for Pending { at, group, place, committed } in self.pending.remove(&marker.producer_id).unwrap_or_default() {
            self.live_bytes -= size(&group, &place, &committed);
            let newer = self.groups.get(&group).and_then(|places| places.get(&place));
            if marker.commit && newer.is_none_or(|(newer, _)| *newer < at) {
                self.put(group, place, at, Some(committed));
            }
        }
    }
}

/// About what one value takes in a snapshot.
fn size(group: &str, place: &TopicPartition, committed: &Committed) -> usize {
    64 + group.len() + place.0.len() + committed.metadata.len()
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    // Names and metadata are far below 32 KiB: the protocol's own strings are, and the API checks metadata.
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

pub(crate) fn get_string(bytes: &mut &[u8]) -> Option<String> {
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
        let mut most = 0;
        for round in 0..4_000 {
            let appended = store.commit("busy", vec![(place(round % 3), committed(i64::from(round)))], 1).unwrap();
            if round % 50 == 0 {
                store.durable(appended.unwrap()).await.unwrap();
                most = most.max(log.size_bytes());
                log.checkpoint().unwrap();
                log.compact().unwrap();
            }
        }
        store.forget("idle", 1, |place, _| place.1 == 99).unwrap();
        let last = store.commit("late", vec![(place(0), committed(1))], 1).unwrap().unwrap();
        store.durable(last).await.unwrap();
        assert!(most < 4 * SEGMENT_BYTES, "{most} bytes");
        log.close().unwrap();
        let log = open();
        let store = OffsetStore::open(&log, LIMIT).unwrap();
        assert_eq!(store.get("idle", &place(0)), Some(committed(7)));
        assert_eq!(store.all("busy").iter().map(|(_, it)| it.offset).collect::<Vec<_>>(), [3999, 3997, 3998]);
        assert_eq!(store.groups(), ["busy", "idle", "late"]);
    }

    #[test]
    fn offsets_of_a_transaction_count_when_it_is_committed() {
        let directory = tempfile::tempdir().unwrap();
        let open = || playhouse_log::Log::open(Arc::new(RealDisk), directory.path(), LogConfig::default()).unwrap();
        let marker =
            |producer_id, commit| TransactionMarker { producer_id, producer_epoch: 0, coordinator_epoch: 0, commit };
        let log = open();
        let store = OffsetStore::open(&log, LIMIT).unwrap();
        for (producer, partition) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
            store.stage("group", (producer, 0), vec![(place(partition), committed(producer))], 1).unwrap();
        }
        assert!(store.all("group").is_empty() && store.is_pending("group", &place(0)));
        store.end(&marker(1, true)).unwrap();
        store.end(&marker(2, false)).unwrap();
        // Newer than what its transaction staged.
        store.commit("group", vec![(place(2), committed(99))], 1).unwrap();
        let expect = |store: &OffsetStore| {
            let offsets: Vec<_> = store.all("group").into_iter().map(|(place, it)| (place.1, it.offset)).collect();
            assert_eq!(offsets, [(0, 1), (2, 99)]);
            assert!(!store.is_pending("group", &place(0)) && store.is_pending("group", &place(3)));
        };
        store.end(&marker(3, true)).unwrap();
        expect(&store);
        log.close().unwrap();
        let log = open();
        let store = OffsetStore::open(&log, LIMIT).unwrap();
        expect(&store);
        store.end(&marker(4, true)).unwrap();
        assert_eq!(store.get("group", &place(3)), Some(committed(4)));
        store.forget("group", 1, |_, _| true).unwrap();
        assert_eq!(store.state.lock().live_bytes, 0);
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
