//! The ingest door: events over HTTP, from servers, apps, pages, beacons and images.
//!
//! - [`events`]: `POST /events/{topic}`, and `POST /events` for the default topic;
//! - [`pixel`]: `GET /events/{topic}/pixel.gif`, and `GET /pixel.gif` for the default topic;
//! - [`idempotency`]: the first answer again for a request that is sent again;
//! - [`access`]: what callers show to be let in; [`cors`]: which web pages may; [`sender`]: who sent.

mod access;
mod cors;
mod events;
mod idempotency;
mod pixel;
mod sender;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};
use playhouse_gate::{Access, Gate, RequestError, is_internal};

use crate::body::BodyLimits;
use crate::budget::ByteBudget;
use crate::problem::{Problem, method_not_allowed};

pub use cors::Origins;
pub use idempotency::{IdempotencyConfig, IdempotencyError};

use idempotency::Answers;

#[derive(Debug, Clone, Default)]
pub struct IngestConfig {
    pub body: BodyLimits,
    /// Trusted proxies before the door: so many entries from the right, `X-Forwarded-For` names the sender. 0 ignores
    /// that header.
    pub proxies: usize,
    pub origins: Origins,
    pub idempotency: IdempotencyConfig,
    /// Who may send, and how much.
    pub access: Arc<Access>,
}

pub struct IngestDoor {
    gate: Arc<Gate>,
    config: IngestConfig,
    budget: Arc<ByteBudget>,
    answers: Arc<Answers>,
    replays: AtomicU64,
}

impl IngestDoor {
    /// Reads which idempotency keys were answered. Blocks.
    pub fn new(
        gate: Arc<Gate>,
        config: IngestConfig,
        budget: Arc<ByteBudget>,
    ) -> Result<Arc<IngestDoor>, IdempotencyError> {
        let answers = Answers::open(gate.log(), config.idempotency.clone())?;
        Ok(Arc::new(IngestDoor { gate, config, budget, answers, replays: AtomicU64::new(0) }))
    }

    /// Requests answered with the first answer of their idempotency key, since the start.
    pub fn replays(&self) -> u64 {
        self.replays.load(Ordering::Relaxed)
    }

    fn count_replay(&self) {
        self.replays.fetch_add(1, Ordering::Relaxed);
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
