//! `GET /api/bad-events?limit=&cursor=`: the bad events in the order of their places, a page at a time.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use playhouse_gate::{BadEvent, Reason, Stage};
use serde::{Deserialize, Serialize};

use super::AdminDoor;
use crate::Problem;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Far more than a topic has; a longer cursor is not ours.
const CURSOR_PARTITIONS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Listed {
    bad_events: Vec<Row>,
    /// Give it back as `cursor` for the next page; a page without rows is the end for now.
    cursor: String,
}

#[derive(Serialize)]
struct Row {
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
}

#[derive(Serialize)]
struct Source {
    protocol: String,
    address: Option<String>,
}

impl From<BadEvent> for Row {
    fn from(event: BadEvent) -> Row {
        let (raw, raw_base64) = match String::from_utf8(event.raw) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        let stage = match event.stage {
            Stage::Decode => "decode".to_string(),
            Stage::Validate => "validate".to_string(),
            Stage::Enrich => "enrich".to_string(),
            Stage::Sink(name) => format!("sink:{name}"),
        };
        Row {
            bad_id: event.bad_id,
            received_at_ms: event.received_at_ms,
            topic: event.topic,
            source: Source { protocol: event.source_protocol, address: event.source_address },
            schema_id: event.schema_id,
            stage,
            reasons: event.reasons,
            raw,
            raw_base64,
            attempts: event.attempts,
            fixed_as: event.fixed_as,
        }
    }
}

pub(super) async fn list(
    State(door): State<AdminDoor>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Listed>, Problem> {
    let Query(page) = page.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit {limit} is not between 1 and {LIMIT_MAX}")));
    }
    let mut position = position(page.cursor.as_deref().unwrap_or_default())?;
    let read = tokio::task::spawn_blocking(move || {
        let rows = door.bad_events.read(&mut position, limit);
        rows.map(|rows| (rows, position))
    });
    let (rows, position) = read
        .await
        .map_err(|error| Problem::internal(format!("reading bad events failed: {error}")))?
        .map_err(|error| Problem::internal(format!("cannot read bad events: {error}")))?;
    Ok(Json(Listed { bad_events: rows.into_iter().map(Row::from).collect(), cursor: cursor(&position) }))
}

/// The next offset of each partition, joined by dashes.
fn cursor(position: &[i64]) -> String {
    position.iter().map(i64::to_string).collect::<Vec<_>>().join("-")
}

fn position(cursor: &str) -> Result<Vec<i64>, Problem> {
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
