//! Event requests (REST, gRPC): split, validate, frame, append, and wait until all of it is durable.
//!
//! Nothing is appended before the whole body was looked at, so a request that is refused as a whole leaves no trace.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use playhouse_log::Topic;
use playhouse_log::batch::EncodedHeaders;
use playhouse_schema::{Reason, Validator};

use crate::bad::{BadFrames, Beside};
use crate::budget::Charge;
use crate::check::{Check, Refusal};
use crate::frame::{Partitioned, Stamp};
use crate::gate::{Finder, Gate, Subject, now_ms};
use crate::split::{Piece, Splitter, too_large};
use crate::{EventResult, Origin, Outcome, RequestError, Stage, Status};

/// Other connections get their turn after that many bytes: a fraction of a millisecond.
const TURN_BYTES: usize = 256 << 10;
/// Longer ids are not repeated in the reply.
const ID_BYTES_MAX: usize = 1024;
/// Ranges of the body are kept in 32 bits.
const BODY_BYTES_MAX: usize = u32::MAX as usize;
/// What a result takes in memory.
const RESULT_BYTES: usize = size_of::<EventResult>();

pub(crate) async fn ingest(gate: &Gate, name: &str, body: Bytes, origin: &Origin) -> Result<Outcome, RequestError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(RequestError::TooLarge { size: body.len(), limit: BODY_BYTES_MAX });
    }
    let topic = gate.open_topic(name).ok_or_else(|| RequestError::UnknownTopic(name.to_owned()))?;
    let charge = gate.admit(body.len())?;
    let subject = gate.subject(name);
    let check = gate.checking(&topic);
    let finder = check.as_ref().and_then(|check| subject.finder(check.json()?, gate.config.max_depth));
    let treatment = Treatment::of(gate, &subject, check, finder.as_deref(), origin);
    let mut request = Request::new(gate, &topic, treatment, &body, origin, charge);

    let mut splitter = Splitter::new(request.treatment.validator, &body, gate.config.max_event_bytes);
    if request.treatment.may_take_whole(&body) && !looks_like_json(&body) {
        request.take_as_it_is()?;
    } else {
        let mut turn = TURN_BYTES;
        while let Some(piece) = splitter.next() {
            if !request.treatment.json_only && is_no_json(&piece) {
                request = Request::new(gate, &topic, request.treatment, &body, origin, request.charge);
                request.take_as_it_is()?;
                break;
            }
            request.take(piece)?;
            if splitter.position() > turn {
                turn = splitter.position() + TURN_BYTES;
                tokio::task::yield_now().await;
            }
        }
    }
    if request.results.is_empty() {
        return Err(RequestError::Empty);
    }
    request.store().await
}

/// Events that come apart already (gRPC): each is one record or one bad event, whatever line feeds it holds.
pub(crate) async fn ingest_events(
    gate: &Gate,
    name: &str,
    events: &[Bytes],
    origin: &Origin,
) -> Result<Outcome, RequestError> {
    let size = events.iter().map(Bytes::len).fold(0, usize::saturating_add);
    if size > BODY_BYTES_MAX {
        return Err(RequestError::TooLarge { size, limit: BODY_BYTES_MAX });
    }
    let topic = gate.open_topic(name).ok_or_else(|| RequestError::UnknownTopic(name.to_owned()))?;
    if events.is_empty() {
        return Err(RequestError::Empty);
    }
    let charge = gate.admit(size)?;
    let subject = gate.subject(name);
    let check = gate.checking(&topic);
    let finder = check.as_ref().and_then(|check| subject.finder(check.json()?, gate.config.max_depth));
    let treatment = Treatment::of(gate, &subject, check, finder.as_deref(), origin);
    // One buffer, as ids are ranges of it.
    let body = match events {
        [event] => event.clone(),
        events => events.concat().into(),
    };
    let mut request = Request::new(gate, &topic, treatment, &body, origin, charge);
    let mut turn = TURN_BYTES;
    let mut start = 0;
    for event in events {
        let whole = start..start + event.len();
        request.take(request.treatment.piece(event).within(whole.clone()))?;
        start = whole.end;
        if start > turn {
            turn = start + TURN_BYTES;
            tokio::task::yield_now().await;
        }
    }
    request.store().await
}

/// An event judged by itself, as one of a request would be: its key, and the schema that its record is to name.
pub(crate) fn judge(gate: &Gate, topic: &Topic, event: &[u8]) -> Result<(Option<Vec<u8>>, Option<i32>), Refusal> {
    let subject = gate.subject(topic.name());
    let check = gate.checking(topic);
    let finder = check.as_ref().and_then(|check| subject.finder(check.json()?, gate.config.max_depth));
    let mut treatment = Treatment::of(gate, &subject, check, finder.as_deref(), &Origin::default());
    let piece = treatment.piece(event);
    let (key, verdict) = (piece.key, piece.verdict);
    treatment.verdict(verdict, event)?;
    let names_its_own = treatment.headers_of_named.is_some() && Check::names_schema(event);
    let key = key.and_then(|key| playhouse_schema::key_bytes(&event[key]));
    Ok((key.map(|key| key.into_owned()), treatment.schema_id.filter(|_| !names_its_own)))
}

fn as_it_is(range: Range<usize>, max_event_bytes: usize) -> Piece {
    let verdict = match range.len() {
        size if size > max_event_bytes => Err((Stage::Decode, vec![too_large(size, max_event_bytes)])),
        _ => Ok(()),
    };
    Piece { range, key: None, id: None, verdict }
}

/// Without a schema, JSON is split into events, and everything else is one record.
fn looks_like_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), None | Some(b'{' | b'['))
}

fn is_no_json(piece: &Piece) -> bool {
    piece.verdict.as_ref().is_err_and(|(_, reasons)| reasons.iter().any(|reason| reason.keyword != "size"))
}

/// How the events of one topic are split, checked and stamped.
struct Treatment<'a> {
    subject: &'a Subject,
    max_event_bytes: usize,
    /// Runs while the body is split.
    validator: &'a Validator,
    /// What an event has to pass that `validator` does not decide.
    check: Option<Check<'a>>,
    /// Events that do not name their schema are JSON, and valid if `validator` says so. Otherwise they may be any bytes.
    json_only: bool,
    /// Of events that do not name their schema themselves.
    schema_id: Option<i32>,
    headers: EncodedHeaders,
    /// For those that do.
    headers_of_named: Option<EncodedHeaders>,
}

impl<'a> Treatment<'a> {
    /// `finder` has the schema of JSON events that name none.
    fn of(
        gate: &'a Gate,
        subject: &'a Subject,
        check: Option<Check<'a>>,
        finder: Option<&'a Finder>,
        origin: &Origin,
    ) -> Treatment<'a> {
        let schema_id = finder.and(check.as_ref()).and_then(Check::latest_id);
        Treatment {
            subject,
            max_event_bytes: gate.config.max_event_bytes,
            validator: finder.map_or(&subject.any, |finder| &finder.validator),
            json_only: finder.is_some(),
            schema_id,
            headers: Stamp::new(origin, schema_id).headers(),
            headers_of_named: schema_id.map(|_| Stamp::new(origin, None).headers()),
            check,
        }
    }

    /// One event that came by itself, as far as `validator` judges it.
    fn piece(&self, event: &[u8]) -> Piece {
        match Splitter::whole(self.validator, event, self.max_event_bytes) {
            piece if is_no_json(&piece) && self.may_take_whole(event) => as_it_is(0..event.len(), self.max_event_bytes),
            piece => piece,
        }
    }

    /// The last word on an event.
    fn verdict(&mut self, split: Result<(), (Stage, Vec<Reason>)>, event: &[u8]) -> Result<(), Refusal> {
        match (split, &mut self.check) {
            (Ok(()), Some(check)) if !self.json_only || Check::names_schema(event) => check.judge(Some(event), None),
            (verdict, _) => verdict.map_err(|(stage, reasons)| Refusal { stage, reasons, schema_id: self.schema_id }),
        }
    }

    /// Whether all of `bytes` may be one record although it is no JSON.
    fn may_take_whole(&self, bytes: &[u8]) -> bool {
        !self.json_only || Check::names_schema(bytes)
    }
}

struct Request<'a> {
    gate: &'a Gate,
    topic: &'a Topic,
    treatment: Treatment<'a>,
    body: &'a Bytes,
    charge: Charge,
    good: Partitioned,
    bad: BadFrames<'a>,
    /// Offsets are numbers within the request until it is stored.
    results: Vec<EventResult>,
    accepted: usize,
    accepted_bytes: usize,
}

impl<'a> Request<'a> {
    fn new(
        gate: &'a Gate,
        topic: &'a Topic,
        treatment: Treatment<'a>,
        body: &'a Bytes,
        origin: &'a Origin,
        charge: Charge,
    ) -> Request<'a> {
        let now = now_ms();
        let number = gate.requests.fetch_add(1, Ordering::Relaxed);
        Request {
            gate,
            topic,
            body,
            charge,
            good: Partitioned::new(topic.partitions().len(), number, now, body.len()),
            bad: BadFrames::new(topic.name(), treatment.schema_id, origin, now, gate.config.max_event_bytes),
            treatment,
            results: Vec::new(),
            accepted: 0,
            accepted_bytes: 0,
        }
    }

    fn take(&mut self, piece: Piece) -> Result<(), RequestError> {
        let limit = self.gate.config.max_events_per_request;
        if self.results.len() >= limit {
            return Err(RequestError::TooManyEvents(limit));
        }
        if self.results.len() == self.results.capacity() {
            self.grow_results(piece.range.end)?;
        }
        let raw = &self.body[piece.range];
        let id = piece.id.and_then(|id| shown_id(self.body, id));
        let status = match self.treatment.verdict(piece.verdict, raw) {
            Ok(()) => {
                let key = piece.key.and_then(|key| playhouse_schema::key_bytes(&self.body[key]));
                let named = self.treatment.headers_of_named.as_ref().filter(|_| Check::names_schema(raw));
                let headers = named.unwrap_or(&self.treatment.headers);
                let (partition, offset) = self.good.push(key.as_deref(), raw, headers);
                self.accepted += 1;
                self.accepted_bytes += raw.len();
                Status::Accepted { partition, offset }
            }
            Err(refusal) => self.reject(refusal, raw)?,
        };
        self.results.push(EventResult { id, status });
        Ok(())
    }

    /// Makes room for as many results as the rest of the body promises, going by what it held so far.
    fn grow_results(&mut self, looked_at: usize) -> Result<(), RequestError> {
        let had = self.results.len();
        let promised = match had {
            0 => 1,
            _ => (self.body.len() / (looked_at / (had + 1)).max(1)).saturating_sub(had).clamp(8, 1 + 2 * had.max(512)),
        };
        self.charge.grow(promised * RESULT_BYTES)?;
        self.results.reserve_exact(promised);
        Ok(())
    }

    #[cold]
    fn reject(&mut self, refusal: Refusal, raw: &[u8]) -> Result<Status, RequestError> {
        self.charge.grow(refusal.bytes())?;
        if self.treatment.subject.keep_bad {
            self.bad.schema_id = refusal.schema_id;
            self.bad.push(&refusal.stage, &refusal.reasons, raw, None, &Beside::default());
        }
        Ok(Status::Rejected { reasons: refusal.reasons })
    }

    /// The body as one record.
    fn take_as_it_is(&mut self) -> Result<(), RequestError> {
        self.take(as_it_is(0..self.body.len(), self.gate.config.max_event_bytes))
    }

    async fn store(self) -> Result<Outcome, RequestError> {
        let Request { gate, topic, body, charge, mut results, accepted, .. } = self;
        let rejected = results.len() - accepted;
        let mut base_offsets = vec![0; topic.partitions().len()];
        let mut waiting = Vec::with_capacity(base_offsets.len() + 1);
        for (partition, batches) in self.good.finish() {
            let partition = &topic.partitions()[partition as usize];
            let appended = partition.append(&batches)?;
            base_offsets[partition.index() as usize] = appended.base_offset;
            waiting.push((partition.clone(), appended));
        }
        if self.bad.count > 0 {
            waiting.push(gate.bad.append(self.bad)?);
        }
        for (partition, appended) in waiting {
            partition.durable(appended.next_offset).await?;
        }
        for result in &mut results {
            if let Status::Accepted { partition, offset } = &mut result.status {
                *offset += base_offsets[*partition as usize];
            }
        }
        gate.counts.add(accepted as u64, self.accepted_bytes as u64, rejected as u64);
        Ok(Outcome { topic: Arc::from(topic.name()), accepted, rejected, results, body: body.clone(), charge })
    }
}

/// Strings and numbers are repeated as they were sent.
fn shown_id(body: &[u8], id: Range<usize>) -> Option<Range<u32>> {
    let token = &body[id.clone()];
    let shown = token.len() <= ID_BYTES_MAX
        && matches!(token.first(), Some(b'"' | b'-' | b'0'..=b'9'))
        && std::str::from_utf8(token).is_ok();
    shown.then_some(id.start as u32..id.end as u32)
}
