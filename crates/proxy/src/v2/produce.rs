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
use crate::formats::schemas::{Bound, Named, SchemaError, Schemas, registered_as};
use crate::formats::{FormatError, Way, decode};
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
    let mut body: Body<'_> = parse(&body.bytes)?;
    let bound = bind(&proxy.schemas, topic, format, &mut body).await.map_err(|error| schema(&error))?;
    let records = records(body, format, partition, &bound)?;
    let sent = send(&proxy.brokers, topic, &records, Missing::MayBeMade).await;
    let offsets: Vec<Value> = sent.map_err(|error| error.api(Api::V2))?.iter().map(entry).collect();
    let [key, value] = [&bound.key, &bound.value].map(|bound| bound.as_ref().map(|bound| bound.id));
    Ok(answer(media, &json!({"offsets": offsets, "key_schema_id": key, "value_schema_id": value})))
}

/// The schemas of the keys and of the values, in formats that take them.
#[derive(Debug, Default)]
struct Schemata {
    key: Option<Bound>,
    value: Option<Bound>,
}

/// Finds the schemas, or registers them under the topic's subjects. Takes their texts out of the body.
async fn bind(schemas: &Schemas, topic: &str, format: Format, body: &mut Body<'_>) -> Result<Schemata, SchemaError> {
    let mut bound = Schemata::default();
    let Some(format) = registered_as(format) else { return Ok(bound) };
    let named = |text: &mut Option<String>, id: Option<i32>| match (text.take(), id) {
        (Some(_), Some(_)) => Err(SchemaError::Both),
        (Some(text), None) => Ok(Some(Named::Text(format, text))),
        (None, id) => Ok(id.map(Named::Id)),
    };
    let key = named(&mut body.key_schema, body.key_schema_id)?;
    let value = named(&mut body.value_schema, body.value_schema_id)?;
    let records = body.records.as_deref().unwrap_or_default();
    // Nothing is registered before all is there that has to be.
    if key.is_none() && records.iter().any(|record| record.key.is_some()) {
        return Err(SchemaError::KeySchemaMissing);
    }
    if value.is_none() && records.iter().any(|record| record.value.is_some()) {
        return Err(SchemaError::ValueSchemaMissing);
    }
    if let Some(named) = key {
        bound.key = Some(schemas.bind(&format!("{topic}-key"), named).await?.of(format)?);
    }
    if let Some(named) = value {
        bound.value = Some(schemas.bind(&format!("{topic}-value"), named).await?.of(format)?);
    }
    Ok(bound)
}

fn records(
    body: Body<'_>,
    format: Format,
    partition: Option<i32>,
    bound: &Schemata,
) -> Result<Vec<Outgoing>, ApiError> {
    let records = body.records.unwrap_or_default();
    if records.is_empty() {
        return Err(ApiError::unprocessable(422, "records may not be empty"));
    }
    let plain = if format == Format::Json { Way::Json } else { Way::Binary };
    let [key_way, value_way] = [&bound.key, &bound.value].map(|bound| bound.as_ref().map_or(plain, Way::Schema));
    let timestamp_ms = now_ms();
    let record = |(at, record): (usize, Record<'_>)| {
        if partition.is_some() && record.partition.is_some() {
            let reason = format!("records[{at}].partition is not taken here: the path names the partition");
            return Err(ApiError::unprocessable(422, reason));
        }
        let bytes = |what: &str, way, data| decode(way, data).map_err(|error| wrong(at, what, &error));
        Ok(Outgoing {
            partition: partition.or(record.partition),
            timestamp_ms,
            key: bytes("key", key_way, record.key)?,
            value: bytes("value", value_way, record.value)?,
            headers: Vec::new(),
        })
    };
    records.into_iter().enumerate().map(record).collect()
}

fn wrong(at: usize, what: &str, error: &FormatError) -> ApiError {
    ApiError::unprocessable(42203, format!("records[{at}].{what}: {error}"))
}

fn schema(error: &SchemaError) -> ApiError {
    error.api(error.to_string())
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
        let schemas = Schemas::none();
        let parsed = parse(body.as_bytes()).and_then(|mut body| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let bound = runtime.block_on(bind(&schemas, "topic", format, &mut body)).map_err(|error| schema(&error))?;
            records(body, format, partition, &bound)
        });
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
        let no_schema = r#"{"value_schema":"{\"type\":1}","records":[{"value":1}]}"#;
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
            (Format::JsonSchema, None, no_schema, 422, 42205),
        ] {
            let refused = of(format, partition, body).unwrap_err();
            assert_eq!((refused.0, refused.1), (status, code), "{body}: {}", refused.2);
        }
        assert_eq!(of(Format::Json, None, r#"{"records":[]}"#).unwrap_err().2, "records may not be empty");
    }
}
