//! Keys and values between JSON and the bytes of records.
//!
//! JSON goes through byte for byte: numbers keep their digits, objects the order of their members. Formats with schemas are those of
//! `schemas`.

pub(crate) mod schemas;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::media::Format;
use schemas::{Bound, SchemaError, Schemas, registered_as};

/// Why a key or value cannot be taken or shown as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("binary data has to be a JSON string in base64: {0}")]
    Base64(String),
    #[error("it is not JSON ({0}): read it with a consumer in the format binary")]
    NotJson(String),
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// How a key or value becomes bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'a> {
    Binary,
    Json,
    Schema(&'a Bound),
}

/// The bytes of a key or value as a caller sent it; none for null.
pub(crate) fn decode(way: Way<'_>, data: Option<&RawValue>) -> Result<Option<Vec<u8>>, FormatError> {
    let Some(data) = data.filter(|data| data.get() != "null") else { return Ok(None) };
    match way {
        Way::Json => Ok(Some(data.get().as_bytes().to_vec())),
        Way::Binary => {
            let wrong = |error: String| FormatError::Base64(error);
            let text: String = serde_json::from_str(data.get()).map_err(|error| wrong(error.to_string()))?;
            STANDARD.decode(text.as_bytes()).map(Some).map_err(|error| wrong(error.to_string()))
        }
        Way::Schema(bound) => Ok(Some(bound.encode(data)?)),
    }
}

/// A key or value as it is shown.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Shown<'a> {
    Text(String),
    Json(&'a RawValue),
    Made(Box<RawValue>),
}

impl Shown<'_> {
    /// What it takes that the record itself does not.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Shown::Text(text) => text.len(),
            Shown::Json(_) => 0,
            Shown::Made(json) => json.get().len(),
        }
    }
}

/// What it takes to show keys and values.
pub(crate) struct Showing<'a> {
    pub format: Format,
    pub schemas: &'a Schemas,
    /// For what is made of a schema's data.
    pub bytes_max: usize,
}

impl Showing<'_> {
    /// `header` is the record's that names the schema of the value.
    pub(crate) fn value<'b>(
        &self,
        bytes: Option<&'b [u8]>,
        header: Option<&[u8]>,
    ) -> Result<Option<Shown<'b>>, FormatError> {
        let Some(bytes) = bytes else { return Ok(None) };
        match (registered_as(self.format), self.format) {
            (Some(format), _) => Ok(Some(Shown::Made(self.schemas.to_json(format, bytes, header, self.bytes_max)?))),
            (None, Format::Binary) => Ok(Some(Shown::Text(STANDARD.encode(bytes)))),
            (None, _) => {
                let json = serde_json::from_slice(bytes).map_err(|error| FormatError::NotJson(error.to_string()))?;
                Ok(Some(Shown::Json(json)))
            }
        }
    }

    /// The same of a key. One that is plain text, as ingest doors write it, is shown as a JSON string.
    pub(crate) fn key<'b>(
        &self,
        bytes: Option<&'b [u8]>,
        header: Option<&[u8]>,
    ) -> Result<Option<Shown<'b>>, FormatError> {
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        match (self.value(bytes, header), text) {
            (Err(FormatError::NotJson(_) | FormatError::Schema(SchemaError::Unnamed)), Some(text)) => {
                Ok(Some(Shown::Text(text.to_owned())))
            }
            (shown, _) => shown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn shown(shown: Result<Option<Shown<'_>>, FormatError>) -> Result<String, FormatError> {
        shown.map(|shown| serde_json::to_string(&shown).unwrap())
    }

    fn showing(format: Format) -> Showing<'static> {
        static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::none);
        Showing { format, schemas: &SCHEMAS, bytes_max: 1 << 20 }
    }

    fn value(format: Format, bytes: &[u8]) -> Result<String, FormatError> {
        shown(showing(format).value(Some(bytes), None))
    }

    #[test]
    fn json_goes_through_byte_for_byte() {
        for text in [r#"{"b":1,"a":1.50,"b":[ ]}"#, "12345678901234567890.0", r#""\ud800""#, "true"] {
            let bytes = decode(Way::Json, Some(&raw(text))).unwrap().unwrap();
            assert_eq!(bytes, text.as_bytes());
            assert_eq!(value(Format::Json, &bytes).unwrap(), text);
        }
    }

    #[test]
    fn null_is_no_value_in_any_format() {
        for way in [Way::Binary, Way::Json] {
            assert_eq!(decode(way, Some(&raw("null"))).unwrap(), None);
            assert_eq!(decode(way, None).unwrap(), None);
        }
        for format in Format::ALL {
            assert_eq!(shown(showing(format).value(None, None)).unwrap(), "null");
        }
    }

    #[test]
    fn what_is_not_base64_is_told() {
        for text in ["1", r#""a""#, r#""a2V5 ""#, "{}", r#""\ud800""#] {
            assert!(matches!(decode(Way::Binary, Some(&raw(text))), Err(FormatError::Base64(_))), "{text}");
        }
        assert_eq!(decode(Way::Binary, Some(&raw(r#""a2V\u0035""#))).unwrap().unwrap(), b"key");
    }

    #[test]
    fn a_key_of_plain_text_is_a_string_and_a_value_is_not() {
        let key = |bytes: &[u8]| shown(showing(Format::Json).key(Some(bytes), None));
        assert_eq!(key(b"user123").unwrap(), r#""user123""#);
        assert_eq!(key(b"123").unwrap(), "123");
        assert!(matches!(value(Format::Json, b"user123"), Err(FormatError::NotJson(_))));
        assert!(matches!(key(b"\xff"), Err(FormatError::NotJson(_))));
        assert_eq!(shown(showing(Format::Avro).key(Some(b"user123"), None)).unwrap(), r#""user123""#);
        assert_eq!(value(Format::Avro, b"user123"), Err(FormatError::Schema(SchemaError::Unnamed)));
    }

    proptest! {
        #[test]
        fn binary_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let text = value(Format::Binary, &bytes).unwrap();
            prop_assert_eq!(decode(Way::Binary, Some(&raw(&text))).unwrap(), Some(bytes));
        }
    }
}
