//! Kafka batches: appended verbatim, unless the topic has a schema and some of their records are invalid.

use bytes::Bytes;
use playhouse_log::batch::{BatchError, Compression, Records, split_first};
use playhouse_log::{AppendError, Appended, Partition};
use playhouse_schema::Reason;

use crate::bad::{BadFrames, Beside};
use crate::budget::Charge;
use crate::gate::{Gate, Subject, is_internal, now_ms};
use crate::split::too_large;
use crate::{Origin, RequestError, Stage};

/// Text compresses to an eighth or so.
const USUAL_RATIO: usize = 8;
/// What the records of one batch may decompress to.
const DECOMPRESSED_MAX: usize = 64 << 20;
/// Other connections get their turn after that many bytes of records.
const TURN_BYTES: usize = 256 << 10;
/// How far the clock may have gone back between a batch and its bad events.
const CLOCK_SLACK_MS: i64 = 60_000;

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
    #[error("invalid records: {0:?}")]
    Invalid(Vec<Reason>),
    #[error(transparent)]
    Append(#[from] AppendError),
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
    let subject = gate.subject(name);

    let mut taken_out = TakenOut::default();
    let mut records = 0;
    let mut rebuilt = Vec::new();
    let mut rest = batches.clone();
    let mut turn = 0;
    // Counted in offsets from the first batch, which is where the log will put them.
    let mut base = 0;
    while !rest.is_empty() {
        let (header, size) = split_first(&rest)?;
        let batch = rest.split_to(size);
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            let message =
                format!("{} records with a last offset delta of {}", header.record_count, header.last_offset_delta);
            return Err(AppendError::Corrupt(message).into());
        }
        if !subject.has_schema {
            records += header.record_count as usize;
            continue;
        }
        let decoded = decompress(gate, &mut charge, &batch, header.compression()?)?;
        let mut keep = Vec::with_capacity(64);
        let mut seen_bytes = 0;
        for record in decoded.iter() {
            let record = record?;
            let verdict = judge(&subject, record.value, gate.config.max_event_bytes);
            keep.push(verdict.is_ok());
            let value = record.value.unwrap_or_default();
            if let Err((stage, reasons)) = verdict {
                let offset = base + (record.offset - header.base_offset);
                taken_out.records.push((offset, stage, reasons, decoded.share(value), Beside::of(&record)));
            }
            seen_bytes += value.len();
            turn += value.len();
            if turn > TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
        records += keep.len();
        taken_out.valid_bytes += seen_bytes;
        if keep.contains(&false) {
            rebuilt.extend_from_slice(&decoded.retain(|index| keep[index])?);
        } else {
            rebuilt.extend_from_slice(&batch);
        }
        base += i64::from(header.last_offset_delta) + 1;
    }

    let quarantined = taken_out.records.len();
    let bytes = if subject.has_schema { taken_out.valid_bytes } else { batches.len() };
    if quarantined == 0 {
        let appended = partition.append(&batches)?;
        if !appended.duplicate {
            gate.counts.add(records as u64, bytes as u64, 0);
        }
        return Ok(Produced { appended, quarantined });
    }

    let _in_turn = gate.quarantine.lock().await;
    let appended = partition.append(&rebuilt)?;
    if subject.keep_bad {
        store(gate, name, &subject, partition, &appended, taken_out, origin).await?;
    }
    if !appended.duplicate {
        gate.counts.add((records - quarantined) as u64, bytes as u64, quarantined as u64);
    }
    Ok(Produced { appended, quarantined })
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

#[derive(Default)]
struct TakenOut {
    /// Offset from the append's first, and why.
    records: Vec<(i64, Stage, Vec<Reason>, Bytes, Beside)>,
    valid_bytes: usize,
}

fn judge(subject: &Subject, value: Option<&[u8]>, max_event_bytes: usize) -> Result<(), (Stage, Vec<Reason>)> {
    let Some(value) = value else {
        let reason = Reason::whole("type", "a record without a value (a tombstone) is no event");
        return Err((Stage::Validate, vec![reason]));
    };
    if value.len() > max_event_bytes {
        return Err((Stage::Decode, vec![too_large(value.len(), max_event_bytes)]));
    }
    subject.validator.check(value).map(drop).map_err(|reasons| {
        let decode = reasons.iter().any(|reason| matches!(&*reason.keyword, "json" | "encoding" | "depth"));
        (if decode { Stage::Decode } else { Stage::Validate }, reasons)
    })
}

/// Stores what was taken out of a batch that has just been appended. A producer that retries may have died, or this
/// process may, between the batch and its bad events: then those are missing and stored now.
async fn store(
    gate: &Gate,
    topic: &str,
    subject: &Subject,
    partition: &Partition,
    appended: &Appended,
    taken_out: TakenOut,
    origin: &Origin,
) -> Result<(), ProduceError> {
    let place = |offset: i64| (partition.index(), appended.base_offset + offset);
    let known = if appended.duplicate { stored_since(gate, topic, appended.append_time_ms).await? } else { Vec::new() };
    let mut bad = BadFrames::new(topic, subject.schema_id, origin, now_ms(), gate.config.max_event_bytes);
    for (offset, stage, reasons, raw, beside) in &taken_out.records {
        if !known.contains(&place(*offset)) {
            bad.push(stage, reasons, raw, Some(place(*offset)), beside);
        }
    }
    if bad.count > 0 {
        let (partition, appended) = gate.bad.append(bad)?;
        partition.durable(appended.next_offset).await?;
    }
    Ok(())
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
        let mut bad = BadFrames::new(topic, subject.schema_id, &origin, now_ms(), self.config.max_event_bytes);
        bad.push(&Stage::Decode, &[reason], raw, Some(place), &Beside::default());
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
