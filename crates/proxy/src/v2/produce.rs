//! `POST /topics/{topic}` and `POST /topics/{topic}/partitions/{partition}`.
//!
//! The answer has an entry for each record, in their order: where it went, or `error_code` 1 (trying again is of no use)
//! or 2 (it may help) with the reason.

use axum::extract::{Path, Request};
use axum::response::Response;
use playhouse_client::Error;
use playhouse_client::produce::{Outgoing, Placed};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::topics::index;
use crate::caller::Served;
use crate::error::{Api, ApiError};
use crate::formats::schemas::{self, SchemaError};
use crate::formats::{FormatError, decode};
use crate::media::Format;
use crate::produce::{Missing, send};
use crate::request::{json as answer, now_ms, parse, whole};
use crate::{Proxy, media};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow, default)]
    records: Option<Vec<Record<'a>>>,
    #[serde(default)]
    key_schema: Option<String>,
    #[serde(default)]
    key_schema_id: Option<i32>,
    #[serde(default)]
    value_schema: Option<String>,
    #[serde(default)]
    value_schema_id: Option<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    partition: Option<i32>,
}

pub(super) async fn to_topic(
    Served(proxy): Served,
    Path(topic): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    produce(&proxy, &topic, None, request).await
}

pub(super) async fn to_partition(
    Served(proxy): Served,
    Path((topic, partition)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let partition = index(&partition)?;
    produce(&proxy, &topic, Some(partition), request).await
}

async fn produce(proxy: &Proxy, topic: &str, partition: Option<i32>, request: Request) -> Result<Response, ApiError> {
    let media = media::accepted(request.headers()).map_err(ApiError::closing)?;
    let format = media::of_body(request.headers())?;
    let (_, body) = whole(proxy, request).await?;
    let records = records(parse(&body.bytes)?, format, partition)?;
    let sent = send(&proxy.brokers, topic, &records, Missing::MayBeMade).await;
    let offsets: Vec<Value> = sent.map_err(|error| error.api(Api::V2))?.iter().map(entry).collect();
    Ok(answer(media, &json!({"offsets": offsets, "key_schema_id": null, "value_schema_id": null})))
}

fn records(body: Body<'_>, format: Format, partition: Option<i32>) -> Result<Vec<Outgoing>, ApiError> {
    let records = body.records.unwrap_or_default();
    if records.is_empty() {
        return Err(ApiError::unprocessable(422, "records may not be empty"));
    }
    let named = schemas::Named {
        key: body.key_schema.is_some() || body.key_schema_id.is_some(),
        value: body.value_schema.is_some() || body.value_schema_id.is_some(),
    };
    let has_keys = records.iter().any(|record| record.key.is_some());
    let has_values = records.iter().any(|record| record.value.is_some());
    schemas::check(format, named, has_keys, has_values).map_err(|error| schema(&error))?;
    let timestamp_ms = now_ms();
    let record = |(at, record): (usize, Record<'_>)| {
        if partition.is_some() && record.partition.is_some() {
            let reason = format!("records[{at}].partition is not taken here: the path names the partition");
            return Err(ApiError::unprocessable(422, reason));
        }
        let bytes = |what: &str, data| decode(format, data).map_err(|error| wrong(at, what, &error));
        Ok(Outgoing {
            partition: partition.or(record.partition),
            timestamp_ms,
            key: bytes("key", record.key)?,
            value: bytes("value", record.value)?,
            headers: Vec::new(),
        })
    };
    records.into_iter().enumerate().map(record).collect()
}

fn wrong(at: usize, what: &str, error: &FormatError) -> ApiError {
    match error {
        FormatError::Schema(error) => schema(error),
        _ => ApiError::unprocessable(42203, format!("records[{at}].{what}: {error}")),
    }
}

fn schema(error: &SchemaError) -> ApiError {
    ApiError::unprocessable(error.code(), error.to_string())
}

fn entry(outcome: &Result<Placed, Error>) -> Value {
    match outcome {
        // -1 is what Kafka's clients say where a record is known to be there, but not its place.
        Ok(Placed { partition, offset }) => {
            json!({"partition": partition, "offset": offset.unwrap_or(-1), "error_code": null, "error": null})
        }
        Err(error) => {
            let code = if error.may_pass() { 2 } else { 1 };
            json!({"partition": null, "offset": null, "error_code": code, "error": error.to_string()})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(format: Format, partition: Option<i32>, body: &str) -> Result<Vec<Outgoing>, (u16, u32, String)> {
        let parsed = parse(body.as_bytes()).and_then(|body| records(body, format, partition));
        parsed.map_err(|error| (error.status.as_u16(), error.code, error.message))
    }

    #[test]
    fn records_are_taken_apart() {
        let body =
            r#"{"records":[{"key":"a2V5","value":"dg=="},{"value":null,"partition":1},{"key":null,"value":""}]}"#;
        let taken = of(Format::Binary, None, body).unwrap();
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let seen: Vec<_> = taken.iter().map(|it| (text(&it.key), text(&it.value), it.partition)).collect();
        let some = |text: &str| Some(text.to_owned());
        let expected = [(some("key"), some("v"), None), (None, None, Some(1)), (None, some(""), None)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_the_specifications_codes() {
        let schema_named = r#"{"value_schema":"{}","records":[{"value":1}]}"#;
        for (format, partition, body, status, code) in [
            (Format::Json, None, r#"{"records":[]}"#, 422, 422),
            (Format::Json, None, "{}", 422, 422),
            (Format::Json, None, r#"{"records":[{"valeu":1}]}"#, 422, 422),
            (Format::Json, None, r#"{"records":[{"value":1}"#, 400, 400),
            (Format::Json, None, "", 400, 400),
            (Format::Json, None, "[]", 422, 422),
            (Format::Json, Some(1), r#"{"records":[{"value":1,"partition":2}]}"#, 422, 422),
            (Format::Binary, None, r#"{"records":[{"value":{}}]}"#, 422, 42203),
            (Format::Avro, None, r#"{"records":[{"key":1,"value":1}]}"#, 422, 42201),
            (Format::Protobuf, None, r#"{"records":[{"value":1}]}"#, 422, 42202),
            (Format::JsonSchema, None, schema_named, 422, 42205),
        ] {
            let refused = of(format, partition, body).unwrap_err();
            assert_eq!((refused.0, refused.1), (status, code), "{body}: {}", refused.2);
        }
        assert_eq!(of(Format::Json, None, r#"{"records":[]}"#).unwrap_err().2, "records may not be empty");
    }
}
