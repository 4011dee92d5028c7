//! Keys and values between JSON and the bytes of records.
//!
//! JSON goes through byte for byte: numbers keep their digits, objects the order of their members.

pub(crate) mod schemas;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::media::Format;

/// Why a key or value cannot be taken or shown as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("binary data has to be a JSON string in base64: {0}")]
    Base64(String),
    #[error("it is not JSON ({0}): read it with a consumer in the format binary")]
    NotJson(String),
    #[error(transparent)]
    Schema(#[from] schemas::SchemaError),
}

/// The bytes of a key or value as a caller sent it; none for null.
pub(crate) fn decode(format: Format, data: Option<&RawValue>) -> Result<Option<Vec<u8>>, FormatError> {
    let Some(data) = data.filter(|data| data.get() != "null") else { return Ok(None) };
    match format {
        Format::Json => Ok(Some(data.get().as_bytes().to_vec())),
        Format::Binary => {
            let wrong = |error: String| FormatError::Base64(error);
            let text: String = serde_json::from_str(data.get()).map_err(|error| wrong(error.to_string()))?;
            STANDARD.decode(text.as_bytes()).map(Some).map_err(|error| wrong(error.to_string()))
        }
        Format::Avro | Format::JsonSchema | Format::Protobuf => Ok(Some(schemas::decode(format, data)?)),
    }
}

/// A key or value as it is shown.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Shown<'a> {
    Text(String),
    Json(&'a RawValue),
}

pub(crate) fn encode_value(format: Format, bytes: Option<&[u8]>) -> Result<Option<Shown<'_>>, FormatError> {
    let Some(bytes) = bytes else { return Ok(None) };
    match format {
        Format::Binary => Ok(Some(Shown::Text(STANDARD.encode(bytes)))),
        Format::Json => {
            let json = serde_json::from_slice(bytes).map_err(|error| FormatError::NotJson(error.to_string()))?;
            Ok(Some(Shown::Json(json)))
        }
        Format::Avro | Format::JsonSchema | Format::Protobuf => Ok(Some(schemas::encode(format, bytes)?)),
    }
}

/// As [`encode_value`], but a key that is plain text, as ingest doors write it, is shown as a JSON string.
pub(crate) fn encode_key(format: Format, bytes: Option<&[u8]>) -> Result<Option<Shown<'_>>, FormatError> {
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    match (encode_value(format, bytes), text) {
        (Err(FormatError::NotJson(_)), Some(text)) => Ok(Some(Shown::Text(text.to_owned()))),
        (shown, _) => shown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn shown(shown: Option<Shown<'_>>) -> String {
        serde_json::to_string(&shown).unwrap()
    }

    #[test]
    fn json_goes_through_byte_for_byte() {
        for text in [r#"{"b":1,"a":1.50,"b":[ ]}"#, "12345678901234567890.0", r#""\ud800""#, "true"] {
            let bytes = decode(Format::Json, Some(&raw(text))).unwrap().unwrap();
            assert_eq!(bytes, text.as_bytes());
            assert_eq!(shown(encode_value(Format::Json, Some(&bytes)).unwrap()), text);
        }
    }

    #[test]
    fn null_is_no_value_in_any_format() {
        for format in Format::ALL {
            assert_eq!(decode(format, Some(&raw("null"))).unwrap(), None);
            assert_eq!(decode(format, None).unwrap(), None);
            assert_eq!(shown(encode_value(format, None).unwrap()), "null");
        }
    }

    #[test]
    fn what_is_not_base64_is_told() {
        for text in ["1", r#""a""#, r#""a2V5 ""#, "{}", r#""\ud800""#] {
            assert!(matches!(decode(Format::Binary, Some(&raw(text))), Err(FormatError::Base64(_))), "{text}");
        }
        assert_eq!(decode(Format::Binary, Some(&raw(r#""a2V\u0035""#))).unwrap().unwrap(), b"key");
    }

    #[test]
    fn a_key_of_plain_text_is_a_string_and_a_value_is_not() {
        assert_eq!(shown(encode_key(Format::Json, Some(b"user123")).unwrap()), r#""user123""#);
        assert_eq!(shown(encode_key(Format::Json, Some(b"123")).unwrap()), "123");
        assert!(matches!(encode_value(Format::Json, Some(b"user123")), Err(FormatError::NotJson(_))));
        assert!(matches!(encode_key(Format::Json, Some(b"\xff")), Err(FormatError::NotJson(_))));
    }

    proptest! {
        #[test]
        fn binary_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let text = shown(encode_value(Format::Binary, Some(&bytes)).unwrap());
            prop_assert_eq!(decode(Format::Binary, Some(&raw(&text))).unwrap(), Some(bytes));
        }
    }
}
