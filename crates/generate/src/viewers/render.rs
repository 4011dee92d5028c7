//! Events as lines of JSON, written by hand: a serialiser per event would be most of the cost.

use chrono::{DateTime, Datelike};

use super::addresses::Country;
use super::agents::Agents;
use super::catalogue::Track;
use super::faults::Fault;
use super::session::{Act, Detail};

/// An event and where it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Its place among the events of the run.
    pub number: u64,
    pub at_ms: i64,
    pub user: u32,
    pub session: u64,
    pub act: Act,
}

pub struct Renderer {
    agents: Agents,
    /// `"artist"` by track, as JSON text.
    artists: Vec<String>,
    contents: Vec<String>,
    /// Tells the ids of this run from those of any other.
    run: String,
    date: DateText,
}

impl Renderer {
    pub fn new(run: u64, tracks: &[Track]) -> Self {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        Self {
            agents: Agents::new(),
            artists: tracks.iter().map(|track| quoted(&track.artist)).collect(),
            contents: tracks.iter().map(|track| quoted(&track.content_id)).collect(),
            run: format!("{run:016x}"),
            date: DateText::default(),
        }
    }

    /// Appends the event and a line feed.
    pub fn line(&mut self, event: &Event, fault: Option<Fault>, out: &mut Vec<u8>) {
        let start = out.len();
        let Act { kind, track, position_ms, watched_ms, detail } = event.act;
        out.push(b'{');
        if fault != Some(Fault::NoId) {
            text(out, "\"id\":\"");
            text(out, &self.run);
            out.push(b'-');
            number(out, event.number);
            text(out, "\",");
        }
        self.timestamp(event.at_ms, fault, out);
        if fault != Some(Fault::NoType) {
            text(out, "\"type\":\"");
            text(out, kind.name());
            text(out, "\",");
        }
        match fault {
            Some(Fault::NoUser) => {}
            Some(Fault::UserIsNumber) => {
                text(out, "\"user\":");
                number(out, u64::from(event.user));
                out.push(b',');
            }
            _ => {
                text(out, "\"user\":\"user-");
                number(out, u64::from(event.user));
                if fault == Some(Fault::NotUtf8) {
                    out.push(0xff);
                }
                text(out, "\",");
            }
        }
        text(out, "\"session\":\"s-");
        text(out, &self.run[8..]);
        out.push(b'-');
        number(out, event.session);
        out.push(b'"');
        if let Some(track) = track {
            text(out, ",\"content\":");
            text(out, &self.contents[track as usize]);
        }
        match fault {
            Some(Fault::PositionIsText) => {
                text(out, ",\"position_ms\":\"");
                number(out, u64::from(position_ms.unwrap_or(0)));
                out.push(b'"');
            }
            Some(Fault::PositionNegative) => {
                text(out, ",\"position_ms\":-");
                number(out, u64::from(position_ms.unwrap_or(0)) + 1);
            }
            _ => optional_number(out, ",\"position_ms\":", position_ms),
        }
        optional_number(out, ",\"watched_ms\":", watched_ms);
        text(out, ",\"ip\":\"");
        for (place, part) in Country::of(event.user).address(event.user).into_iter().enumerate() {
            if place > 0 {
                out.push(b'.');
            }
            number(out, u64::from(part));
        }
        text(out, "\",\"user_agent\":\"");
        text(out, self.agents.of(event.user));
        out.push(b'"');
        self.metadata(detail, out);
        out.push(b'}');
        if fault == Some(Fault::CutShort) {
            // All but the metadata at the end is ASCII, so the cut splits no character.
            out.truncate(start + 40 + (event.number % 60) as usize);
        }
        out.push(b'\n');
    }

    fn timestamp(&mut self, at_ms: i64, fault: Option<Fault>, out: &mut Vec<u8>) {
        match fault {
            Some(Fault::NoTimestamp) => {}
            Some(Fault::TimestampIsNumber) => {
                text(out, "\"timestamp\":");
                number(out, at_ms.unsigned_abs());
                out.push(b',');
            }
            Some(Fault::TimestampIsWord) => text(out, "\"timestamp\":\"yesterday\","),
            Some(Fault::TimestampImpossible) => text(out, "\"timestamp\":\"2025-02-30T25:61:00Z\","),
            _ => {
                text(out, "\"timestamp\":\"");
                self.date.write(at_ms, out);
                text(out, "\",");
            }
        }
    }

    fn metadata(&self, detail: Detail, out: &mut Vec<u8>) {
        match detail {
            Detail::Nothing => {}
            Detail::Page(page) => {
                text(out, ",\"metadata\":{\"page\":\"");
                text(out, page);
                text(out, "\"}");
            }
            Detail::Query { track } => {
                text(out, ",\"metadata\":{\"query\":");
                text(out, &self.artists[track as usize]);
                out.push(b'}');
            }
            Detail::Quality(quality) => {
                text(out, ",\"metadata\":{\"quality\":\"");
                text(out, quality);
                text(out, "\"}");
            }
            Detail::SoughtFrom { position_ms } => {
                text(out, ",\"metadata\":{\"from_ms\":");
                number(out, u64::from(position_ms));
                out.push(b'}');
            }
            Detail::Stalled { ms } => {
                text(out, ",\"metadata\":{\"stalled_ms\":");
                number(out, u64::from(ms));
                out.push(b'}');
            }
            Detail::Failure(code) => {
                text(out, ",\"metadata\":{\"code\":\"");
                text(out, code);
                text(out, "\"}");
            }
        }
    }
}

/// RFC 3339 in UTC with milliseconds; keeps the text of the last date, as most events share it.
#[derive(Debug, Default)]
pub struct DateText {
    day: Option<i64>,
    text: String,
}

pub const DAY_MS: i64 = 86_400_000;

impl DateText {
    pub fn of(&mut self, day: i64) -> &str {
        if self.day != Some(day) {
            let date = DateTime::from_timestamp_millis(day.saturating_mul(DAY_MS)).unwrap_or_default();
            self.text = format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day());
            self.day = Some(day);
        }
        &self.text
    }

    fn write(&mut self, at_ms: i64, out: &mut Vec<u8>) {
        text(out, self.of(at_ms.div_euclid(DAY_MS)));
        let ms = at_ms.rem_euclid(DAY_MS) as u32;
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        let digit = |value: u32| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[
            b'T',
            digit(hours / 10),
            digit(hours),
            b':',
            digit(minutes / 10),
            digit(minutes),
            b':',
            digit(seconds / 10),
            digit(seconds),
            b'.',
            digit(ms / 100),
            digit(ms / 10),
            digit(ms),
            b'Z',
        ]);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn optional_number(out: &mut Vec<u8>, name: &str, value: Option<u32>) {
    if let Some(value) = value {
        text(out, name);
        number(out, u64::from(value));
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_as_written() {
        for value in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
        let mut date = DateText::default();
        for (at_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_756_641_600_123, "2025-08-31T12:00:00.123Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        ] {
            let mut out = Vec::new();
            date.write(at_ms, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
