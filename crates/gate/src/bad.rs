//! Bad events: the typed rows of the log topic `bad_events`.

mod filter;
mod headers;
mod id;

use std::sync::{Arc, Mutex, TryLockError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use playhouse_log::batch::{BatchError, EncodedHeaders, Record, Records, split_first};
use playhouse_log::{AppendError, Appended, CreateTopicError, Log, Partition, ReadError, TimestampType, TopicSettings};
use serde::{Deserialize, Serialize};

use self::headers::ErrorHeaders;
use self::id::BadId;
use crate::frame::Frames;
use crate::{Origin, Reason};

pub use self::filter::{BadFilter, BadStats, Groups};

pub const BAD_EVENTS_TOPIC: &str = "bad_events";

/// What is kept of an event that is too large.
const RAW_BYTES_MAX: usize = 4 << 20;
/// Read at once, when paging.
const PAGE_BYTES: usize = 1 << 20;
/// Looked through for one page of what a filter selects.
const PAGES_MAX: usize = 64;
/// By how much the clock of a row's receipt may be ahead of the log's, or have gone back between a batch and its bad events.
pub(crate) const CLOCK_SLACK_MS: i64 = 60_000;
/// The batches of this topic are framed here, close to their 1 MB plus one event.
const DECOMPRESSED_MAX: usize = 64 << 20;

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

/// One bad event, as stored (JSON, `raw` in base64) and as shown. `bad_id` is its place: `<partition>-<offset>`.
#[derive(Debug, Clone, PartialEq)]
pub struct BadEvent {
    pub bad_id: String,
    pub received_at_ms: i64,
    pub topic: String,
    pub source_protocol: String,
    pub source_address: Option<String>,
    pub schema_id: Option<i32>,
    pub stage: Stage,
    pub reasons: Vec<Reason>,
    /// As sent; of an event over the size limit, its beginning.
    pub raw: Vec<u8>,
    pub attempts: i32,
    pub fixed_as: Option<String>,
    /// The partition and offset it would have had in its topic, where it was taken out of a Kafka batch.
    pub place: Option<(i32, i64)>,
}

/// The value of a record of `bad_events`.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<'a> {
    received_at_ms: i64,
    topic: std::borrow::Cow<'a, str>,
    source: Source<'a>,
    schema_id: Option<i32>,
    stage: String,
    reasons: std::borrow::Cow<'a, [Reason]>,
    raw: String,
    #[serde(default)]
    attempts: i32,
    #[serde(default)]
    fixed_as: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<(i32, i64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Source<'a> {
    protocol: std::borrow::Cow<'a, str>,
    address: Option<String>,
}

/// The bad events of one request, framed.
pub(crate) struct BadFrames<'a> {
    pub(crate) topic: &'a str,
    pub(crate) schema_id: Option<i32>,
    pub(crate) origin: &'a Origin,
    pub(crate) received_at_ms: i64,
    pub(crate) raw_bytes_max: usize,
    pub(crate) frames: Frames,
    pub(crate) count: usize,
}

impl<'a> BadFrames<'a> {
    /// Of an event over the size limit, that much is kept.
    pub(crate) fn new(
        topic: &'a str,
        schema_id: Option<i32>,
        origin: &'a Origin,
        received_at_ms: i64,
        max_event_bytes: usize,
    ) -> BadFrames<'a> {
        let raw_bytes_max = max_event_bytes.min(RAW_BYTES_MAX);
        BadFrames { topic, schema_id, origin, received_at_ms, raw_bytes_max, frames: Frames::new(), count: 0 }
    }

    pub(crate) fn push(&mut self, stage: &Stage, reasons: &[Reason], raw: &[u8], place: Option<(i32, i64)>) {
        let kept = &raw[..raw.len().min(self.raw_bytes_max)];
        let mut reasons = std::borrow::Cow::Borrowed(reasons);
        if kept.len() < raw.len() {
            let message = format!("only the first {} of {} bytes were kept", kept.len(), raw.len());
            reasons.to_mut().push(Reason::whole("size", message));
        }
        let envelope = Envelope {
            received_at_ms: self.received_at_ms,
            topic: self.topic.into(),
            source: Source {
                protocol: self.origin.protocol.into(),
                address: self.origin.address.map(|address| address.to_canonical().to_string()),
            },
            schema_id: self.schema_id,
            stage: stage.to_string(),
            reasons,
            raw: BASE64.encode(kept),
            attempts: 0,
            fixed_as: None,
            place,
        };
        // Strings and numbers only: serialising them cannot fail.
        let value = serde_json::to_vec(&envelope).unwrap_or_default();
        let headers = ErrorHeaders::new(self.topic, place, stage, &envelope.reasons);
        let headers = EncodedHeaders::new(&headers.list());
        self.frames.push(self.received_at_ms, None, &value, &headers);
        self.count += 1;
    }
}

/// The topic `bad_events` of a log: one partition, so that its rows have one order.
pub struct BadEvents {
    log: Arc<Log>,
    /// Counting reads the whole topic: one at a time.
    counting: Mutex<()>,
}

/// What [`BadEvents::select`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    pub rows: Vec<BadEvent>,
    /// Nothing is left to look through, for now.
    pub is_end: bool,
}

impl BadEvents {
    pub fn new(log: Arc<Log>) -> BadEvents {
        BadEvents { log, counting: Mutex::new(()) }
    }

    pub(crate) fn create(log: &Log, like: &TopicSettings) -> Result<(), CreateTopicError> {
        let settings = TopicSettings { partitions: 1, timestamp_type: TimestampType::LogAppendTime, ..like.clone() };
        log.ensure_topic(BAD_EVENTS_TOPIC, settings).map(drop)
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
        self.scan(position, max_rows, PAGES_MAX, &mut |row| filter.matches(row))
    }

    /// The one with this id, or that was taken out of a batch at this place (`<topic>-<partition>-<offset>`); `None` where
    /// there is none, or retention has deleted it. By place it takes as long as there are bad events since.
    pub fn find(&self, bad_id: &str) -> Result<Option<BadEvent>, ReadError> {
        let (index, offset) = match BadId::parse(bad_id) {
            Some(BadId::Row { partition, offset }) => (partition, offset),
            Some(lost) => return self.find_lost(lost),
            None => return Ok(None),
        };
        let topic = self.log.topic(BAD_EVENTS_TOPIC);
        let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(index)) else { return Ok(None) };
        if !(partition.log_start_offset()..partition.high_watermark()).contains(&offset) {
            return Ok(None);
        }
        let (mut next, mut rows) = (offset, Vec::new());
        read_batches(&partition.read(offset, PAGE_BYTES)?, index, &mut next, 1, &mut rows, &mut |_| true)?;
        // The id as it is written: what only reads as the same number is another's.
        Ok(rows.pop().filter(|row| row.bad_id == bad_id))
    }

    fn find_lost(&self, id: BadId<'_>) -> Result<Option<BadEvent>, ReadError> {
        let (Some(bad), Some(mut next)) = (self.log.topic(BAD_EVENTS_TOPIC), self.begins(id)?) else { return Ok(None) };
        let Some(partition) = bad.partition(0) else { return Ok(None) };
        loop {
            let bytes = partition.read(next, PAGE_BYTES)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let mut at = 0;
            while at < bytes.len() {
                let corrupt = |_: BatchError| ReadError::Corrupt(next);
                let (header, size) = split_first(&bytes[at..]).map_err(corrupt)?;
                let records = Records::decompress(&bytes.slice(at..at + size), DECOMPRESSED_MAX).map_err(corrupt)?;
                for record in records.iter() {
                    let record = record.map_err(corrupt)?;
                    if record.offset >= next && id.is_lost_row(record.headers()) {
                        return Ok(Some(row(0, &record)));
                    }
                }
                at += size;
                next = header.next_offset();
            }
        }
    }

    /// The offset in `bad_events` from which on the event would lie. The log's own clock tells how long ago it can be; a
    /// producer's does not.
    fn begins(&self, id: BadId<'_>) -> Result<Option<i64>, ReadError> {
        let BadId::Lost { topic, partition, offset } = id else { return Ok(None) };
        let Some(bad) = self.log.topic(BAD_EVENTS_TOPIC).and_then(|bad| bad.partition(0).cloned()) else {
            return Ok(None);
        };
        let start = bad.log_start_offset();
        let Some(topic) = self.log.topic(topic) else { return Ok(Some(start)) };
        let lost_from = topic.partition(partition).filter(|lost_from| {
            (lost_from.log_start_offset()..lost_from.high_watermark()).contains(&offset)
                && topic.settings_in_force().timestamp_type == TimestampType::LogAppendTime
        });
        let Some(lost_from) = lost_from else { return Ok(Some(start)) };
        let bytes = lost_from.read(offset, 1)?;
        let Ok((header, _)) = split_first(&bytes) else { return Ok(Some(start)) };
        if !header.is_log_append_time() {
            return Ok(Some(start));
        }
        let first = bad.offset_at(header.max_timestamp_ms.saturating_sub(CLOCK_SLACK_MS))?;
        Ok(first.map(|(offset, _)| offset))
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
        max_pages: usize,
        wanted: &mut dyn FnMut(&BadEvent) -> bool,
    ) -> Result<Selected, ReadError> {
        let mut rows = Vec::new();
        let Some(topic) = self.log.topic(BAD_EVENTS_TOPIC) else { return Ok(Selected { rows, is_end: true }) };
        position.resize(topic.partitions().len(), 0);
        let mut pages = 0;
        for (partition, next) in topic.partitions().iter().zip(position) {
            // What retention has deleted is gone.
            *next = (*next).max(partition.log_start_offset());
            loop {
                if rows.len() >= max_rows || pages >= max_pages {
                    return Ok(Selected { rows, is_end: false });
                }
                pages += 1;
                let before = *next;
                let bytes = partition.read(*next, PAGE_BYTES)?;
                read_batches(&bytes, partition.index(), next, max_rows, &mut rows, wanted)?;
                if *next == before {
                    break;
                }
            }
        }
        Ok(Selected { rows, is_end: true })
    }
}

fn read_batches(
    bytes: &Bytes,
    partition: i32,
    next: &mut i64,
    max_rows: usize,
    rows: &mut Vec<BadEvent>,
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
            if rows.len() == max_rows {
                return Ok(());
            }
            let row = row(partition, &record);
            if wanted(&row) {
                rows.push(row);
            }
            *next = record.offset + 1;
        }
        *next = (*next).max(header.next_offset());
    }
    Ok(())
}

fn row(partition: i32, record: &Record<'_>) -> BadEvent {
    let bad_id = format!("{partition}-{}", record.offset);
    let value = record.value.unwrap_or_default();
    parse(value, bad_id.clone()).unwrap_or_else(|| BadEvent {
        bad_id,
        received_at_ms: record.timestamp_ms,
        topic: String::new(),
        source_protocol: String::new(),
        source_address: None,
        schema_id: None,
        stage: Stage::Decode,
        reasons: vec![Reason::whole("json", "this row of bad_events was not written by the gate")],
        raw: value.to_vec(),
        attempts: 0,
        fixed_as: None,
        place: None,
    })
}

fn parse(value: &[u8], bad_id: String) -> Option<BadEvent> {
    let envelope: Envelope<'_> = serde_json::from_slice(value).ok()?;
    Some(BadEvent {
        bad_id,
        received_at_ms: envelope.received_at_ms,
        topic: envelope.topic.into_owned(),
        source_protocol: envelope.source.protocol.into_owned(),
        source_address: envelope.source.address,
        schema_id: envelope.schema_id,
        stage: Stage::parse(&envelope.stage)?,
        reasons: envelope.reasons.into_owned(),
        raw: BASE64.decode(envelope.raw).ok()?,
        attempts: envelope.attempts,
        fixed_as: envelope.fixed_as,
        place: envelope.place,
    })
}
