//! Content types: what a body is in, and what a caller wants to be answered in.
//!
//! `application/vnd.kafka[.embedded format][.v2]+json`. Where no embedded format is named, it is binary.

use axum::http::{HeaderMap, StatusCode, header};

use crate::error::ApiError;

pub(crate) const V2: &str = "application/vnd.kafka.v2+json";
const ANY_VERSION: &str = "application/vnd.kafka+json";
pub(crate) const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
/// What answers without records come in, the preferred one first.
const PLAIN: [&str; 3] = [V2, ANY_VERSION, JSON];

/// How keys and values stand in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Base64.
    Binary,
    Json,
    Avro,
    JsonSchema,
    Protobuf,
}

impl Format {
    pub(crate) const ALL: [Format; 5] =
        [Format::Binary, Format::Json, Format::Avro, Format::JsonSchema, Format::Protobuf];

    /// As content types and consumer settings name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Binary => "binary",
            Format::Json => "json",
            Format::Avro => "avro",
            Format::JsonSchema => "jsonschema",
            Format::Protobuf => "protobuf",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    pub(crate) fn needs_schema(self) -> bool {
        matches!(self, Format::Avro | Format::JsonSchema | Format::Protobuf)
    }

    pub(crate) fn media(self) -> &'static str {
        match self {
            Format::Binary => "application/vnd.kafka.binary.v2+json",
            Format::Json => "application/vnd.kafka.json.v2+json",
            Format::Avro => "application/vnd.kafka.avro.v2+json",
            Format::JsonSchema => "application/vnd.kafka.jsonschema.v2+json",
            Format::Protobuf => "application/vnd.kafka.protobuf.v2+json",
        }
    }

    /// The embedded format that a media type stands for; `None` where it is none of this API's.
    fn of(essence: &str) -> Option<Format> {
        if PLAIN.contains(&essence) || essence == BYTES {
            return Some(Format::Binary);
        }
        let middle = essence.strip_prefix("application/vnd.kafka.")?.strip_suffix("+json")?;
        Format::named(middle.strip_suffix(".v2").unwrap_or(middle))
    }
}

/// The embedded format of a request with a body.
///
/// A page of any site can make a browser send a request, but not one with such a content type; so it is not guessed.
pub(crate) fn of_body(headers: &HeaderMap) -> Result<Format, ApiError> {
    let refused = || ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE).closing();
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    Format::of(&essence(value)).ok_or_else(refused)
}

/// As [`of_body`], for version 3, which knows JSON only.
pub(crate) fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match value {
        Some(value) if essence(value) == JSON => Ok(()),
        _ => Err(ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE).closing()),
    }
}

/// Whether a caller takes the answers of version 3.
pub(crate) fn accepts_json(headers: &HeaderMap) -> bool {
    best(headers, &[JSON]).is_some()
}

/// The content type of an answer without records.
pub(crate) fn accepted(headers: &HeaderMap) -> Result<&'static str, ApiError> {
    best(headers, &PLAIN).ok_or_else(|| ApiError::plain(StatusCode::NOT_ACCEPTABLE))
}

/// The content type of records of a consumer in `format`.
pub(crate) fn accepted_records(headers: &HeaderMap, format: Format) -> Result<&'static str, ApiError> {
    let offered: &[&'static str] = match format {
        Format::Binary => &["application/vnd.kafka.binary.v2+json", V2, ANY_VERSION, JSON],
        Format::Json => &["application/vnd.kafka.json.v2+json"],
        Format::Avro => &["application/vnd.kafka.avro.v2+json"],
        Format::JsonSchema => &["application/vnd.kafka.jsonschema.v2+json"],
        Format::Protobuf => &["application/vnd.kafka.protobuf.v2+json"],
    };
    if let Some(media) = best(headers, offered) {
        return Ok(media);
    }
    if !ranges(headers).iter().any(|(range, _)| Format::of(range).is_some()) {
        return Err(ApiError::plain(StatusCode::NOT_ACCEPTABLE));
    }
    let message = format!(
        "The requested embedded format is not the one of this consumer, which is {}: accept {}.",
        format.name(),
        format.media()
    );
    Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, 40601, message))
}

/// Of what is offered, what the `Accept` header likes best; among equals the first.
fn best(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    let ranges = ranges(headers);
    if ranges.is_empty() {
        return offered.first().copied();
    }
    let weight = |media: &str| {
        // The most specific range that covers it decides (RFC 9110, 12.5.1).
        let specific = ranges.iter().filter_map(|(range, weight)| Some((covers(range, media)?, *weight)));
        specific.max_by_key(|(specific, _)| *specific).map_or(0, |(_, weight)| weight)
    };
    let liked = offered.iter().rev().map(|media| (weight(media), *media)).filter(|(weight, _)| *weight > 0);
    liked.max_by_key(|(weight, _)| *weight).map(|(_, media)| media)
}

/// How specific a media range is for a media type it covers.
fn covers(range: &str, media: &str) -> Option<u8> {
    match range {
        _ if range == media => Some(2),
        "application/*" => Some(1),
        "*/*" => Some(0),
        _ => None,
    }
}

/// The media ranges of the `Accept` headers, with their weights in thousandths.
fn ranges(headers: &HeaderMap) -> Vec<(String, u16)> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()).map(range).collect()
}

fn range(text: &str) -> (String, u16) {
    let parameters = text.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let weight = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q")).map(|(_, value)| value.trim());
    let weight = weight.filter_map(|value| value.parse::<f32>().ok()).next().unwrap_or(1.0);
    (essence(text), (weight.clamp(0.0, 1.0) * 1000.0) as u16)
}

fn essence(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_body_is_in_the_format_its_type_names() {
        let of = |value: &str| of_body(&headers(header::CONTENT_TYPE, value));
        for format in Format::ALL {
            assert_eq!(of(format.media()), Ok(format));
            assert_eq!(of(&format!("application/vnd.kafka.{}+json", format.name())), Ok(format));
        }
        for plain in [V2, ANY_VERSION, JSON, BYTES, "Application/JSON; charset=utf-8"] {
            assert_eq!(of(plain), Ok(Format::Binary), "{plain}");
        }
        for other in ["text/plain", "application/vnd.kafka.xml.v2+json", "application/vnd.kafka.json.v1+json", ""] {
            assert_eq!(of(other).map_err(|error| error.code), Err(415), "{other}");
        }
        assert_eq!(of_body(&HeaderMap::new()).map_err(|error| error.code), Err(415));
    }

    #[test]
    fn an_answer_comes_in_what_is_liked_best() {
        let of = |value: &str| accepted(&headers(header::ACCEPT, value)).map_err(|error| error.code);
        assert_eq!(accepted(&HeaderMap::new()), Ok(V2));
        for (value, media) in [
            ("*/*", V2),
            ("application/*", V2),
            ("application/vnd.kafka.v2+json, application/vnd.kafka+json, application/json", V2),
            ("application/vnd.kafka.v2+json; q=0.5, application/json; q=0.9", JSON),
            ("text/html, application/json;q=0.1", JSON),
            ("application/json;q=0, */*;q=0.3", V2),
        ] {
            assert_eq!(of(value), Ok(media), "{value}");
        }
        for value in ["text/html", "application/vnd.kafka.v1+json", "application/json;q=0"] {
            assert_eq!(of(value), Err(406), "{value}");
        }
    }

    #[test]
    fn records_come_in_the_consumers_format_only() {
        let of = |value: &str, format| accepted_records(&headers(header::ACCEPT, value), format).map_err(|e| e.code);
        for format in Format::ALL {
            assert_eq!(of("*/*", format), Ok(format.media()));
            assert_eq!(of(format.media(), format), Ok(format.media()));
            assert_eq!(of("text/html", format), Err(406));
        }
        assert_eq!(of("application/json", Format::Binary), Ok(JSON));
        assert_eq!(of("application/json", Format::Json), Err(40601));
        assert_eq!(of(Format::Binary.media(), Format::Json), Err(40601));
        assert_eq!(of(Format::Json.media(), Format::Binary), Err(40601));
    }

    proptest::proptest! {
        #[test]
        fn no_header_breaks_it(value in "[ -~]{0,60}") {
            let _ = accepted(&headers(header::ACCEPT, &value));
            let _ = of_body(&headers(header::CONTENT_TYPE, &value));
        }
    }
}
