//! What has become of bad events since: how often a repair was tried, what they were fixed as, whether they were dropped.
//!
//! Kept in the compacted topic `__bad_event_state`, by bad id, and read back at start. In memory is only what somebody
//! has touched and retention has not deleted, about 50 bytes each, and no more than [`STATES_MAX`] of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use playhouse_log::batch::{BatchBuilder, BatchError, Compression, Records};
use playhouse_log::{AppendError, CreateTopicError, Log, Partition, ReadError, TopicSettings};
use serde::{Deserialize, Serialize};

use super::BadEvent;
use crate::gate::now_ms;

pub const BAD_EVENT_STATE_TOPIC: &str = "__bad_event_state";

/// Past it no further bad event is repaired or dropped until retention has deleted some that were.
const STATES_MAX: usize = 1_000_000;
const VERSION: u32 = 1;
/// No bad id.
const DISPLACED: &[u8] = b"displaced";
const SEGMENT_BYTES: u64 = 16 << 20;
const BATCH_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot open the topic {BAD_EVENT_STATE_TOPIC}: {0}")]
    Topic(#[from] CreateTopicError),
    #[error("cannot read the topic {BAD_EVENT_STATE_TOPIC}: {0}")]
    Read(#[from] ReadError),
    #[error("cannot read the topic {BAD_EVENT_STATE_TOPIC}: {0}")]
    Batch(#[from] BatchError),
    #[error("the topic {BAD_EVENT_STATE_TOPIC} is damaged: {0}")]
    Stored(#[from] serde_json::Error),
    #[error("{BAD_EVENT_STATE_TOPIC} holds state of version {0}, written by a newer Playhouse: start that one")]
    Version(u32),
    #[error("cannot write the state of bad events: {0}")]
    Append(#[from] AppendError),
    #[error(
        "the state of {STATES_MAX} bad events is kept already: wait until the retention of bad_events has deleted some"
    )]
    Full,
}

/// One bad event's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) attempts: u32,
    pub(crate) standing: Standing,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Open,
    /// Between the intent to replay it and the knowledge of where it lies.
    Replaying(Box<Intent>),
    /// Where it lies in its topic.
    Fixed {
        partition: i32,
        offset: i64,
    },
    Dropped,
}

/// Where a replayed event will lie if it ever does: in that partition, at or behind that offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) topic: String,
    /// A topic of the same name that was made later holds none of its records.
    pub(crate) topic_id: String,
    pub(crate) partition: i32,
    pub(crate) from: i64,
}

/// The value of a record.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// Id of the topic `bad_events`: in one that was made anew, the same bad id is another event.
    of: String,
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fixed_at: Option<(i32, i64)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dropped: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaying: Option<Box<Intent>>,
}

impl Stored {
    fn new(of: &str, state: &State) -> Stored {
        let mut stored = Stored {
            version: VERSION,
            of: of.to_owned(),
            attempts: state.attempts,
            fixed_at: None,
            dropped: false,
            replaying: None,
        };
        match &state.standing {
            Standing::Open => {}
            Standing::Replaying(intent) => stored.replaying = Some(intent.clone()),
            Standing::Fixed { partition, offset } => stored.fixed_at = Some((*partition, *offset)),
            Standing::Dropped => stored.dropped = true,
        }
        stored
    }

    fn state(self) -> State {
        let standing = match (self.fixed_at, self.replaying) {
            (Some((partition, offset)), _) => Standing::Fixed { partition, offset },
            (None, Some(intent)) => Standing::Replaying(intent),
            (None, None) if self.dropped => Standing::Dropped,
            (None, None) => Standing::Open,
        };
        State { attempts: self.attempts, standing }
    }
}

/// What the disk quota took away before its time, since the topic was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    pub events: u64,
    /// On disk.
    pub bytes: u64,
    /// When that was last.
    pub at_ms: Option<i64>,
}

/// The value of the record with the key [`DISPLACED`].
#[derive(Debug, Serialize, Deserialize)]
struct StoredDisplaced {
    version: u32,
    of: String,
    displaced: Displaced,
}

/// What is read back.
#[derive(Default)]
struct Kept {
    states: BTreeMap<i64, State>,
    displaced: Displaced,
}

/// The states of all bad events, by offset in `bad_events`. One writer at a time.
pub(crate) struct States {
    partition: Arc<Partition>,
    of: String,
    states: RwLock<BTreeMap<i64, State>>,
    states_max: usize,
    displaced: Mutex<Displaced>,
}

impl States {
    /// `of` is the id of the topic `bad_events`.
    pub(crate) fn open(log: &Log, of: String) -> Result<States, StateError> {
        let settings = TopicSettings::store(SEGMENT_BYTES, BATCH_BYTES_MAX);
        let topic = log.ensure_topic(BAD_EVENT_STATE_TOPIC, settings)?;
        let partition = topic.partition(0).ok_or(CreateTopicError::InvalidPartitions(0))?.clone();
        let Kept { states, displaced } = read_back(&partition, &of)?;
        let (states, displaced) = (RwLock::new(states), Mutex::new(displaced));
        Ok(States { partition, of, states, states_max: STATES_MAX, displaced })
    }

    pub(crate) fn displaced(&self) -> Displaced {
        *self.displaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was displaced. Nobody waits until that is durable.
    pub(crate) fn count_displaced(&self, events: u64, bytes: u64) -> Result<(), StateError> {
        let now = now_ms();
        let displaced = {
            let mut displaced = self.displaced.lock().unwrap_or_else(PoisonError::into_inner);
            displaced.events += events;
            displaced.bytes += bytes;
            displaced.at_ms = Some(now);
            *displaced
        };
        let stored = StoredDisplaced { version: VERSION, of: self.of.clone(), displaced };
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(now, Some(DISPLACED), Some(&serde_json::to_vec(&stored)?), &[]);
        self.partition.append(&batch.build())?;
        Ok(())
    }

    pub(crate) fn get(&self, offset: i64) -> State {
        self.read().get(&offset).cloned().unwrap_or_default()
    }

    /// Tells what has become of the event.
    pub(crate) fn annotate(&self, offset: i64, event: &mut BadEvent) {
        let states = self.read();
        let Some(state) = states.get(&offset) else { return };
        event.attempts = i32::try_from(state.attempts).unwrap_or(i32::MAX);
        event.dropped = state.standing == Standing::Dropped;
        event.fixed_as = match &state.standing {
            Standing::Fixed { partition, offset } => Some(format!("{}/{partition}/{offset}", event.topic)),
            _ => None,
        };
    }

    /// Those whose replay a crash or an error interrupted.
    pub(crate) fn interrupted(&self) -> Vec<(i64, Intent)> {
        let interrupted = |(offset, state): (&i64, &State)| match &state.standing {
            Standing::Replaying(intent) => Some((*offset, Intent::clone(intent))),
            _ => None,
        };
        self.read().iter().filter_map(interrupted).collect()
    }

    /// Puts states in force and returns once they are on disk, whatever the log's durability: what is done next must not
    /// survive a power cut that these do not. Events below `start` are forgotten: retention has deleted them.
    pub(crate) async fn write(&self, changes: Vec<(i64, State)>, start: i64) -> Result<(), StateError> {
        let Some(next_offset) = self.append(&changes, start)? else { return Ok(()) };
        on_disk(&self.partition, next_offset).await?;
        self.put(changes, start);
        Ok(())
    }

    /// As [`States::write`], without waiting: for what would be found out again if it were lost.
    pub(crate) fn write_soon(&self, changes: Vec<(i64, State)>, start: i64) -> Result<(), StateError> {
        self.append(&changes, start)?;
        self.put(changes, start);
        Ok(())
    }

    fn append(&self, changes: &[(i64, State)], start: i64) -> Result<Option<i64>, StateError> {
        let mut batch = BatchBuilder::new(Compression::Lz4);
        let now = now_ms();
        {
            let states = self.read();
            let new = changes.iter().filter(|(offset, _)| !states.contains_key(offset)).count();
            if new > 0 && states.len() + new > self.states_max {
                return Err(StateError::Full);
            }
            for (offset, state) in changes {
                // Numbers and names only: serialising them cannot fail.
                let value = serde_json::to_vec(&Stored::new(&self.of, state)).unwrap_or_default();
                batch.push(now, Some(key(*offset).as_bytes()), Some(&value), &[]);
            }
            for (offset, _) in states.range(..start) {
                batch.push(now, Some(key(*offset).as_bytes()), None, &[]);
            }
        }
        if batch.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.partition.append(&batch.build())?.next_offset))
    }

    fn put(&self, changes: Vec<(i64, State)>, start: i64) {
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.extend(changes);
        if states.first_key_value().is_some_and(|(offset, _)| *offset < start) {
            *states = states.split_off(&start);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<i64, State>> {
        self.states.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until everything below `next_offset` is on disk, where the log itself does not wait for that too.
pub(crate) async fn on_disk(partition: &Arc<Partition>, next_offset: i64) -> Result<(), AppendError> {
    partition.durable(next_offset).await?;
    let partition = partition.clone();
    let synced = tokio::task::spawn_blocking(move || partition.sync()).await;
    synced.unwrap_or_else(|error| Err(AppendError::Failed(error.to_string())))
}

/// As the bad id: `bad_events` has one partition.
fn key(offset: i64) -> String {
    format!("0-{offset}")
}

pub(crate) fn offset_of(bad_id: &str) -> Option<i64> {
    let offset = bad_id.strip_prefix("0-")?.parse().ok()?;
    // The id as it is written: what only reads as the same number is another's.
    (key(offset) == bad_id).then_some(offset)
}

fn read_back(partition: &Partition, of: &str) -> Result<Kept, StateError> {
    let Kept { mut states, mut displaced } = Kept::default();
    for batch in partition.batches_from(0) {
        let (_, batch) = batch?;
        for record in Records::decompress(&batch, BATCH_BYTES_MAX)?.iter() {
            let record = record?;
            if let (Some(DISPLACED), Some(value)) = (record.key, record.value) {
                let stored: StoredDisplaced = serde_json::from_slice(value)?;
                displaced = if stored.of == of { stored.displaced } else { Displaced::default() };
                continue;
            }
            let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
            let Some(event) = key.and_then(offset_of) else { continue };
            match record.value.map(serde_json::from_slice::<Stored>).transpose()? {
                Some(stored) if stored.version != VERSION => return Err(StateError::Version(stored.version)),
                Some(stored) if stored.of == of => drop(states.insert(event, stored.state())),
                _ => drop(states.remove(&event)),
            }
        }
    }
    Ok(Kept { states, displaced })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use playhouse_log::disk::SimulatedDisk;
    use playhouse_log::{Durability, LogConfig};
    use proptest::prelude::*;

    use super::*;

    fn open(disk: &SimulatedDisk) -> Arc<Log> {
        let config = LogConfig { durability: Durability::Os, ..LogConfig::default() };
        Log::open(Arc::new(disk.clone()), Path::new("/log"), config).unwrap()
    }

    fn fixed(offset: i64) -> State {
        State { attempts: 1, standing: Standing::Fixed { partition: 3, offset } }
    }

    fn state() -> impl Strategy<Value = State> {
        let intent = ("[a-z]{1,8}", "[0-9a-f]{4}", any::<i32>(), any::<i64>());
        let intent = intent.prop_map(|(topic, topic_id, partition, from)| Intent { topic, topic_id, partition, from });
        let standing = prop_oneof![
            Just(Standing::Open),
            Just(Standing::Dropped),
            (any::<i32>(), any::<i64>()).prop_map(|(partition, offset)| Standing::Fixed { partition, offset }),
            intent.prop_map(|intent| Standing::Replaying(Box::new(intent))),
        ];
        (any::<u32>(), standing).prop_map(|(attempts, standing)| State { attempts, standing })
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back(state in state()) {
            let value = serde_json::to_vec(&Stored::new("topic", &state)).unwrap();
            let stored: Stored = serde_json::from_slice(&value).unwrap();
            prop_assert_eq!(stored.state(), state);
        }

        #[test]
        fn a_bad_id_is_one_offset_as_it_is_written(offset in 0..i64::MAX) {
            prop_assert_eq!(offset_of(&key(offset)), Some(offset));
            let padded = format!("0-0{offset}");
            prop_assert_eq!(offset_of(&padded), None);
        }
    }

    #[tokio::test]
    async fn states_outlive_the_process_and_power_cuts_even_where_the_log_does_not_wait_for_the_disk() {
        let disk = SimulatedDisk::new();
        let log = open(&disk);
        let states = States::open(&log, "a".into()).unwrap();
        states.write(vec![(7, fixed(1)), (8, State { attempts: 2, ..State::default() })], 0).await.unwrap();
        drop((states, log));
        let log = open(&disk.power_cut(None));
        let states = States::open(&log, "a".into()).unwrap();
        assert_eq!((states.get(7), states.get(8).attempts, states.get(9)), (fixed(1), 2, State::default()));
        // The same ids in a topic made anew are other events.
        assert_eq!(States::open(&log, "b".into()).unwrap().get(7), State::default());
    }

    #[tokio::test]
    async fn what_retention_deleted_is_forgotten_and_makes_room() {
        let disk = SimulatedDisk::new();
        let log = open(&disk);
        let states = States { states_max: 2, ..States::open(&log, "a".into()).unwrap() };
        states.write(vec![(1, fixed(1)), (2, fixed(2))], 0).await.unwrap();
        assert!(matches!(states.write(vec![(3, fixed(3))], 0).await, Err(StateError::Full)));
        // Of one that is known there may be news.
        states.write(vec![(2, State::default())], 2).await.unwrap();
        states.write(vec![(3, fixed(3))], 2).await.unwrap();
        assert_eq!(States::open(&log, "a".into()).unwrap().read().keys().copied().collect::<Vec<_>>(), [2, 3]);
    }
}
