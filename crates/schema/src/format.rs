//! String formats that the plan decides by itself. Each accepts a subset of what the reference accepts.

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Date,
    Time,
    DateTime,
    Email,
    Hostname,
    Uri,
    Ipv4,
    Ipv6,
    Uuid,
}

impl Format {
    pub(crate) fn named(name: &str) -> Option<Format> {
        match name {
            "date" => Some(Format::Date),
            "time" => Some(Format::Time),
            "date-time" => Some(Format::DateTime),
            "email" => Some(Format::Email),
            "hostname" => Some(Format::Hostname),
            "uri" => Some(Format::Uri),
            "ipv4" => Some(Format::Ipv4),
            "ipv6" => Some(Format::Ipv6),
            "uuid" => Some(Format::Uuid),
            _ => None,
        }
    }

    pub(crate) fn accepts(self, text: &[u8]) -> bool {
        match self {
            Format::Date => text.len() == 10 && date(text).is_some(),
            Format::Time => time(text).is_some(),
            Format::DateTime => is_date_time(text),
            Format::Email => is_email(text),
            Format::Hostname => is_hostname(text),
            Format::Uri => is_uri(text),
            Format::Ipv4 => parses::<Ipv4Addr>(text),
            Format::Ipv6 => parses::<Ipv6Addr>(text),
            Format::Uuid => is_uuid(text),
        }
    }
}

fn parses<T: std::str::FromStr>(text: &[u8]) -> bool {
    // No address is longer; a long text need not be looked at.
    text.len() <= 45 && std::str::from_utf8(text).is_ok_and(|text| text.parse::<T>().is_ok())
}

fn two_digits(text: &[u8], at: usize) -> Option<u32> {
    match text.get(at..at + 2)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(u32::from(a - b'0') * 10 + u32::from(b - b'0')),
        _ => None,
    }
}

fn is_date_time(text: &[u8]) -> bool {
    date_time(text).is_some()
}

/// RFC 3339 with upper-case `T` and `Z` and no leap second; the rest is left to the reference.
fn date_time(text: &[u8]) -> Option<()> {
    date(text)?;
    if text.get(10) != Some(&b'T') {
        return None;
    }
    time(&text[11..])
}

/// The ten bytes of a date, whatever comes behind them.
fn date(text: &[u8]) -> Option<()> {
    let year = two_digits(text, 0)? * 100 + two_digits(text, 2)?;
    let (month, day) = (two_digits(text, 5)?, two_digits(text, 8)?);
    ([text[4], text[7]] == *b"--" && day != 0 && day <= days_in(year, month)?).then_some(())
}

fn time(text: &[u8]) -> Option<()> {
    let (hour, minute, second) = (two_digits(text, 0)?, two_digits(text, 3)?, two_digits(text, 6)?);
    if [text[2], text[5]] != *b"::" || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut zone = &text[8..];
    if let [b'.', rest @ ..] = zone {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        zone = &rest[digits..];
    }
    match zone {
        b"Z" => Some(()),
        [b'+' | b'-', rest @ ..] if rest.len() == 5 && rest[2] == b':' => {
            (two_digits(rest, 0)? <= 23 && two_digits(rest, 3)? <= 59).then_some(())
        }
        _ => None,
    }
}

/// A host name (RFC 1123) without punycode, whose labels would have to be decoded.
fn is_hostname(text: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
            && label.get(2..4) != Some(b"--")
    };
    text.len() <= 253 && text.split(|byte| *byte == b'.').all(is_label)
}

/// A dot-atom at a host name of two labels or more (RFC 5321).
fn is_email(text: &[u8]) -> bool {
    let Some(at) = text.iter().position(|byte| *byte == b'@') else { return false };
    let (local, domain) = (&text[..at], &text[at + 1..]);
    let is_atom = |atom: &[u8]| {
        !atom.is_empty()
            && atom.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(byte))
    };
    text.len() <= 254
        && local.len() <= 64
        && local.split(|byte| *byte == b'.').all(is_atom)
        && domain.contains(&b'.')
        && is_hostname(domain)
}

/// A URI (RFC 3986) with a host name for its authority: what most of them are.
fn is_uri(text: &[u8]) -> bool {
    let Some(colon) = text.iter().position(|byte| *byte == b':') else { return false };
    let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    let Some(rest) = rest.strip_prefix(b"//") else { return false };
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, mut tail) = rest.split_at(end);
    let (host, port) = match authority.iter().position(|byte| *byte == b':') {
        Some(colon) => (&authority[..colon], &authority[colon + 1..]),
        None => (authority, &b""[..]),
    };
    if !is_scheme || !is_hostname(host) || port.len() > 5 || !port.iter().all(u8::is_ascii_digit) {
        return false;
    }
    // A path, then perhaps a query, then perhaps a fragment.
    let mut fragment = false;
    while let [byte, more @ ..] = tail {
        tail = match byte {
            b'%' => match more {
                [high, low, more @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => more,
                _ => return false,
            },
            b'#' if !fragment => {
                fragment = true;
                more
            }
            byte if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(byte) => more,
            _ => return false,
        }
    }
    true
}

fn days_in(year: u32, month: u32) -> Option<u32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_times() {
        for good in [
            "2025-08-31T12:00:00Z",
            "2024-02-29T23:59:59.123456789Z",
            "2000-02-29T00:00:00+05:30",
            "2015-05-17T10:05:03-00:00",
        ] {
            assert!(is_date_time(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "2025-08-31",
            "2025-08-31 12:00:00Z",
            "2025-08-31T12:00:00",
            "2025-08-31T12:00:00.Z",
            "2025-08-31T24:00:00Z",
            "2025-08-31T12:60:00Z",
            "2025-02-29T12:00:00Z",
            "1900-02-29T12:00:00Z",
            "2025-13-01T12:00:00Z",
            "2025-00-01T12:00:00Z",
            "2025-01-00T12:00:00Z",
            "2025-08-31T12:00:00+24:00",
            "2025-08-31T12:00:00+0100",
            "2025-08-31T12:00:00Zx",
            "2025-08-31T12:00:0",
        ] {
            assert!(!is_date_time(bad.as_bytes()), "{bad}");
        }
    }
}
