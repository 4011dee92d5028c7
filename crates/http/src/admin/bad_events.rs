//! `/api/bad-events`: the bad events in the order of their places, a page at a time; `/api/bad-events/stats`: how many of
//! each kind; `/api/bad-events/{bad_id}`: one of them. The first two take the same filters.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use playhouse_gate::{
    BadEvent, BadEvents, BadEventsUsage, BadFilter, BadState, BadStats, Displaced, ReadError, Reason, Stage,
};
use serde::{Deserialize, Serialize};

use super::AdminDoor;
use crate::Problem;

pub(super) const LIMIT_DEFAULT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1000;
/// Far more than a topic has; a longer cursor is not ours.
const CURSOR_PARTITIONS_MAX: usize = 10_000;

/// `serde` cannot flatten one struct into another that refuses unknown fields, so the filters stand in one struct with the
/// page; the stats refuse the page's two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<usize>,
    cursor: Option<String>,
    topic: Option<String>,
    stage: Option<String>,
    keyword: Option<String>,
    path: Option<String>,
    text: Option<String>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    state: Option<String>,
}

/// The filters alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conditions {
    topic: Option<String>,
    stage: Option<String>,
    keyword: Option<String>,
    path: Option<String>,
    text: Option<String>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    state: Option<String>,
}

impl Wanted {
    fn filter(self) -> Result<BadFilter, Problem> {
        let Wanted { topic, stage, keyword, path, text, since_ms, until_ms, state, limit: _, cursor: _ } = self;
        Conditions { topic, stage, keyword, path, text, since_ms, until_ms, state }.filter()
    }
}

impl Conditions {
    pub(super) fn filter(self) -> Result<BadFilter, Problem> {
        let stage = self.stage.map(|text| {
            let unknown = || format!("stage {text:?} is none of decode, validate, enrich, sink:<name>");
            Stage::parse(&text).ok_or_else(|| Problem::bad_request(unknown()))
        });
        let state = self.state.map(|text| {
            let unknown = || format!("state {text:?} is none of open, fixed, dropped");
            BadState::parse(&text).ok_or_else(|| Problem::bad_request(unknown()))
        });
        Ok(BadFilter {
            topic: self.topic,
            stage: stage.transpose()?,
            keyword: self.keyword,
            path: self.path,
            text: self.text,
            since_ms: self.since_ms,
            until_ms: self.until_ms,
            state: state.transpose()?,
        })
    }
}

#[derive(Serialize)]
pub(super) struct Listed {
    bad_events: Vec<Row>,
    /// Give it back as `cursor` for the next page.
    cursor: String,
    /// Nothing follows for now. A filter looks through so much at once, so a page may be short or empty before the end.
    end: bool,
}

#[derive(Serialize)]
pub(super) struct Row {
    bad_id: String,
    received_at_ms: i64,
    topic: String,
    source: Source,
    schema_id: Option<i32>,
    stage: String,
    reasons: Vec<Reason>,
    /// The bytes as sent, where they are UTF-8; else `raw_base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    attempts: i32,
    fixed_as: Option<String>,
    dropped: bool,
}

/// Bytes in an answer: text where they are UTF-8, else `{"base64": …}`.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Payload {
    Text(String),
    Other { base64: String },
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        match String::from_utf8(bytes) {
            Ok(text) => Payload::Text(text),
            Err(error) => Payload::Other { base64: STANDARD.encode(error.as_bytes()) },
        }
    }
}

#[derive(Serialize)]
struct Source {
    protocol: String,
    address: Option<String>,
}

impl From<BadEvent> for Row {
    fn from(event: BadEvent) -> Row {
        let (raw, raw_base64) = match Payload::from(event.raw) {
            Payload::Text(text) => (Some(text), None),
            Payload::Other { base64 } => (None, Some(base64)),
        };
        Row {
            bad_id: event.bad_id,
            received_at_ms: event.received_at_ms,
            topic: event.topic,
            source: Source { protocol: event.source_protocol, address: event.source_address },
            schema_id: event.schema_id,
            stage: event.stage.to_string(),
            reasons: event.reasons,
            raw,
            raw_base64,
            attempts: event.attempts,
            fixed_as: event.fixed_as,
            dropped: event.dropped,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Stats {
    count: u64,
    raw_bytes: u64,
    fixed: u64,
    dropped: u64,
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    topics: Vec<TopicCount>,
    stages: Vec<StageCount>,
    reasons: Vec<ReasonCount>,
    /// Reasons of further kinds: only so many are told apart.
    other_reasons: u64,
    room: Room,
}

/// Of all bad events, whatever the filter.
#[derive(Serialize)]
struct Room {
    bytes: u64,
    bytes_max: u64,
    /// What a flood displaced: since the topic was made.
    displaced: u64,
    displaced_bytes: u64,
    displaced_at_ms: Option<i64>,
}

impl From<BadEventsUsage> for Room {
    fn from(BadEventsUsage { bytes, bytes_max, displaced }: BadEventsUsage) -> Room {
        let Displaced { events, bytes: displaced_bytes, at_ms } = displaced;
        Room { bytes, bytes_max, displaced: events, displaced_bytes, displaced_at_ms: at_ms }
    }
}

#[derive(Serialize)]
struct TopicCount {
    topic: String,
    count: u64,
}

#[derive(Serialize)]
struct StageCount {
    stage: String,
    count: u64,
}

#[derive(Serialize)]
struct ReasonCount {
    keyword: String,
    path: String,
    count: u64,
}

impl Stats {
    fn new(stats: BadStats, usage: BadEventsUsage) -> Stats {
        let topics = stats.topics.counts.into_iter().map(|(topic, count)| TopicCount { topic, count });
        let stages = stats.stages.counts.into_iter().map(|(stage, count)| StageCount { stage, count });
        let reasons = stats.reasons.counts.into_iter();
        let reasons = reasons.map(|((keyword, path), count)| ReasonCount { keyword, path, count });
        let mut reasons: Vec<ReasonCount> = reasons.collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        Stats {
            count: stats.count,
            raw_bytes: stats.raw_bytes,
            fixed: stats.fixed,
            dropped: stats.dropped,
            oldest_ms: stats.oldest_ms,
            newest_ms: stats.newest_ms,
            topics: topics.collect(),
            stages: stages.collect(),
            reasons,
            other_reasons: stats.reasons.other,
            room: Room::from(usage),
        }
    }
}

/// Runs where it may block: the log's reads do.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::internal(format!("reading bad events failed: {error}")))?
        .map_err(|error| Problem::internal(format!("cannot read bad events: {error}")))
}

async fn read<T: Send + 'static>(
    door: AdminDoor,
    work: impl FnOnce(&BadEvents) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Problem> {
    blocking(move || work(door.gate.bad_events())).await
}

pub(super) async fn list(
    State(door): State<AdminDoor>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Listed>, Problem> {
    let Query(wanted) = wanted.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit {limit} is not between 1 and {LIMIT_MAX}")));
    }
    let mut position = position(wanted.cursor.as_deref().unwrap_or_default())?;
    let filter = wanted.filter()?;
    let (selected, position) = read(door, move |bad_events| {
        let selected = bad_events.select(&filter, &mut position, limit);
        selected.map(|selected| (selected, position))
    })
    .await?;
    let bad_events = selected.rows.into_iter().map(Row::from).collect();
    Ok(Json(Listed { bad_events, cursor: cursor(&position), end: selected.is_end }))
}

pub(super) async fn show(
    State(door): State<AdminDoor>,
    bad_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Row>, Problem> {
    let Path(bad_id) = bad_id.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let missing = Problem::not_found(format!("no bad event {bad_id:?}: it never was, or its retention is over"));
    let found = read(door, move |bad_events| bad_events.find(&bad_id)).await?;
    found.map(|event| Json(Row::from(event))).ok_or(missing)
}

pub(super) async fn stats(
    State(door): State<AdminDoor>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Stats>, Problem> {
    let Query(wanted) = wanted.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    if wanted.limit.is_some() || wanted.cursor.is_some() {
        return Err(Problem::bad_request("stats have no pages: leave out limit and cursor"));
    }
    let filter = wanted.filter()?;
    let usage = door.gate.bad_events().usage();
    let stats = read(door, move |bad_events| bad_events.stats(&filter)).await?;
    let busy = || Problem::busy("bad events are being counted for somebody else", Duration::from_secs(1));
    stats.map(|stats| Json(Stats::new(stats, usage))).ok_or_else(busy)
}

/// The next offset of each partition, joined by dashes.
pub(super) fn cursor(position: &[i64]) -> String {
    position.iter().map(i64::to_string).collect::<Vec<_>>().join("-")
}

pub(super) fn position(cursor: &str) -> Result<Vec<i64>, Problem> {
    if cursor.is_empty() {
        return Ok(Vec::new());
    }
    let offset = |part: &str| part.parse().ok().filter(|offset| *offset >= 0);
    let position: Option<Vec<i64>> = cursor.split('-').take(CURSOR_PARTITIONS_MAX).map(offset).collect();
    position.ok_or_else(|| Problem::bad_request(format!("cursor {cursor:?} is not one that an answer held")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_others_are_refused() {
        for wanted in [vec![], vec![0], vec![3, 0, 120]] {
            assert_eq!(position(&cursor(&wanted)).unwrap(), wanted);
        }
        for wrong in ["x", "1--2", "-1", "1-", "99999999999999999999"] {
            assert!(position(wrong).is_err(), "{wrong}");
        }
    }
}
