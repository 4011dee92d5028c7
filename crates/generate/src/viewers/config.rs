//! What to simulate.

use std::fmt;
use std::str::FromStr;

/// A part of a whole in millionths: exact, unlike a float. Reads `1%`, `0.25%` or `0.01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Share(u32);

impl Share {
    pub const NONE: Share = Share(0);

    pub const fn from_millionths(millionths: u32) -> Self {
        Self(millionths)
    }

    pub const fn millionths(self) -> u32 {
        self.0
    }
}

impl FromStr for Share {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Share(text.to_owned());
        let (number, places) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), 4),
            None => (text, 6),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > places || whole.len() > 3 {
            return Err(wrong());
        }
        let scaled: u32 = format!("{whole}{fraction:0<places$}").parse().map_err(|_| wrong())?;
        if scaled > 1_000_000 { Err(wrong()) } else { Ok(Self(scaled)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        if rest == 0 {
            write!(f, "{whole}%")
        } else {
            write!(f, "{whole}.{}%", format!("{rest:04}").trim_end_matches('0'))
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many lines to write, counting invalid, late and duplicate ones.
    pub events: u64,
    pub seed: u64,
    pub users: u32,
    /// Event time of the first viewer, in ms since 1970 UTC.
    pub start_ms: i64,
    /// Event time that the lines cover, about: viewers arrive at the rate that fills it.
    pub span_ms: u64,
    /// Lines that break the schema, each in one of several ways.
    pub invalid: Share,
    /// Valid events with a timestamp minutes to hours before their place in the stream.
    pub late: Share,
    /// Exact repeats of a recent valid line.
    pub duplicate: Share,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            events: 100_000,
            seed: 1,
            users: 10_000,
            start_ms: DEFAULT_START_MS,
            span_ms: 2 * 24 * 3_600_000,
            invalid: Share::NONE,
            late: Share::NONE,
            duplicate: Share::NONE,
        }
    }
}

/// 2025-08-31T00:00:00Z: a fixed moment, so that the same options give the same bytes on any day.
const DEFAULT_START_MS: i64 = 1_756_598_400_000;
/// The popularity table takes 8 bytes a user.
const USERS_MAX: u32 = 10_000_000;
/// 1970 to 9000: RFC 3339 has four digits for the year.
const TIMES_MS: std::ops::Range<i64> = 0..221_845_392_000_000;
const TEN_YEARS_MS: u64 = 10 * 366 * 86_400_000;

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.users == 0 || self.users > USERS_MAX {
            return Err(ConfigError::Users { users: self.users, max: USERS_MAX });
        }
        if !TIMES_MS.contains(&self.start_ms) {
            return Err(ConfigError::Start);
        }
        if self.span_ms < 1000 || self.span_ms > TEN_YEARS_MS {
            return Err(ConfigError::Span);
        }
        let faults = self.invalid.0 + self.late.0 + self.duplicate.0;
        if faults > 900_000 {
            return Err(ConfigError::Faults(Share(faults)));
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("`{0}` is not a share: write a percentage such as 1% or 0.25%, or a part such as 0.01, at most 100%")]
    Share(String),
    #[error("{users} users: choose 1 to {max}")]
    Users { users: u32, max: u32 },
    #[error("the start must lie between the years 1970 and 8999")]
    Start,
    #[error("the span of event time must lie between one second and ten years")]
    Span,
    #[error("invalid, late and duplicate lines together are {0}: at most 90% may be")]
    Faults(Share),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_exactly() {
        for (text, millionths) in
            [("1%", 10_000), ("0.25%", 2_500), ("0.01", 10_000), ("0", 0), ("100%", 1_000_000), ("1", 1_000_000)]
        {
            assert_eq!(text.parse(), Ok(Share(millionths)), "{text}");
        }
        for text in ["", "%", "-1%", "101%", "2", "1e-2", "0.00001%", "a%", "1.%", "99999999999999999999%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!(Share(2_500).to_string(), "0.25%");
        assert_eq!(Share(10_000).to_string(), "1%");
    }
}
