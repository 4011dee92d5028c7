//! A recorded file as a stream of events.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::array::{ArrayError, ArrayReader, Element};
use super::lines::{LENGTH_MAX, Line, read_line};
use super::occurrence::Occurrences;
use super::shift::{Shift, Span, timestamp};
use super::weblog;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Common or combined log format.
    WebLog,
    Ndjson,
    JsonArray,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "weblog" => Ok(Self::WebLog),
            "ndjson" => Ok(Self::Ndjson),
            "json" => Ok(Self::JsonArray),
            _ => Err(format!("`{text}` is not a format: use weblog, ndjson or json (one array)")),
        }
    }
}

/// What one line or element of the input gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its line, or the place of the element in its array, from 1.
    pub number: u64,
    /// Why it is no event; if `None`, an event line was appended.
    pub malformed: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("cannot open {name}")]
    Open { name: String, source: io::Error },
    #[error("cannot read {name} after line {number}")]
    Read { name: String, number: u64, source: io::Error },
    #[error("{name} is not one JSON array, at element {number}")]
    Array { name: String, number: u64, source: ArrayError },
}

/// How many bytes of the file itself, compressed if it is, were read so far.
#[derive(Debug, Clone, Default)]
struct BytesRead(Arc<AtomicU64>);

struct Counted<R> {
    inner: R,
    read: BytesRead,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

pub struct Input {
    name: String,
    reader: Box<dyn BufRead + Send>,
    format: Format,
    number: u64,
    line: Vec<u8>,
    array: ArrayReader,
    occurrences: Occurrences,
    shift: Option<Shift>,
    read: BytesRead,
    size: Option<u64>,
}

const BUFFER_BYTES: usize = 256 << 10;

impl Input {
    /// Opens a file; compression is recognised by its magic, the format by the first character unless given.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, InputError> {
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            Ok((file, metadata.len()))
        });
        let (file, size) = opened.map_err(|source| InputError::Open { name: name.clone(), source })?;
        let input = Self::from_reader(name, Box::new(file), format)?;
        Ok(Self { size: Some(size), ..input })
    }

    /// Reads what cannot be opened a second time, such as standard input.
    pub fn from_reader(name: String, source: Box<dyn Read + Send>, format: Option<Format>) -> Result<Self, InputError> {
        let read = BytesRead::default();
        let mut raw = BufReader::with_capacity(BUFFER_BYTES, Counted { inner: source, read: read.clone() });
        let prepared = || -> io::Result<(Box<dyn BufRead + Send>, Format, u64)> {
            let magic = raw.fill_buf()?;
            let mut reader: Box<dyn BufRead + Send> = if magic.starts_with(&[0x1f, 0x8b]) {
                Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw)))
            } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
                Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::stream::read::Decoder::with_buffer(raw)?))
            } else {
                Box::new(raw)
            };
            let blank_lines = skip_blank(&mut *reader)?;
            let format = match format {
                Some(format) => format,
                None => detect(reader.fill_buf()?),
            };
            Ok((reader, format, blank_lines))
        };
        let (reader, format, blank_lines) =
            prepared().map_err(|source| InputError::Read { name: name.clone(), number: 0, source })?;
        Ok(Self {
            name,
            reader,
            format,
            number: if format == Format::JsonArray { 0 } else { blank_lines },
            line: Vec::new(),
            array: ArrayReader::default(),
            occurrences: Occurrences::new(),
            shift: None,
            read,
            size: None,
        })
    }

    /// From here on, times are moved. Events from a web log also get other ids: they are other events.
    pub fn set_shift(&mut self, shift: Option<Shift>) {
        self.shift = shift;
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the file itself read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.0.load(Ordering::Relaxed)
    }

    pub fn bytes_total(&self) -> Option<u64> {
        self.size
    }

    /// Appends the next event to `out` as a line of JSON; `None` at the end. Blank lines are passed over.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<Item>, InputError> {
        let Some(readable) = self.read_item()? else { return Ok(None) };
        let number = self.number;
        if let Err(reason) = readable {
            return Ok(Some(Item { number, malformed: Some(reason) }));
        }
        match (self.format, &self.shift) {
            (Format::WebLog, shift) => match weblog::parse(&self.line) {
                Ok(request) => {
                    let time = shift.map_or(request.time, |shift| shift.apply(request.time));
                    let id = self.occurrences.id(&self.line, shift.map(|_| time.timestamp_millis()));
                    request.write_event(&id, time, out);
                }
                Err(reason) => return Ok(Some(Item { number, malformed: Some(reason.to_string()) })),
            },
            (_, Some(shift)) => shift.rewrite(&self.line, out),
            (_, None) => out.extend_from_slice(&self.line),
        }
        out.push(b'\n');
        Ok(Some(Item { number, malformed: None }))
    }

    /// The first and last time in the rest of the input, which is read to its end.
    pub fn time_span(mut self) -> Result<Option<Span>, InputError> {
        let mut span: Option<Span> = None;
        while let Some(readable) = self.read_item()? {
            let time = match (readable, self.format) {
                (Err(_), _) => None,
                (Ok(()), Format::WebLog) => weblog::parse(&self.line).ok().map(|request| request.time),
                (Ok(()), _) => timestamp(&self.line).map(|(_, _, time)| time),
            };
            if let Some(time) = time {
                let (first, last) = span.unwrap_or((time, time));
                span = Some((first.min(time), last.max(time)));
            }
        }
        Ok(span)
    }

    /// Reads the next line or element into `self.line`, or says why it cannot be one.
    fn read_item(&mut self) -> Result<Option<Result<(), String>>, InputError> {
        let too_long = || format!("longer than {LENGTH_MAX} bytes");
        if self.format == Format::JsonArray {
            let outcome = self.array.next(&mut *self.reader, &mut self.line).map_err(|source| match source {
                ArrayError::Read(source) => InputError::Read { name: self.name.clone(), number: self.number, source },
                source => InputError::Array { name: self.name.clone(), number: self.number + 1, source },
            })?;
            self.number += u64::from(outcome.is_some());
            return Ok(outcome.map(|element| match element {
                Element::Whole => Ok(()),
                Element::TooLong => Err(too_long()),
                Element::Broken => Err("a line break inside a JSON string".to_owned()),
            }));
        }
        loop {
            let line = read_line(&mut *self.reader, &mut self.line).map_err(|source| InputError::Read {
                name: self.name.clone(),
                number: self.number,
                source,
            })?;
            let Some(line) = line else { return Ok(None) };
            self.number += 1;
            match line {
                Line::TooLong => return Ok(Some(Err(too_long()))),
                Line::Whole if self.line.trim_ascii().is_empty() => {}
                Line::Whole => return Ok(Some(Ok(()))),
            }
        }
    }
}

/// Passes over a byte order mark and white space, and returns how many lines that were.
fn skip_blank(reader: &mut dyn BufRead) -> io::Result<u64> {
    if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    let mut lines = 0;
    loop {
        let available = reader.fill_buf()?;
        let blank = available.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        lines += available[..blank].iter().filter(|&&byte| byte == b'\n').count() as u64;
        let all = blank == available.len();
        reader.consume(blank);
        if !all || blank == 0 {
            return Ok(lines);
        }
    }
}

/// An array of events begins with `[`, a web log with an address: even `[::1]` tells itself apart by what follows.
fn detect(start: &[u8]) -> Format {
    match start {
        [b'{', ..] => Format::Ndjson,
        [b'[', rest @ ..] => match rest.trim_ascii_start().first() {
            Some(b'{' | b']') | None => Format::JsonArray,
            Some(_) => Format::WebLog,
        },
        _ => Format::WebLog,
    }
}
