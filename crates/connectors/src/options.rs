//! The options a connector takes in `WITH (…)`, for the engine's validation, and how their values are read.

use std::time::Duration;

use playhouse_engine::sink::{CommitPolicy, SinkError, Target};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionSpec {
    pub name: &'static str,
    pub required: bool,
    pub about: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectorOptions {
    /// Value of `connector = '…'`.
    pub connector: &'static str,
    pub options: &'static [OptionSpec],
}

const fn optional(name: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec { name, required: false, about }
}

const fn required(name: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec { name, required: true, about }
}

const INTERVAL: OptionSpec =
    optional("commit_interval", "longest time from the first staged row to its commit, '60 seconds'");
const BYTES: OptionSpec = optional("commit_bytes", "bytes of rows that trigger a commit, '128 MB'");
const PRIMARY_KEY: OptionSpec =
    optional("primary_key", "columns of the key, separated by commas; a newer row replaces an older");
const TABLE: OptionSpec = optional("table", "name at the store; default: the name of the SQL table");

/// Every connector with every option it takes besides `connector`.
pub fn known_options() -> &'static [ConnectorOptions] {
    KNOWN
}

const KNOWN: &[ConnectorOptions] = &[
    ConnectorOptions {
        connector: "tables",
        options: &[
            TABLE,
            PRIMARY_KEY,
            optional("index", "columns that get an index each, separated by commas"),
            optional("json", "text columns that hold JSON: jsonb in PostgreSQL, separated by commas"),
            INTERVAL,
            BYTES,
        ],
    },
    ConnectorOptions {
        connector: "cache",
        options: &[
            required("key", "template of the key, columns in braces: 'event:{id}'"),
            optional("ttl", "how long a value lives, '1 hour'; default: until evicted"),
            optional("json", "text columns embedded as JSON, separated by commas; default: metadata"),
            PRIMARY_KEY,
            INTERVAL,
            BYTES,
        ],
    },
    ConnectorOptions { connector: "lake", options: &[TABLE, INTERVAL, BYTES] },
];

pub(crate) fn commit_policy(target: &Target, default: CommitPolicy) -> Result<CommitPolicy, SinkError> {
    Ok(CommitPolicy {
        interval: duration(target, "commit_interval")?.unwrap_or(default.interval),
        bytes: bytes(target, "commit_bytes")?.unwrap_or(default.bytes),
    })
}

pub(crate) fn duration(target: &Target, option: &str) -> Result<Option<Duration>, SinkError> {
    let Some(value) = target.options.get(option) else { return Ok(None) };
    parse_duration(value).map(Some).ok_or_else(|| {
        SinkError::Fatal(format!(
            "{}: option {option} = '{value}' is not a duration such as '60 seconds' or '500 ms'",
            target.name
        ))
    })
}

fn bytes(target: &Target, option: &str) -> Result<Option<usize>, SinkError> {
    let Some(value) = target.options.get(option) else { return Ok(None) };
    parse_bytes(value).map(Some).ok_or_else(|| {
        SinkError::Fatal(format!(
            "{}: option {option} = '{value}' is not a size such as '128 MB' or '65536'",
            target.name
        ))
    })
}

/// Columns named by an option, each checked against the schema.
pub(crate) fn columns(target: &Target, option: &str) -> Result<Option<Vec<String>>, SinkError> {
    let Some(value) = target.options.get(option) else { return Ok(None) };
    let names: Vec<String> =
        value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    for name in &names {
        if target.schema.index_of(name).is_err() {
            return Err(SinkError::Fatal(format!(
                "{}: option {option} names column \"{name}\", which the rows do not have",
                target.name
            )));
        }
    }
    Ok(Some(names))
}

fn number_and_unit(value: &str) -> Option<(u64, String)> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    Some((value[..digits].parse().ok()?, value[digits..].trim().to_ascii_lowercase()))
}

fn parse_duration(value: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(value)?;
    let millis = match unit.as_str() {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).filter(|millis| *millis > 0).map(Duration::from_millis)
}

fn parse_bytes(value: &str) -> Option<usize> {
    let (number, unit) = number_and_unit(value)?;
    let factor = match unit.as_str() {
        "" | "b" => 1,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor).filter(|bytes| *bytes > 0).and_then(|bytes| usize::try_from(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_duration("60 seconds"), Some(Duration::from_secs(60)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration(" 1 Hour "), Some(Duration::from_secs(3600)));
        assert_eq!(parse_bytes("128 MB"), Some(128 << 20));
        assert_eq!(parse_bytes("65536"), Some(65536));
        for wrong in
            ["", "fast", "0 s", "10", "-1 s", "10 fortnights", "99999999999999999999 s", "18446744073709551615 d"]
        {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        for wrong in ["", "0", "big", "-1", "18446744073709551615 GB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}
