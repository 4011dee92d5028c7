//! Request bodies within limits, and what is wrong with them.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use playhouse_http::{Encoding, Lease, receive};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::{Proxy, media};

/// What is made of a body (parsed, framed) takes about so many times its size besides.
const COPIES: usize = 3;

/// A body and its share of the memory for requests, to be kept until the request is answered.
pub(crate) struct Whole {
    pub bytes: Bytes,
    _lease: Lease,
}

pub(crate) async fn whole(proxy: &Proxy, request: Request) -> Result<(HeaderMap, Whole), ApiError> {
    let (head, body) = request.into_parts();
    let encoding = Encoding::of(&head.headers)?;
    let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let mut received = receive(body, announced, encoding, &proxy.limits, proxy.budget.lease()).await?;
    let needed = received.bytes.len().saturating_mul(COPIES);
    if received.lease.hold(needed).is_err() {
        let message =
            "The requests in flight take all the memory there is for them: retry later, or send less at once.";
        return Err(ApiError::too_busy(message));
    }
    Ok((head.headers, Whole { bytes: received.bytes, _lease: received.lease }))
}

/// Syntax is 400, a document of another shape is 422.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ApiError::unprocessable(422, error.to_string()),
        _ => ApiError::malformed(error.to_string()),
    })
}

/// The JSON body of a request about consumers: of any content type of this API, or of none where it is empty.
pub(crate) fn parse_plain<'a, T: Deserialize<'a> + Default>(
    headers: &HeaderMap,
    bytes: &'a [u8],
) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Ok(T::default());
    }
    media::of_body(headers)?;
    parse(bytes)
}

/// What this door is called by the caller.
pub(crate) fn host(proxy: &Proxy, headers: &HeaderMap) -> String {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    named.map_or_else(|| proxy.bound.to_string(), str::to_owned)
}

/// A part of a path, with what does not belong there in percents.
pub(crate) fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(byte.into()),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn json(media: &'static str, value: &impl Serialize) -> Response {
    ([(header::CONTENT_TYPE, media)], Json(value)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_uri_is_escaped() {
        assert_eq!(segment("my_consumer-1.~"), "my_consumer-1.~");
        assert_eq!(segment("a b/ü"), "a%20b%2F%C3%BC");
    }
}
