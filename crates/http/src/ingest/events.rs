//! `POST /events` and `POST /events/{topic}`.
//!
//! The body is one JSON object, an array or NDJSON, whatever its content type says (`curl -d` calls it a form, a beacon
//! text). The answer has one result per event: 200, or 422 where every event was rejected. Who prefers a minimal answer
//! (RFC 7240) gets 204 and no body where every event was accepted. What was sent with an `Idempotency-Key` can be sent
//! again, and is answered as the first time.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Body as _;
use playhouse_gate::{Origin, Outcome};

use super::idempotency::{self, Answer, Begun, Fingerprint, Key};
use super::{IngestDoor, access, sender};
use crate::Problem;
use crate::body::{BUSY_RETRY, LeasedBody, Received, receive};
use crate::budget::Lease;
use crate::encoding::Encoding;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(super) async fn to_default_topic(
    State(door): State<Arc<IngestDoor>>,
    request: Request,
) -> Result<Response, Problem> {
    let topic = door.gate.default_topic().to_string();
    ingest(&door, &topic, request).await
}

pub(super) async fn to_topic(
    State(door): State<Arc<IngestDoor>>,
    topic: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(topic) = topic.map_err(|rejection| Problem::bad_request(rejection.body_text()).closing())?;
    ingest(&door, &topic, request).await
}

async fn ingest(door: &Arc<IngestDoor>, topic: &str, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let origin = sender::origin(&head, door.config.proxies);
    // Before anything is said about topics.
    let caller = access::admit(&door.config.access, &head, origin.address, topic).map_err(Problem::closing)?;
    door.known(topic).map_err(Problem::closing)?;
    let key = Key::of(&head.headers, &caller)?;
    let encoding = Encoding::of(&head.headers)?;
    check_charset(&head.headers)?;
    let limits = &door.config.body;
    let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length <= limits.bytes_max && !door.budget.fits(length)) {
        let detail =
            format!("requests in flight hold {} of {} bytes", door.budget.used_bytes(), door.budget.limit_bytes());
        return Err(Problem::busy(detail, BUSY_RETRY).closing());
    }
    let minimal = prefers_minimal(&head.headers);
    let received = receive(body, announced, encoding, limits, door.budget.lease()).await?;
    door.config.access.charge(&caller, received.bytes.len());
    match key {
        Some(key) => once(door, key, topic, received, origin, minimal).await,
        None => {
            let outcome = door.gate.ingest(topic, received.bytes, &origin).await;
            let outcome = outcome.map_err(|error| door.refusal(error))?;
            Ok(response(answer(&outcome, minimal), received.lease))
        }
    }
}

/// The first request of a key is answered by its outcome, each other one by the first's answer.
async fn once(
    door: &Arc<IngestDoor>,
    key: Key,
    topic: &str,
    received: Received,
    origin: Origin,
    minimal: bool,
) -> Result<Response, Problem> {
    let Received { bytes, lease } = received;
    let fingerprint = Fingerprint::of(topic, &bytes);
    loop {
        match door.answers.begin(key, fingerprint) {
            Begun::UnderWay => return Err(idempotency::under_way()),
            Begun::Reused => return Err(idempotency::reused()),
            Begun::Answered(offset) => {
                let answers = door.answers.clone();
                let read = tokio::task::spawn_blocking(move || answers.read(key, offset)).await;
                let read =
                    read.map_err(|error| Problem::internal(format!("reading the first answer failed: {error}")))?;
                // Forgotten meanwhile: this request is the first one then.
                let Some(answer) = read.map_err(|error| Problem::internal(error.to_string()))? else { continue };
                door.count_replay();
                let mut again = response(answer, lease);
                again.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
                return Ok(again);
            }
            Begun::First(reservation) => {
                let (door, topic) = (door.clone(), topic.to_owned());
                // A task of its own: a caller that hangs up will ask again, and is to find the answer.
                let first = tokio::spawn(async move {
                    let outcome = door.gate.ingest(&topic, bytes, &origin).await;
                    let outcome = outcome.map_err(|error| door.refusal(error))?;
                    let answer = answer(&outcome, minimal);
                    if let Err(error) = reservation.answer(&answer, &without_results(&outcome)).await {
                        tracing::warn!(%error, "an answer was not kept for its idempotency key");
                    }
                    Ok(response(answer, lease))
                });
                let first = first.await;
                return first.map_err(|error| Problem::internal(format!("the request failed: {error}")))?;
            }
        }
    }
}

fn answer(outcome: &Outcome, minimal: bool) -> Answer {
    if minimal && outcome.rejected == 0 {
        return Answer { status: StatusCode::NO_CONTENT, body: Bytes::new() };
    }
    let mut json = Vec::new();
    outcome.write_json(&mut json);
    Answer { status: status(outcome), body: json.into() }
}

/// For an answer that is too large to be kept.
fn without_results(outcome: &Outcome) -> Answer {
    let json = serde_json::json!({"accepted": outcome.accepted, "rejected": outcome.rejected, "results": []});
    Answer { status: status(outcome), body: json.to_string().into() }
}

fn status(outcome: &Outcome) -> StatusCode {
    match outcome {
        Outcome { accepted: 0, rejected: 1.., .. } => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    }
}

fn response(answer: Answer, lease: Lease) -> Response {
    if answer.status == StatusCode::NO_CONTENT {
        let applied = [(PREFERENCE_APPLIED, HeaderValue::from_static("return=minimal"))];
        return (StatusCode::NO_CONTENT, applied).into_response();
    }
    let mut response = Response::new(Body::new(LeasedBody::new(answer.body, lease)));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `return=minimal` among the preferences, the first of a name counts.
fn prefers_minimal(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(',')).filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("return").then(|| value.trim().trim_matches('"'))
    });
    preferences.next().is_some_and(|value| value.eq_ignore_ascii_case("minimal"))
}

/// JSON is UTF-8 (RFC 8259). Content types are not checked beyond that: many clients send a wrong one.
fn check_charset(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return Ok(()) };
    for parameter in value.split(';').skip(1) {
        let Some((name, charset)) = parameter.split_once('=') else { continue };
        let charset = charset.trim().trim_matches('"').to_ascii_lowercase();
        if name.trim().eq_ignore_ascii_case("charset") && !matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii") {
            let detail = format!("charset {charset:?} is not supported: send UTF-8");
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-charset",
                "The body's charset is not supported",
                detail,
            )
            .closing());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_other_than_utf8_are_refused() {
        let check = |content_type: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            check_charset(&headers).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(check("application/json"), Ok(()));
        assert_eq!(check("application/x-www-form-urlencoded"), Ok(()));
        assert_eq!(check("application/json; charset=\"UTF-8\""), Ok(()));
        assert_eq!(check("application/json; boundary=x; Charset=latin1"), Err(415));
    }

    #[test]
    fn preferences_are_read() {
        let minimal = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            prefers_minimal(&headers)
        };
        assert!(minimal(&["return=minimal"]));
        assert!(minimal(&["respond-async, Return = \"minimal\"; foo=bar"]));
        assert!(minimal(&["wait=10", "return=minimal"]));
        for other in [&[][..], &["return=representation"], &["minimal"], &["return=representation", "return=minimal"]] {
            assert!(!minimal(other), "{other:?}");
        }
    }
}
