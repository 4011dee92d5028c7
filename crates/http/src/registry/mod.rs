//! The door of the schema registry: Confluent's REST API.
//!
//! - `request`: what a request asks for: path, query, JSON body within limits;
//! - `subjects`, `schemas`, `compatibility`, `settings`, `about`: the endpoints, by the first word of their paths;
//! - `schema`: schemas as JSON, in and out; `answer`: answers, long ones piece by piece;
//! - `refusal`: errors with Confluent's codes.
//!
//! What is decided and stored is the registry's (`playhouse_registry`); here it gets names, codes and shapes.

mod about;
mod answer;
mod compatibility;
mod refusal;
mod request;
mod schema;
mod schemas;
mod settings;
mod subjects;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, http};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use playhouse_gate::{Auth, Principal};
use playhouse_registry::Registry;
use playhouse_schema::registry::Registered;

use crate::body::BodyLimits;
use crate::budget::ByteBudget;
use crate::{doorkeeper, host};

use self::refusal::Refusal;
use self::request::Asked;

/// A schema of 1 MiB, most of whose bytes JSON may escape.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Bodies of all requests.
const REQUESTS_BYTES_MAX: usize = 64 << 20;

/// In the order of preference.
const CONTENT_TYPES: [&str; 3] =
    ["application/vnd.schemaregistry.v1+json", "application/vnd.schemaregistry+json", "application/json"];

pub struct RegistryDoor {
    registry: Arc<Registry>,
    /// As Kafka clients are told.
    cluster_id: String,
    limits: BodyLimits,
    budget: Arc<ByteBudget>,
    auth: Auth,
}

type Door = State<Arc<RegistryDoor>>;

impl RegistryDoor {
    /// Of `limits`, those of time count: sizes are the registry's own.
    pub fn new(registry: Arc<Registry>, cluster_id: String, limits: BodyLimits, auth: Auth) -> Arc<RegistryDoor> {
        let limits = BodyLimits { compressed_bytes_max: REQUEST_BYTES_MAX, bytes_max: REQUEST_BYTES_MAX, ..limits };
        Arc::new(RegistryDoor { registry, cluster_id, limits, budget: ByteBudget::new(REQUESTS_BYTES_MAX), auth })
    }

    /// The text of a schema in the format that is asked for; `None` for the registered one.
    async fn other_text(&self, asked: &Asked, schema: &Arc<Registered>) -> Result<Option<String>, Refusal> {
        if !asked.wants_serialized(schema)? {
            return Ok(None);
        }
        let schema = schema.clone();
        self.ask(move |registry| Ok(registry.parsed(&schema)?.serialized())).await
    }

    /// Runs what parses and compares schemas away from the connections.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Registry) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let registry = self.registry.clone();
        tokio::task::spawn_blocking(move || question(&registry)).await.map_err(|_| Refusal::stopping())?
    }
}

fn routes() -> Vec<(&'static str, MethodRouter<Arc<RegistryDoor>>)> {
    vec![
        ("/", get(about::root)),
        ("/subjects", get(subjects::list)),
        ("/subjects/{subject}", post(subjects::lookup).delete(subjects::delete)),
        ("/subjects/{subject}/metadata", get(subjects::latest_with_metadata)),
        ("/subjects/{subject}/versions", get(subjects::versions).post(subjects::register)),
        ("/subjects/{subject}/versions/{version}", get(subjects::version).delete(subjects::delete_version)),
        ("/subjects/{subject}/versions/{version}/schema", get(subjects::version_text)),
        ("/subjects/{subject}/versions/{version}/referencedby", get(subjects::referenced_by)),
        ("/schemas", get(schemas::list)),
        ("/schemas/types", get(schemas::types)),
        ("/schemas/ids/{id}", get(schemas::by_id)),
        ("/schemas/ids/{id}/schema", get(schemas::text_by_id)),
        ("/schemas/ids/{id}/subjects", get(schemas::subjects)),
        ("/schemas/ids/{id}/versions", get(schemas::versions)),
        ("/schemas/guids/{guid}", get(schemas::by_guid)),
        ("/schemas/guids/{guid}/ids", get(schemas::ids_of_guid)),
        ("/compatibility/subjects/{subject}/versions", post(compatibility::with_level)),
        ("/compatibility/subjects/{subject}/versions/{version}", post(compatibility::with_version)),
        ("/config", get(settings::config).put(settings::set_config).delete(settings::delete_config)),
        ("/config/{subject}", get(settings::config).put(settings::set_config).delete(settings::delete_config)),
        ("/mode", get(settings::mode).put(settings::set_mode).delete(settings::delete_mode)),
        ("/mode/{subject}", get(settings::mode).put(settings::set_mode).delete(settings::delete_mode)),
        ("/contexts", get(about::contexts)),
        ("/v1/metadata/id", get(about::cluster)),
        ("/v1/metadata/version", get(about::version)),
    ]
}

/// `bound` is the address the door listens on.
pub fn router(door: Arc<RegistryDoor>, bound: SocketAddr) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not supported on {}", uri.path()))
                .closing()
        })
        .fallback(|uri: Uri| async move {
            Refusal::new(StatusCode::NOT_FOUND, format!("there is no resource {}", uri.path())).closing()
        })
        .layer(middleware::from_fn_with_state((host::Policy::new(bound), door.auth.clone()), guard))
        .with_state(door)
}

/// Keeps out web pages of others, as at the admin door, and who has no key where one is asked for, and gives answers the
/// content type that the client prefers.
async fn guard(State((policy, auth)): State<(host::Policy, Auth)>, request: Request, next: Next) -> Response {
    if let Some(detail) = policy.refuses(&request) {
        return Refusal::new(StatusCode::MISDIRECTED_REQUEST, detail).closing().into_response();
    }
    let Some(content_type) = acceptable(request.headers()) else {
        let message = format!("none of {} is acceptable to the client", CONTENT_TYPES.join(", "));
        return Refusal::new(StatusCode::NOT_ACCEPTABLE, message).closing().into_response();
    };
    let may = if changes(&request) { Principal::is_admin } else { |_: &Principal| true };
    let mut response = match doorkeeper::admit(&auth, request.headers(), may) {
        Ok(()) => next.run(request).await,
        Err(problem) => Refusal::from(problem).closing().into_response(),
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Serializers look schemas up and compare them with what there is: that is a question, although it has a body.
fn changes(request: &Request) -> bool {
    let path = request.uri().path();
    match *request.method() {
        Method::POST => !path.starts_with("/compatibility/") && path.trim_end_matches('/').ends_with("/versions"),
        ref method => !method.is_safe(),
    }
}

/// The first of our content types that the client takes, whatever weights it gives them.
fn acceptable(headers: &HeaderMap) -> Option<&'static str> {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = accepted.flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or_default());
    let ranges: Vec<String> =
        ranges.map(|range| range.trim().to_ascii_lowercase()).filter(|it| !it.is_empty()).collect();
    let takes = |content_type: &str| ranges.iter().any(|it| it == content_type || it == "*/*" || it == "application/*");
    CONTENT_TYPES.into_iter().find(|content_type| ranges.is_empty() || takes(content_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_change_nothing() {
        let changes = |method: &str, path: &str| {
            changes(&http::Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap())
        };
        for (method, path) in [
            ("GET", "/subjects"),
            ("HEAD", "/subjects/a/versions"),
            ("POST", "/subjects/a"),
            ("POST", "/compatibility/subjects/a/versions"),
            ("POST", "/compatibility/subjects/a/versions/latest"),
        ] {
            assert!(!changes(method, path), "{method} {path}");
        }
        for (method, path) in [
            ("POST", "/subjects/a/versions"),
            ("POST", "/subjects/a/versions/"),
            ("POST", "/subjects/compatibility/versions"),
            ("DELETE", "/subjects/a"),
            ("PUT", "/config"),
            ("PUT", "/mode/a"),
        ] {
            assert!(changes(method, path), "{method} {path}");
        }
    }

    #[test]
    fn the_first_acceptable_type_is_given() {
        let chosen = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            acceptable(&headers)
        };
        assert_eq!(acceptable(&HeaderMap::new()), Some(CONTENT_TYPES[0]));
        assert_eq!(chosen("*/*"), Some(CONTENT_TYPES[0]));
        assert_eq!(chosen("text/html, application/json;q=0.9"), Some("application/json"));
        assert_eq!(chosen("application/json, Application/vnd.schemaregistry+json; q=0.1"), Some(CONTENT_TYPES[1]));
        assert_eq!(chosen("text/html"), None);
    }
}
