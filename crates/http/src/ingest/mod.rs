//! The ingest door: events over HTTP, from servers, apps, pages, beacons and images.
//!
//! - [`events`]: `POST /events/{topic}`, and `POST /events` for the default topic;
//! - [`pixel`]: `GET /events/{topic}/pixel.gif`, and `GET /pixel.gif` for the default topic;
//! - [`idempotency`]: the first answer again for a request that is sent again;
//! - [`access`]: who may send, and how much; [`cors`]: which web pages may; [`sender`]: who sent.

mod access;
mod cors;
mod events;
mod idempotency;
mod pixel;
mod sender;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};
use playhouse_gate::{Gate, RateLimits, RequestError, is_internal};

use crate::body::BodyLimits;
use crate::budget::ByteBudget;
use crate::problem::{Problem, method_not_allowed};

pub use access::Auth;
pub use cors::Origins;
pub use idempotency::{IdempotencyConfig, IdempotencyError};

use access::Access;
use idempotency::Answers;

#[derive(Debug, Clone, Default)]
pub struct IngestConfig {
    pub body: BodyLimits,
    /// Trusted proxies before the door: so many entries from the right, `X-Forwarded-For` names the sender. 0 ignores
    /// that header.
    pub proxies: usize,
    pub origins: Origins,
    pub idempotency: IdempotencyConfig,
    pub auth: Auth,
    /// Of each caller.
    pub rates: RateLimits,
}

pub struct IngestDoor {
    gate: Arc<Gate>,
    config: IngestConfig,
    budget: Arc<ByteBudget>,
    answers: Arc<Answers>,
    access: Access,
    counters: [AtomicU64; 4],
    replays: AtomicU64,
}

/// Answers since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestCounters {
    /// 200, 204 and 422 with results: the events were looked at.
    pub answered: u64,
    /// Other 4xx.
    pub refused: u64,
    /// 429.
    pub busy: u64,
    /// 5xx.
    pub failed: u64,
    /// Of those answered: with the first answer of their idempotency key.
    pub replayed: u64,
}

impl IngestDoor {
    /// Reads which idempotency keys were answered. Blocks.
    pub fn new(
        gate: Arc<Gate>,
        config: IngestConfig,
        budget: Arc<ByteBudget>,
    ) -> Result<Arc<IngestDoor>, IdempotencyError> {
        let answers = Answers::open(gate.log(), config.idempotency.clone())?;
        let access = Access::new(config.auth.clone(), &config.rates);
        let (counters, replays) = Default::default();
        Ok(Arc::new(IngestDoor { gate, config, budget, answers, access, counters, replays }))
    }

    pub fn counters(&self) -> IngestCounters {
        let [answered, refused, busy, failed] = self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let replayed = self.replays.load(Ordering::Relaxed);
        IngestCounters { answered, refused, busy, failed, replayed }
    }

    fn count(&self, status: StatusCode, is_problem: bool) {
        let counter = match status {
            _ if !is_problem => 0,
            StatusCode::TOO_MANY_REQUESTS => 2,
            status if status.is_server_error() => 3,
            _ => 1,
        };
        self.counters[counter].fetch_add(1, Ordering::Relaxed);
    }

    fn count_replay(&self) {
        self.replays.fetch_add(1, Ordering::Relaxed);
    }

    fn answered(&self, answer: Result<Response, Problem>) -> Response {
        let is_problem = answer.is_err();
        let response = answer.unwrap_or_else(Problem::into_response);
        self.count(response.status(), is_problem);
        response
    }

    fn known(&self, topic: &str) -> Result<(), Problem> {
        if self.gate.log().topic(topic).is_some() { Ok(()) } else { Err(self.unknown_topic(topic)) }
    }

    fn refusal(&self, error: RequestError) -> Problem {
        let detail = error.to_string();
        match error {
            RequestError::UnknownTopic(topic) => self.unknown_topic(&topic),
            RequestError::Empty => Problem::bad_request(detail),
            RequestError::TooManyEvents(_) => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-many-events",
                "The request holds too many events",
                detail,
            ),
            RequestError::TooLarge { .. } => Problem::too_large(detail),
            RequestError::Busy { retry_after, .. } => Problem::busy(detail, retry_after),
            RequestError::Log(_) => Problem::unavailable(detail),
        }
    }

    fn unknown_topic(&self, topic: &str) -> Problem {
        let topics = self.gate.log().topics();
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
}

pub(crate) fn routes() -> Vec<(&'static str, MethodRouter<Arc<IngestDoor>>)> {
    vec![
        ("/events", post(events::to_default_topic)),
        ("/events/{topic}", post(events::to_topic)),
        ("/pixel.gif", get(pixel::to_default_topic).head(pixel::head)),
        ("/events/{topic}/pixel.gif", get(pixel::to_topic).head(pixel::head)),
    ]
}

pub fn router(door: Arc<IngestDoor>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async {
            Problem::not_found("events are sent with POST /events or POST /events/{topic}").closing()
        })
        .layer(middleware::from_fn_with_state(door.clone(), cors::check))
        .with_state(door)
}
