//! Kafka batches: appended verbatim, unless the topic's values are checked and some are invalid. Those are taken out, or all is
//! refused, as the topic says.

use bytes::Bytes;
use playhouse_log::batch::{BatchError, BatchHeader, Compression, Records, split_first};
use playhouse_log::{AppendError, Appended, Partition};
use playhouse_schema::Reason;

use crate::bad::{BadFrames, CLOCK_SLACK_MS};
use crate::binding::OnInvalid;
use crate::budget::Charge;
use crate::check::{Check, Refusal, schema_header};
use crate::gate::{Gate, is_internal, now_ms};
use crate::{Origin, RequestError, Stage};

/// Text compresses to an eighth or so.
const USUAL_RATIO: usize = 8;
/// What the records of one batch may decompress to.
const DECOMPRESSED_MAX: usize = 64 << 20;
/// Other connections get their turn after that many bytes of records.
const TURN_BYTES: usize = 256 << 10;

/// Records of a rejected batch whose reasons are told; the rest is counted.
const REJECTED_MAX: usize = 1000;
const REASONS_SHOWN: usize = 10;

/// Result of a Kafka produce of one partition's batches.
#[derive(Debug)]
pub struct Produced {
    pub appended: Appended,
    /// Records the gate took out (quarantine) and put into `bad_events`.
    pub quarantined: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("unknown topic or partition")]
    UnknownTopicOrPartition,
    #[error("busy: {0}")]
    Busy(String),
    /// The request cannot be taken, whatever its records are.
    #[error("invalid records: {0:?}")]
    Invalid(Vec<Reason>),
    #[error(transparent)]
    Rejected(Rejected),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Some records are invalid, and their topic has the whole batch refused for that. Nothing was kept of it.
#[derive(Debug, thiserror::Error)]
#[error("{} of {sent} records are invalid, and nothing was appended; the first is record {}: {}", self.count, self.records[0].index, self.records[0])]
pub struct Rejected {
    /// The first thousand of them, and at least one.
    pub records: Vec<RejectedRecord>,
    pub count: usize,
    pub sent: usize,
}

#[derive(Debug)]
pub struct RejectedRecord {
    /// Counted from 0 in what was sent.
    pub index: i32,
    pub reasons: Vec<Reason>,
}

/// The first few reasons, for a glance.
impl std::fmt::Display for RejectedRecord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, Reason { path, message, keyword }) in self.reasons.iter().take(REASONS_SHOWN).enumerate() {
            let between = if number > 0 { "; " } else { "" };
            let at = if path.is_empty() { "" } else { ": " };
            write!(formatter, "{between}{path}{at}{message} ({keyword})")?;
        }
        match self.reasons.len().saturating_sub(REASONS_SHOWN) {
            0 => Ok(()),
            more => write!(formatter, "; {more} more reasons"),
        }
    }
}

impl From<RequestError> for ProduceError {
    fn from(error: RequestError) -> ProduceError {
        match error {
            RequestError::TooLarge { size, limit } => AppendError::TooLarge { size, limit }.into(),
            RequestError::Busy { reason, .. } => ProduceError::Busy(reason),
            other => ProduceError::Busy(other.to_string()),
        }
    }
}

impl From<BatchError> for ProduceError {
    fn from(error: BatchError) -> ProduceError {
        match error {
            BatchError::Magic(magic) => AppendError::UnsupportedFormat(magic).into(),
            BatchError::TooLarge(_) => ProduceError::Invalid(vec![Reason::whole("size", error.to_string())]),
            other => AppendError::Corrupt(other.to_string()).into(),
        }
    }
}

pub(crate) async fn produce(
    gate: &Gate,
    name: &str,
    partition: i32,
    batches: Bytes,
    origin: &Origin,
) -> Result<Produced, ProduceError> {
    if is_internal(name) {
        let reason = Reason::whole("topic", format!("the topic {name} is written by the system itself"));
        return Err(ProduceError::Invalid(vec![reason]));
    }
    let topic = match gate.log.topic(name) {
        Some(topic) => topic,
        None if gate.config.auto_create_topics => gate
            .log
            .ensure_topic(name, gate.config.new_topic.clone())
            .map_err(|_| ProduceError::UnknownTopicOrPartition)?,
        None => return Err(ProduceError::UnknownTopicOrPartition),
    };
    let partition = topic.partition(partition).ok_or(ProduceError::UnknownTopicOrPartition)?;
    let mut charge = gate.admit(batches.len())?;
    let Some(mut check) = gate.checking(&topic).into_check() else {
        return take_as_they_are(gate, partition, &batches);
    };

    let mut sorted = Sorted::default();
    let mut rest = batches.clone();
    while !rest.is_empty() {
        let (header, size) = split_dense(&rest)?;
        let batch = rest.split_to(size);
        let decoded = decompress(gate, &mut charge, &batch, header.compression()?)?;
        sorted.sort(&mut check, &batch, &decoded, &mut charge).await?;
    }
    let Sorted { refused, records, valid_bytes, kept, .. } = sorted;
    let quarantined = refused.len();
    if quarantined == 0 {
        let appended = partition.append(&batches)?;
        if !appended.duplicate {
            gate.counts.add(records as u64, valid_bytes as u64, 0);
        }
        return Ok(Produced { appended, quarantined });
    }
    if check.on_invalid() == OnInvalid::Reject {
        gate.counts.add(0, 0, quarantined as u64);
        let told = refused.into_iter().take(REJECTED_MAX);
        let records_told = told.map(|it| RejectedRecord { index: it.index, reasons: it.refusal.reasons }).collect();
        return Err(ProduceError::Rejected(Rejected { records: records_told, count: quarantined, sent: records }));
    }

    let _in_turn = gate.quarantine.lock().await;
    let appended = partition.append(&kept)?;
    if gate.subject(name).keep_bad {
        store(gate, name, partition, &appended, refused, origin).await?;
    }
    if !appended.duplicate {
        gate.counts.add((records - quarantined) as u64, valid_bytes as u64, quarantined as u64);
    }
    Ok(Produced { appended, quarantined })
}

/// Without a look at their records.
fn take_as_they_are(gate: &Gate, partition: &Partition, batches: &Bytes) -> Result<Produced, ProduceError> {
    let (mut records, mut at) = (0, 0);
    while at < batches.len() {
        let (header, size) = split_dense(&batches[at..])?;
        records += header.record_count as u64;
        at += size;
    }
    let appended = partition.append(batches)?;
    if !appended.duplicate {
        gate.counts.add(records, batches.len() as u64, 0);
    }
    Ok(Produced { appended, quarantined: 0 })
}

/// The first batch, as a producer makes it: with a record for every offset.
fn split_dense(batches: &[u8]) -> Result<(BatchHeader, usize), ProduceError> {
    let (header, size) = split_first(batches)?;
    if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        let message =
            format!("{} records with a last offset delta of {}", header.record_count, header.last_offset_delta);
        return Err(AppendError::Corrupt(message).into());
    }
    Ok((header, size))
}

/// What it decompresses to is charged, by what is usual first.
fn decompress(
    gate: &Gate,
    charge: &mut Charge,
    batch: &Bytes,
    compression: Compression,
) -> Result<Records, ProduceError> {
    if compression == Compression::None {
        return Ok(Records::decompress(batch, batch.len())?);
    }
    let most = DECOMPRESSED_MAX.min(gate.config.in_flight_bytes / 2);
    let usual = (USUAL_RATIO * batch.len() + USUAL_RATIO * 1024).min(most);
    charge.grow(usual).map_err(RequestError::from)?;
    match Records::decompress(batch, usual) {
        Err(BatchError::TooLarge(_)) if usual < most => {
            charge.grow(most - usual).map_err(RequestError::from)?;
            Ok(Records::decompress(batch, most)?)
        }
        decoded => Ok(decoded?),
    }
}

/// The records of a request, told apart.
#[derive(Default)]
struct Sorted {
    refused: Vec<Refused>,
    /// All of them.
    records: usize,
    valid_bytes: usize,
    /// The batches without those that are refused.
    kept: Vec<u8>,
    /// The offset of the next batch, counted from the first one's: where the log will put it.
    base: i64,
    /// Bytes looked at since other connections had their turn.
    turn: usize,
}

struct Refused {
    /// Counted from 0 in all batches of the request.
    index: i32,
    /// Counted from the first batch's.
    offset: i64,
    refusal: Refusal,
    raw: Bytes,
}

impl Sorted {
    async fn sort(
        &mut self,
        check: &mut Check<'_>,
        batch: &Bytes,
        decoded: &Records,
        charge: &mut Charge,
    ) -> Result<(), ProduceError> {
        let header = decoded.header();
        let mut keep = Vec::with_capacity(64);
        for record in decoded.iter() {
            let record = record?;
            let verdict = check.judge(record.value, schema_header(record.headers()));
            let value = record.value.unwrap_or_default();
            keep.push(verdict.is_ok());
            match verdict {
                Ok(()) => self.valid_bytes += value.len(),
                Err(refusal) => {
                    charge.grow(size_of::<Refused>() + refusal.bytes()).map_err(RequestError::from)?;
                    let index = i32::try_from(self.records + keep.len() - 1).unwrap_or(i32::MAX);
                    let offset = self.base + (record.offset - header.base_offset);
                    self.refused.push(Refused { index, offset, refusal, raw: decoded.share(value) });
                }
            }
            self.turn += value.len();
            if self.turn > TURN_BYTES {
                self.turn = 0;
                tokio::task::yield_now().await;
            }
        }
        self.records += keep.len();
        if check.on_invalid() == OnInvalid::Quarantine {
            if keep.contains(&false) {
                self.kept.extend_from_slice(&decoded.retain(|index| keep[index])?);
            } else {
                self.kept.extend_from_slice(batch);
            }
        }
        self.base += i64::from(header.last_offset_delta) + 1;
        Ok(())
    }
}

/// Stores what was taken out of a batch that has just been appended. A producer that retries may have died, or this
/// process may, between the batch and its bad events: then those are missing and stored now.
async fn store(
    gate: &Gate,
    topic: &str,
    partition: &Partition,
    appended: &Appended,
    refused: Vec<Refused>,
    origin: &Origin,
) -> Result<(), ProduceError> {
    let place = |offset: i64| (partition.index(), appended.base_offset + offset);
    let (mut known, mut lying) = (Vec::new(), Vec::new());
    if appended.duplicate {
        known = stored_since(gate, topic, appended.append_time_ms).await?;
        // A schema that came meanwhile may refuse now what was taken then.
        partition.durable(appended.next_offset).await?;
        lying = offsets(partition, appended)?;
    }
    let is_new = |offset: i64| !known.contains(&place(offset)) && lying.binary_search(&place(offset).1).is_err();
    let mut bad = BadFrames::new(topic, None, origin, now_ms(), gate.config.max_event_bytes);
    for Refused { offset, refusal, raw, .. } in &refused {
        if is_new(*offset) {
            bad.schema_id = refusal.schema_id;
            bad.push(&refusal.stage, &refusal.reasons, raw, Some(place(*offset)));
        }
    }
    if bad.count > 0 {
        let (partition, appended) = gate.bad.append(bad)?;
        partition.durable(appended.next_offset).await?;
    }
    Ok(())
}

/// The offsets in the log of what was appended.
fn offsets(partition: &Partition, appended: &Appended) -> Result<Vec<i64>, ProduceError> {
    let mut offsets = Vec::new();
    let mut next = appended.base_offset.max(partition.log_start_offset());
    while next < appended.next_offset {
        let bytes = partition.read(next, 1).map_err(|error| AppendError::Failed(error.to_string()))?;
        if bytes.is_empty() {
            break;
        }
        let records = Records::decompress(&bytes, DECOMPRESSED_MAX)?;
        for record in records.iter() {
            offsets.push(record?.offset);
        }
        next = records.header().next_offset();
    }
    Ok(offsets)
}

impl Gate {
    /// Keeps a record that lies in the log and cannot be decoded there as a bad event, and returns once it is durable. A
    /// repeat for the same place stores nothing, so a caller that crashed may call again. `ingested_ms` is the record's
    /// append time.
    pub async fn keep_undecodable(
        &self,
        topic: &str,
        place: (i32, i64),
        ingested_ms: i64,
        raw: &[u8],
        reason: Reason,
    ) -> Result<(), ProduceError> {
        if stored_since(self, topic, ingested_ms).await?.contains(&place) {
            return Ok(());
        }
        let origin = Origin { protocol: "log", ..Origin::default() };
        let subject = self.subject(topic);
        let mut bad = BadFrames::new(topic, subject.schema_id(), &origin, now_ms(), self.config.max_event_bytes);
        bad.push(&Stage::Decode, &[reason], raw, Some(place));
        let (partition, appended) = self.bad.append(bad)?;
        Ok(partition.durable(appended.next_offset).await?)
    }
}

/// The places of the topic's bad events stored since the batch was first appended.
async fn stored_since(gate: &Gate, topic: &str, append_time_ms: i64) -> Result<Vec<(i32, i64)>, ProduceError> {
    let failed = |error: playhouse_log::ReadError| AppendError::Failed(error.to_string());
    let partition = gate.bad.partition()?;
    let Some((start, _)) = partition.offset_at(append_time_ms - CLOCK_SLACK_MS).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let mut position = vec![start];
    let mut places = Vec::new();
    loop {
        let rows = gate.bad.read(&mut position, 1000).map_err(failed)?;
        if rows.is_empty() {
            return Ok(places);
        }
        places.extend(rows.into_iter().filter(|row| row.topic == topic).filter_map(|row| row.place));
        tokio::task::yield_now().await;
    }
}
