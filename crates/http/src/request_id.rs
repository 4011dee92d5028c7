//! Request ids: every answer names its request, so that what a caller reports is found in the log.
//!
//! The caller's `X-Request-Id` is taken over where it is short and printable, else one is made. It stands in the answer's
//! header, in the document of a problem, and in the log's line about it.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use axum::response::Response;

use crate::Problem;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const BYTES_MAX: usize = 128;

/// Makes ids that no other process makes.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> RequestIds {
        RequestIds { process: RandomState::new().hash_one(std::process::id()), next: AtomicU64::new(0) }
    }

    /// What is to be remembered of a request until its answer is known.
    pub(crate) fn name<B>(&self, request: &Request<B>) -> Named {
        let id = theirs(request.headers()).unwrap_or_else(|| {
            let made = format!("{:016x}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed));
            HeaderValue::try_from(made).unwrap_or(HeaderValue::from_static("-"))
        });
        Named { id, method: request.method().clone(), uri: request.uri().clone() }
    }
}

fn theirs(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(X_REQUEST_ID)?;
    let sensible = (1..=BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    sensible.then(|| id.clone())
}

/// A request with its id.
#[derive(Debug)]
pub(crate) struct Named {
    id: HeaderValue,
    method: Method,
    uri: Uri,
}

impl Named {
    pub(crate) fn finish(self, mut response: Response) -> Response {
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let id = self.id.to_str().unwrap_or_default();
            self.log(&problem, id);
            *response.body_mut() = Body::from(problem.json(Some(id)));
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        response.headers_mut().insert(X_REQUEST_ID, self.id);
        response
    }

    /// The path only: queries may hold keys and what is private.
    fn log(&self, problem: &Problem, id: &str) {
        let (method, path, status) = (&self.method, self.uri.path(), problem.status().as_u16());
        if problem.status().is_server_error() {
            tracing::warn!(request_id = id, %method, path, status, "{}", problem.detail());
        } else {
            tracing::debug!(request_id = id, %method, path, status, "{}", problem.detail());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ids: &RequestIds, theirs: Option<&str>) -> String {
        let mut request = Request::new(());
        if let Some(theirs) = theirs {
            request.headers_mut().insert(X_REQUEST_ID, theirs.parse().unwrap());
        }
        ids.name(&request).id.to_str().unwrap().to_owned()
    }

    #[test]
    fn sensible_ids_are_taken_over_and_others_are_replaced() {
        let ids = RequestIds::new();
        assert_eq!(id(&ids, Some("7d1e-4b/x:1")), "7d1e-4b/x:1");
        let long = "x".repeat(BYTES_MAX + 1);
        for theirs in [None, Some(""), Some("two words"), Some(long.as_str())] {
            let made = id(&ids, theirs);
            assert_ne!(Some(made.as_str()), theirs);
            assert!(made.len() > 16 && made.is_ascii(), "{made}");
        }
        assert_ne!(id(&ids, None), id(&ids, None));
        assert_ne!(id(&ids, None)[..16], id(&RequestIds::new(), None)[..16]);
    }
}
