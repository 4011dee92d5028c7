//! Messages on the wire, checked before they are decoded: their length against the limit, and their counts and texts
//! against their length. The decoder behind trusts both.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// What comes before a session carries no type byte: start-up, cancel, requests for encryption.
const STARTUP_BYTES_MAX: usize = 10_000;
const CANCEL: u32 = 80_877_102;
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// A socket that hands on whole, well-formed messages only.
pub(super) struct Checked {
    socket: TcpStream,
    input: BytesMut,
    /// Bytes at the front of `input` that have passed.
    passed: usize,
    started: bool,
    limit: usize,
}

impl Checked {
    pub(super) fn new(socket: TcpStream, message_bytes_max: usize) -> Checked {
        Checked { socket, input: BytesMut::new(), passed: 0, started: false, limit: message_bytes_max }
    }
}

impl AsyncRead for Checked {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passed > 0 {
                let count = this.passed.min(buffer.remaining());
                buffer.put_slice(&this.input[..count]);
                this.input.advance(count);
                this.passed -= count;
                return Poll::Ready(Ok(()));
            }
            if let Some(length) = check(&this.input, &mut this.started, this.limit)? {
                this.passed = length;
                continue;
            }
            match poll_read_buf(Pin::new(&mut this.socket), context, &mut this.input) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for Checked {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

/// Bytes of the message at the front; `None` where it is not complete yet.
fn check(input: &[u8], started: &mut bool, limit: usize) -> io::Result<Option<usize>> {
    let (header, limit) = if *started { (1, limit) } else { (0, limit.min(STARTUP_BYTES_MAX)) };
    let Some(length) = input.get(header..header + 4) else { return Ok(None) };
    // The length counts itself, but not the type byte.
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if length > limit {
        return Err(invalid(format!("a message of {length} bytes: the limit is {limit} bytes")));
    }
    if length < 4 {
        return Err(invalid("a message shorter than its length field".to_owned()));
    }
    let Some(body) = input.get(header + 4..header + length) else { return Ok(None) };
    let body = Body(body);
    let well_formed = if *started { body.message(input[0]) } else { body.startup(started) };
    match well_formed {
        Some(()) => Ok(Some(header + length)),
        None => Err(invalid("a malformed message".to_owned())),
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// What is left of a message's body; each step takes its part, `None` where that is not there.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn startup(mut self, started: &mut bool) -> Option<()> {
        let code = self.number::<4>()? as u32;
        if ENCRYPTION.contains(&code) {
            return self.end();
        }
        *started = true;
        if code == CANCEL {
            self.number::<4>()?;
            return (4..=256).contains(&self.0.len()).then_some(());
        }
        // Pairs of texts, then an empty one.
        loop {
            if self.text()? == 0 {
                return self.end();
            }
            self.text()?;
        }
    }

    fn message(mut self, kind: u8) -> Option<()> {
        match kind {
            b'Q' | b'f' => {
                self.text()?;
                self.end()
            }
            b'P' => {
                self.text()?;
                self.text()?;
                let types = self.number::<2>()?;
                self.skip(types * 4)?;
                self.end()
            }
            b'B' => {
                self.text()?;
                self.text()?;
                let formats = self.number::<2>()?;
                self.skip(formats * 2)?;
                for _ in 0..self.number::<2>()? {
                    let length = self.number::<4>()?;
                    // -1 is NULL
                    if length != u32::MAX as usize {
                        self.skip(length)?;
                    }
                }
                let formats = self.number::<2>()?;
                self.skip(formats * 2)?;
                self.end()
            }
            b'E' => {
                self.text()?;
                self.number::<4>()?;
                self.end()
            }
            b'D' | b'C' => {
                self.skip(1)?;
                self.text()?;
                self.end()
            }
            b'H' | b'S' | b'X' | b'c' => self.end(),
            b'd' => Some(()),
            _ => None,
        }
    }

    /// Bytes of a text before its zero.
    fn text(&mut self) -> Option<usize> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&self.0[..length]).ok()?;
        self.skip(length + 1)?;
        Some(length)
    }

    fn number<const BYTES: usize>(&mut self) -> Option<usize> {
        let number = self.0.get(..BYTES)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        self.skip(BYTES)?;
        Some(number)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
