//! What a consumer instance is made with. Numbers and switches may be text, as the specification's own examples have
//! them.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::media::Format;

const TIMEOUT: Duration = Duration::from_secs(5);
/// However long a caller wants to wait for records.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(60);
const NAME_BYTES_MAX: usize = 250;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub name: Option<String>,
    pub format: Format,
    pub reset: Reset,
    pub commits_by_itself: bool,
    /// A read waits for so many bytes, until its time is over.
    pub fetch_bytes_min: usize,
    /// How long a read waits, unless it says itself.
    pub timeout: Duration,
}

/// Where to read where nothing was committed, or where that is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    Earliest,
    Latest,
    /// It is an error.
    None,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    name: Option<String>,
    format: Option<String>,
    #[serde(rename = "auto.offset.reset")]
    reset: Option<String>,
    #[serde(rename = "auto.commit.enable", alias = "enable.auto.commit")]
    commit: Option<Value>,
    #[serde(rename = "fetch.min.bytes")]
    fetch_bytes_min: Option<Value>,
    #[serde(rename = "consumer.request.timeout.ms")]
    timeout_ms: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid consumer configuration: {setting} {reason}")]
pub(crate) struct SettingsError {
    setting: &'static str,
    reason: String,
}

impl TryFrom<Body> for Settings {
    type Error = SettingsError;

    fn try_from(body: Body) -> Result<Settings, SettingsError> {
        let wrong = |setting, reason: &str| SettingsError { setting, reason: reason.to_owned() };
        let name = body.name.filter(|name| !name.is_empty());
        if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            return Err(wrong("name", "is too long"));
        }
        let format = match body.format.as_deref() {
            None => Format::Binary,
            Some(name) => Format::named(name)
                .ok_or_else(|| wrong("format", "is none of binary, json, avro, jsonschema, protobuf"))?,
        };
        let reset = match body.reset.as_deref() {
            None | Some("latest" | "largest") => Reset::Latest,
            Some("earliest" | "smallest") => Reset::Earliest,
            Some("none") => Reset::None,
            Some(_) => return Err(wrong("auto.offset.reset", "is none of earliest, latest, none")),
        };
        let commits_by_itself = match body.commit {
            None | Some(Value::Null) => true,
            Some(Value::Bool(commits)) => commits,
            Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => return Err(wrong("auto.commit.enable", "is neither true nor false")),
        };
        let number = |setting, value: Option<Value>, least: i64| match value {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
                let number = number.filter(|number| *number >= least).and_then(|number| u64::try_from(number).ok());
                number.map(Some).ok_or_else(|| wrong(setting, &format!("is not a number from {least} on")))
            }
        };
        // -1 stands for the default.
        let unset = |value: &Value| value.as_i64() == Some(-1) || value.as_str() == Some("-1");
        let fetch_bytes_min = number("fetch.min.bytes", body.fetch_bytes_min.filter(|it| !unset(it)), 0)?;
        let timeout_ms = number("consumer.request.timeout.ms", body.timeout_ms.filter(|it| !unset(it)), 1)?;
        Ok(Settings {
            name,
            format,
            reset,
            commits_by_itself,
            fetch_bytes_min: usize::try_from(fetch_bytes_min.unwrap_or(1)).unwrap_or(usize::MAX),
            timeout: timeout_ms.map_or(TIMEOUT, Duration::from_millis).min(TIMEOUT_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Result<Settings, String> {
        let body: Body = serde_json::from_str(body).map_err(|error| error.to_string())?;
        Settings::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let settings = of("{}").unwrap();
        assert_eq!((settings.format, settings.reset), (Format::Binary, Reset::Latest));
        assert!(settings.commits_by_itself && settings.name.is_none());
    }

    #[test]
    fn numbers_and_switches_may_be_text() {
        let settings =
            of(r#"{"name":"my_consumer","format":"json","auto.offset.reset":"earliest","auto.commit.enable":"false",
            "fetch.min.bytes":"512","consumer.request.timeout.ms":30000}"#)
            .unwrap();
        assert_eq!((settings.fetch_bytes_min, settings.timeout), (512, Duration::from_secs(30)));
        assert!(!settings.commits_by_itself);
        assert_eq!(of(r#"{"fetch.min.bytes":-1,"auto.commit.enable":null}"#).unwrap(), of("{}").unwrap());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, setting) in [
            (r#"{"format":"xml"}"#, "format"),
            (r#"{"auto.offset.reset":"first"}"#, "auto.offset.reset"),
            (r#"{"auto.commit.enable":"yes"}"#, "auto.commit.enable"),
            (r#"{"fetch.min.bytes":-10}"#, "fetch.min.bytes"),
            (r#"{"consumer.request.timeout.ms":"soon"}"#, "consumer.request.timeout.ms"),
            (r#"{"max.poll.records":1}"#, "max.poll.records"),
        ] {
            let error = of(body).unwrap_err();
            assert!(error.contains(setting), "{error}");
        }
    }
}
