//! What fails behind the gate: records that lie in the log, and that a pipeline cannot decode or compute with, or whose rows
//! the target of a sink refuses.
//!
//! Each is kept as a bad event with what its record has: key, headers, and where it came from. Whoever reports them may
//! crash before it has noted that it did, and reports them again then; what is there already is told by place and stage.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use playhouse_log::batch::{BatchError, Record, Records};
use playhouse_log::{AppendError, Partition, ReadError};
use playhouse_schema::Reason;
use playhouse_schema::wire::VALUE_SCHEMA_HEADER;

use crate::bad::{BadFrames, Beside, CLOCK_SLACK_MS, DECOMPRESSED_MAX, LOG_PROTOCOL, on_disk};
use crate::frame::{SCHEMA_ID_HEADER, SOURCE_ADDRESS_HEADER, USER_AGENT_HEADER};
use crate::gate::{Gate, now_ms};
use crate::{Origin, Stage};

/// A record that something behind the gate cannot take.
#[derive(Debug, Clone)]
pub struct Failure {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub stage: Stage,
    pub reason: Reason,
}

#[derive(Debug, thiserror::Error)]
pub enum FailureError {
    #[error("cannot read what failed: {0}")]
    Read(#[from] ReadError),
    #[error("cannot keep what failed: {0}")]
    Append(#[from] AppendError),
}

impl Gate {
    /// Keeps records that failed as bad events, and returns once those are on disk. With `maybe_kept`, some may have been
    /// kept before: these are not kept again. That looks through all bad events since the oldest of them was appended.
    pub async fn keep_failures(&self, mut failures: Vec<Failure>, maybe_kept: bool) -> Result<(), FailureError> {
        failures.sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
        let mut found = self.find(failures)?;
        if maybe_kept {
            let known = self.kept_since(found.iter().map(|it| it.appended_ms).min().flatten()).await?;
            found.retain(|it| !known.contains(&it.failure.place()));
        }
        let origin = Origin::default();
        let mut bad = BadFrames::new("", None, &origin, now_ms(), self.config.max_event_bytes);
        for Found { failure, raw, beside, origin, schema_id, .. } in &found {
            (bad.topic, bad.origin, bad.schema_id) = (&failure.topic, origin, *schema_id);
            let place = Some((failure.partition, failure.offset));
            bad.push(&failure.stage, std::slice::from_ref(&failure.reason), raw, place, beside);
        }
        if bad.count > 0 {
            let (partition, appended) = self.bad.append(bad)?;
            // Whoever passes them over now says so on disk, whatever `durability` is.
            on_disk(&partition, appended.next_offset).await?;
        }
        Ok(())
    }

    /// The records at or beyond these places (topic, partition, offset) that are kept as failed at a stage. Looks through all bad
    /// events since the oldest record there was appended, and through none where there is no such record.
    pub async fn kept_failures(
        &self,
        stage: &Stage,
        from: &[(Arc<str>, i32, i64)],
    ) -> Result<Vec<(Arc<str>, i32, i64)>, FailureError> {
        let mut oldest = Vec::with_capacity(from.len());
        for (topic, index, offset) in from {
            let Some(partition) = self.log.topic(topic).and_then(|it| it.partition(*index).cloned()) else { continue };
            let first = (*offset).max(partition.log_start_offset());
            if first < partition.high_watermark() {
                let batch = self.batch_at(topic, *index, first)?;
                oldest.push(batch.and_then(|batch| appended_ms(&batch)));
            }
        }
        let Some(since) = oldest.into_iter().min() else { return Ok(Vec::new()) };
        let from: HashMap<(&str, i32), i64> = from.iter().map(|(topic, index, at)| ((&**topic, *index), *at)).collect();
        let stage = stage.to_string();
        let kept = self.kept_since(since).await?.into_iter().filter_map(|(topic, index, offset, at_stage)| {
            let first = from.get(&(&*topic, index))?;
            (at_stage == stage && offset >= *first).then_some((topic, index, offset))
        });
        Ok(kept.collect())
    }

    /// The records of failures that are in order.
    fn find(&self, failures: Vec<Failure>) -> Result<Vec<Found>, ReadError> {
        let mut found = Vec::with_capacity(failures.len());
        let mut left = failures.into_iter().peekable();
        while let Some(Failure { topic, partition, offset, .. }) = left.peek().cloned() {
            let batch = self.batch_at(&topic, partition, offset)?;
            let end = batch.as_ref().map_or(offset, |batch| batch.header().next_offset()).max(offset + 1);
            let mut records = batch.iter().flat_map(Records::iter).map_while(Result::ok).peekable();
            let here = |it: &Failure| it.topic == topic && it.partition == partition && it.offset < end;
            while let Some(failure) = left.next_if(here) {
                while records.next_if(|record| record.offset < failure.offset).is_some() {}
                let record = records.peek().filter(|record| record.offset == failure.offset);
                found.push(self.found(failure, batch.as_ref().zip(record)));
            }
        }
        Ok(found)
    }

    /// The batch that the record lies in; `None` where it is gone.
    fn batch_at(&self, topic: &str, partition: i32, offset: i64) -> Result<Option<Records>, ReadError> {
        let partition = self.log.topic(topic).and_then(|topic| topic.partition(partition).cloned());
        let lies_in = |it: &Arc<Partition>| (it.log_start_offset()..it.high_watermark()).contains(&offset);
        let Some(partition) = partition.filter(lies_in) else { return Ok(None) };
        let bytes = partition.read(offset, 1)?;
        let corrupt = |_: BatchError| ReadError::Corrupt(offset);
        if bytes.is_empty() {
            Ok(None)
        } else {
            Records::decompress(&bytes, DECOMPRESSED_MAX).map(Some).map_err(corrupt)
        }
    }

    fn found(&self, mut failure: Failure, record: Option<(&Records, &Record<'_>)>) -> Found {
        let mut origin = Origin { protocol: LOG_PROTOCOL, ..Origin::default() };
        let Some((batch, record)) = record else {
            failure.reason.message.push_str(" (its record is gone from the log)");
            return Found {
                failure,
                raw: Bytes::new(),
                beside: Beside::default(),
                origin,
                schema_id: None,
                appended_ms: None,
            };
        };
        let mut beside = Beside::of(record);
        // What the gate stamps on a record is known apart, and stamped again when it is replayed.
        origin.address = beside.take_text(SOURCE_ADDRESS_HEADER).and_then(|address| address.parse().ok());
        origin.user_agent = beside.take_text(USER_AGENT_HEADER);
        let schema_id = beside.take_text(SCHEMA_ID_HEADER).and_then(|id| id.parse().ok());
        Found {
            raw: batch.share(record.value.unwrap_or_default()),
            beside,
            origin,
            schema_id,
            appended_ms: appended_ms(batch),
            failure,
        }
    }

    /// What failed and has been kept since then; `None` for all of it.
    async fn kept_since(&self, appended_ms: Option<i64>) -> Result<HashSet<Place>, FailureError> {
        let mut position = Vec::new();
        if let Some(appended_ms) = appended_ms {
            let since = self.bad.partition()?.offset_at(appended_ms.saturating_sub(CLOCK_SLACK_MS))?;
            let Some((start, _)) = since else { return Ok(HashSet::new()) };
            position.push(start);
        }
        let mut places = HashSet::new();
        loop {
            let rows = self.bad.read(&mut position, 1000)?;
            if rows.is_empty() {
                return Ok(places);
            }
            for row in rows.into_iter().filter(|row| row.source_protocol == LOG_PROTOCOL) {
                if let Some((partition, offset)) = row.place {
                    places.insert((Arc::from(row.topic), partition, offset, row.stage.to_string()));
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Topic, partition, offset and stage.
type Place = (Arc<str>, i32, i64, String);

impl Failure {
    fn place(&self) -> Place {
        (self.topic.clone(), self.partition, self.offset, self.stage.to_string())
    }
}

/// A failure, and its record.
struct Found {
    failure: Failure,
    raw: Bytes,
    beside: Beside,
    origin: Origin,
    schema_id: Option<i32>,
    /// `None` where the log did not stamp it.
    appended_ms: Option<i64>,
}

/// A producer's clock tells nothing of when.
fn appended_ms(batch: &Records) -> Option<i64> {
    let header = batch.header();
    header.is_log_append_time().then_some(header.max_timestamp_ms)
}

/// Whether a replay is judged as a record with headers of its own, rather than as an event that the gate framed.
pub(crate) fn names_schema(headers: &[(String, Vec<u8>)]) -> bool {
    headers.iter().any(|(name, _)| name == VALUE_SCHEMA_HEADER)
}
