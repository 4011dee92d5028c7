//! A request body taken apart into events: one object, an array, or NDJSON, told apart by looking.
//!
//! A body that begins with `[` is an array; anything else is a run of JSON values, each ended by a line feed or the end
//! (so one object may be printed over many lines, and NDJSON is the same thing with many values). An event is the exact
//! slice that was sent. What breaks the grammar spoils as little as can be told apart from it: in NDJSON one line, in an
//! array everything from the break on.

use std::ops::Range;

use playhouse_schema::{Break, Reason, Scanned, Validator, Verdict, not_json, not_utf8};

use crate::Stage;
use crate::check::stage_of;

/// One event of a body, or what stands in its place.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) range: Range<usize>,
    /// Tokens of the key and the id field, as ranges of the body.
    pub(crate) key: Option<Range<usize>>,
    pub(crate) id: Option<Range<usize>>,
    pub(crate) verdict: Result<(), (Stage, Vec<Reason>)>,
}

impl Piece {
    /// The piece of an event that stands at `whole` in a larger body. All of the event is the record, its blanks too.
    pub(crate) fn within(self, whole: Range<usize>) -> Piece {
        let moved = |range: Range<usize>| range.start + whole.start..range.end + whole.start;
        Piece { key: self.key.map(moved), id: self.id.map(moved), range: whole.clone(), verdict: self.verdict }
    }
}

pub(crate) struct Splitter<'a> {
    validator: &'a Validator,
    body: &'a [u8],
    max_event_bytes: usize,
    is_utf8: bool,
    at: usize,
    /// How many more bytes may be read beyond the ends of broken lines.
    patience: usize,
    shape: Shape,
}

enum Shape {
    /// `by_line`: whether a line holds a whole event, once that is known.
    Values {
        by_line: Option<bool>,
    },
    Array {
        first: bool,
    },
    Done,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<'a> Splitter<'a> {
    pub(crate) fn new(validator: &'a Validator, body: &'a [u8], max_event_bytes: usize) -> Splitter<'a> {
        // Most bodies are ASCII, which is looked at faster.
        let is_utf8 = body.is_ascii() || std::str::from_utf8(body).is_ok();
        let shape = Shape::Values { by_line: None };
        let mut splitter = Splitter { validator, body, max_event_bytes, is_utf8, at: 0, patience: body.len(), shape };
        if body.starts_with(BYTE_ORDER_MARK) {
            splitter.at = BYTE_ORDER_MARK.len();
        }
        if splitter.next_byte() == Some(b'[') {
            splitter.at += 1;
            splitter.shape = Shape::Array { first: true };
        }
        splitter
    }

    /// One event that was sent by itself: one JSON value and nothing else.
    pub(crate) fn whole(validator: &'a Validator, event: &'a [u8], max_event_bytes: usize) -> Piece {
        let is_utf8 = std::str::from_utf8(event).is_ok();
        let shape = Shape::Values { by_line: None };
        let splitter = Splitter { validator, body: event, max_event_bytes, is_utf8, at: 0, patience: 0, shape };
        let start = blanks(event, b" \t\r\n");
        match validator.scan(event, start) {
            Ok(scanned) => match scanned.end + blanks(&event[scanned.end..], b" \t\r\n") {
                end if end < event.len() => {
                    splitter.spoilt(0..event.len(), &Break { at: end, message: "trailing characters" })
                }
                _ => {
                    let mut piece = splitter.judged(start, scanned);
                    if event.len() > max_event_bytes && piece.verdict.is_ok() {
                        piece.verdict = Err((Stage::Decode, vec![too_large(event.len(), max_event_bytes)]));
                    }
                    piece
                }
            },
            Err(broken) => splitter.spoilt(0..event.len(), &broken),
        }
    }

    /// Bytes of the body looked at so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space, not consumed.
    fn next_byte(&mut self) -> Option<u8> {
        self.at += blanks(&self.body[self.at..], b" \t\r\n");
        self.body.get(self.at).copied()
    }

    fn next_value(&mut self, by_line: Option<bool>) -> Option<Piece> {
        self.next_byte()?;
        let start = self.at;
        // A broken line may be read far beyond its end. That is not done again and again: the whole stays linear.
        let patient = by_line != Some(true) || self.patience > 0;
        let limit = if patient { self.body.len() } else { line_end(self.body, start) };
        let broken = match self.validator.scan(&self.body[..limit], start) {
            Ok(scanned) => {
                let end = scanned.end;
                let next = end + blanks(&self.body[end..], b" \t\r");
                if matches!(self.body.get(next), None | Some(b'\n')) {
                    self.at = next;
                    if by_line.is_none() && !self.body[start..end].contains(&b'\n') {
                        self.shape = Shape::Values { by_line: Some(true) };
                    }
                    return Some(self.judged(start, scanned));
                }
                self.at = line_end(self.body, end);
                return Some(self.spoilt(start..self.at, &Break { at: next, message: "trailing characters" }));
            }
            Err(broken) => broken,
        };
        let by_line = by_line.unwrap_or_else(|| self.later_line_is_an_event(start));
        self.shape = Shape::Values { by_line: Some(by_line) };
        self.at = if by_line { line_end(self.body, start) } else { self.body.len() };
        self.patience = self.patience.saturating_sub(broken.at.saturating_sub(self.at));
        Some(self.spoilt(start..self.at, &broken))
    }

    /// Tells a broken line of NDJSON from a broken object printed over many lines.
    fn later_line_is_an_event(&self, mut at: usize) -> bool {
        loop {
            at = line_end(self.body, at) + 1;
            if at >= self.body.len() {
                return false;
            }
            let line = &self.body[at..line_end(self.body, at)];
            if line.first() == Some(&b'{')
                && self.validator.scan(line, 0).is_ok_and(|scanned| line[scanned.end..].trim_ascii().is_empty())
            {
                return true;
            }
        }
    }

    fn next_element(&mut self, first: bool) -> Option<Piece> {
        self.shape = Shape::Array { first: false };
        let broken = match self.next_byte() {
            Some(b']') => {
                self.at += 1;
                let behind = self.next_byte();
                behind?;
                Break { at: self.at, message: "trailing characters behind the array" }
            }
            Some(b',') if !first => {
                self.at += 1;
                self.next_byte();
                match self.validator.scan(self.body, self.at) {
                    Ok(scanned) => return Some(self.element(scanned)),
                    Err(broken) => broken,
                }
            }
            Some(_) if first => match self.validator.scan(self.body, self.at) {
                Ok(scanned) => return Some(self.element(scanned)),
                Err(broken) => broken,
            },
            Some(_) => Break { at: self.at, message: "\",\" or \"]\" expected" },
            None => Break { at: self.at, message: "unexpected end of the array" },
        };
        self.shape = Shape::Done;
        let start = self.at;
        self.at = self.body.len();
        let mut piece = self.spoilt(start..self.at, &broken);
        if let Err((_, reasons)) = &mut piece.verdict {
            reasons[0].message.push_str(&format!(" (byte {} of the request)", broken.at));
        }
        Some(piece)
    }

    fn element(&mut self, scanned: Scanned) -> Piece {
        let start = self.at;
        self.at = scanned.end;
        self.judged(start, scanned)
    }

    fn judged(&self, start: usize, scanned: Scanned) -> Piece {
        let range = start..scanned.end;
        let raw = &self.body[range.clone()];
        let verdict = self.verdict(raw, scanned.verdict);
        Piece { range, key: scanned.key, id: scanned.id, verdict }
    }

    fn verdict(&self, raw: &[u8], verdict: Verdict) -> Result<(), (Stage, Vec<Reason>)> {
        if raw.len() > self.max_event_bytes {
            return Err((Stage::Decode, vec![too_large(raw.len(), self.max_event_bytes)]));
        }
        if !self.is_utf8
            && let Err(error) = std::str::from_utf8(raw)
        {
            return Err((Stage::Decode, vec![not_utf8(&error)]));
        }
        self.validator.judge(raw, verdict).map_err(|reasons| (stage_of(&reasons), reasons))
    }

    #[cold]
    fn spoilt(&self, range: Range<usize>, broken: &Break) -> Piece {
        let raw = self.body[range.clone()].trim_ascii_end();
        let range = range.start..range.start + raw.len();
        let mut reasons = vec![match std::str::from_utf8(raw) {
            Err(error) => not_utf8(&error),
            Ok(_) => not_json(broken, range.start),
        }];
        if raw.len() > self.max_event_bytes {
            reasons.push(too_large(raw.len(), self.max_event_bytes));
        }
        Piece { range, key: None, id: None, verdict: Err((Stage::Decode, reasons)) }
    }
}

impl Iterator for Splitter<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        match self.shape {
            Shape::Values { by_line } => self.next_value(by_line),
            Shape::Array { first } => self.next_element(first),
            Shape::Done => None,
        }
    }
}

pub(crate) fn too_large(size: usize, limit: usize) -> Reason {
    Reason::whole("size", format!("the event of {size} bytes is larger than the limit of {limit}"))
}

fn blanks(bytes: &[u8], which: &[u8]) -> usize {
    bytes.iter().take_while(|byte| which.contains(byte)).count()
}

/// The index of the first line feed at or after `at`, or the length.
fn line_end(body: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |found| at + found)
}

#[cfg(test)]
mod tests;
