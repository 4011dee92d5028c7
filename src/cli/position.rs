//! A place in a topic, as people say it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use playhouse_client::offsets::At;
use playhouse_client::{Client, Error};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    Start,
    End,
    Offset(i64),
    /// So many records of each partition before its end.
    Last(i64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Position, String> {
        match text {
            "start" | "earliest" | "beginning" => return Ok(Position::Start),
            "end" | "latest" => return Ok(Position::End),
            _ => {}
        }
        if let Ok(number) = text.parse::<i64>() {
            return Ok(if number < 0 { Position::Last(number.saturating_neg()) } else { Position::Offset(number) });
        }
        if let Ok(span) = playhouse_generate::parse_span(text) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            return Ok(Position::Time(now.saturating_sub(span).as_millis() as i64));
        }
        match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(time) => Ok(Position::Time(time.timestamp_millis())),
            Err(_) => Err("is none of start, end, an offset, -N (before the end), a span such as 15m, a time such as \
                2026-01-31T12:00:00Z"
                .to_owned()),
        }
    }
}

impl Position {
    /// One offset per partition, within what there is.
    pub async fn offsets(self, client: &mut Client, topic: &str) -> Result<BTreeMap<i32, i64>, Error> {
        match self {
            Position::Start => return client.offsets(topic, At::Earliest).await,
            Position::End => return client.offsets(topic, At::Latest).await,
            Position::Time(ms) => return client.offsets(topic, At::Time(ms)).await,
            Position::Offset(_) | Position::Last(_) => {}
        }
        let first = client.offsets(topic, At::Earliest).await?;
        let next = client.offsets(topic, At::Latest).await?;
        let place = |(index, next): (i32, i64)| {
            let wanted = match self {
                Position::Last(records) => next - records,
                Position::Offset(offset) => offset,
                _ => next,
            };
            let first = first.get(&index).copied().unwrap_or(0);
            (index, wanted.clamp(first, next.max(first)))
        };
        Ok(next.into_iter().map(place).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_say_them() {
        for (text, position) in [
            ("start", Position::Start),
            ("latest", Position::End),
            ("12", Position::Offset(12)),
            ("-100", Position::Last(100)),
            ("1970-01-01T00:00:01Z", Position::Time(1000)),
        ] {
            assert_eq!(text.parse(), Ok(position));
        }
        assert!(matches!("15m".parse(), Ok(Position::Time(ms)) if ms > 0));
        assert!("yesterday".parse::<Position>().is_err());
    }
}
