//! Test support: a file system in memory that loses what was not synced, and fails on demand.
//!
//! It keeps, for every file and every directory entry, what is there and what is durable. [`SimulatedDisk::power_cut`]
//! gives the disk that the machine finds when it comes back: unsynced writes and unsynced directory entries are gone,
//! or (with a seed) some of the unsynced sectors survive, in any combination, as on a disk that reorders its writes.
//! The disk before the cut is dead: every operation on it fails, so a process that "was killed" cannot write on.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    resumed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    File(u64),
}

#[derive(Debug, Clone, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What happened since the last sync, in order.
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Default)]
struct State {
    dead: bool,
    entries: BTreeMap<PathBuf, Entry>,
    durable_entries: BTreeMap<PathBuf, Entry>,
    files: BTreeMap<u64, Contents>,
    next_file: u64,
    syncs: u64,
    syncs_paused: bool,
    syncs_waiting: usize,
    fail_syncs: bool,
    capacity: Option<u64>,
    cut_next_write: Option<usize>,
    /// Operations that change something, until the power goes.
    dies_after: Option<u64>,
}

impl SimulatedDisk {
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// The disk after a power cut; this one is dead from now on. Without a seed nothing unsynced survives; with one,
    /// each unsynced sector of each file does or does not, as the seed decides.
    pub fn power_cut(&self, torn: Option<u64>) -> SimulatedDisk {
        let mut old = self.0.state.lock();
        old.dead = true;
        self.0.resumed.notify_all();
        let mut random = torn.map(Random);
        let mut new = State { next_file: old.next_file, ..State::default() };
        for (path, &entry) in &old.durable_entries {
            let reachable = path
                .parent()
                .is_none_or(|parent| is_root(parent) || new.durable_entries.get(parent) == Some(&Entry::Directory));
            if !reachable {
                continue;
            }
            new.durable_entries.insert(path.clone(), entry);
            if let Entry::File(id) = entry
                && let Some(contents) = old.files.get(&id)
            {
                let survived = contents.after_power_cut(random.as_mut());
                new.files.insert(id, Contents { now: survived.clone(), durable: survived, unsynced: Vec::new() });
            }
        }
        new.entries = new.durable_entries.clone();
        SimulatedDisk(Arc::new(Shared { state: Mutex::new(new), resumed: Condvar::new() }))
    }

    /// A copy of the disk as it is, with what is durable and what is not. Both live on, apart.
    pub fn fork(&self) -> SimulatedDisk {
        let old = self.0.state.lock();
        let new = State {
            entries: old.entries.clone(),
            durable_entries: old.durable_entries.clone(),
            files: old.files.clone(),
            next_file: old.next_file,
            ..State::default()
        };
        SimulatedDisk(Arc::new(Shared { state: Mutex::new(new), resumed: Condvar::new() }))
    }

    /// The power goes after so many more operations that change something: the next one fails, and all after it.
    pub fn die_after(&self, operations: Option<u64>) {
        self.0.state.lock().dies_after = operations;
    }

    /// Whether the power is off.
    pub fn is_dead(&self) -> bool {
        self.0.state.lock().dead
    }

    /// The disk as another process finds it after this one was killed: nothing is lost, but nothing unsynced became
    /// durable either. This one is dead from now on.
    pub fn kill(&self) -> SimulatedDisk {
        let mut old = self.0.state.lock();
        old.dead = true;
        self.0.resumed.notify_all();
        let new = State {
            entries: old.entries.clone(),
            durable_entries: old.durable_entries.clone(),
            files: old.files.clone(),
            next_file: old.next_file,
            ..State::default()
        };
        SimulatedDisk(Arc::new(Shared { state: Mutex::new(new), resumed: Condvar::new() }))
    }

    /// Every `sync` fails with EIO while set, and what it should have synced stays unsynced.
    pub fn fail_syncs(&self, fail: bool) {
        self.0.state.lock().fail_syncs = fail;
    }

    /// A disk as slow as can be: every `sync` of a file waits until syncs are resumed.
    pub fn pause_syncs(&self, pause: bool) {
        self.0.state.lock().syncs_paused = pause;
        self.0.resumed.notify_all();
    }

    /// Writes that would take all files together past `bytes` fail with ENOSPC, having written what fitted.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.state.lock().capacity = bytes;
    }

    /// The next write of more than `bytes` writes only so many and fails with EIO.
    pub fn cut_next_write(&self, bytes: usize) {
        self.0.state.lock().cut_next_write = Some(bytes);
    }

    /// Bytes in all files.
    pub fn used_bytes(&self) -> u64 {
        self.0.state.lock().used_bytes()
    }

    /// How many syncs of files have succeeded.
    pub fn sync_count(&self) -> u64 {
        self.0.state.lock().syncs
    }

    /// How many syncs wait to be resumed.
    pub fn waiting_syncs(&self) -> usize {
        self.0.state.lock().syncs_waiting
    }

    /// Changes bytes of a file behind everyone's back, durably (decay of the medium).
    pub fn damage(&self, path: &Path, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let id = state.file(path)?;
        let contents = state.files.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        for data in [&mut contents.now, &mut contents.durable] {
            apply_write(data, offset, bytes);
        }
        Ok(())
    }
}

impl Contents {
    fn after_power_cut(&self, random: Option<&mut Random>) -> Vec<u8> {
        let mut data = self.durable.clone();
        let Some(random) = random else { return data };
        for change in &self.unsynced {
            match change {
                Change::SetLen(len) if random.coin() => data.resize(*len as usize, 0),
                Change::SetLen(_) => {}
                Change::Write(offset, bytes) => {
                    let mut at = *offset as usize;
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let (sector, after) = rest.split_at(rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
                        if random.coin() {
                            apply_write(&mut data, at, sector);
                        }
                        at += sector.len();
                        rest = after;
                    }
                }
            }
        }
        data
    }
}

fn apply_write(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    data[at..end].copy_from_slice(bytes);
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}

/// SplitMix64: small, and the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
    /// Comes before every change.
    fn change(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.dies_after {
            self.dead = *left == 0;
            *left = left.saturating_sub(1);
        }
        self.alive()
    }
    fn used_bytes(&self) -> u64 {
        self.files.values().map(|file| file.now.len() as u64).sum()
    }
    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.entries.get(path) {
            Some(Entry::File(id)) => Ok(*id),
            Some(Entry::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))),
        }
    }
    fn directory(&self, path: &Path) -> io::Result<()> {
        if is_root(path) || self.entries.get(path) == Some(&Entry::Directory) {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("directory {} does not exist", path.display())))
        }
    }
    /// Forgets files that no entry leads to. Handles that are still open read them as empty, which no caller relies on.
    fn collect_garbage(&mut self) {
        let entries = self.entries.values().chain(self.durable_entries.values());
        let live: std::collections::BTreeSet<u64> =
            entries.filter_map(|entry| if let Entry::File(id) = entry { Some(*id) } else { None }).collect();
        self.files.retain(|id, _| live.contains(id));
    }
}

#[derive(Debug)]
struct SimulatedFile {
    shared: Arc<Shared>,
    id: u64,
}

impl SimulatedFile {
    fn with<T>(&self, action: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.shared.state.lock();
        state.alive()?;
        action(&mut state)
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            let data = state.files.get(&self.id).map(|file| file.now.as_slice()).unwrap_or_default();
            let available = data.get(offset as usize..).unwrap_or_default();
            let read = available.len().min(buffer.len());
            buffer[..read].copy_from_slice(&available[..read]);
            Ok(read)
        })
    }

    fn write_all_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state| {
            state.change()?;
            let mut written = buffer.len();
            let mut outcome = Ok(());
            if let Some(cut) = state.cut_next_write
                && cut < written
            {
                state.cut_next_write = None;
                written = cut;
                outcome = Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let len = state.files.get(&self.id).map_or(0, |file| file.now.len() as u64);
            if let Some(capacity) = state.capacity {
                let room = (len + capacity.saturating_sub(state.used_bytes())).saturating_sub(offset) as usize;
                if room < written {
                    written = room;
                    outcome = Err(io::Error::from_raw_os_error(libc::ENOSPC));
                }
            }
            if let Some(file) = state.files.get_mut(&self.id)
                && written > 0
            {
                apply_write(&mut file.now, offset as usize, &buffer[..written]);
                file.unsynced.push(Change::Write(offset, buffer[..written].to_vec()));
            }
            outcome
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.syncs_waiting += 1;
        while state.syncs_paused && !state.dead {
            self.shared.resumed.wait(&mut state);
        }
        state.syncs_waiting -= 1;
        state.change()?;
        if state.fail_syncs {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        state.syncs += 1;
        if let Some(file) = state.files.get_mut(&self.id) {
            for change in std::mem::take(&mut file.unsynced) {
                match change {
                    Change::Write(offset, bytes) => apply_write(&mut file.durable, offset as usize, &bytes),
                    Change::SetLen(len) => file.durable.resize(len as usize, 0),
                }
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.files.get(&self.id).map_or(0, |file| file.now.len() as u64)))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            state.change()?;
            if let Some(file) = state.files.get_mut(&self.id) {
                file.now.resize(len as usize, 0);
                file.unsynced.push(Change::SetLen(len));
            }
            Ok(())
        })
    }
}

impl SimulatedDisk {
    fn with<T>(&self, action: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.state.lock();
        state.alive()?;
        action(&mut state)
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.with(|state| {
            let id = match state.file(path) {
                Ok(id) => id,
                Err(error) if !create || error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) => {
                    state.directory(path.parent().unwrap_or(Path::new("")))?;
                    state.change()?;
                    let id = state.next_file;
                    state.next_file += 1;
                    state.entries.insert(path.to_owned(), Entry::File(id));
                    state.files.insert(id, Contents::default());
                    id
                }
            };
            Ok(Arc::new(SimulatedFile { shared: Arc::clone(&self.0), id }) as Arc<dyn DiskFile>)
        })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with(|state| {
            state.change()?;
            for directory in path.ancestors().filter(|directory| !is_root(directory)) {
                match state.entries.entry(directory.to_owned()).or_insert(Entry::Directory) {
                    Entry::Directory => {}
                    Entry::File(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                }
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.with(|state| {
            state.directory(path)?;
            state.change()?;
            if state.fail_syncs {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let inside = |entry: &PathBuf| entry.parent() == Some(path);
            state.durable_entries.retain(|entry, _| !inside(entry));
            let synced: Vec<_> = state.entries.iter().filter(|(entry, _)| inside(entry)).collect();
            let synced: Vec<_> = synced.into_iter().map(|(path, entry)| (path.clone(), *entry)).collect();
            // What lay in a directory that is gone is gone with it, even where one of its name is made again.
            let gone = |entry: &PathBuf| {
                entry.starts_with(path)
                    && entry
                        .ancestors()
                        .take_while(|it| *it != path)
                        .any(|it| it.parent() == Some(path) && !state.entries.contains_key(it))
            };
            let gone: std::collections::BTreeSet<PathBuf> =
                state.durable_entries.keys().filter(|entry| gone(entry)).cloned().collect();
            state.durable_entries.retain(|entry, _| !gone.contains(entry));
            state.durable_entries.extend(synced);
            state.collect_garbage();
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.with(|state| {
            state.directory(path)?;
            Ok(state.entries.keys().filter(|entry| entry.parent() == Some(path)).cloned().collect())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|state| {
            let id = state.file(from)?;
            state.change()?;
            state.directory(to.parent().unwrap_or(Path::new("")))?;
            state.entries.remove(from);
            state.entries.insert(to.to_owned(), Entry::File(id));
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.with(|state| {
            state.file(path)?;
            state.change()?;
            state.entries.remove(path);
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with(|state| {
            state.directory(path)?;
            state.change()?;
            state.entries.retain(|entry, _| !entry.starts_with(path));
            Ok(())
        })
    }

    fn exists(&self, path: &Path) -> bool {
        self.with(|state| Ok(is_root(path) || state.entries.contains_key(path))).unwrap_or(false)
    }
}
