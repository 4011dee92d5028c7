//! The log file of the active segment: open while the partition is used, and not for ever. A log of ten thousand partitions
//! of which a few hundred are in use holds a few hundred handles.

use super::*;

/// Beyond so many, a file is closed as soon as it has nothing to sync.
const OPEN_FILES_MAX: usize = 512;
const IDLE: Duration = Duration::from_secs(30);

impl Partition {
    /// For writing, or for reading while there are not too many.
    pub(super) fn active_file(&self, state: &mut State) -> io::Result<Arc<dyn DiskFile>> {
        if !state.active.is_open() {
            state.active.file(&*self.shared.disk)?;
            self.shared.open_files.fetch_add(1, Ordering::AcqRel);
        }
        state.used_at = Instant::now();
        state.active.file(&*self.shared.disk)
    }

    pub(super) fn active_file_to_read(&self, state: &mut State) -> io::Result<Arc<dyn DiskFile>> {
        if state.active.is_open() || !self.too_many_are_open() {
            return self.active_file(state);
        }
        self.shared.disk.open(&self.segment_path(state.active.summary.base_offset), false)
    }

    /// After a sync.
    pub(super) fn release_surplus(&self, state: &mut State) {
        if self.too_many_are_open() {
            self.release_file(state);
        }
    }

    /// Where nobody has used it for a while.
    pub(crate) fn release_idle(&self) {
        let mut state = self.state.lock();
        if state.used_at.elapsed() >= IDLE {
            self.release_file(&mut state);
        }
    }

    /// Takes the file out of the count of those kept open.
    pub(super) fn hand_over_file(&self, segment: &mut ActiveSegment) -> Option<Arc<dyn DiskFile>> {
        let file = segment.release()?;
        self.shared.open_files.fetch_sub(1, Ordering::AcqRel);
        Some(file)
    }

    /// Not while something in it is not synced: a failed sync must not go unseen with its handle.
    fn release_file(&self, state: &mut State) {
        if !state.queued && state.end().offset == state.durable.offset {
            self.hand_over_file(&mut state.active);
        }
    }

    fn too_many_are_open(&self) -> bool {
        self.shared.open_files.load(Ordering::Acquire) > OPEN_FILES_MAX
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        if self.state.get_mut().active.release().is_some() {
            self.shared.open_files.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
