//! The ingest door: `POST /events/{topic}`, and `POST /events` for the default topic.
//!
//! The body is one JSON object, an array or NDJSON, whatever its content type says (`curl -d` calls it a form). The
//! answer has one result per event: 200, or 422 where every event was rejected.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use playhouse_gate::{Gate, Origin, Outcome, RequestError, is_internal};

use crate::body::{BUSY_RETRY, BodyLimits, Received, receive};
use crate::budget::{ByteBudget, Lease};
use crate::encoding::Encoding;
use crate::problem::{Problem, method_not_allowed};

pub struct IngestDoor {
    gate: Arc<Gate>,
    limits: BodyLimits,
    budget: Arc<ByteBudget>,
    proxies: usize,
    counters: [AtomicU64; 4],
}

/// Answers since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestCounters {
    /// 200 and 422: the events were looked at.
    pub answered: u64,
    /// Other 4xx.
    pub refused: u64,
    /// 429.
    pub busy: u64,
    /// 5xx.
    pub failed: u64,
}

impl IngestDoor {
    /// `proxies` is how many trusted proxies stand before the door: so many entries from the right, `X-Forwarded-For`
    /// names the sender. 0 ignores that header.
    pub fn new(gate: Arc<Gate>, limits: BodyLimits, budget: Arc<ByteBudget>, proxies: usize) -> Arc<IngestDoor> {
        Arc::new(IngestDoor { gate, limits, budget, proxies, counters: Default::default() })
    }

    pub fn counters(&self) -> IngestCounters {
        let [answered, refused, busy, failed] = self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        IngestCounters { answered, refused, busy, failed }
    }

    fn count(&self, status: StatusCode) {
        let counter = match status {
            StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => 0,
            StatusCode::TOO_MANY_REQUESTS => 2,
            status if status.is_server_error() => 3,
            _ => 1,
        };
        self.counters[counter].fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn routes() -> Vec<(&'static str, MethodRouter<Arc<IngestDoor>>)> {
    vec![("/events", post(to_default_topic)), ("/events/{topic}", post(to_topic))]
}

pub fn router(door: Arc<IngestDoor>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async {
            Problem::not_found("events are sent with POST /events or POST /events/{topic}").closing()
        })
        .with_state(door)
}

async fn to_default_topic(State(door): State<Arc<IngestDoor>>, request: Request) -> Response {
    let topic = door.gate.default_topic().to_string();
    answer(&door, &topic, request).await
}

async fn to_topic(
    State(door): State<Arc<IngestDoor>>,
    topic: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match topic {
        Ok(Path(topic)) => answer(&door, &topic, request).await,
        Err(rejection) => Problem::bad_request(rejection.body_text()).closing().into_response(),
    }
}

async fn answer(door: &IngestDoor, topic: &str, request: Request) -> Response {
    let response = match ingest(door, topic, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    door.count(response.status());
    response
}

async fn ingest(door: &IngestDoor, topic: &str, request: Request) -> Result<Response, Problem> {
    if door.gate.log().topic(topic).is_none() {
        return Err(unknown_topic(door, topic).closing());
    }
    let (head, body) = request.into_parts();
    let encoding = Encoding::of(&head.headers)?;
    check_charset(&head.headers)?;
    let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length <= door.limits.bytes_max && !door.budget.fits(length)) {
        let detail =
            format!("requests in flight hold {} of {} bytes", door.budget.used_bytes(), door.budget.limit_bytes());
        return Err(Problem::busy(detail, BUSY_RETRY).closing());
    }
    let origin = Origin {
        protocol: "rest",
        address: sender(&head.headers, head.extensions.get::<ConnectInfo<SocketAddr>>(), door.proxies),
        user_agent: head
            .headers
            .get(header::USER_AGENT)
            .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
    };
    let Received { bytes, lease } = receive(body, announced, encoding, &door.limits, door.budget.lease()).await?;
    let outcome = door.gate.ingest(topic, bytes, &origin).await.map_err(|error| refusal(door, error))?;
    Ok(report(&outcome, lease))
}

fn report(outcome: &Outcome, lease: Lease) -> Response {
    let status = match outcome {
        Outcome { accepted: 0, rejected: 1.., .. } => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    };
    let mut json = Vec::new();
    outcome.write_json(&mut json);
    let mut response = Response::new(Body::new(LeasedBody::new(Bytes::from(json), lease)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal(door: &IngestDoor, error: RequestError) -> Problem {
    let detail = error.to_string();
    match error {
        RequestError::UnknownTopic(topic) => unknown_topic(door, &topic),
        RequestError::Empty => Problem::bad_request(detail),
        RequestError::TooManyEvents(_) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-events", "The request holds too many events", detail)
        }
        RequestError::TooLarge { .. } => Problem::too_large(detail),
        RequestError::Busy { retry_after, .. } => Problem::busy(detail, retry_after),
        RequestError::Log(_) => Problem::unavailable(detail),
    }
}

fn unknown_topic(door: &IngestDoor, topic: &str) -> Problem {
    let topics = door.gate.log().topics();
    let mut known: Vec<&str> = topics.iter().map(|topic| topic.name()).filter(|name| !is_internal(name)).collect();
    // Distance takes time and memory by both lengths, and the longest topic name has 249 bytes.
    let asked = topic.get(..topic.len().min(249)).unwrap_or("");
    known.sort_by_cached_key(|name| strsim::osa_distance(name, asked));
    known.truncate(3);
    let nearest = if known.is_empty() { String::new() } else { format!(": did you mean {}?", known.join(" or ")) };
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-topic",
        "There is no such topic",
        if is_internal(topic) {
            format!("topic {topic:?} is written by Playhouse itself")
        } else {
            format!("there is no topic {topic:?}{nearest}")
        },
    )
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

fn sender(headers: &HeaderMap, peer: Option<&ConnectInfo<SocketAddr>>, proxies: usize) -> Option<IpAddr> {
    let peer = peer.map(|ConnectInfo(peer)| peer.ip().to_canonical());
    if proxies == 0 {
        return peer;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let entries: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    let entry = entries[entries.len().saturating_sub(proxies)..].first();
    entry.and_then(|entry| address(entry)).or(peer)
}

/// Some proxies add the port.
fn address(entry: &str) -> Option<IpAddr> {
    let address = entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()));
    address
        .ok()
        .or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
}

/// A response that keeps its request's share of the budget until it is handed to the socket.
pub struct LeasedBody {
    bytes: Option<Bytes>,
    _lease: Lease,
}

impl LeasedBody {
    pub fn new(bytes: Bytes, lease: Lease) -> LeasedBody {
        LeasedBody { bytes: Some(bytes), _lease: lease }
    }
}

impl HttpBody for LeasedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
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
    fn only_trusted_proxies_name_the_sender() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 10.0.0.1"));
        headers.append("x-forwarded-for", HeaderValue::from_static("[2001:db8::1]:443"));
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5)));
        let sender = |proxies| sender(&headers, Some(&peer), proxies).unwrap().to_string();
        assert_eq!(sender(0), "127.0.0.1");
        assert_eq!(sender(1), "2001:db8::1");
        assert_eq!(sender(2), "10.0.0.1");
        assert_eq!(sender(9), "6.6.6.6");
    }
}
