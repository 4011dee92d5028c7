//! RFC 3339 timestamps to microseconds since 1970 UTC.

/// Reads the usual `2025-08-31T12:00:00[.ffffff](Z|±hh:mm)` by hand and leaves the unusual to chrono. Digits beyond the
/// microsecond are dropped.
pub fn parse_rfc3339_us(text: &str) -> Option<i64> {
    usual(text.as_bytes()).or_else(|| Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros()))
}

/// `2025-08-31` to days since 1970.
pub fn parse_date(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 {
        return None;
    }
    i32::try_from(date(bytes.first_chunk()?)?).ok()
}

fn usual(bytes: &[u8]) -> Option<i64> {
    let head = bytes.first_chunk::<19>()?;
    let days = date(head.first_chunk()?)?;
    if head[10] != b'T' || head[13] != b':' || head[16] != b':' {
        return None;
    }
    let (hour, minute, second) = (two(head, 11)?, two(head, 14)?, two(head, 17)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &bytes[19..];
    let mut micros = 0i64;
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for place in 0..6 {
            micros = micros * 10 + fraction[..digits].get(place).map_or(0, |digit| i64::from(digit - b'0'));
        }
        rest = &fraction[digits..];
    }
    let offset_minutes = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), zone @ ..] if zone.len() == 5 && zone[2] == b':' => {
            let zone: &[u8; 5] = zone.first_chunk()?;
            let (hours, minutes) = (two(zone, 0)?, two(zone, 3)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_minutes * 60;
    Some(seconds * 1_000_000 + micros)
}

fn two(bytes: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (bytes[at].wrapping_sub(b'0'), bytes[at + 1].wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then_some(i64::from(tens) * 10 + i64::from(ones))
}

/// Days since 1970 of `yyyy-mm-dd` in the proleptic Gregorian calendar.
fn date(bytes: &[u8; 10]) -> Option<i64> {
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = two(bytes, 0)? * 100 + two(bytes, 2)?;
    let (month, day) = (two(bytes, 5)?, two(bytes, 8)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let shifted = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chrono_us(text: &str) -> Option<i64> {
        chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
    }

    #[test]
    fn agrees_with_chrono_on_edges() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2025-08-31T12:00:00Z",
            "1969-12-31T23:59:59.9999999Z",
            "2000-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
            "2025-08-31T12:00:00+02:00",
            "2025-08-31T12:00:00.5-11:30",
            "2025-08-31T12:00:00",
            "2025-08-31t12:00:00z",
            "2025-08-31 12:00:00Z",
            "2025-08-31T23:59:60Z",
            "2025-08-31T24:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-04-31T00:00:00Z",
            "2025-08-31T12:00:00.Z",
            "2025-08-31T12:00Z",
            "",
            "x",
            "2025-08-31T12:00:00+2:00",
            "2025-08-31T12:00:00ZZ",
            "2025-08-31T12:00:00+24:00",
            "٢٠٢٥-08-31T12:00:00Z",
        ] {
            assert_eq!(parse_rfc3339_us(text), chrono_us(text), "{text}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert_eq!(parse_date("1969-12-31"), Some(-1));
        assert_eq!(parse_date("2025-02-30"), None);
        assert_eq!(parse_date("2025-2-03"), None);
    }

    proptest::proptest! {
        #[test]
        fn every_second_of_four_digit_years(seconds in -62_167_219_200i64..253_402_300_800, micros in 0u32..1_000_000) {
            let time = chrono::DateTime::from_timestamp(seconds, micros * 1000).unwrap();
            let text = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            proptest::prop_assert_eq!(usual(text.as_bytes()), Some(time.timestamp_micros()));
        }
    }
}
