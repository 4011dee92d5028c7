//! Compaction: of the closed segments only the newest record of every key stays (`cleanup.policy=compact`).
//!
//! It goes over the log twice: over what is new, to learn the newest offset of every key, and over everything, to write
//! what stays into the directory `compacted`, segment by segment. A finished segment takes the place of those it was made
//! from by rename. What it replaces is first written down beside it: a crash at any point leaves either the old segments,
//! or enough to finish the replacement when the partition is opened. Appends and reads go on meanwhile: they meet
//! compaction only for the moment of the renames.

mod keys;
mod rules;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::*;
use crate::batch::BatchHeader;
use crate::disk::{Disk, create_dir_durably, read_file, write_atomically};
use crate::segment::{Gaps, KINDS, scan};
use keys::NewestOffsets;
use rules::{Aborted, Rules, Verdict};

const DIRECTORY: &str = "compacted";
const INTENT: &str = "replaces.json";
const MAGIC: &str = "playhouse-compaction";
const VERSION: u32 = 1;
const WRITE_BYTES: usize = 1 << 20;

/// Which segments a compacted one takes the place of: it bears the name of the first.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    magic: String,
    version: u32,
    bases: Vec<i64>,
    has_transaction_index: bool,
}

/// What can be compacted.
#[derive(Debug)]
struct Cleanable {
    /// From the log's first segment on.
    segments: Vec<Segment>,
    /// What lies above it is new.
    compacted_to: i64,
    last_of_producers: std::collections::HashSet<i64>,
}

impl Cleanable {
    fn dirty(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.next_offset > self.compacted_to)
    }

    fn dirty_ratio(&self) -> f64 {
        let bytes = |segment: &Segment| segment.bytes as f64;
        let all: f64 = self.segments.iter().map(bytes).sum();
        if all == 0.0 { 0.0 } else { self.dirty().map(bytes).sum::<f64>() / all }
    }
}

impl Partition {
    /// How much of what can be compacted is new, if that is enough to begin.
    pub(crate) fn wants_compaction(&self) -> io::Result<Option<f64>> {
        let settings = self.settings.get();
        if !settings.cleanup.compacts() || self.failure().is_some() {
            return Ok(None);
        }
        let now_ms = self.shared.clock.now_ms();
        let too_old = |segment: &ActiveSegment| {
            settings.max_compaction_lag_ms.is_some_and(|lag| segment.is_older_than(lag, now_ms))
        };
        let cleanable = {
            let mut state = self.state.lock();
            if too_old(&state.active) {
                self.roll(&mut state)?;
                self.want_flush(&mut state);
            }
            self.cleanable(&state)
        };
        let Some(first) = cleanable.dirty().next() else { return Ok(None) };
        let overdue = settings
            .max_compaction_lag_ms
            .is_some_and(|lag| first.max_timestamp_ms.is_some_and(|newest| now_ms.saturating_sub(newest) >= lag));
        let ratio = cleanable.dirty_ratio();
        Ok((overdue || ratio > 0.0 && ratio >= settings.min_cleanable_dirty_ratio).then_some(ratio))
    }

    /// Closed and durable segments without anything undecided, or still needed as it is.
    fn cleanable(&self, state: &State) -> Cleanable {
        let lag = self.settings.get().min_compaction_lag_ms;
        let young = self.shared.clock.now_ms().saturating_sub(lag);
        let bound = self.last_stable_offset().min(state.held()).min(state.checkpoint.segment);
        let segments = state.closed.iter().take_while(|segment| {
            let ripe = lag <= 0 || segment.max_timestamp_ms.is_none_or(|newest| newest < young);
            segment.next_offset <= bound && ripe
        });
        Cleanable {
            segments: segments.copied().collect(),
            compacted_to: state.compacted_to,
            last_of_producers: state.producers.last_offsets(),
        }
    }

    /// Compacts what can be; returns how many bytes that freed. Stops early where the log or the partition does.
    pub(crate) fn compact(&self) -> io::Result<u64> {
        let _turn = self.cleaning.lock();
        let settings = self.settings.get();
        let cleanable = self.cleanable(&self.state.lock());
        let Some((first, last)) = cleanable.segments.first().zip(cleanable.segments.last()) else { return Ok(0) };
        let aborted = self.aborted_between(first.base_offset, last.next_offset).map_err(io::Error::other)?;
        let aborted = Aborted::new(aborted);
        let newest = self.learn_keys(&cleanable, &aborted)?;
        let mut rules = Rules {
            newest: &newest,
            aborted: &aborted,
            last_of_producers: &cleanable.last_of_producers,
            now_ms: self.shared.clock.now_ms(),
            delete_retention_ms: settings.delete_retention_ms,
            in_transaction: Default::default(),
        };
        let mut freed = 0;
        let within = cleanable.segments.iter().take_while(|segment| segment.base_offset < newest.end);
        for group in groups(within.copied(), settings.segment_bytes) {
            match self.rewrite(&group, &mut rules)? {
                Some(bytes) => freed += bytes,
                None => return Ok(freed),
            }
        }
        self.state.lock().compacted_to = newest.end;
        self.checkpoint(true)?;
        Ok(freed)
    }

    /// The newest offsets of the keys in what is new, or in as much of it as memory allows.
    fn learn_keys(&self, cleanable: &Cleanable, aborted: &Aborted) -> io::Result<NewestOffsets> {
        let mut newest = NewestOffsets::new(cleanable.compacted_to);
        for segment in cleanable.dirty() {
            let mut failed = None;
            self.scan(segment, |header, batch| {
                if newest.is_full() || failed.is_some() || header.next_offset() <= newest.end {
                    return;
                }
                if !header.is_control() && aborted.of(header).is_none() && header.record_count > 0 {
                    let batch = Bytes::copy_from_slice(batch);
                    failed = rules::note_keys(&mut newest, &batch, cleanable.compacted_to).err();
                }
                newest.end = header.next_offset();
            })?;
            if let Some(error) = failed {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
            }
            if newest.is_full() || self.is_over() {
                break;
            }
            newest.end = newest.end.max(segment.next_offset);
        }
        Ok(newest)
    }

    /// Writes what stays of a group of segments and puts it in their place. `None` when the log stopped meanwhile.
    fn rewrite(&self, group: &[Segment], rules: &mut Rules<'_>) -> io::Result<Option<u64>> {
        let disk = &*self.shared.disk;
        let directory = self.directory.join(DIRECTORY);
        if disk.exists(&directory) {
            disk.remove_dir_all(&directory)?;
        }
        create_dir_durably(disk, &directory)?;
        let (first, last) = (group[0], group[group.len() - 1]);
        let mut new = Writer::create(disk, &directory, first.base_offset)?;
        for segment in group {
            let mut outcome = Ok(());
            self.scan(segment, |header, batch| {
                if outcome.is_ok() && !self.is_over() {
                    let is_last = header.next_offset() == last.next_offset;
                    outcome = new.take(disk, rules, header, batch, is_last);
                }
            })?;
            outcome?;
            if self.is_over() {
                disk.remove_dir_all(&directory)?;
                return Ok(None);
            }
        }
        let mut segment = new.finish(disk, &directory)?;
        segment.next_offset = last.next_offset;
        let before: u64 = group.iter().map(|segment| segment.bytes).sum();
        if group.len() == 1 && segment.bytes == before {
            disk.remove_dir_all(&directory)?;
            return Ok(Some(0));
        }
        let intent = Intent {
            magic: MAGIC.into(),
            version: VERSION,
            bases: group.iter().map(|segment| segment.base_offset).collect(),
            has_transaction_index: segment.aborted_count() > 0,
        };
        write_atomically(disk, &directory.join(INTENT), &serde_json::to_vec(&intent)?)?;
        {
            let _layout = self.layout.write();
            if let Err(error) = replace(disk, &self.directory, &intent) {
                // Some files may be the new ones and some the old: the next start finishes it.
                self.fail(&format!("a compacted segment could not be put in its place: {error}"));
                return Err(error);
            }
            let mut state = self.state.lock();
            let at = state.closed.partition_point(|closed| closed.base_offset < first.base_offset);
            state.closed.drain(at..at + group.len());
            state.closed.insert(at, segment);
        }
        disk.sync_dir(&self.directory)?;
        disk.remove_dir_all(&directory)?;
        let freed = before.saturating_sub(segment.bytes);
        self.size_bytes.fetch_sub(freed, Ordering::AcqRel);
        self.shared.used_bytes.fetch_sub(freed, Ordering::AcqRel);
        Ok(Some(freed))
    }

    fn scan(&self, segment: &Segment, mut visit: impl FnMut(&BatchHeader, &[u8])) -> io::Result<()> {
        let path = self.segment_path(segment.base_offset);
        let file = self.shared.disk.open(&path, false)?;
        let scanned = scan(&*file, 0, Some(segment.base_offset), Gaps(i64::MAX), |header, batch, _| {
            visit(header, batch);
        })?;
        match scanned.damage {
            None => Ok(()),
            Some(damage) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {damage}", path.display()))),
        }
    }

    fn is_over(&self) -> bool {
        self.failure().is_some() || self.shared.is_stopped()
    }
}

/// Neighbours that fit into one segment together, by their sizes before.
fn groups(segments: impl Iterator<Item = Segment>, segment_bytes: u64) -> Vec<Vec<Segment>> {
    let mut groups: Vec<Vec<Segment>> = Vec::new();
    let mut bytes = 0;
    for segment in segments {
        match groups.last_mut() {
            Some(group)
                if bytes + segment.bytes <= segment_bytes
                    && segment.next_offset - group[0].base_offset <= i64::from(i32::MAX) =>
            {
                bytes += segment.bytes;
                group.push(segment);
            }
            _ => {
                bytes = segment.bytes;
                groups.push(vec![segment]);
            }
        }
    }
    groups
}

/// A compacted segment being written.
struct Writer {
    segment: ActiveSegment,
    buffer: Vec<u8>,
    /// Of the buffer in the file.
    position: u64,
}

impl Writer {
    fn create(disk: &dyn Disk, directory: &Path, base_offset: i64) -> io::Result<Writer> {
        let segment = ActiveSegment::create(disk, directory, base_offset)?;
        Ok(Writer { segment, buffer: Vec::new(), position: 0 })
    }

    fn take(
        &mut self,
        disk: &dyn Disk,
        rules: &mut Rules<'_>,
        header: &BatchHeader,
        batch: &[u8],
        is_last: bool,
    ) -> io::Result<()> {
        let damaged = |error: crate::batch::BatchError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let at = self.position + self.buffer.len() as u64;
        let batch = Bytes::copy_from_slice(batch);
        let header = match rules.judge(header, &batch, is_last).map_err(damaged)? {
            Verdict::Dropped => return Ok(()),
            Verdict::Verbatim => {
                self.buffer.extend_from_slice(&batch);
                *header
            }
            Verdict::Rewritten(bytes) => {
                self.buffer.extend_from_slice(&bytes);
                BatchHeader::parse(&bytes).map_err(damaged)?
            }
        };
        self.segment.note(disk, &header, at);
        if header.is_control()
            && header.record_count > 0
            && let Some(aborted) = rules.aborted.of(&header)
        {
            self.segment.note_aborted(disk, aborted);
        }
        if self.buffer.len() >= WRITE_BYTES { self.write(disk) } else { Ok(()) }
    }

    fn write(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.segment.file(disk)?.write_all_at(&self.buffer, self.position)?;
        self.position += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, disk: &dyn Disk, directory: &Path) -> io::Result<Segment> {
        self.write(disk)?;
        let segment = self.segment.close(disk)?;
        for kind in KINDS {
            let path = segment::path(directory, segment.base_offset, kind);
            if disk.exists(&path) {
                disk.open(&path, false)?.sync()?;
            }
        }
        disk.sync_dir(directory)?;
        Ok(segment)
    }
}

/// Puts a compacted segment in its place. May be repeated.
fn replace(disk: &dyn Disk, partition: &Path, intent: &Intent) -> io::Result<()> {
    let directory = partition.join(DIRECTORY);
    let Some((&base, others)) = intent.bases.split_first() else { return Ok(()) };
    for kind in KINDS {
        let (from, to) = (segment::path(&directory, base, kind), segment::path(partition, base, kind));
        if disk.exists(&from) {
            disk.rename(&from, &to)?;
        }
    }
    let index = segment::path(partition, base, Kind::TxnIndex);
    if !intent.has_transaction_index && disk.exists(&index) {
        disk.remove_file(&index)?;
    }
    others.iter().try_for_each(|&base| segment::remove(disk, partition, base))
}

/// Finishes a replacement that a crash interrupted, and forgets what was not finished.
pub(super) fn finish_replacement(disk: &dyn Disk, partition: &Path) -> io::Result<()> {
    let directory = partition.join(DIRECTORY);
    if !disk.exists(&directory) {
        return Ok(());
    }
    let path = directory.join(INTENT);
    if let Some(contents) = read_file(disk, &path)? {
        let damaged =
            |found: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {found}", path.display()));
        let intent: Intent = serde_json::from_slice(&contents).map_err(|error| damaged(error.to_string()))?;
        if intent.magic != MAGIC || intent.version != VERSION {
            return Err(damaged(format!(
                "{} version {} is not {MAGIC} version {VERSION}",
                intent.magic, intent.version
            )));
        }
        replace(disk, partition, &intent)?;
        disk.sync_dir(partition)?;
    }
    disk.remove_dir_all(&directory)?;
    disk.sync_dir(partition)
}
