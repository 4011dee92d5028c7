//! Reading the epoch log in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::record_batch::RecordBatch;

use super::codec::{self, Header, PREFIX_BYTES};
use super::log::{EpochLog, EpochLogError, Segment};
use crate::Position;

/// Reads epochs in order, up to the newest durable one. It holds the segment it stands in (and, after
/// [`Cursor::hold`], all that follow), so truncation does not disturb it.
#[derive(Debug, Clone)]
pub struct Cursor {
    log: Arc<EpochLog>,
    segment: Arc<Segment>,
    held: VecDeque<Arc<Segment>>,
    at: u64,
    /// Number of the last epoch seen, to notice a gap.
    last: Option<u64>,
    /// Epochs wholly before this position are passed over.
    position: Position,
    skip_to: u64,
}

/// One epoch as found: its header, and where its rows are.
#[derive(Debug, Clone)]
pub struct EpochRef {
    pub header: Arc<Header>,
    log: Arc<EpochLog>,
    segment: Arc<Segment>,
    body_at: u64,
}

impl Cursor {
    pub(super) fn new(log: Arc<EpochLog>, segment: Arc<Segment>, position: Position) -> Cursor {
        let at = segment.start;
        Cursor { log, segment, held: VecDeque::new(), at, last: None, position, skip_to: 0 }
    }

    pub(super) fn skip_to(mut self, number: u64) -> Cursor {
        self.skip_to = number;
        self
    }

    /// Keeps every epoch that exists now readable through this cursor and its clones, whatever is truncated meanwhile.
    pub fn hold(mut self) -> Cursor {
        self.held = self.log.all_after(&self.segment);
        self
    }

    /// The next epoch, or `None` at the end of what is durable.
    pub fn next_epoch(&mut self) -> Result<Option<EpochRef>, EpochLogError> {
        loop {
            if self.at >= self.segment.end.load(Ordering::Acquire) {
                let next = self.held.front().cloned().or_else(|| self.log.all_after(&self.segment).pop_front());
                let Some(next) = next else { return Ok(None) };
                // Once there is a next segment this one grows no more, but it may have grown before the look-up.
                if self.at >= self.segment.end.load(Ordering::Acquire) {
                    self.held.pop_front();
                    self.at = next.start;
                    self.segment = next;
                }
                continue;
            }
            let found = self.read_header()?;
            let number = found.header.number;
            if self.last.is_some_and(|last| number != last + 1) {
                return Err(EpochLogError::Gap { before: number });
            }
            self.last = Some(number);
            let passed =
                found.header.number < self.skip_to || (self.skip_to == 0 && found.header.is_before(&self.position));
            if !passed {
                return Ok(Some(found));
            }
        }
    }

    fn read_header(&mut self) -> Result<EpochRef, EpochLogError> {
        let segment = &self.segment;
        let io = |source| EpochLogError::Io { path: segment.path.clone(), source };
        let corrupt = |source| EpochLogError::Codec { path: segment.path.clone(), source };
        let mut prefix = [0u8; PREFIX_BYTES];
        read_exact(segment, &mut prefix, self.at).map_err(io)?;
        let (bytes, crc, header_bytes) = codec::decode_prefix(&prefix).map_err(corrupt)?;
        let mut json = vec![0; header_bytes];
        read_exact(segment, &mut json, self.at + PREFIX_BYTES as u64).map_err(io)?;
        let header = codec::decode_header(&json, crc, bytes).map_err(corrupt)?;
        let body_at = self.at + (PREFIX_BYTES + header_bytes) as u64;
        self.at += bytes;
        Ok(EpochRef { header: Arc::new(header), log: self.log.clone(), segment: self.segment.clone(), body_at })
    }
}

impl EpochRef {
    /// Rows of one stream: from memory if the epoch is recent, else from disk. `None` if they are in neither and must be
    /// computed again.
    pub fn rows(&self, stream: usize) -> Result<Option<Vec<RecordBatch>>, EpochLogError> {
        if self.header.rows.get(stream).is_none_or(|rows| *rows == 0) {
            return Ok(Some(Vec::new()));
        }
        if let Some(streams) = self.log.recent(self.header.number) {
            return Ok(Some(streams.get(stream).cloned().unwrap_or_default()));
        }
        let Some((offset, section)) = self.header.stream_section(stream) else { return Ok(None) };
        let bytes = self.read_section(offset, section)?;
        codec::decode_batches(&bytes).map(Some).map_err(|source| self.corrupt(source))
    }

    /// By source: the decoded rows that the plans did not see.
    pub fn dropped(&self) -> Result<Vec<Vec<u32>>, EpochLogError> {
        let (offset, section) = self.header.dropped_section();
        codec::decode_dropped(&self.read_section(offset, section)?).map_err(|source| self.corrupt(source))
    }

    /// The state delta.
    pub fn delta(&self) -> Result<Vec<u8>, EpochLogError> {
        self.read_section(0, self.header.delta_section())
    }

    fn read_section(&self, offset: u64, section: codec::Section) -> Result<Vec<u8>, EpochLogError> {
        let mut bytes = vec![0; section.bytes as usize];
        read_exact(&self.segment, &mut bytes, self.body_at + offset)
            .map_err(|source| EpochLogError::Io { path: self.segment.path.clone(), source })?;
        codec::check_section(&bytes, section).map_err(|source| self.corrupt(source))?;
        Ok(bytes)
    }

    fn corrupt(&self, source: codec::CodecError) -> EpochLogError {
        EpochLogError::Codec { path: self.segment.path.clone(), source }
    }
}

fn read_exact(segment: &Segment, buffer: &mut [u8], at: u64) -> std::io::Result<()> {
    if segment.file.read_at(buffer, at)? < buffer.len() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
