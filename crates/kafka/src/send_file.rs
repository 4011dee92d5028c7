//! Batches that the operating system takes from a file to a socket, without a copy through this process (`sendfile`).
//!
//! The files are held open until they are sent, also those of segments that are deleted meanwhile: only so many at a time.

use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use playhouse_log::{Batches, FileRange};
use rustix::fs::{Advice, fadvise, sendfile};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Ranges on their way at the same time, of all connections; the next ones are copied.
const RANGES_MAX: usize = 256;
/// At most so much goes out in one call: it runs on a thread that serves other connections, too.
const SEND_BYTES: u64 = 256 << 10;
/// Pages of a file come into memory at least so many at a time.
const TOUCH_BYTES: u64 = 128 << 10;

/// How many more ranges may be on their way.
#[derive(Debug, Clone)]
pub(crate) struct OpenRanges(Arc<Semaphore>);

impl Default for OpenRanges {
    fn default() -> Self {
        OpenRanges(Arc::new(Semaphore::new(RANGES_MAX)))
    }
}

impl OpenRanges {
    /// Makes batches ready to be sent, or copies them where too many are on their way. Blocks on the disk, so that sending
    /// them does not.
    pub(crate) fn prepare(&self, batches: Batches, held: &mut Option<OwnedSemaphorePermit>) -> io::Result<Batches> {
        let Batches::Range(range) = batches else { return Ok(batches) };
        let Ok(place) = self.0.clone().try_acquire_owned() else { return range.read().map(Batches::Bytes) };
        warm(&range)?;
        match held {
            Some(held) => held.merge(place),
            None => *held = Some(place),
        }
        Ok(Batches::Range(range))
    }
}

/// Brings the pages into memory.
fn warm(range: &FileRange) -> io::Result<()> {
    let (Some(file), Some(length)) = (range.descriptor(), NonZeroU64::new(range.len() as u64)) else { return Ok(()) };
    fadvise(file, range.position(), Some(length), Advice::WillNeed)?;
    let end = range.position() + range.len() as u64;
    let mut position = range.position();
    while position < end {
        rustix::io::pread(file, &mut [0; 1], position)?;
        position += TOUCH_BYTES;
    }
    rustix::io::pread(file, &mut [0; 1], end - 1)?;
    Ok(())
}

/// The client must take some of it within every `patience`: else it has timed out.
pub(crate) async fn send(socket: &TcpStream, range: &FileRange, patience: Duration) -> io::Result<()> {
    let file = range.descriptor().ok_or(ErrorKind::Unsupported)?;
    let (mut position, end) = (range.position(), range.position() + range.len() as u64);
    while position < end {
        timeout(patience, socket.writable()).await.map_err(|_| ErrorKind::TimedOut)??;
        let count = (end - position).min(SEND_BYTES) as usize;
        match socket.try_io(Interest::WRITABLE, || Ok(sendfile(socket, file, Some(&mut position), count)?)) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use playhouse_log::batch::{BatchBuilder, Compression};
    use playhouse_log::disk::RealDisk;
    use playhouse_log::{Isolation, Log, LogConfig, TopicSettings};

    use super::*;

    #[tokio::test]
    async fn beyond_the_limit_batches_are_copied() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(Arc::new(RealDisk), directory.path(), LogConfig::default()).unwrap();
        let topic = log.create_topic("events", TopicSettings::default()).unwrap();
        let partition = &topic.partitions()[0];
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1_000, None, Some(&[7; 100_000]), &[]);
        let appended = partition.append(&builder.build()).unwrap();
        partition.durable(appended.next_offset).await.unwrap();
        let batches = || partition.transfer(0, 1 << 20, Isolation::Uncommitted).unwrap().batches;
        let ranges = OpenRanges::default();
        let mut held = None;
        for _ in 0..RANGES_MAX {
            assert!(matches!(ranges.prepare(batches(), &mut held).unwrap(), Batches::Range(_)));
        }
        let copied = ranges.prepare(batches(), &mut held).unwrap();
        assert!(matches!(copied, Batches::Bytes(bytes) if bytes == partition.read(0, 1 << 20).unwrap()));
        drop(held);
        assert!(matches!(ranges.prepare(batches(), &mut None).unwrap(), Batches::Range(_)));
    }
}
