//! Which `Host` and `Origin` headers the doors answer to that change or show what is not a page's business.
//!
//! A web page anywhere can make its visitor's browser ask `localhost` (cross-site request forgery), and a name that
//! resolves to 127.0.0.1 lets the page read the answer too (DNS rebinding). Neither can forge these two headers. On the
//! network a browser that knows a key sends it along with whatever a page makes it ask, so there too no page of another
//! host may change anything.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, Version, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use crate::Problem;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    bound: SocketAddr,
}

impl Policy {
    pub(crate) fn new(bound: SocketAddr) -> Policy {
        Policy { bound }
    }

    /// Why a request is not answered.
    pub(crate) fn refuses<B>(self, request: &axum::http::Request<B>) -> Option<String> {
        if !self.bound.ip().is_loopback() && !request.method().is_safe() {
            return foreign_page(request.headers());
        }
        self.refuses_head(request.version(), request.uri(), request.headers())
    }

    fn refuses_head(self, version: Version, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        // Bound to the network on purpose: it has names we cannot know.
        if !self.bound.ip().is_loopback() {
            return None;
        }
        let host = match headers.get(header::HOST) {
            Some(host) => host.to_str().ok().and_then(|host| host.parse::<Uri>().ok()),
            None if version <= Version::HTTP_10 => None,
            None => return Some("the Host header is missing".to_string()),
        };
        if headers.contains_key(header::HOST) && !host.as_ref().is_some_and(|host| self.is_here(host)) {
            return Some(format!("Host {:?} is not a name of this machine: use localhost", headers[header::HOST]));
        }
        if uri.host().is_some() && !self.is_here(uri) {
            return Some(format!("{uri} is not on this machine"));
        }
        let origin = headers.get(header::ORIGIN)?;
        let here =
            origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok()).is_some_and(|uri| self.is_here(&uri));
        (!here).then(|| format!("a page of {origin:?} may not use this door"))
    }

    fn is_here(self, uri: &Uri) -> bool {
        let Some(host) = uri.host() else { return false };
        let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        host.eq_ignore_ascii_case("localhost")
            || address.is_some_and(|address| address.is_loopback() || address == self.bound.ip())
    }
}

fn foreign_page(headers: &HeaderMap) -> Option<String> {
    let origin = headers.get(header::ORIGIN)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).and_then(|host| host.parse::<Uri>().ok());
    let from = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let same = host.zip(from).is_some_and(|(host, from)| host.host() == from.host() && host.host().is_some());
    (!same).then(|| format!("a page of {origin:?} may change nothing here"))
}

/// A door bound to a loopback address answers to the names of this machine only. `bound` is where it listens.
pub fn this_machine_only(router: Router, bound: SocketAddr) -> Router {
    router.layer(middleware::from_fn_with_state(Policy::new(bound), check))
}

pub(crate) async fn check(State(policy): State<Policy>, request: Request, next: Next) -> Response {
    match policy.refuses(&request) {
        None => next.run(request).await,
        Some(detail) => {
            let title = "The request is not for this machine";
            Problem::new(StatusCode::MISDIRECTED_REQUEST, "foreign-host", title, detail).closing().into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bound: &str, host: Option<&'static str>, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        let policy = Policy::new(bound.parse().unwrap());
        policy.refuses_head(Version::HTTP_11, &Uri::from_static("/api/status"), &headers).is_some()
    }

    #[test]
    fn loopback_answers_to_its_own_names_only() {
        let loopback = "127.0.0.1:8080";
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:9", "127.0.0.1"] {
            assert!(!refused(loopback, Some(host), None), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1:8080", ""] {
            assert!(refused(loopback, Some(host), None), "{host}");
        }
        assert!(refused(loopback, None, None));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        assert!(!refused("127.0.0.1:8080", Some("localhost:8080"), Some("http://localhost:8080")));
        assert!(refused("127.0.0.1:8080", Some("localhost:8080"), Some("https://evil.example")));
        assert!(refused("127.0.0.1:8080", Some("localhost:8080"), Some("null")));
    }

    #[test]
    fn on_the_network_a_page_changes_nothing_of_another_host() {
        let refused = |method: &str, origin: &str| {
            let request = axum::http::Request::builder().method(method).header("host", "play.example:8080");
            let request = request.header("origin", origin).body(()).unwrap();
            Policy::new("0.0.0.0:8080".parse().unwrap()).refuses(&request).is_some()
        };
        assert!(!refused("POST", "https://play.example"));
        assert!(!refused("GET", "https://evil.example"), "nor can it read the answer");
        assert!(refused("POST", "https://evil.example"));
        assert!(refused("DELETE", "null"));
    }

    #[test]
    fn a_door_on_the_network_answers_to_any_name() {
        assert!(!refused("0.0.0.0:8080", Some("playhouse.example"), None));
    }
}
