//! `POST /v3/clusters/{cluster}/topics/{topic}/records`: a stream of records in, a stream of delivery reports out.
//!
//! Records are concatenated JSON objects; each gets a report, in their order, while the stream goes on. What arrives
//! together is sent together. The stream ends with its first record that cannot be told apart; if that is the very first,
//! the response is the error itself, as its status has not been sent yet.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::StreamExt;
use playhouse_client::produce::{Outgoing, Placed};
use playhouse_http::{Encoding, Lease};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::data::{self, Data, Part, Side};
use super::open;
use super::split::{SplitError, Splitter};
use crate::caller::Served;
use crate::error::{Api, ApiError};
use crate::formats::schemas::Schemas;
use crate::produce::{Missing, SendError, send};
use crate::request::now_ms;
use crate::{Proxy, media};

/// A stream that says nothing for so long is ended.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Reports that wait to be sent; past it nothing more is read.
const REPORTS_WAITING: usize = 4;
/// Records that are sent together at most.
const RECORDS_TOGETHER: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    #[serde(default)]
    partition_id: Option<i32>,
    #[serde(default)]
    headers: Option<Vec<Header>>,
    #[serde(borrow, default)]
    key: Option<Data<'a>>,
    #[serde(borrow, default)]
    value: Option<Data<'a>>,
    #[serde(default)]
    timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    record: Outgoing,
    key: Option<Part>,
    value: Option<Part>,
}

enum Reply {
    Reports(Bytes),
    /// In place of any report.
    Refused(ApiError),
}

pub(super) async fn produce(
    Served(proxy): Served,
    Path((named, topic)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    media::is_json(request.headers())?;
    if Encoding::of(request.headers())? != Encoding::Identity {
        return Err(ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE).closing());
    }
    let (mut link, cluster) = open(&proxy, request.headers(), Some(&named)).await.map_err(ApiError::closing)?;
    let described = link.client.topic(&topic).await;
    link.give_back();
    described.map_err(|error| ApiError::of(&error, Api::V3).closing())?;

    let (replies, mut receiver) = mpsc::channel(REPORTS_WAITING);
    let stream = Stream { proxy, cluster: cluster.id, topic, replies, reported: false };
    let body = request.into_body().into_data_stream();
    // Of its own: the response begins with the first report, while the body still arrives.
    tokio::spawn(stream.run(body));
    let first = match receiver.recv().await {
        Some(Reply::Refused(error)) => return Err(error.closing()),
        Some(Reply::Reports(reports)) => Some(reports),
        None => None,
    };
    let rest = futures::stream::unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Some(Reply::Reports(reports)) => Some((reports, receiver)),
            Some(Reply::Refused(_)) | None => None,
        }
    });
    let reports = futures::stream::iter(first).chain(rest).map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(reports));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media::JSON));
    Ok(response)
}

/// One stream at work.
struct Stream {
    proxy: Arc<Proxy>,
    cluster: String,
    topic: String,
    replies: mpsc::Sender<Reply>,
    reported: bool,
}

/// The caller has hung up.
struct Gone;

impl Stream {
    async fn run(mut self, mut body: BodyDataStream) {
        let mut splitter = Splitter::new(self.proxy.limits.bytes_max);
        let mut lease = self.proxy.budget.lease();
        loop {
            let chunk = match timeout(IDLE_MAX, body.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => {
                    return self.end(ApiError::malformed(format!("the stream broke off: {error}"))).await;
                }
                Ok(None) => {
                    if let Err(error) = splitter.finish() {
                        self.end(wrong(&error)).await;
                    }
                    return;
                }
                Err(_) => {
                    let message = format!("nothing arrived for {} s", IDLE_MAX.as_secs());
                    return self.end(ApiError::new(StatusCode::REQUEST_TIMEOUT, 408, message)).await;
                }
            };
            splitter.push(&chunk);
            if !has_room(&mut lease, splitter.len()) {
                let message = "The requests in flight take all the memory there is for them: retry later.";
                return self.end(ApiError::too_busy(message)).await;
            }
            if self.take_all(&mut splitter).await.is_err() {
                return;
            }
        }
    }

    /// Sends all records that are there as a whole.
    async fn take_all(&mut self, splitter: &mut Splitter) -> Result<(), Gone> {
        loop {
            let mut objects = Vec::new();
            let mut end = None;
            while objects.len() < RECORDS_TOGETHER {
                match splitter.next() {
                    Ok(Some(object)) => objects.push(object),
                    Ok(None) => break,
                    Err(error) => {
                        end = Some(wrong(&error));
                        break;
                    }
                }
            }
            // What is no JSON makes it doubtful where the next record begins.
            let mut taken = Vec::with_capacity(objects.len());
            for object in &objects {
                match take(&self.proxy.schemas, &self.topic, object).await {
                    Err(error) if error.code == 400 && !is_json(object) => {
                        end = Some(error);
                        break;
                    }
                    it => taken.push(it),
                }
            }
            let is_last = objects.len() < RECORDS_TOGETHER;
            drop(objects);
            if !taken.is_empty() {
                let reports = self.reports(taken).await;
                self.reported = true;
                self.replies.send(Reply::Reports(reports)).await.map_err(|_| Gone)?;
            }
            if let Some(end) = end {
                self.end(end).await;
                return Err(Gone);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn reports(&self, taken: Vec<Result<Taken, ApiError>>) -> Bytes {
        let (mut records, mut parts) = (Vec::new(), Vec::with_capacity(taken.len()));
        for it in taken {
            match it {
                Ok(Taken { record, key, value }) => {
                    parts.push(Ok((record.timestamp_ms, key, value)));
                    records.push(record);
                }
                Err(error) => parts.push(Err(error)),
            }
        }
        let sent = self.send(&records).await;
        let mut sent = sent.into_iter();
        let mut reports = Vec::new();
        for part in parts {
            let report = match part {
                Ok((timestamp_ms, key, value)) => match sent.next() {
                    Some(Ok(placed)) => self.report(placed, timestamp_ms, key, value),
                    Some(Err(error)) => error.json(),
                    None => continue,
                },
                Err(error) => error.json(),
            };
            reports.extend_from_slice(report.to_string().as_bytes());
            reports.extend_from_slice(b"\r\n");
        }
        Bytes::from(reports)
    }

    /// An outcome for each. A partition that is not there is its record's fault alone.
    async fn send(&self, records: &[Outgoing]) -> Vec<Result<Placed, ApiError>> {
        let brokers = &self.proxy.brokers;
        match send(brokers, &self.topic, records, Missing::IsAnError).await {
            Ok(outcomes) => outcomes.into_iter().map(|it| it.map_err(|error| ApiError::of(&error, Api::V3))).collect(),
            Err(SendError::NoPartition(_)) if records.len() > 1 => {
                let mut outcomes = Vec::with_capacity(records.len());
                for record in records {
                    let one = send(brokers, &self.topic, std::slice::from_ref(record), Missing::IsAnError).await;
                    let one = one.map_err(|error| error.api(Api::V3)).and_then(|mut outcomes| {
                        let outcome = outcomes.pop().ok_or_else(|| ApiError::malformed("there is no outcome"))?;
                        outcome.map_err(|error| ApiError::of(&error, Api::V3))
                    });
                    outcomes.push(one);
                }
                outcomes
            }
            Err(error) => {
                let error = error.api(Api::V3);
                records.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn report(&self, placed: Placed, timestamp_ms: i64, key: Option<Part>, value: Option<Part>) -> Value {
        let part = |part: Option<Part>| part.map(|part| part.json());
        let timestamp = DateTime::<Utc>::from_timestamp_millis(timestamp_ms);
        json!({
            "error_code": 200,
            "cluster_id": self.cluster,
            "topic_name": self.topic,
            "partition_id": placed.partition,
            "offset": placed.offset.unwrap_or(-1),
            "timestamp": timestamp.map(|it| it.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            "key": part(key),
            "value": part(value),
        })
    }

    async fn end(&self, error: ApiError) {
        let reply = if self.reported {
            Reply::Reports(Bytes::from(format!("{}\r\n", error.json())))
        } else {
            Reply::Refused(error)
        };
        // Where nobody hears it any more, there is nobody to tell.
        let _ = self.replies.send(reply).await;
    }
}

/// Parsed and framed, records take about twice their size besides.
fn has_room(lease: &mut Lease, bytes: usize) -> bool {
    lease.hold(bytes.saturating_mul(3)).is_ok()
}

fn wrong(error: &SplitError) -> ApiError {
    match error {
        SplitError::TooLarge(_) => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, 413, error.to_string()),
        SplitError::NoObject(_) | SplitError::Truncated => ApiError::malformed(error.to_string()),
    }
}

fn is_json(object: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(object).is_ok()
}

async fn take(schemas: &Schemas, topic: &str, object: &[u8]) -> Result<Taken, ApiError> {
    let record: Record<'_> = serde_json::from_slice(object).map_err(|error| ApiError::malformed(error.to_string()))?;
    let timestamp_ms = match &record.timestamp {
        None => now_ms(),
        Some(text) => DateTime::parse_from_rfc3339(text)
            .map_err(|error| ApiError::malformed(format!("timestamp {text:?} is none of RFC 3339: {error}")))?
            .timestamp_millis(),
    };
    let headers = record.headers.unwrap_or_default().into_iter().map(|Header { name, value }| {
        let bytes = STANDARD.decode(value.unwrap_or_default());
        bytes
            .map(|bytes| (name.clone(), bytes))
            .map_err(|error| ApiError::malformed(format!("header {name:?} is not base64: {error}")))
    });
    let headers = headers.collect::<Result<Vec<_>, _>>()?;
    let (key, key_part) = data::bytes(schemas, topic, Side::Key, record.key).await?;
    let (value, value_part) = data::bytes(schemas, topic, Side::Value, record.value).await?;
    let record = Outgoing { partition: record.partition_id, timestamp_ms, key, value, headers };
    Ok(Taken { record, key: key_part, value: value_part })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(object: &[u8]) -> Result<Taken, ApiError> {
        take(&Schemas::none(), "topic", object).await
    }

    #[tokio::test]
    async fn a_record_is_taken_apart() {
        let object = br#"{"partition_id":1,"headers":[{"name":"Header-1","value":"SGVhZGVyLTE="},{"name":"empty"}],
            "key":{"type":"BINARY","data":"Zm9vYmFy"},"value":{"type":"JSON","data":{"a": 1.0}},
            "timestamp":"2021-02-05T19:14:42Z"}"#;
        let taken = of(object).await.unwrap();
        let expected = Outgoing {
            partition: Some(1),
            timestamp_ms: 1_612_552_482_000,
            key: Some(b"foobar".to_vec()),
            value: Some(br#"{"a": 1.0}"#.to_vec()),
            headers: vec![("Header-1".to_owned(), b"Header-1".to_vec()), ("empty".to_owned(), Vec::new())],
        };
        assert_eq!(taken.record, expected);
        assert_eq!(taken.key, Some(Part { kind: "BINARY", size: 6, schema: None }));
        assert_eq!(taken.value, Some(Part { kind: "JSON", size: 10, schema: None }));
    }

    #[tokio::test]
    async fn what_is_left_out_or_null_is_nothing() {
        for object in ["{}", r#"{"key":null,"value":{"data":null}}"#] {
            let taken = of(object.as_bytes()).await.unwrap();
            assert_eq!((taken.record.key, taken.record.value, taken.key, taken.value), (None, None, None, None));
        }
        let taken = of(br#"{"value":{"type":"STRING","data":"text"}}"#).await.unwrap();
        assert_eq!(taken.record.value.as_deref(), Some(&b"text"[..]));
    }

    #[tokio::test]
    async fn what_is_wrong_is_told() {
        for (object, code) in [
            (r#"{"value":{"type":"BINARY","data":"?"}}"#, 400),
            (r#"{"value":{"type":"XML","data":"?"}}"#, 400),
            (r#"{"value":{"type":"STRING","data":1}}"#, 400),
            (r#"{"vaule":{}}"#, 400),
            (r#"{"timestamp":"yesterday"}"#, 400),
            (r#"{"headers":[{"name":"a","value":"?"}]}"#, 400),
            (r#"{"value":{"type":"JSON","schema_id":1,"data":1}}"#, 400),
            (r#"{"value":{"schema":"\"int\"","data":1}}"#, 400),
            (r#"{"value":{"type":"AVRO","schema":"\"int\"","schema_id":1,"data":1}}"#, 400),
            (r#"{"value":{"subject":"s","subject_name_strategy":"TOPIC_NAME","data":1}}"#, 400),
            (r#"{"value":{"subject_name_strategy":"BY_NAME","data":1}}"#, 400),
            (r#"{"value":{"schema_version":0,"data":1}}"#, 400),
            (r#"{"value":{"schema_version":1,"subject_name_strategy":"RECORD_NAME","data":1}}"#, 400),
            (
                r#"{"value":{"type":"AVRO","schema":"\"no type\"","subject_name_strategy":"RECORD_NAME","data":1}}"#,
                42205,
            ),
            (r#"{"value":{"type":"AVRO","schema":"\"int\"","subject_name_strategy":"RECORD_NAME","data":1}}"#, 400),
            (r#"{"value":{"type":"AVRO","schema_id":1,"data":1}}"#, 42205),
            (r#"{"value":{"schema_version":1,"data":{"foo":"bar"}}}"#, 42205),
        ] {
            assert_eq!(of(object.as_bytes()).await.unwrap_err().code, code, "{object}");
        }
    }
}
