//! The admin door: health, metrics, status and bad events of this process, and the OpenAPI document of both doors.
//!
//! Where keys are asked for, who may read all topics may read here, and an admin may do the rest; health is anybody's.
//! Otherwise it has no authentication. In both cases it answers on a loopback address only to the names of this machine, and
//! elsewhere to pages of its own name (see `host`).

mod bad_events;
mod health;
mod metrics;
mod repairs;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use playhouse_gate::{Auth, Gate, Principal};

use crate::problem::{Problem, method_not_allowed};
use crate::{doorkeeper, host};

pub use health::Readiness;
pub use metrics::{Kind, Metric};

/// What the binary tells about itself. The callbacks are called per request and must not block.
#[derive(Clone)]
pub struct AdminDoor {
    pub readiness: Readiness,
    pub metrics: Arc<dyn Fn() -> Vec<Metric> + Send + Sync>,
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Whose bad events these are, and the way back in for them.
    pub gate: Arc<Gate>,
    pub auth: Auth,
}

fn routes() -> Vec<(&'static str, MethodRouter<AdminDoor>)> {
    vec![
        ("/", get(|| async { Html(include_str!("index.html")) })),
        ("/health/live", get(health::live)),
        ("/health/ready", get(health::ready)),
        ("/metrics", get(metrics::metrics)),
        ("/api/status", get(|State(door): State<AdminDoor>| async move { Json((door.status)()) })),
        ("/api/bad-events", get(bad_events::list)),
        ("/api/bad-events/stats", get(bad_events::stats)),
        ("/api/bad-events/fix", post(repairs::fix)),
        ("/api/bad-events/replay", post(repairs::replay)),
        ("/api/bad-events/drop", post(repairs::drop)),
        ("/api/bad-events/{bad_id}", get(bad_events::show)),
        ("/api/openapi.json", get(openapi)),
    ]
}

/// `bound` is the address the door listens on.
pub fn router(door: AdminDoor, bound: SocketAddr) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async { Problem::not_found("see /api/openapi.json for what exists") })
        .layer(middleware::from_fn_with_state(door.auth.clone(), admit))
        .layer(middleware::from_fn_with_state(host::Policy::new(bound), host::check))
        .with_state(door)
}

async fn admit(State(auth): State<Auth>, request: Request, next: Next) -> Response {
    let reads = request.method().is_safe();
    let may = if reads { Principal::reads_all } else { Principal::is_admin };
    // Whoever restarts what does not answer has no key.
    let is_open = request.uri().path().starts_with("/health/");
    match doorkeeper::admit(&auth, request.headers(), may) {
        Err(problem) if !is_open => {
            let is_unknown = problem.status() == StatusCode::UNAUTHORIZED;
            let mut response = problem.closing().into_response();
            if is_unknown {
                // So that browsers ask for it.
                let basic = HeaderValue::from_static("Basic realm=\"playhouse\", charset=\"UTF-8\"");
                response.headers_mut().append(header::WWW_AUTHENTICATE, basic);
            }
            response
        }
        _ => next.run(request).await,
    }
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_openapi_document_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut documented: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let ingest = crate::ingest::routes().into_iter().map(|(path, _)| path);
        let mut routed: Vec<&str> = super::routes().into_iter().map(|(path, _)| path).chain(ingest).collect();
        documented.sort_unstable();
        routed.sort_unstable();
        assert_eq!(documented, routed);
    }
}
