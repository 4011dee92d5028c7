//! `GET /consumers/{group}/instances/{name}/records`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use playhouse_http::LeasedBody;
use playhouse_schema::wire::{KEY_SCHEMA_HEADER, VALUE_SCHEMA_HEADER};
use serde::{Deserialize, Serialize};

use super::consumers::{Named, enter, refused};
use crate::caller::Served;
use crate::consumers::{ReadLimits, TIMEOUT_MAX};
use crate::error::ApiError;
use crate::formats::{FormatError, Showing, Shown};
use crate::media;

/// What is made of a schema's data may be so many times what is read at once.
const SHOWN_MAX: usize = 4;
/// As values by themselves, and in the answer.
const COPIES: usize = 2;

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
    let mut room = proxy.records_bytes_max.saturating_mul(SHOWN_MAX);
    for (topic, it) in &read.records {
        let showing = Showing { format, schemas: &proxy.schemas, bytes_max: room };
        let header = |wanted: &str| {
            let found = it.headers.iter().rev().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_deref().unwrap_or_default())
        };
        let show = || -> Result<_, FormatError> {
            let key = showing.key(it.key.as_deref(), header(KEY_SCHEMA_HEADER))?;
            Ok((key, showing.value(it.value.as_deref(), header(VALUE_SCHEMA_HEADER))?))
        };
        match show() {
            Ok((key, value)) => {
                let made = [&key, &value].into_iter().flatten().map(Shown::bytes).sum();
                // What is made of data may be far larger; that of the first record has to do.
                if format.needs_schema() && lease.hold(COPIES * made).is_err() && !shown.is_empty() {
                    break;
                }
                room = room.saturating_sub(made);
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
