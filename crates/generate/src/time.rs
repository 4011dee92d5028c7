//! Times and spans as people type them.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

pub type Time = DateTime<Utc>;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimeError {
    #[error(
        "`{0}` is not a time: write it like 2025-08-31T12:00:00Z, or a date like 2025-08-31 for its first moment in UTC"
    )]
    Time(String),
    #[error("`{0}` is not a span of time: write a whole number with s, m, h or d, such as 90s, 6h or 2d")]
    Span(String),
}

/// Reads RFC 3339, or a date.
pub fn parse_time(text: &str) -> Result<Time, TimeError> {
    let date = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .ok()
        .or_else(|| date().map(|time| time.and_utc()))
        .ok_or_else(|| TimeError::Time(text.to_owned()))
}

/// Reads a whole number of seconds, minutes, hours or days, such as `90s` or `2d`.
pub fn parse_span(text: &str) -> Result<Duration, TimeError> {
    let wrong = || TimeError::Span(text.to_owned());
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count = &text[..text.len() - 1];
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let count: u64 = count.parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_spans() {
        assert_eq!(parse_time("2025-08-31"), parse_time("2025-08-31T02:00:00+02:00"));
        for text in ["", "yesterday", "2025-02-30", "2025-08-31T12:00:00"] {
            assert_eq!(parse_time(text), Err(TimeError::Time(text.to_owned())));
        }
        assert_eq!(parse_span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_span("2d"), Ok(Duration::from_secs(172_800)));
        for text in ["", "d", "2", "-1h", "1.5h", "2é", "99999999999999999999d"] {
            assert_eq!(parse_span(text), Err(TimeError::Span(text.to_owned())));
        }
    }
}
