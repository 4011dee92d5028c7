//! What a caller shows, and what it is told when it may not send: asked before a body is read.
//!
//! A key comes as `Authorization` (`Bearer`, or `Basic` with the key for a password), as `X-Api-Key`, or, since beacons and
//! images have no headers, as the parameter `api_key`.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use playhouse_gate::{Access, Caller, Denied};

use crate::Problem;
use crate::doorkeeper::{shown, unauthorized};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// In a query string. No event has it as a field.
pub(super) const API_KEY_PARAMETER: &str = "api_key";

/// Whether this request may go on; as whom.
pub(super) fn admit(access: &Access, head: &Parts, address: Option<IpAddr>, topic: &str) -> Result<Caller, Problem> {
    let visitor = access.identify(key(head).as_deref(), address);
    let admitted = visitor.and_then(|visitor| access.admit(&visitor, topic).map(|()| visitor.caller));
    admitted.map_err(|denied| {
        let detail = denied.to_string();
        match denied {
            Denied::NoKey | Denied::UnknownKey => unauthorized(detail),
            Denied::TooMuch(wait) => {
                let title = "The caller sends more than it may";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", title, detail).retry_after(wait)
            }
            Denied::Topic(_) => {
                Problem::new(StatusCode::FORBIDDEN, "topic-not-allowed", "The key is for other topics", detail)
            }
        }
    })
}

/// The first place that has something counts.
fn key(head: &Parts) -> Option<String> {
    if head.headers.contains_key(axum::http::header::AUTHORIZATION) {
        return shown(&head.headers).map(|shown| shown.key);
    }
    if let Some(value) = head.headers.get(X_API_KEY) {
        return value.to_str().ok().map(|key| key.trim().to_owned());
    }
    // Keys have no character that would be encoded.
    let parameters = head.uri.query()?.split('&');
    parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find_map(|(name, key)| (name == API_KEY_PARAMETER).then(|| key.to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_key_is_shown_in_one_of_three_places() {
        let shown = |uri: &str, headers: &[(&str, &str)]| {
            let request =
                headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
            key(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(shown("/events", &[]), None);
        assert_eq!(shown("/events", &[("authorization", "bearer  a ")]).as_deref(), Some("a"));
        assert_eq!(shown("/events", &[("authorization", "Basic YTpi")]).as_deref(), Some("b"));
        assert_eq!(shown("/events", &[("x-api-key", "b")]).as_deref(), Some("b"));
        assert_eq!(shown("/pixel.gif?user=1&api_key=c", &[]).as_deref(), Some("c"));
        assert_eq!(
            shown("/events?api_key=c", &[("x-api-key", "b"), ("authorization", "Bearer a")]).as_deref(),
            Some("a")
        );
        assert_eq!(shown("/events?api_key=c", &[("authorization", "Digest YTpi")]), None);
    }
}
