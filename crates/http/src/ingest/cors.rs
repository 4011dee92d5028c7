//! Which web pages may send events (CORS, the Fetch standard).
//!
//! A page of another origin is refused here, not only kept from reading the answer: a beacon with a text body reaches the
//! door without a preflight. Whoever sends no `Origin` is no page's script: servers, apps, images in e-mails.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::IngestDoor;
use crate::Problem;

/// The origins whose pages may send events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages that this machine serves, whatever their port.
    #[default]
    Local,
    Any,
    /// As browsers write them: `https://www.example.com`, or `null`.
    Only(Vec<String>),
}

impl Origins {
    /// `local`, `*`, `none`, or origins separated by commas.
    pub fn parse(text: &str) -> Result<Origins, String> {
        match text.trim() {
            "local" => return Ok(Origins::Local),
            "*" => return Ok(Origins::Any),
            "none" => return Ok(Origins::Only(Vec::new())),
            _ => {}
        }
        let origin = |origin: &str| {
            let origin = origin.trim().to_ascii_lowercase();
            let uri: Option<Uri> = origin.parse().ok();
            let is_origin = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.authority().is_some_and(|authority| origin.ends_with(authority.as_str()))
            });
            if origin == "null" || is_origin {
                return Ok(origin);
            }
            Err(format!(
                "names {origin:?}: use \"local\", \"*\", \"none\", or origins such as \"https://www.example.com, http://localhost:3000\""
            ))
        };
        text.split(',').map(origin).collect::<Result<_, _>>().map(Origins::Only)
    }

    fn allow(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        match self {
            Origins::Any => true,
            Origins::Only(origins) => origins.iter().any(|known| known.eq_ignore_ascii_case(origin)),
            Origins::Local => origin.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_local)),
        }
    }
}

fn is_local(host: &str) -> bool {
    let address: Option<std::net::IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

pub(super) async fn check(State(door): State<Arc<IngestDoor>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else { return next.run(request).await };
    if !door.config.origins.allow(&origin) {
        let detail =
            format!("pages of {origin:?} may not send events: the setting ingest.origins names those that may");
        let title = "The page's origin is not allowed";
        return Problem::new(StatusCode::FORBIDDEN, "foreign-origin", title, detail).closing().into_response();
    }
    let is_preflight =
        *request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight { preflight() } else { next.run(request).await };
    allow(response.headers_mut(), origin);
    response
}

/// Beacons are sent with credentials, and with those browsers take no `*`. Nothing here goes by a cookie, so a page gains
/// nothing from its visitor's.
fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-request-id, retry-after, preference-applied, idempotent-replayed"),
    );
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, content-encoding, idempotency-key, prefer, x-api-key, x-request-id",
        ),
        // Browsers shorten it to two hours.
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &str, origin: &str) -> bool {
        Origins::parse(origins).unwrap().allow(&origin.parse().unwrap())
    }

    #[test]
    fn origins_are_told_apart() {
        for local in ["http://localhost:3000", "https://LOCALHOST", "http://127.0.0.1:60000", "http://[::1]:5173"] {
            assert!(allows("local", local), "{local}");
        }
        for foreign in ["https://example.com", "http://localhost.example.com", "http://10.0.0.1", "null", "", "file://"]
        {
            assert!(!allows("local", foreign), "{foreign}");
            assert!(allows("*", foreign), "{foreign}");
            assert!(!allows("none", foreign), "{foreign}");
        }
        let listed = "https://www.Example.com, http://localhost:3000,null";
        for known in ["https://www.example.com", "http://localhost:3000", "null"] {
            assert!(allows(listed, known), "{known}");
        }
        for other in
            ["https://example.com", "http://www.example.com", "https://www.example.com:8443", "http://localhost"]
        {
            assert!(!allows(listed, other), "{other}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for wrong in
            ["", "example.com", "https://", "https://example.com/", "https://a.example,", "ftp://a.example", "all"]
        {
            assert!(Origins::parse(wrong).is_err(), "{wrong}");
        }
    }
}
