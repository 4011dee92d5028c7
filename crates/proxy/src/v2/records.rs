//! `GET /consumers/{group}/instances/{name}/records`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use playhouse_http::LeasedBody;
use serde::{Deserialize, Serialize};

use super::consumers::{Named, enter, refused};
use crate::caller::Served;
use crate::consumers::{ReadLimits, TIMEOUT_MAX};
use crate::error::ApiError;
use crate::formats::{FormatError, Shown, encode_key, encode_value};
use crate::media;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Milliseconds.
    timeout: Option<i64>,
    max_bytes: Option<i64>,
}

#[derive(Serialize)]
struct Record<'a> {
    topic: &'a str,
    key: Option<Shown<'a>>,
    value: Option<Shown<'a>>,
    partition: i32,
    offset: i64,
}

/// What cannot be shown ends the answer; where it comes first, it is the answer, and says where to seek to get past it.
pub(super) async fn read(
    Served(proxy): Served,
    named: Named,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    let consumer = enter(&proxy, named)?;
    let format = consumer.settings.format;
    let media = media::accepted_records(&headers, format)?;
    let timeout = wanted.timeout.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    let bytes_max = wanted.max_bytes.filter(|bytes| *bytes >= 0).and_then(|bytes| usize::try_from(bytes).ok());
    let limits = ReadLimits {
        timeout: timeout.unwrap_or(consumer.settings.timeout).min(TIMEOUT_MAX),
        bytes_max: bytes_max.unwrap_or(usize::MAX).min(proxy.records_bytes_max),
    };
    let mut lease = proxy.budget.lease();
    let read = consumer.read(limits, &mut lease).await.map_err(|error| refused(&error))?;
    let mut shown = Vec::with_capacity(read.records.len());
    for (topic, it) in &read.records {
        let show = || -> Result<_, FormatError> {
            Ok((encode_key(format, it.key.as_deref())?, encode_value(format, it.value.as_deref())?))
        };
        match show() {
            Ok((key, value)) => {
                shown.push(Record { topic, key, value, partition: it.partition, offset: it.offset });
            }
            Err(error) if shown.is_empty() => {
                let message = format!(
                    "Kafka error: the record at offset {} in partition {} of topic {topic:?} cannot be shown: {error}; \
                     or go on behind it with POST positions",
                    it.offset, it.partition
                );
                return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, 50002, message));
            }
            Err(_) => break,
        }
    }
    let kept = consumer.advance(&read, shown.len());
    let mut kept = kept.into_iter();
    shown.retain(|_| kept.next().unwrap_or(false));
    let failed = |error: serde_json::Error| ApiError::malformed(error.to_string());
    let json = serde_json::to_vec(&shown).map_err(failed)?;
    let mut response = Response::new(Body::new(LeasedBody::new(Bytes::from(json), lease)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(response)
}
