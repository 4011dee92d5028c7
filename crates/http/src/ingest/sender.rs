//! Who sent a request.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use playhouse_gate::Origin;

pub(super) fn origin(head: &Parts, proxies: usize) -> Origin {
    let agent = head.headers.get(header::USER_AGENT);
    Origin {
        protocol: "rest",
        address: address(&head.headers, head.extensions.get::<ConnectInfo<SocketAddr>>(), proxies),
        user_agent: agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
    }
}

fn address(headers: &HeaderMap, peer: Option<&ConnectInfo<SocketAddr>>, proxies: usize) -> Option<IpAddr> {
    let peer = peer.map(|ConnectInfo(peer)| peer.ip().to_canonical());
    if proxies == 0 {
        return peer;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let entries: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    let entry = entries[entries.len().saturating_sub(proxies)..].first();
    entry.and_then(|entry| parsed(entry)).or(peer)
}

/// Some proxies add the port.
fn parsed(entry: &str) -> Option<IpAddr> {
    let address = entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()));
    address
        .ok()
        .or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_trusted_proxies_name_the_sender() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 10.0.0.1"));
        headers.append("x-forwarded-for", HeaderValue::from_static("[2001:db8::1]:443"));
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5)));
        let sender = |proxies| address(&headers, Some(&peer), proxies).unwrap().to_string();
        assert_eq!(sender(0), "127.0.0.1");
        assert_eq!(sender(1), "2001:db8::1");
        assert_eq!(sender(2), "10.0.0.1");
        assert_eq!(sender(9), "6.6.6.6");
    }
}
