//! The records of `bad_events`: one JSON value per bad event, what was sent in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use playhouse_log::batch::{EncodedHeaders, Record};
use serde::{Deserialize, Serialize};

use super::headers::ErrorHeaders;
use super::{BadEvent, Stage};
use crate::frame::{Frames, cut_user_agent};
use crate::{Origin, Reason};

/// What is kept of an event that is too large.
const RAW_BYTES_MAX: usize = 4 << 20;
/// Key and headers of a record beyond this are not kept.
const BESIDE_BYTES_MAX: usize = 64 << 10;

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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_cut: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<(i32, i64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Source<'a> {
    protocol: std::borrow::Cow<'a, str>,
    address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
}

/// What a record of a Kafka batch has beside its value.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    key: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    /// Bytes of both, where they are too many to be kept.
    left_out_bytes: usize,
}

impl Beside {
    pub(crate) fn of(record: &Record<'_>) -> Beside {
        let key_bytes = record.key.map_or(0, <[u8]>::len);
        let bytes = key_bytes + record.raw_headers.len();
        if bytes > BESIDE_BYTES_MAX {
            return Beside { left_out_bytes: bytes, ..Beside::default() };
        }
        // A header without a value is kept as one of no bytes.
        let owned = |(name, value): (&str, Option<&[u8]>)| (name.to_owned(), value.unwrap_or_default().to_vec());
        let headers = record.headers().map(owned).collect();
        Beside { key: record.key.map(<[u8]>::to_vec), headers, left_out_bytes: 0 }
    }

    /// Takes out the headers of this name; the value of the last one, where that is text.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        let (taken, left) = std::mem::take(&mut self.headers).into_iter().partition(|(header, _)| header == name);
        self.headers = left;
        let taken: Vec<(String, Vec<u8>)> = taken;
        taken.into_iter().next_back().and_then(|(_, value)| String::from_utf8(value).ok())
    }

    /// What it takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let header = |(name, value): &(String, Vec<u8>)| size_of::<(String, Vec<u8>)>() + name.len() + value.len();
        self.key.as_ref().map_or(0, Vec::len) + self.headers.iter().map(header).sum::<usize>()
    }
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

    pub(crate) fn push(
        &mut self,
        stage: &Stage,
        reasons: &[Reason],
        raw: &[u8],
        place: Option<(i32, i64)>,
        beside: &Beside,
    ) {
        let kept = &raw[..raw.len().min(self.raw_bytes_max)];
        let mut reasons = std::borrow::Cow::Borrowed(reasons);
        let is_cut = kept.len() < raw.len();
        if is_cut {
            let message = format!("only the first {} of {} bytes were kept", kept.len(), raw.len());
            reasons.to_mut().push(Reason::whole("size", message));
        }
        if beside.left_out_bytes > 0 {
            let message = format!("key and headers of {} bytes were not kept", beside.left_out_bytes);
            reasons.to_mut().push(Reason::whole("size", message));
        }
        let envelope = Envelope {
            received_at_ms: self.received_at_ms,
            topic: self.topic.into(),
            source: Source {
                protocol: self.origin.protocol.into(),
                address: self.origin.address.map(|address| address.to_canonical().to_string()),
                user_agent: self.origin.user_agent.as_deref().map(|it| cut_user_agent(it).to_owned()),
            },
            schema_id: self.schema_id,
            stage: stage.to_string(),
            reasons,
            raw: BASE64.encode(kept),
            is_cut,
            key: beside.key.as_ref().map(|key| BASE64.encode(key)),
            headers: beside.headers.iter().map(|(name, value)| (name.clone(), BASE64.encode(value))).collect(),
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

pub(super) fn row(record: &Record<'_>) -> BadEvent {
    let bad_id = format!("0-{}", record.offset);
    let value = record.value.unwrap_or_default();
    parse(value, bad_id.clone()).unwrap_or_else(|| BadEvent {
        bad_id,
        received_at_ms: record.timestamp_ms,
        topic: String::new(),
        source_protocol: String::new(),
        source_address: None,
        user_agent: None,
        schema_id: None,
        stage: Stage::Decode,
        reasons: vec![Reason::whole("json", "this row of bad_events was not written by the gate")],
        raw: value.to_vec(),
        is_cut: false,
        key: None,
        headers: Vec::new(),
        attempts: 0,
        fixed_as: None,
        dropped: false,
        place: None,
    })
}

fn parse(value: &[u8], bad_id: String) -> Option<BadEvent> {
    let envelope: Envelope<'_> = serde_json::from_slice(value).ok()?;
    let header = |(name, value): (String, String)| Some((name, BASE64.decode(value).ok()?));
    Some(BadEvent {
        bad_id,
        received_at_ms: envelope.received_at_ms,
        topic: envelope.topic.into_owned(),
        source_protocol: envelope.source.protocol.into_owned(),
        source_address: envelope.source.address,
        user_agent: envelope.source.user_agent,
        schema_id: envelope.schema_id,
        stage: Stage::parse(&envelope.stage)?,
        reasons: envelope.reasons.into_owned(),
        raw: BASE64.decode(envelope.raw).ok()?,
        is_cut: envelope.is_cut,
        key: envelope.key.map(|key| BASE64.decode(key)).transpose().ok()?,
        headers: envelope.headers.into_iter().map(header).collect::<Option<_>>()?,
        attempts: 0,
        fixed_as: None,
        dropped: false,
        place: envelope.place,
    })
}
