//! `POST /api/bad-events/fix`, `/replay` and `/drop`: the ways out of the table of bad events. Each works on those that are
//! named, or on a page of those that a filter selects, and tells of each what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use playhouse_gate::{
    BadEvent, BadFilter, BadState, Fix, Gate, Reason, Repair, RepairError, RepairOutcome, RequestError,
};
use playhouse_repair::{Event, Expression, JsonPatch};
use serde::{Deserialize, Serialize};

use super::AdminDoor;
use super::bad_events::{Conditions, LIMIT_DEFAULT, LIMIT_MAX, Payload, cursor, position};
use crate::Problem;

/// Of one SQL expression over one event.
const EXPRESSION_TIME_MAX: Duration = Duration::from_millis(250);

type Body<T> = Result<Json<T>, JsonRejection>;

/// Which events: `bad_ids`, or `filter` with `cursor` and `limit`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FixBody {
    bad_ids: Option<Vec<String>>,
    filter: Option<Conditions>,
    cursor: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    dry_run: bool,
    /// JSON Patch, RFC 6902.
    patch: Option<serde_json::Value>,
    /// An expression of SQLite over the event.
    sql: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayBody {
    bad_ids: Option<Vec<String>>,
    filter: Option<Conditions>,
    cursor: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropBody {
    bad_ids: Option<Vec<String>>,
    filter: Option<Conditions>,
    cursor: Option<String>,
    limit: Option<usize>,
    /// Makes those that were dropped open again.
    #[serde(default)]
    restore: bool,
}

#[derive(Serialize)]
pub(super) struct Done {
    events: Vec<One>,
    /// How many of each outcome.
    counts: BTreeMap<&'static str, usize>,
    /// Those of `bad_ids` that are not there.
    missing: Vec<String>,
    /// With a filter: give it back for the next page, until `end`.
    cursor: String,
    end: bool,
}

#[derive(Serialize)]
struct One {
    bad_id: String,
    topic: String,
    outcome: &'static str,
    attempts: i32,
    fixed_as: Option<String>,
    /// Why it is still bad.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
    /// In a dry run: the event as it was sent, and what the fix makes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Payload>,
}

impl One {
    fn new(repair: Repair, is_dry: bool) -> One {
        let (outcome, reasons) = match repair.outcome {
            RepairOutcome::WouldPass => ("would_pass", Vec::new()),
            RepairOutcome::Fixed => ("fixed", Vec::new()),
            RepairOutcome::AlreadyFixed => ("already_fixed", Vec::new()),
            RepairOutcome::StillBad(reasons) => ("still_bad", reasons),
            RepairOutcome::Dropped => ("dropped", Vec::new()),
            RepairOutcome::Restored => ("restored", Vec::new()),
        };
        let BadEvent { bad_id, topic, attempts, fixed_as, raw, .. } = repair.event;
        One {
            bad_id,
            topic,
            outcome,
            attempts,
            fixed_as,
            reasons,
            before: is_dry.then(|| Payload::from(raw)),
            after: repair.after.filter(|_| is_dry).map(Payload::from),
        }
    }
}

pub(super) async fn fix(State(door): State<AdminDoor>, body: Body<FixBody>) -> Result<Json<Done>, Problem> {
    let FixBody { bad_ids, filter, cursor, limit, dry_run, patch, sql } = read(body)?;
    let bytes_max = door.gate.max_event_bytes();
    let fix: Arc<Fix> = match (patch, sql) {
        (Some(patch), None) => {
            let patch = JsonPatch::new(patch, bytes_max).map_err(|error| Problem::bad_request(error.to_string()))?;
            Arc::new(move |bad| patch.apply(&event(bad)).map_err(|error| error.to_string()))
        }
        (None, Some(sql)) => {
            let expression = Expression::new(&sql, bytes_max, EXPRESSION_TIME_MAX);
            let expression = expression.map_err(|error| Problem::bad_request(error.to_string()))?;
            Arc::new(move |bad| expression.apply(&event(bad)).map_err(|error| error.to_string()))
        }
        _ => return Err(Problem::bad_request("a fix is either a patch or an expression: send patch or sql")),
    };
    let chosen = Chosen::new(bad_ids, filter, cursor, limit, BadState::Open)?;
    repair(&door.gate, chosen, fix, dry_run).await
}

pub(super) async fn replay(State(door): State<AdminDoor>, body: Body<ReplayBody>) -> Result<Json<Done>, Problem> {
    let ReplayBody { bad_ids, filter, cursor, limit, dry_run } = read(body)?;
    let chosen = Chosen::new(bad_ids, filter, cursor, limit, BadState::Open)?;
    repair(&door.gate, chosen, Arc::new(|bad: &BadEvent| Ok(bad.raw.clone())), dry_run).await
}

pub(super) async fn drop(State(door): State<AdminDoor>, body: Body<DropBody>) -> Result<Json<Done>, Problem> {
    let DropBody { bad_ids, filter, cursor, limit, restore } = read(body)?;
    let open = if restore { BadState::Dropped } else { BadState::Open };
    let found = Chosen::new(bad_ids, filter, cursor, limit, open)?.find(&door.gate).await?;
    let dropped = door.gate.drop_bad_events(found.events, restore).await.map_err(problem)?;
    Ok(Json(found.rest.done(dropped, false)))
}

async fn repair(gate: &Arc<Gate>, chosen: Chosen, fix: Arc<Fix>, dry_run: bool) -> Result<Json<Done>, Problem> {
    let found = chosen.find(gate).await?;
    let repairs = gate.repair(found.events, fix, dry_run).await.map_err(problem)?;
    Ok(Json(found.rest.done(repairs, dry_run)))
}

fn read<T>(body: Body<T>) -> Result<T, Problem> {
    body.map(|Json(body)| body).map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(rejection.body_text()),
        _ => Problem::bad_request(rejection.body_text()),
    })
}

fn event(bad: &BadEvent) -> Event<'_> {
    Event { bad_id: &bad.bad_id, topic: &bad.topic, received_at_ms: bad.received_at_ms, raw: &bad.raw }
}

fn problem(error: RepairError) -> Problem {
    let detail = error.to_string();
    match error {
        RepairError::Refused(RequestError::Busy { retry_after, .. }) => Problem::busy(detail, retry_after),
        RepairError::State(_) | RepairError::Append(_) => Problem::unavailable(detail),
        RepairError::Refused(_) | RepairError::Read(_) | RepairError::Failed(_) => Problem::internal(detail),
    }
}

/// The events a request is about.
enum Chosen {
    Named(Vec<String>),
    Selected { filter: BadFilter, position: Vec<i64>, limit: usize },
}

struct Found {
    events: Vec<BadEvent>,
    rest: Rest,
}

/// What is told besides.
struct Rest {
    missing: Vec<String>,
    cursor: String,
    end: bool,
}

impl Chosen {
    /// A filter that does not say what has become of the events is about those in `state`.
    fn new(
        bad_ids: Option<Vec<String>>,
        filter: Option<Conditions>,
        cursor: Option<String>,
        limit: Option<usize>,
        state: BadState,
    ) -> Result<Chosen, Problem> {
        match (bad_ids, filter) {
            (Some(ids), None) if cursor.is_none() && limit.is_none() => match ids.len() {
                0 => Err(Problem::bad_request("bad_ids names no event")),
                found if found > LIMIT_MAX => {
                    Err(Problem::bad_request(format!("{found} bad_ids: send at most {LIMIT_MAX} at once")))
                }
                _ => Ok(Chosen::Named(ids)),
            },
            (None, Some(conditions)) => {
                let mut filter = conditions.filter()?;
                filter.state = filter.state.or(Some(state));
                let limit = limit.unwrap_or(LIMIT_DEFAULT);
                if !(1..=LIMIT_MAX).contains(&limit) {
                    return Err(Problem::bad_request(format!("limit {limit} is not between 1 and {LIMIT_MAX}")));
                }
                Ok(Chosen::Selected { filter, position: position(cursor.as_deref().unwrap_or_default())?, limit })
            }
            _ => Err(Problem::bad_request("send either bad_ids, or filter (which may be empty) with cursor and limit")),
        }
    }

    async fn find(self, gate: &Arc<Gate>) -> Result<Found, Problem> {
        let bad_events = gate.bad_events().clone();
        let find = move || match self {
            Chosen::Named(ids) => {
                let (mut events, mut missing) = (Vec::new(), Vec::new());
                for id in ids {
                    match bad_events.find(&id)? {
                        Some(event) => events.push(event),
                        None => missing.push(id),
                    }
                }
                Ok(Found { events, rest: Rest { missing, cursor: String::new(), end: true } })
            }
            Chosen::Selected { filter, mut position, limit } => {
                let selected = bad_events.select(&filter, &mut position, limit)?;
                let rest = Rest { missing: Vec::new(), cursor: cursor(&position), end: selected.is_end };
                Ok(Found { events: selected.rows, rest })
            }
        };
        super::bad_events::blocking(find).await
    }
}

impl Rest {
    fn done(self, repairs: Vec<Repair>, is_dry: bool) -> Done {
        let events: Vec<One> = repairs.into_iter().map(|repair| One::new(repair, is_dry)).collect();
        let mut counts = BTreeMap::new();
        for event in &events {
            *counts.entry(event.outcome).or_default() += 1;
        }
        Done { events, counts, missing: self.missing, cursor: self.cursor, end: self.end }
    }
}
