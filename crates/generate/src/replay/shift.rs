//! Moving a recorded span of time onto another.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The first and the last of some times.
pub type Span = (DateTime<Utc>, DateTime<Utc>);

/// Maps recorded times to replayed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift {
    recorded_ms: (i64, i64),
    replayed_ms: (i64, i64),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShiftError {
    #[error("the new span must not end before it begins")]
    Reversed,
    #[error("no event with a readable timestamp: there is no span of time to shift")]
    NoTimes,
    #[error("the shifted times must lie between the years 1 and 9999")]
    Range,
}

/// What RFC 3339 can write, in ms since 1970.
const WRITABLE_MS: std::ops::Range<i64> = -62_135_596_800_000..253_402_300_800_000;

impl Shift {
    /// The recorded span, first to last, moved so that it begins at `from`, or ends at `to`; with both it is also
    /// stretched or squeezed to fit.
    pub fn new(
        recorded: Option<Span>,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<Option<Self>, ShiftError> {
        if from.is_none() && to.is_none() {
            return Ok(None);
        }
        let (first, last) = recorded.ok_or(ShiftError::NoTimes)?;
        let recorded_ms = (first.timestamp_millis(), last.timestamp_millis());
        let length = recorded_ms.1 - recorded_ms.0;
        let replayed_ms = match (from.map(|time| time.timestamp_millis()), to.map(|time| time.timestamp_millis())) {
            (Some(from), Some(to)) => (from, to),
            (Some(from), None) => (from, from.saturating_add(length)),
            (None, Some(to)) => (to.saturating_sub(length), to),
            (None, None) => return Ok(None),
        };
        if replayed_ms.1 < replayed_ms.0 {
            return Err(ShiftError::Reversed);
        }
        if !WRITABLE_MS.contains(&replayed_ms.0) || !WRITABLE_MS.contains(&replayed_ms.1) {
            return Err(ShiftError::Range);
        }
        Ok(Some(Self { recorded_ms, replayed_ms }))
    }

    pub fn apply(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let (first, last) = (i128::from(self.recorded_ms.0), i128::from(self.recorded_ms.1));
        let (from, to) = (i128::from(self.replayed_ms.0), i128::from(self.replayed_ms.1));
        let elapsed = i128::from(time.timestamp_millis()) - first;
        let scaled = if last > first { elapsed * (to - from) / (last - first) } else { elapsed };
        // A file that grew since its span was read may hold later times.
        let shifted = (from + scaled).clamp(i128::from(WRITABLE_MS.start), i128::from(WRITABLE_MS.end - 1));
        DateTime::from_timestamp_millis(shifted as i64).unwrap_or(time)
    }

    /// Appends the event with its timestamp moved; unchanged if it has no readable one.
    pub fn rewrite(&self, event: &[u8], out: &mut Vec<u8>) {
        let Some((start, end, time)) = timestamp(event) else { return out.extend_from_slice(event) };
        out.extend_from_slice(&event[..start]);
        out.push(b'"');
        out.extend_from_slice(self.apply(time).to_rfc3339_opts(SecondsFormat::AutoSi, true).as_bytes());
        out.push(b'"');
        out.extend_from_slice(&event[end..]);
    }
}

/// Where the event's timestamp stands, quotes included, and the time it names.
pub fn timestamp(event: &[u8]) -> Option<(usize, usize, DateTime<Utc>)> {
    #[derive(Deserialize)]
    struct Stamped<'a> {
        #[serde(borrow)]
        timestamp: &'a RawValue,
    }
    let text = std::str::from_utf8(event).ok()?;
    let raw = serde_json::from_str::<Stamped<'_>>(text).ok()?.timestamp.get();
    let start = raw.as_ptr() as usize - text.as_ptr() as usize;
    let value: String = serde_json::from_str(raw).ok()?;
    let time = DateTime::parse_from_rfc3339(&value).ok()?.to_utc();
    Some((start, start + raw.len(), time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_span_moves_and_stretches() {
        let recorded = Some((time("2015-05-17T00:00:00Z"), time("2015-05-18T00:00:00Z")));
        let noon = time("2015-05-17T12:00:00Z");
        let shifted = |from: Option<&str>, to: Option<&str>| {
            Shift::new(recorded, from.map(time), to.map(time)).unwrap().unwrap().apply(noon)
        };
        assert_eq!(shifted(Some("2025-01-01T00:00:00Z"), None), time("2025-01-01T12:00:00Z"));
        assert_eq!(shifted(None, Some("2025-01-02T00:00:00Z")), time("2025-01-01T12:00:00Z"));
        assert_eq!(shifted(Some("2025-01-01T00:00:00Z"), Some("2025-01-01T01:00:00Z")), time("2025-01-01T00:30:00Z"));
        assert_eq!(Shift::new(recorded, None, None), Ok(None));
        assert_eq!(Shift::new(None, Some(noon), None), Err(ShiftError::NoTimes));
        assert_eq!(Shift::new(recorded, Some(noon), Some(time("2015-01-01T00:00:00Z"))), Err(ShiftError::Reversed));
    }

    #[test]
    fn only_the_events_own_timestamp_is_rewritten() {
        let recorded = Some((time("2015-05-17T00:00:00Z"), time("2015-05-17T00:00:00Z")));
        let shift = Shift::new(recorded, Some(time("2025-01-01T00:00:00Z")), None).unwrap().unwrap();
        let rewritten = |event: &str| {
            let mut out = Vec::new();
            shift.rewrite(event.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            rewritten(r#"{"m": {"timestamp": "2015-05-17T00:00:00Z"}, "timestamp" : "2015-05-17T02:00:01.5+02:00" }"#),
            r#"{"m": {"timestamp": "2015-05-17T00:00:00Z"}, "timestamp" : "2025-01-01T00:00:01.500Z" }"#
        );
        assert_eq!(rewritten(r#"{"timestamp": 5}"#), r#"{"timestamp": 5}"#);
        assert_eq!(rewritten("{"), "{");
    }
}
