//! Refusals of a request as a whole, as `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// `type` is `urn:playhouse:problem:<name>`; the names are listed in the OpenAPI document.
#[derive(Debug, Clone)]
pub struct Problem {
    name: &'static str,
    title: &'static str,
    status: StatusCode,
    detail: String,
    retry_after: Option<Duration>,
    closes: bool,
}

impl Problem {
    pub fn new(status: StatusCode, name: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { name, title, status, detail: detail.into(), retry_after: None, closes: false }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closes
    }

    pub(crate) fn retry_after(self, after: Duration) -> Problem {
        Problem { retry_after: Some(after), ..self }
    }

    /// The request's body was not read to its end, so the connection cannot carry another request.
    pub(crate) fn closing(self) -> Problem {
        Problem { closes: true, ..self }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", "The request is malformed", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such resource", detail)
    }

    pub(crate) fn busy(detail: impl Into<String>, after: Duration) -> Problem {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", "Too much is in flight: slow down", detail)
            .retry_after(after)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large", detail)
    }

    pub(crate) fn timeout(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The request took too long to arrive", detail).closing()
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Events cannot be accepted now", detail)
            .retry_after(Duration::from_secs(5))
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed to answer", detail)
    }

    pub(crate) fn json(&self, request_id: Option<&str>) -> Vec<u8> {
        #[derive(Serialize)]
        struct Members<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
        }
        let members = Members {
            r#type: format!("urn:playhouse:problem:{}", self.name),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            request_id,
        };
        serde_json::to_vec(&members).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json(None)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"playhouse\""));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // For whoever knows the request's id, and for its line in the log.
        response.extensions_mut().insert(self);
        response
    }
}

/// For methods that a path does not know; axum adds the `Allow` header.
pub(crate) async fn method_not_allowed(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "The resource does not support this method",
        format!("{method} is not supported on {}: see the Allow header", uri.path()),
    )
    .closing()
}
