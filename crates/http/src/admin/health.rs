//! Liveness and readiness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::AdminDoor;
use crate::Problem;

/// Which doors are open. Ready means all of them, until [`Readiness::close`].
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Doors>>);

#[derive(Debug, Default)]
struct Doors {
    open: BTreeMap<String, bool>,
    closing: bool,
}

impl Readiness {
    pub fn new<'a>(doors: impl IntoIterator<Item = &'a str>) -> Readiness {
        let open = doors.into_iter().map(|door| (door.to_string(), false)).collect();
        Readiness(Arc::new(Mutex::new(Doors { open, closing: false })))
    }

    pub fn open(&self, door: &str) {
        self.doors().open.insert(door.to_string(), true);
    }

    /// The process is shutting down: not ready from now on.
    pub fn close(&self) {
        self.doors().closing = true;
    }

    /// Why the process is not ready.
    pub fn missing(&self) -> Option<String> {
        let doors = self.doors();
        if doors.closing {
            return Some("shutting down".to_string());
        }
        let waiting: Vec<&str> = doors.open.iter().filter(|(_, open)| !**open).map(|(door, _)| door.as_str()).collect();
        (!waiting.is_empty()).then(|| format!("not open yet: {}", waiting.join(", ")))
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn live() -> Json<serde_json::Value> {
    Json(json!({"live": true}))
}

pub(super) async fn ready(State(door): State<AdminDoor>) -> Response {
    match door.readiness.missing() {
        None => Json(json!({"ready": true})).into_response(),
        Some(missing) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not every door is open", missing)
            .into_response(),
    }
}
