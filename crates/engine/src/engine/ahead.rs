//! Cutting the next epoch while the engine's thread is at work on this one.
//!
//! Reading and decoding are more than a third of an epoch's work and depend on nothing that the rest decides, so while
//! there is a backlog they run on a thread of their own, one epoch ahead.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;

use super::EngineError;
use super::input::{Cut, Reader};

type Readers = Vec<Arc<Mutex<Reader>>>;
type Cuts = Result<Vec<Cut>, EngineError>;

/// One epoch's cut at most is under way or waiting to be taken.
pub(super) struct Ahead {
    wanted: SyncSender<(Readers, usize)>,
    cuts: Receiver<Cuts>,
    pending: bool,
}

impl Ahead {
    /// The thread ends when this is dropped.
    pub(super) fn start() -> Result<Ahead, EngineError> {
        let (wanted, requests) = sync_channel::<(Readers, usize)>(1);
        let (answers, cuts) = sync_channel(1);
        let work = move || {
            for (readers, rows_max) in requests {
                let cut = readers.iter().map(|reader| reader.lock().cut(rows_max, None)).collect();
                if answers.send(cut).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("engine-read".to_owned()).spawn(work).map_err(EngineError::Thread)?;
        Ok(Ahead { wanted, cuts, pending: false })
    }

    /// Whether a cut has been begun and not taken.
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Begins to cut up to `rows_max` rows from each reader.
    pub(super) fn begin(&mut self, readers: Readers, rows_max: usize) {
        self.pending = self.wanted.send((readers, rows_max)).is_ok();
    }

    /// The cut that was begun, once it is done.
    pub(super) fn take(&mut self) -> Option<Cuts> {
        // A thread that died took what it had read along; the readers' positions tell, and are set again on an error.
        let died = || Err(EngineError::Thread(std::io::Error::other("the reading thread died")));
        std::mem::take(&mut self.pending).then(|| self.cuts.recv().unwrap_or_else(|_| died()))
    }
}
