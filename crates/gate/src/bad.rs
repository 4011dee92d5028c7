//! Bad events: the typed rows of the log topic `bad_events`.

mod filter;
mod find;
mod headers;
mod id;
mod quota;
mod replayed;
mod rows;
mod state;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, TryLockError};

use bytes::Bytes;
use playhouse_log::batch::{BatchError, Record, Records, split_first};
use playhouse_log::{AppendError, Appended, CreateTopicError, Log, Partition, ReadError, TimestampType, TopicSettings};

use self::state::{States, offset_of};
use crate::failures::names_schema;
use crate::{Reason, RepairError};

pub(crate) use self::rows::{BadFrames, Beside};
pub(crate) use self::state::{Intent, Standing, State, on_disk};

pub use self::filter::{BadFilter, BadState, BadStats, Groups};
pub use self::quota::{BadEventsLimits, BadEventsUsage};
pub use self::replayed::REPLAY_HEADER;
pub use self::state::{BAD_EVENT_STATE_TOPIC, Displaced, StateError};

pub const BAD_EVENTS_TOPIC: &str = "bad_events";

/// Read at once, when paging.
const PAGE_BYTES: usize = 1 << 20;
/// So often, for one page of what a filter selects.
const READS_MAX: usize = 64;
/// A page with so much of events in it is full, however few rows it has.
const PAGE_RAW_BYTES: usize = 16 << 20;
/// By how much the clock of a row's receipt may be ahead of the log's, or have gone back between a batch and its bad events.
pub(crate) const CLOCK_SLACK_MS: i64 = 60_000;
/// The batches of this topic are framed here, close to their 1 MB plus one event.
pub(crate) const DECOMPRESSED_MAX: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Validate,
    Enrich,
    Sink(String),
}

impl std::fmt::Display for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stage::Decode => formatter.write_str("decode"),
            Stage::Validate => formatter.write_str("validate"),
            Stage::Enrich => formatter.write_str("enrich"),
            Stage::Sink(name) => write!(formatter, "sink:{name}"),
        }
    }
}

impl Stage {
    /// What `Display` writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Stage> {
        Some(match text {
            "decode" => Stage::Decode,
            "validate" => Stage::Validate,
            "enrich" => Stage::Enrich,
            other => Stage::Sink(other.strip_prefix("sink:")?.to_owned()),
        })
    }
}

/// One bad event, as stored (JSON, `raw` in base64) together with what has become of it since. `bad_id` is its place:
/// `<partition>-<offset>`.
#[derive(Debug, Clone, PartialEq)]
pub struct BadEvent {
    pub bad_id: String,
    pub received_at_ms: i64,
    pub topic: String,
    pub source_protocol: String,
    pub source_address: Option<String>,
    pub user_agent: Option<String>,
    pub schema_id: Option<i32>,
    pub stage: Stage,
    pub reasons: Vec<Reason>,
    /// As sent; of an event over the size limit, its beginning.
    pub raw: Vec<u8>,
    pub is_cut: bool,
    /// Key and headers of a record that came over the Kafka protocol, or that failed behind the gate.
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    /// How often a repair was tried.
    pub attempts: i32,
    /// What it was repaired to, and replayed: `<topic>/<partition>/<offset>`.
    pub fixed_as: Option<String>,
    /// Nobody wants to repair it.
    pub dropped: bool,
    /// The partition and offset it would have had in its topic, where it was taken out of a Kafka batch; that it has, where
    /// it failed behind the gate.
    pub place: Option<(i32, i64)>,
}

impl BadEvent {
    /// Whether it came as a record with key and headers of its own. What failed behind the gate may have come either way:
    /// only a record names its schema in a header.
    pub(crate) fn is_record(&self) -> bool {
        self.place.is_some() && (self.source_protocol != LOG_PROTOCOL || names_schema(&self.headers))
    }
}

/// The protocol of what failed behind the gate.
pub(crate) const LOG_PROTOCOL: &str = "log";

/// The topic `bad_events` of a log: one partition, so that its rows have one order. Beside it, what has become of them.
pub struct BadEvents {
    log: Arc<Log>,
    states: States,
    bytes_max: AtomicU64,
    /// Counting reads the whole topic: one at a time.
    counting: Mutex<()>,
    /// Repairs take turns: each looks first what has become of its events.
    pub(crate) repairing: tokio::sync::Mutex<()>,
}

/// A bad event, with what is known of it now.
pub(crate) struct Known {
    /// In `bad_events`.
    pub(crate) offset: i64,
    pub(crate) state: State,
    pub(crate) event: BadEvent,
}

/// What [`BadEvents::select`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    pub rows: Vec<BadEvent>,
    /// Nothing is left to look through, for now.
    pub is_end: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum BadEventsError {
    #[error("topic {BAD_EVENTS_TOPIC:?}: {0}")]
    Topic(#[from] CreateTopicError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl BadEvents {
    /// Makes the topics where they are missing.
    pub(crate) fn open(log: Arc<Log>, like: &TopicSettings) -> Result<BadEvents, BadEventsError> {
        let settings = TopicSettings { partitions: 1, timestamp_type: TimestampType::LogAppendTime, ..like.clone() };
        let topic = log.ensure_topic(BAD_EVENTS_TOPIC, settings)?;
        let states = States::open(&log, topic.id().to_string())?;
        let bad = BadEvents {
            log,
            states,
            bytes_max: AtomicU64::new(u64::MAX),
            counting: Mutex::new(()),
            repairing: tokio::sync::Mutex::new(()),
        };
        let interrupted = bad.states.interrupted();
        if !interrupted.is_empty() {
            // Whoever starts does not wait for this: were it lost, the next start would find it again.
            bad.states.write_soon(bad.outcomes(interrupted)?, bad.start())?;
        }
        Ok(bad)
    }

    /// What is known of the events now, each once, those that retention has deleted left out. Of a replay that was
    /// interrupted it is found out first. The caller holds `repairing`.
    pub(crate) async fn settle(self: &Arc<Self>, events: Vec<BadEvent>) -> Result<Vec<Known>, RepairError> {
        let start = self.start();
        let events: BTreeMap<i64, BadEvent> = events
            .into_iter()
            .filter_map(|event| Some((offset_of(&event.bad_id).filter(|offset| *offset >= start)?, event)))
            .collect();
        let intent = |offset: &i64| match self.states.get(*offset).standing {
            Standing::Replaying(intent) => Some((*offset, *intent)),
            _ => None,
        };
        let interrupted: Vec<(i64, Intent)> = events.keys().filter_map(intent).collect();
        if !interrupted.is_empty() {
            let bad = self.clone();
            let changes = tokio::task::spawn_blocking(move || bad.outcomes(interrupted)).await??;
            self.write_states(changes).await?;
        }
        let known = |(offset, mut event)| {
            self.states.annotate(offset, &mut event);
            Known { offset, state: self.states.get(offset), event }
        };
        Ok(events.into_iter().map(known).collect())
    }

    pub(crate) async fn write_states(&self, changes: Vec<(i64, State)>) -> Result<(), StateError> {
        if changes.is_empty() { Ok(()) } else { self.states.write(changes, self.start()).await }
    }

    /// Fixed where the event is in the log, open where it is not.
    fn outcomes(&self, interrupted: Vec<(i64, Intent)>) -> Result<Vec<(i64, State)>, StateError> {
        let found = replayed::find(&self.log, &interrupted)?;
        let outcome = |(event, _): (i64, Intent)| {
            let place = found.get(&event).copied();
            let standing = place.map_or(Standing::Open, |(partition, offset)| Standing::Fixed { partition, offset });
            (event, State { standing, ..self.states.get(event) })
        };
        Ok(interrupted.into_iter().map(outcome).collect())
    }

    /// The first that retention has not deleted.
    fn start(&self) -> i64 {
        let topic = self.log.topic(BAD_EVENTS_TOPIC);
        topic.and_then(|topic| topic.partition(0).map(|partition| partition.log_start_offset())).unwrap_or(0)
    }

    pub(crate) fn partition(&self) -> Result<Arc<Partition>, AppendError> {
        let topic = self.log.topic(BAD_EVENTS_TOPIC);
        topic
            .and_then(|topic| topic.partition(0).cloned())
            .ok_or_else(|| AppendError::Failed(format!("the topic {BAD_EVENTS_TOPIC} was deleted")))
    }

    pub(crate) fn append(&self, bad: BadFrames<'_>) -> Result<(Arc<Partition>, Appended), AppendError> {
        let partition = self.partition()?;
        let appended = partition.append(&bad.frames.finish())?;
        self.keep_quota(&partition);
        Ok((partition, appended))
    }

    /// A page of bad events from `position` (next offset per partition, empty for the start); returns the rows and the
    /// position after them. No rows means the end was reached.
    pub fn read(&self, position: &mut Vec<i64>, max_rows: usize) -> Result<Vec<BadEvent>, ReadError> {
        Ok(self.scan(position, max_rows, usize::MAX, &mut |_| true)?.rows)
    }

    /// Like [`BadEvents::read`], but only rows that the filter selects. How much is looked through at once is bounded, so
    /// a page may be short, or empty, before the end.
    pub fn select(&self, filter: &BadFilter, position: &mut Vec<i64>, max_rows: usize) -> Result<Selected, ReadError> {
        self.skip_to(filter, position)?;
        self.scan(position, max_rows, READS_MAX, &mut |row| filter.matches(row))
    }

    /// Counts all that the filter selects; `None` while another count is at work. Takes as long as the topic is large.
    pub fn stats(&self, filter: &BadFilter) -> Result<Option<BadStats>, ReadError> {
        let _one_at_a_time = match self.counting.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let (mut stats, mut position) = (BadStats::default(), Vec::new());
        self.skip_to(filter, &mut position)?;
        // Nothing is kept of a row once it is counted, and no batch is decompressed twice.
        self.scan(&mut position, 1, usize::MAX, &mut |row| {
            if filter.matches(row) {
                stats.add(row);
            }
            false
        })?;
        Ok(Some(stats))
    }

    /// The log's index by time spares reading what is older than asked for.
    fn skip_to(&self, filter: &BadFilter, position: &mut Vec<i64>) -> Result<(), ReadError> {
        let (Some(since_ms), Some(topic)) = (filter.since_ms, self.log.topic(BAD_EVENTS_TOPIC)) else { return Ok(()) };
        position.resize(topic.partitions().len(), 0);
        for (partition, next) in topic.partitions().iter().zip(position) {
            let first = partition.offset_at(since_ms.saturating_sub(CLOCK_SLACK_MS))?;
            *next = (*next).max(first.map_or(partition.high_watermark(), |(offset, _)| offset));
        }
        Ok(())
    }

    fn scan(
        &self,
        position: &mut Vec<i64>,
        max_rows: usize,
        max_reads: usize,
        wanted: &mut dyn FnMut(&BadEvent) -> bool,
    ) -> Result<Selected, ReadError> {
        let mut page = Page::new(max_rows);
        let Some(topic) = self.log.topic(BAD_EVENTS_TOPIC) else { return Ok(page.selected(true)) };
        position.resize(topic.partitions().len(), 0);
        let mut reads = 0;
        for (partition, next) in topic.partitions().iter().zip(position) {
            // What retention has deleted is gone.
            *next = (*next).max(partition.log_start_offset());
            loop {
                if page.is_full() || reads >= max_reads {
                    return Ok(page.selected(false));
                }
                reads += 1;
                let before = *next;
                let bytes = partition.read(*next, PAGE_BYTES)?;
                self.read_batches(&bytes, next, &mut page, wanted)?;
                if *next == before {
                    break;
                }
            }
        }
        Ok(page.selected(true))
    }

    fn row(&self, record: &Record<'_>) -> BadEvent {
        let mut row = rows::row(record);
        self.states.annotate(record.offset, &mut row);
        row
    }

    fn read_batches(
        &self,
        bytes: &Bytes,
        next: &mut i64,
        page: &mut Page,
        wanted: &mut dyn FnMut(&BadEvent) -> bool,
    ) -> Result<(), ReadError> {
        let mut at = 0;
        while at < bytes.len() {
            let offset = *next;
            let corrupt = |_: BatchError| ReadError::Corrupt(offset);
            let (header, size) = split_first(&bytes[at..]).map_err(corrupt)?;
            let records = Records::decompress(&bytes.slice(at..at + size), DECOMPRESSED_MAX).map_err(corrupt)?;
            at += size;
            for record in records.iter() {
                let record = record.map_err(corrupt)?;
                if record.offset < *next {
                    continue;
                }
                if page.is_full() {
                    return Ok(());
                }
                let row = self.row(&record);
                if wanted(&row) {
                    page.push(row);
                }
                *next = record.offset + 1;
            }
            *next = (*next).max(header.next_offset());
        }
        Ok(())
    }
}

/// Rows up to a number and a size, but at least one.
struct Page {
    rows: Vec<BadEvent>,
    rows_max: usize,
    bytes: usize,
}

impl Page {
    fn new(rows_max: usize) -> Page {
        Page { rows: Vec::new(), rows_max, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.rows_max || self.bytes >= PAGE_RAW_BYTES
    }

    fn push(&mut self, row: BadEvent) {
        self.bytes += row.raw.len();
        self.rows.push(row);
    }

    fn selected(self, is_end: bool) -> Selected {
        Selected { rows: self.rows, is_end }
    }
}
