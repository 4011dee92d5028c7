//! Who may send, and how much: asked before a body is read.
//!
//! A caller shows its key as `Authorization: Bearer`, as `X-Api-Key`, or, since beacons and images have no headers, as the
//! parameter `api_key`. Rates go by the key, else by the address; so do requests whose key is not good.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use playhouse_gate::{Caller, KeyRing, RateLimits, Rates};

use crate::Problem;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// In a query string. No event has it as a field.
pub(super) const API_KEY_PARAMETER: &str = "api_key";

/// What a caller has to show.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Nothing: whoever reaches the door may send.
    #[default]
    None,
    Keys(Arc<KeyRing>),
}

pub(super) struct Access {
    auth: Auth,
    rates: Rates,
}

impl Access {
    pub(super) fn new(auth: Auth, limits: &RateLimits) -> Access {
        Access { auth, rates: Rates::new(limits) }
    }

    /// Whether this request may go on; as whom.
    pub(super) fn admit(&self, head: &Parts, address: Option<IpAddr>, topic: &str) -> Result<Caller, Problem> {
        let checked = match &self.auth {
            Auth::None => Ok(None),
            Auth::Keys(ring) => principal(ring, head).map(Some),
        };
        let caller = match &checked {
            Ok(Some(principal)) => Caller::Key(principal.id.clone()),
            Ok(None) | Err(_) => Caller::address(address),
        };
        self.rates.admit(&caller, Instant::now()).map_err(|wait| {
            let title = "The caller sends more than it may";
            let detail = format!("this caller's rate is used up: retry after {} s", wait.as_millis().div_ceil(1000));
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", title, detail).retry_after(wait)
        })?;
        if checked?.is_some_and(|principal| !principal.may_send_to(topic)) {
            let detail =
                format!("this API key may not send to topic {topic:?}: `playhouse key list` shows what it may");
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "topic-not-allowed",
                "The key is for other topics",
                detail,
            ));
        }
        Ok(caller)
    }

    pub(super) fn charge(&self, caller: &Caller, bytes: usize) {
        self.rates.charge(caller, bytes, Instant::now());
    }
}

fn principal(ring: &KeyRing, head: &Parts) -> Result<playhouse_gate::Principal, Problem> {
    let unauthorized =
        |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "An API key is required", detail);
    let token = token(head).ok_or_else(|| {
        unauthorized("send an API key, as Authorization: Bearer or X-Api-Key (`playhouse key create` makes one)")
    })?;
    ring.principal(token).ok_or_else(|| unauthorized("this API key is not known, or was revoked"))
}

fn token(head: &Parts) -> Option<&str> {
    if let Some(value) = head.headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(token.trim());
    }
    if let Some(value) = head.headers.get(X_API_KEY) {
        return value.to_str().ok().map(str::trim);
    }
    // Keys have no character that would be encoded.
    let parameters = head.uri.query()?.split('&');
    parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find_map(|(name, token)| (name == API_KEY_PARAMETER).then_some(token))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_key_is_shown_in_one_of_three_ways() {
        let shown = |uri: &str, headers: &[(&str, &str)]| {
            let request =
                headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
            token(&request.body(()).unwrap().into_parts().0).map(str::to_owned)
        };
        assert_eq!(shown("/events", &[]), None);
        assert_eq!(shown("/events", &[("authorization", "bearer  a ")]).as_deref(), Some("a"));
        assert_eq!(shown("/events", &[("x-api-key", "b")]).as_deref(), Some("b"));
        assert_eq!(shown("/pixel.gif?user=1&api_key=c", &[]).as_deref(), Some("c"));
        assert_eq!(
            shown("/events?api_key=c", &[("x-api-key", "b"), ("authorization", "Bearer a")]).as_deref(),
            Some("a")
        );
        assert_eq!(shown("/events?api_key=c", &[("authorization", "Basic YTpi")]), None);
    }
}
