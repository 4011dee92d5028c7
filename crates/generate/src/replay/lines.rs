//! Lines of bounded length.

use std::io::{self, BufRead};

/// A longer line or array element is reported, not read into memory: the ingest door would refuse it too.
#[cfg(not(test))]
pub const LENGTH_MAX: usize = 1 << 20;
#[cfg(test)]
pub const LENGTH_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Whole,
    TooLong,
}

/// Reads the next line into `line`, without its end (LF or CR LF); `None` at the end of input.
pub fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<Line>> {
    line.clear();
    let mut any = false;
    let mut outcome = Line::Whole;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(any.then_some(outcome));
        }
        any = true;
        let end = available.iter().position(|&byte| byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        if line.len() + part.len() > LENGTH_MAX + 1 {
            outcome = Line::TooLong;
        } else if outcome == Line::Whole {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.len() > LENGTH_MAX {
                outcome = Line::TooLong;
            }
            return Ok(Some(outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_line_does_not_spoil_the_next() {
        let input = [vec![b'x'; LENGTH_MAX * 3], b"\nshort\r\n".to_vec(), vec![b'y'; LENGTH_MAX]].concat();
        let mut reader = io::BufReader::with_capacity(7, &input[..]);
        let mut line = Vec::new();
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), Some(Line::TooLong));
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), Some(Line::Whole));
        assert_eq!(line, b"short");
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), Some(Line::Whole));
        assert_eq!(line.len(), LENGTH_MAX);
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), None);
    }

    proptest! {
        #[test]
        fn lines_are_what_splitting_gives(text in "[a\r\n]{0,80}", capacity in 1usize..20) {
            let mut expected: Vec<&str> = text.split('\n').collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            let ended = text.ends_with('\n');
            let count = expected.len();
            let mut reader = io::BufReader::with_capacity(capacity, text.as_bytes());
            let mut line = Vec::new();
            for (place, expected) in expected.into_iter().enumerate() {
                let last_without_end = place + 1 == count && !ended;
                let expected = if last_without_end { expected } else { expected.strip_suffix('\r').unwrap_or(expected) };
                let outcome = read_line(&mut reader, &mut line).unwrap();
                if expected.len() <= LENGTH_MAX {
                    prop_assert_eq!(outcome, Some(Line::Whole));
                    prop_assert_eq!(&line[..], expected.as_bytes());
                } else {
                    prop_assert_eq!(outcome, Some(Line::TooLong));
                }
            }
            prop_assert_eq!(read_line(&mut reader, &mut line).unwrap(), None);
        }
    }
}
