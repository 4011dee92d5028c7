//! Web log lines (NCSA common and combined format, as Apache and nginx write them) and the event that each becomes.

use std::net::IpAddr;

use chrono::{DateTime, FixedOffset, NaiveDate, SecondsFormat, TimeZone, Utc};

use super::json;

/// A request as logged. `-` and empty fields are `None`; quoted fields still hold their escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub host: &'a [u8],
    pub user: Option<&'a [u8]>,
    pub time: DateTime<Utc>,
    pub request: Option<&'a [u8]>,
    pub status: Option<u16>,
    pub bytes: Option<u64>,
    pub referrer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// What follows the known fields.
    pub extra: Option<&'a [u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("not a web log line: no time in brackets like [17/May/2015:10:05:03 +0000]")]
    Time,
    #[error("not a web log line: no address, identity and user before the time")]
    Client,
    #[error("not a web log line: no request in quotes after the time")]
    Request,
    #[error("not a web log line: no status and size after the request")]
    Status,
    #[error("not a web log line: the request in quotes does not end")]
    Quote,
}

pub fn parse(line: &[u8]) -> Result<Request<'_>, Malformed> {
    let (client, time, rest) = split_at_time(line).ok_or(Malformed::Time)?;
    let (host, identity) = word(client).ok_or(Malformed::Client)?;
    let (_, user) = word(identity).ok_or(Malformed::Client)?;
    let user = present(user);
    if host == b"-" && user.is_none() {
        return Err(Malformed::Client);
    }
    let (request, rest) = quoted(rest)?.ok_or(Malformed::Request)?;
    let (status, rest) = word(rest).ok_or(Malformed::Status)?;
    let (bytes, rest) = word(rest).ok_or(Malformed::Status)?;
    let mut parsed = Request {
        host,
        user,
        time,
        request: present(request),
        status: number(status)?,
        bytes: number(bytes)?,
        referrer: None,
        user_agent: None,
        extra: None,
    };
    let mut rest = rest;
    if let Some((referrer, after)) = quoted_or_cut(rest) {
        parsed.referrer = present(referrer);
        rest = after;
        if let Some((user_agent, after)) = quoted_or_cut(rest) {
            parsed.user_agent = present(user_agent);
            rest = after;
        }
    }
    parsed.extra = present(rest.trim_ascii());
    Ok(parsed)
}

impl Request<'_> {
    /// Appends the `page_view` event, without a line feed.
    pub fn write_event(&self, id: &str, time: DateTime<Utc>, out: &mut Vec<u8>) {
        let address = address(self.host);
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\",\"timestamp\":\"");
        out.extend_from_slice(time.to_rfc3339_opts(SecondsFormat::AutoSi, true).as_bytes());
        out.extend_from_slice(b"\",\"type\":\"page_view\",\"user\":");
        json::string(out, self.user.unwrap_or(self.host));
        if let Some(address) = address {
            out.extend_from_slice(format!(",\"ip\":\"{address}\"").as_bytes());
        }
        if let Some(user_agent) = self.user_agent {
            out.extend_from_slice(b",\"user_agent\":");
            json::string(out, &unescaped(user_agent));
        }
        out.extend_from_slice(b",\"metadata\":{");
        let first = out.len();
        if address.is_none() {
            text_member(out, first, "host", Some(self.host));
        }
        match self.request.map(|request| (request, request_line(request))) {
            Some((_, Some((method, path, protocol)))) => {
                text_member(out, first, "method", Some(method));
                text_member(out, first, "path", Some(path));
                text_member(out, first, "protocol", protocol);
            }
            Some((request, None)) => text_member(out, first, "request", Some(request)),
            None => {}
        }
        number_member(out, first, "status", self.status.map(u64::from));
        number_member(out, first, "bytes", self.bytes);
        text_member(out, first, "referrer", self.referrer);
        text_member(out, first, "extra", self.extra);
        out.extend_from_slice(b"}}");
    }
}

fn name(out: &mut Vec<u8>, first: usize, name: &str) {
    if out.len() > first {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text_member(out: &mut Vec<u8>, first: usize, member: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        name(out, first, member);
        json::string(out, &unescaped(value));
    }
}

fn number_member(out: &mut Vec<u8>, first: usize, member: &str, value: Option<u64>) {
    if let Some(value) = value {
        name(out, first, member);
        out.extend_from_slice(value.to_string().as_bytes());
    }
}

fn address(host: &[u8]) -> Option<IpAddr> {
    let host = std::str::from_utf8(host).ok()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

type RequestLine<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);

/// Method, path and protocol; `None` for what no HTTP client sends. A path may hold spaces.
fn request_line(request: &[u8]) -> Option<RequestLine<'_>> {
    let (method, rest) = word(request)?;
    if method.is_empty() || rest.is_empty() || !method.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    match rest.iter().rposition(|&byte| byte == b' ') {
        Some(space) if rest[space + 1..].starts_with(b"HTTP/") => {
            Some((method, &rest[..space], Some(&rest[space + 1..])))
        }
        _ => Some((method, rest, None)),
    }
}

/// Takes back the two escapes that are needed for quoting; `\xhh` and the like stay as logged.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let quoting = byte == b'\\' && matches!(bytes.peek(), Some(b'"' | b'\\'));
        plain.push(if quoting { bytes.next().unwrap_or(byte) } else { byte });
    }
    plain
}

fn present(field: &[u8]) -> Option<&[u8]> {
    (!field.is_empty() && field != b"-" && field != b"\"\"").then_some(field)
}

fn number<N: std::str::FromStr>(field: &[u8]) -> Result<Option<N>, Malformed> {
    if field == b"-" {
        return Ok(None);
    }
    let digits = field.iter().all(u8::is_ascii_digit);
    let value = std::str::from_utf8(field).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    value.map(Some).ok_or(Malformed::Status)
}

/// A field and the rest of the text.
type Parted<'a> = (&'a [u8], &'a [u8]);

/// The first word and what follows the space after it.
fn word(text: &[u8]) -> Option<Parted<'_>> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_ascii_start()))
}

/// The quoted field that the text begins with, and what follows it.
fn quoted(text: &[u8]) -> Result<Option<Parted<'_>>, Malformed> {
    let Some(inside) = text.trim_ascii_start().strip_prefix(b"\"") else { return Ok(None) };
    let mut place = 0;
    while let Some(&byte) = inside.get(place) {
        match byte {
            b'"' => return Ok(Some((&inside[..place], &inside[place + 1..]))),
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
    Err(Malformed::Quote)
}

/// The quoted field that the text begins with; servers cut long lines, so one that does not end takes the rest.
fn quoted_or_cut(text: &[u8]) -> Option<Parted<'_>> {
    match quoted(text) {
        Ok(field) => field,
        Err(_) => text.trim_ascii_start().strip_prefix(b"\"").map(|cut| (cut, &cut[cut.len()..])),
    }
}

/// The time is the landmark of a line: a user name before it may hold spaces, even brackets.
fn split_at_time(line: &[u8]) -> Option<(&[u8], DateTime<Utc>, &[u8])> {
    const LENGTH: usize = "17/May/2015:10:05:03 +0000".len();
    let mut from = 0;
    while let Some(bracket) = line[from..].iter().position(|&byte| byte == b'[') {
        let start = from + bracket + 1;
        if line.get(start + LENGTH) == Some(&b']')
            && let Some(time) = time(&line[start..start + LENGTH])
        {
            return Some((line[..start - 1].trim_ascii(), time, &line[start + LENGTH + 1..]));
        }
        from = start;
    }
    None
}

fn time(text: &[u8]) -> Option<DateTime<Utc>> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let digits = |range: std::ops::Range<usize>| -> Option<u32> {
        text[range].iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
    };
    let punctuation = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':'), (20, b' ')];
    if punctuation.into_iter().any(|(place, byte)| text[place] != byte) {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == &text[3..6])? as u32 + 1;
    let date = NaiveDate::from_ymd_opt(i32::try_from(digits(7..11)?).ok()?, month, digits(0..2)?)?;
    // A leap second counts as the second before it.
    let local = date.and_hms_opt(digits(12..14)?, digits(15..17)?, digits(18..20)?.min(59))?;
    let offset_seconds = i32::try_from(digits(22..24)? * 3600 + digits(24..26)? * 60).ok()?;
    let offset = match text[21] {
        b'+' => FixedOffset::east_opt(offset_seconds)?,
        b'-' => FixedOffset::west_opt(offset_seconds)?,
        _ => return None,
    };
    Some(offset.from_local_datetime(&local).single()?.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn event(line: &[u8]) -> Value {
        let request = parse(line).unwrap();
        let mut out = Vec::new();
        request.write_event("x", request.time, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_combined_line() {
        let line = br#"83.149.9.216 - - [17/May/2015:10:05:03 +0200] "GET /a?b=c HTTP/1.1" 200 203023 "http://x/" "Mozilla/5.0 (X11)""#;
        assert_eq!(
            event(line),
            json!({
                "id": "x", "timestamp": "2015-05-17T08:05:03Z", "type": "page_view", "user": "83.149.9.216",
                "ip": "83.149.9.216", "user_agent": "Mozilla/5.0 (X11)",
                "metadata": {"method": "GET", "path": "/a?b=c", "protocol": "HTTP/1.1", "status": 200, "bytes": 203023,
                             "referrer": "http://x/"}
            })
        );
    }

    #[test]
    fn absent_fields_are_left_out() {
        let line = br#"::1 - ann [17/May/2015:10:05:03 +0000] "-" 408 - "-" "-""#;
        assert_eq!(
            event(line),
            json!({"id": "x", "timestamp": "2015-05-17T10:05:03Z", "type": "page_view", "user": "ann", "ip": "::1",
                   "metadata": {"status": 408}})
        );
        let line = br#"web.example - - [17/May/2015:10:05:03 +0000] "GET /" 200 1"#;
        assert_eq!(
            event(line)["metadata"],
            json!({"host": "web.example", "method": "GET", "path": "/", "status": 200, "bytes": 1})
        );
        assert_eq!(event(line)["user"], "web.example");
        assert_eq!(event(line).get("ip"), None);
    }

    #[test]
    fn odd_bytes_survive() {
        let line = b"1.2.3.4 - a [b] c [17/May/2015:10:05:03 +0000] \"\\x16\\x03\xff\" 400 0 \"say \\\"hi\\\" \\\\ \" \"\xc3\xa9\xe9\t\" \"more\"";
        let event = event(line);
        assert_eq!(event["user"], "a [b] c");
        assert_eq!(event["metadata"]["request"], "\\x16\\x03\\xff");
        assert_eq!(event["metadata"]["referrer"], "say \"hi\" \\ ");
        assert_eq!(event["user_agent"], "é\\xe9\\x09");
        assert_eq!(event["metadata"]["extra"], "\"more\"");
    }

    #[test]
    fn a_line_cut_in_its_last_fields_is_an_event() {
        let line = b"1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"Mozilla/5.0 (compat";
        assert_eq!(event(line)["user_agent"], "Mozilla/5.0 (compat");
        let line = b"1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1 \"http://x\\\"";
        assert_eq!(event(line)["metadata"]["referrer"], "http://x\"");
    }

    #[test]
    fn what_is_not_a_log_line_is_said_precisely() {
        for (line, expected) in [
            (&b""[..], Malformed::Time),
            (b"hello", Malformed::Time),
            (b"1.2.3.4 - - [32/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1", Malformed::Time),
            (b"[17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1", Malformed::Client),
            (b"- - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1", Malformed::Client),
            (b"1.2.3.4 - - [17/May/2015:10:05:03 +0000] GET", Malformed::Request),
            (b"1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP", Malformed::Quote),
            (b"1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\"", Malformed::Status),
            (b"1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" ok 1", Malformed::Status),
        ] {
            assert_eq!(parse(line).unwrap_err(), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    /// As a server quotes a field.
    fn quote(text: &str) -> String {
        text.replace('\\', "\\\\").replace('"', "\\\"")
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&line);
        }

        #[test]
        fn any_ending_gives_json(ending in proptest::collection::vec(any::<u8>(), 0..120)) {
            let line = [b"1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"".as_slice(), &ending].concat();
            if let Ok(request) = parse(&line) {
                let mut out = Vec::new();
                request.write_event("x", request.time, &mut out);
                let event: Result<Value, _> = serde_json::from_slice(&out);
                prop_assert!(event.is_ok(), "{}", String::from_utf8_lossy(&out));
                prop_assert!(!out.contains(&b'\n'));
            }
        }

        #[test]
        fn what_was_logged_comes_back(
            path in "/[ -~é]{0,30}", agent in "[!-~ö][ -~ö]{1,30}", referrer in "[!-~][ -~]{1,30}",
            status in 100u16..600, bytes in any::<u64>(), seconds in 0i64..4_000_000_000,
        ) {
            prop_assume!(path == path.trim() && !path.contains(" HTTP/"));
            let time = DateTime::from_timestamp(seconds, 0).unwrap();
            let line = format!(
                "9.8.7.6 - - [{}] \"GET {} HTTP/1.1\" {status} {bytes} \"{}\" \"{}\"",
                time.format("%d/%b/%Y:%H:%M:%S +0000"), quote(&path), quote(&referrer), quote(&agent),
            );
            let event = event(line.as_bytes());
            prop_assert_eq!(&event["metadata"], &json!({"method": "GET", "path": path, "protocol": "HTTP/1.1",
                "status": status, "bytes": bytes, "referrer": referrer}));
            prop_assert_eq!(&event["user_agent"], &json!(agent));
            prop_assert_eq!(event["timestamp"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap(), time);
        }
    }
}
