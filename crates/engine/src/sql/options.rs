//! What a pipeline is compiled with, and the reading of `WITH (…)` options.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use datafusion::sql::sqlparser::ast;

use super::error::{At, SqlError};

/// What the surroundings give to a pipeline's text.
#[derive(Debug, Clone, Default)]
pub struct CompileOptions {
    /// The pipeline's name, in messages and sink scopes.
    pub name: String,
    /// Values for `${name}` inside quoted strings.
    pub variables: BTreeMap<String, String>,
    pub functions: Functions,
    /// Contents of `path = 'builtin:<name>'`; any other path is read from disk.
    pub builtin: BTreeMap<String, Bytes>,
    /// Where relative paths start; the working directory by default.
    pub directory: PathBuf,
    /// The connectors that exist, for checking `WITH` options.
    pub connectors: Vec<ConnectorOptions>,
}

/// Data behind the SQL functions. Without it the function is unknown to the pipeline.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    /// A country database in MaxMind's format, for `geoip_country`.
    pub geoip: Option<Bytes>,
    /// The `regexes.yaml` of uap-core, for `ua_device`, `ua_os` and `ua_browser`.
    pub user_agents: Option<Bytes>,
}

/// The options that one sink connector understands in `WITH (connector = '<name>', …)`.
#[derive(Debug, Clone, Default)]
pub struct ConnectorOptions {
    pub name: &'static str,
    pub options: &'static [&'static str],
    /// Options that must be given; a subset of `options`.
    pub required: &'static [&'static str],
    /// Options whose value lists columns, which must exist in the rows (`primary_key = 'a, b'`).
    pub columns: &'static [&'static str],
    /// Options whose value names columns in braces, which must exist in the rows (`key = 'event:{id}'`).
    pub templates: &'static [&'static str],
    /// Options that hold a duration (`ttl = '1 hour'`).
    pub durations: &'static [&'static str],
}

/// The options of one `WITH (…)` clause, all known.
#[derive(Debug, Clone)]
pub(super) struct Options {
    values: BTreeMap<String, (String, At)>,
    at: At,
}

impl Options {
    /// Checks every key against `known`, names the nearest otherwise.
    pub fn read(clause: &ast::CreateTableOptions, known: &[&str], at: &At) -> Result<Options, SqlError> {
        let mut values = BTreeMap::new();
        for (key, value, at) in entries(clause, at)? {
            if !known.contains(&key.as_str()) {
                return Err(at.error(unknown("option", &key, known)));
            }
            if values.insert(key.clone(), (value, at.clone())).is_some() {
                return Err(at.error(format!("option '{key}' is given twice")));
            }
        }
        Ok(Options { values, at: at.clone() })
    }

    pub fn get(&self, key: &str) -> Option<(&str, &At)> {
        self.values.get(key).map(|(value, at)| (value.as_str(), at))
    }

    pub fn required(&self, key: &str) -> Result<(&str, &At), SqlError> {
        self.get(key).ok_or_else(|| self.at.error(format!("option '{key}' is missing: add {key} = '…' to WITH (…)")))
    }

    pub fn duration(&self, key: &str) -> Result<Option<Duration>, SqlError> {
        self.get(key).map(|(value, at)| duration(value).map_err(|message| at.error(message))).transpose()
    }

    pub fn into_values(self) -> BTreeMap<String, String> {
        self.values.into_iter().map(|(key, (value, _))| (key, value)).collect()
    }
}

/// The `connector` of a `CREATE TABLE`, looked at before its other options can be judged.
pub(super) fn connector(clause: &ast::CreateTableOptions, at: &At) -> Result<(String, At), SqlError> {
    entries(clause, at)?.into_iter().find(|(key, ..)| key == "connector").map(|(_, value, at)| (value, at)).ok_or_else(
        || at.error("every table of a pipeline lives somewhere: add WITH (connector = '…'), such as 'log' for a topic"),
    )
}

fn entries(clause: &ast::CreateTableOptions, at: &At) -> Result<Vec<(String, String, At)>, SqlError> {
    let given = match clause {
        ast::CreateTableOptions::None => return Ok(Vec::new()),
        ast::CreateTableOptions::With(given) => given,
        other => return Err(at.error(format!("options are written WITH (name = 'value'), not {other}"))),
    };
    given
        .iter()
        .map(|option| match option {
            ast::SqlOption::KeyValue { key, value } => {
                let at = at.moved(key.span);
                let text = match value {
                    ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::SingleQuotedString(text), .. }) => text,
                    _ => return Err(at.error(format!("the value of option '{key}' must be a quoted string"))),
                };
                Ok((super::identifier(key), text.clone(), at))
            }
            other => Err(at.error(format!("options are written name = 'value', not {other}"))),
        })
        .collect()
}

/// `10 seconds`, `1 hour`, `7 days`, `500 ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    let split = trimmed.find(|char: char| !char.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let micros = number.parse::<u64>().ok().zip(unit_us(unit.trim()));
    match micros.and_then(|(number, unit)| number.checked_mul(unit)).filter(|micros| i64::try_from(*micros).is_ok()) {
        Some(micros) => Ok(Duration::from_micros(micros)),
        None => Err(format!("'{text}' is no duration: write a number and a unit, such as '10 seconds' or '7 days'")),
    }
}

/// Microseconds in a unit of fixed length.
pub(super) fn unit_us(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    Some(match unit.strip_suffix('s').filter(|unit| unit.len() > 1 && *unit != "m").unwrap_or(&unit) {
        "us" | "microsecond" => 1,
        "ms" | "millisecond" => 1_000,
        "s" | "sec" | "second" => 1_000_000,
        "m" | "min" | "minute" => 60_000_000,
        "h" | "hour" => 3_600_000_000,
        "d" | "day" => 86_400_000_000,
        "w" | "week" => 604_800_000_000,
        _ => return None,
    })
}

/// `unknown option 'tpic': did you mean 'topic'? (known: …)`
pub(super) fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|candidate| distance(given, candidate));
    let hint = match nearest {
        Some(candidate) if distance(given, candidate) <= given.len().max(candidate.len()) / 2 => {
            format!(": did you mean '{candidate}'?")
        }
        _ => String::new(),
    };
    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    format!("unknown {what} '{given}'{hint} (known: {known})")
}

/// Levenshtein's edit distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in right.iter().enumerate() {
            let cost = (diagonal + usize::from(from != *to)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("10 seconds", 10_000), ("1 minute", 60_000), ("24 hours", 86_400_000), ("500 ms", 500), ("5s", 5_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "ten seconds", "10", "-1 day", "1 month", "1.5 hours", "99999999999999999 days"] {
            assert!(duration(text).unwrap_err().contains("is no duration"), "{text}");
        }
    }

    #[test]
    fn nearest() {
        assert!(unknown("option", "tpic", &["topic", "format"]).contains("did you mean 'topic'?"));
        assert!(!unknown("option", "zzzzzz", &["topic", "format"]).contains("did you mean"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
