//! Opening a partition: what is below the checkpoint is believed, what is above is read and checked, and the log ends
//! before the first byte that is not whole.

use super::checkpoint::Checkpoint;
use super::*;
use crate::batch::BatchHeader;
use crate::segment::{Gaps, scan};
use crate::{AbortedTransaction, TimestampType};

impl Partition {
    /// A new, empty partition. Its directory may exist; the caller makes the directory's own entry durable.
    pub(crate) fn create(shared: Arc<Shared>, identity: PartitionIdentity) -> io::Result<Arc<Partition>> {
        let disk = &*shared.disk;
        disk.create_dir_all(&identity.directory)?;
        let active = ActiveSegment::create(disk, &identity.directory, 0)?;
        // The segment's own entry is made durable with the first records in it.
        Ok(Self::assemble(shared, identity, VecDeque::new(), active, Producers::default(), true))
    }

    pub(crate) fn open(shared: Arc<Shared>, identity: PartitionIdentity) -> io::Result<Arc<Partition>> {
        let disk = &*shared.disk;
        let directory = &identity.directory;
        compaction::finish_replacement(disk, directory)?;
        let bases: Vec<i64> = disk.list(directory)?.iter().filter_map(|path| segment::base_of(path)).collect();
        let checkpoint = Checkpoint::load(disk, directory)?;
        let checkpoint = checkpoint.filter(|checkpoint| checkpoint.has_transaction_indexes(disk, directory, &bases));
        let known = checkpoint.is_some();
        let Checkpoint { recovery_point, log_start_offset, compacted_to, mut producers, .. } =
            checkpoint.unwrap_or_default();
        // Without a checkpoint nobody knows what compaction took out.
        let gaps = Gaps(if known { recovery_point } else { i64::MAX });
        let now_ms = shared.clock.now_ms();

        let mut closed = VecDeque::new();
        let mut active: Option<ActiveSegment> = None;
        // Segments that were read, to their end or from the recovery point on.
        let mut read = 0;
        for (index, &base) in bases.iter().enumerate() {
            if active.is_none()
                && let Some(&next) = bases.get(index + 1)
                && next <= recovery_point
                && let Some(segment) = Segment::closed(disk, directory, base, next)?
            {
                closed.push_back(segment);
                continue;
            }
            if let Some(mut before) = active.take() {
                if before.summary.next_offset != base {
                    let end = before.summary.next_offset;
                    tracing::warn!(directory = %directory.display(), end, "cutting off segments that do not follow");
                    bases[index..].iter().try_for_each(|&base| segment::remove(disk, directory, base))?;
                    active = Some(before);
                    break;
                }
                closed.push_back(before.close(disk)?);
            }
            read += 1;
            active = Some(recover_segment(disk, directory, base, recovery_point, gaps, |header, batch| {
                if header.base_offset < recovery_point {
                    return None;
                }
                let append_time_ms = if header.is_log_append_time() { header.max_timestamp_ms } else { now_ms };
                transactions::found(&mut producers, header, batch, append_time_ms)
            })?);
        }
        let found = active.as_ref().map_or(0, |active| active.summary.next_offset);
        if found < recovery_point {
            let path = directory.display();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{path}: records from offset {found} on were durable up to {recovery_point} and are damaged or gone; restore the directory, or move it away to begin anew without them"
                ),
            ));
        }
        let active = match active {
            Some(active) => active,
            None => ActiveSegment::create(disk, directory, 0)?,
        };
        // Everything is as the checkpoint says: nothing to sync, and nothing to tell it.
        let clean = known && read <= 1 && active.summary.next_offset == recovery_point;
        if !clean {
            // What the last process wrote but did not sync is read from now on, so it must be durable.
            for segment in closed.iter().chain([&active.summary]).filter(|it| it.next_offset >= recovery_point) {
                disk.open(&segment::path(directory, segment.base_offset, Kind::Log), false)?.sync()?;
            }
            disk.sync_dir(directory)?;
        }
        let log_start_offset = log_start_offset.min(active.summary.next_offset);
        let base_offset = active.summary.base_offset;
        let partition = Self::assemble(shared, identity, closed, active, producers, false);
        partition.log_start_offset.fetch_max(log_start_offset, Ordering::AcqRel);
        {
            let mut state = partition.state.lock();
            state.compacted_to = compacted_to;
            if clean {
                state.checkpoint.offset = recovery_point;
                state.checkpoint.told = (partition.log_start_offset(), compacted_to);
                state.checkpoint.segment = base_offset;
            }
        }
        Ok(partition)
    }

    fn assemble(
        shared: Arc<Shared>,
        identity: PartitionIdentity,
        closed: VecDeque<Segment>,
        active: ActiveSegment,
        producers: Producers,
        directory_dirty: bool,
    ) -> Arc<Partition> {
        let PartitionIdentity { topic, index, directory, settings } = identity;
        let first = closed.front().unwrap_or(&active.summary);
        let log_start_offset = AtomicI64::new(first.base_offset);
        let bytes = closed.iter().map(|segment| segment.bytes).sum::<u64>() + active.summary.bytes;
        shared.used_bytes.fetch_add(bytes, Ordering::AcqRel);
        // The checkpoint that was found is not believed for more than it was: the next one syncs all that was scanned.
        let checkpoint = LastCheckpoint {
            offset: -1,
            told: (0, 0),
            segment: first.base_offset,
            bytes_since: 0,
            at_ms: shared.clock.now_ms(),
        };
        let Segment { base_offset, next_offset, bytes: position, .. } = active.summary;
        let stamps = settings.get().timestamp_type == TimestampType::LogAppendTime;
        let last_append_ms = active.summary.max_timestamp_ms.filter(|_| stamps).unwrap_or(i64::MIN);
        let state = State {
            closed,
            active,
            producers,
            ended: VecDeque::new(),
            durable: End { offset: next_offset, segment: base_offset, position },
            synced: next_offset,
            unsynced: Vec::new(),
            directory_dirty,
            queued: false,
            last_append_ms,
            checkpoint,
            holds: BTreeMap::new(),
            compacted_to: 0,
            used_at: Instant::now(),
        };
        let last_stable_offset = state.producers.first_open().unwrap_or(i64::MAX).min(next_offset);
        Arc::new_cyclic(|me| Partition {
            me: Weak::clone(me),
            shared,
            topic,
            index,
            directory,
            settings,
            state: Mutex::new(state),
            high_watermark: watch::channel(next_offset).0,
            last_stable_offset: AtomicI64::new(last_stable_offset),
            log_start_offset,
            size_bytes: AtomicU64::new(bytes),
            failure: OnceLock::new(),
            checkpointing: Mutex::new(()),
            syncing: Mutex::new(()),
            cleaning: Mutex::new(()),
            layout: RwLock::new(()),
        })
    }
}

/// Scans a segment from the recovery point on, renews its indexes from there and cuts it where it is not whole.
fn recover_segment(
    disk: &dyn crate::disk::Disk,
    directory: &std::path::Path,
    base: i64,
    recovery_point: i64,
    gaps: Gaps,
    mut visit: impl FnMut(&BatchHeader, &[u8]) -> Option<AbortedTransaction>,
) -> io::Result<ActiveSegment> {
    let mut trusted = recovery_point;
    loop {
        let (mut active, position, indexed_last) =
            ActiveSegment::reopen(disk, directory, base, trusted, recovery_point)?;
        let file = active.file(disk)?;
        let mut headers_fit = true;
        let expected = if position == 0 { Some(base) } else { None };
        let scanned = scan(&*file, position, expected, gaps, |header, batch, at| {
            if at == position && indexed_last.is_some_and(|last| last != header.last_offset()) {
                headers_fit = false;
            }
            active.note(disk, header, at);
            if headers_fit && let Some(aborted) = visit(header, batch) {
                active.note_aborted(disk, &aborted);
            }
        })?;
        // An index that leads astray is no reason to cut: begin again without it.
        if position > 0 && (!headers_fit || scanned.end == position) {
            trusted = base;
            continue;
        }
        if let Some(damage) = scanned.damage {
            let next_offset = active.summary.next_offset;
            if next_offset >= recovery_point {
                let (log, lost) = (segment::path(directory, base, Kind::Log), file.len()? - scanned.end);
                tracing::warn!(log = %log.display(), next_offset, lost, damage, "cutting off a torn tail");
                file.set_len(scanned.end)?;
                file.sync()?;
            }
        }
        active.release();
        return Ok(active);
    }
}
