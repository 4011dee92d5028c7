//! One transactional id: what may happen to it, and what it is then. No I/O, and the time is passed in.
//!
//! ```text
//!           ┌────────────── init: next epoch ──────────────┐
//!           v                                              │
//! Empty ─ add ─> Ongoing ─ end ─> PrepareCommit ─ markers ─> CompleteCommit ─ add ─> Ongoing …
//!                   │    └ end ─> PrepareAbort  ─ markers ─> CompleteAbort
//!                   └─ timeout, or another init: PrepareAbort with the next epoch, which fences the producer off
//! ```

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use playhouse_log::TransactionMarker;

/// There is one coordinator, for ever.
const COORDINATOR_EPOCH: i32 = 0;
/// The last epoch a producer gets. One more is left for fencing it off.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// With Kafka's numbers, which are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Empty = 0,
    Ongoing = 1,
    PrepareCommit = 2,
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl Status {
    pub(crate) const ALL: [Status; 6] = [
        Status::Empty,
        Status::Ongoing,
        Status::PrepareCommit,
        Status::PrepareAbort,
        Status::CompleteCommit,
        Status::CompleteAbort,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Empty => "Empty",
            Status::Ongoing => "Ongoing",
            Status::PrepareCommit => "PrepareCommit",
            Status::PrepareAbort => "PrepareAbort",
            Status::CompleteCommit => "CompleteCommit",
            Status::CompleteAbort => "CompleteAbort",
        }
    }
}

pub(crate) type Place = (String, i32);

/// Id and epoch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) producer: Producer,
    /// The epoch before the last init that named it: that request may come again. Not kept through a restart.
    pub(crate) previous_epoch: Option<i16>,
    pub(crate) timeout_ms: i32,
    pub(crate) status: Status,
    pub(crate) partitions: BTreeSet<Place>,
    pub(crate) updated_ms: i64,
    /// -1 while there is no transaction.
    pub(crate) started_ms: i64,
}

/// What an init leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// The producer goes on with this.
    Next(Transaction),
    /// The same request came before: its answer holds.
    Repeated,
    /// The epochs are used up: it takes another producer id.
    NeedsProducerId,
    /// What is open is to be aborted first.
    AbortFirst(Transaction),
}

/// What an end leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// To be written down, then to the partitions.
    Prepared(Transaction),
    /// The same request came before.
    Repeated,
}

impl Transaction {
    pub(super) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Transaction {
        Transaction {
            producer: Producer { id: producer_id, epoch: 0 },
            previous_epoch: None,
            timeout_ms,
            status: Status::Empty,
            partitions: BTreeSet::new(),
            updated_ms: now_ms,
            started_ms: -1,
        }
    }

    /// A producer begins anew with this transactional id, or (KIP-360) the one that is `expected` asks for a new epoch.
    pub(super) fn init(&self, expected: Option<Producer>, timeout_ms: i32, now_ms: i64) -> Result<Init, ResponseError> {
        if let Some(expected) = expected
            && expected != self.producer
        {
            let before = self.previous_epoch.map(|epoch| Producer { epoch, ..self.producer });
            return if before == Some(expected) { Ok(Init::Repeated) } else { Err(ResponseError::ProducerFenced) };
        }
        match self.status {
            Status::PrepareCommit | Status::PrepareAbort => Err(ResponseError::ConcurrentTransactions),
            Status::Ongoing => Ok(Init::AbortFirst(self.fenced(now_ms))),
            Status::Empty | Status::CompleteCommit | Status::CompleteAbort => {
                let Producer { id, epoch } = self.producer;
                if epoch >= EPOCH_MAX {
                    return Ok(Init::NeedsProducerId);
                }
                Ok(Init::Next(Transaction {
                    producer: Producer { id, epoch: epoch + 1 },
                    previous_epoch: expected.map(|expected| expected.epoch),
                    ..Transaction::new(id, timeout_ms, now_ms)
                }))
            }
        }
    }

    /// Partitions become part of the transaction, and the first begin it. `None` when they all are already.
    pub(super) fn add(
        &self,
        producer: Producer,
        partitions: &[Place],
        now_ms: i64,
    ) -> Result<Option<Transaction>, ResponseError> {
        self.check(producer)?;
        let started_ms = match self.status {
            Status::PrepareCommit | Status::PrepareAbort => return Err(ResponseError::ConcurrentTransactions),
            Status::Ongoing if partitions.iter().all(|place| self.partitions.contains(place)) => return Ok(None),
            Status::Ongoing => self.started_ms,
            Status::Empty | Status::CompleteCommit | Status::CompleteAbort => now_ms,
        };
        let mut next = Transaction { status: Status::Ongoing, updated_ms: now_ms, started_ms, ..self.clone() };
        next.partitions.extend(partitions.iter().cloned());
        Ok(Some(next))
    }

    pub(super) fn end(&self, producer: Producer, commit: bool, now_ms: i64) -> Result<End, ResponseError> {
        self.check(producer)?;
        match (self.status, commit) {
            (Status::Ongoing, _) => {
                let status = if commit { Status::PrepareCommit } else { Status::PrepareAbort };
                Ok(End::Prepared(Transaction { status, updated_ms: now_ms, ..self.clone() }))
            }
            (Status::CompleteCommit, true) | (Status::CompleteAbort, false) => Ok(End::Repeated),
            (Status::PrepareCommit, true) | (Status::PrepareAbort, false) => Err(ResponseError::ConcurrentTransactions),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Whether a batch of this producer may be written there now.
    pub(super) fn may_write(&self, producer: Producer, place: &Place) -> Result<(), ResponseError> {
        match self.check(producer) {
            // What every client knows as the answer of Produce.
            Err(ResponseError::ProducerFenced) => Err(ResponseError::InvalidProducerEpoch),
            Err(error) => Err(error),
            Ok(()) if self.status == Status::Ongoing && self.partitions.contains(place) => Ok(()),
            Ok(()) => Err(ResponseError::InvalidTxnState),
        }
    }

    /// To be aborted, if it has been open for too long.
    pub(super) fn timed_out(&self, now_ms: i64) -> Option<Transaction> {
        let late = self.status == Status::Ongoing && now_ms - self.started_ms > i64::from(self.timeout_ms);
        late.then(|| self.fenced(now_ms))
    }

    /// Markers are in all partitions.
    pub(super) fn completed(&self, now_ms: i64) -> Transaction {
        let status = if self.status == Status::PrepareCommit { Status::CompleteCommit } else { Status::CompleteAbort };
        Transaction { status, partitions: BTreeSet::new(), updated_ms: now_ms, started_ms: -1, ..self.clone() }
    }

    /// Decided, but not told to all partitions.
    pub(super) fn is_prepared(&self) -> bool {
        matches!(self.status, Status::PrepareCommit | Status::PrepareAbort)
    }

    /// Whether nothing is lost when the id is forgotten.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_prepared() && self.status != Status::Ongoing
    }

    /// What the partitions of a prepared transaction are told.
    pub(super) fn marker(&self) -> TransactionMarker {
        TransactionMarker {
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            coordinator_epoch: COORDINATOR_EPOCH,
            commit: self.status == Status::PrepareCommit,
        }
    }

    fn check(&self, producer: Producer) -> Result<(), ResponseError> {
        if producer.id != self.producer.id {
            Err(ResponseError::InvalidProducerIdMapping)
        } else if producer.epoch != self.producer.epoch {
            Err(ResponseError::ProducerFenced)
        } else {
            Ok(())
        }
    }

    /// Aborted in the name of the next epoch, so that the producer cannot write on.
    fn fenced(&self, now_ms: i64) -> Transaction {
        let epoch = self.producer.epoch.saturating_add(1);
        let producer = Producer { epoch, ..self.producer };
        let status = Status::PrepareAbort;
        Transaction { producer, previous_epoch: None, status, updated_ms: now_ms, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P0: Producer = Producer { id: 9, epoch: 0 };

    fn place(partition: i32) -> Place {
        ("events".to_owned(), partition)
    }

    fn ongoing() -> Transaction {
        Transaction::new(9, 1_000, 0).add(P0, &[place(0)], 10).unwrap().unwrap()
    }

    fn prepared(commit: bool) -> Transaction {
        match ongoing().end(P0, commit, 20).unwrap() {
            End::Prepared(prepared) => prepared,
            End::Repeated => panic!("it never ended before"),
        }
    }

    #[test]
    fn a_transaction_goes_its_way() {
        let begun = ongoing();
        assert_eq!((begun.status, begun.started_ms), (Status::Ongoing, 10));
        assert_eq!(begun.add(P0, &[place(0)], 11), Ok(None), "nothing new");
        let more = begun.add(P0, &[place(0), place(1)], 12).unwrap().unwrap();
        assert_eq!((more.partitions.len(), more.started_ms), (2, 10));
        for commit in [true, false] {
            let prepared = prepared(commit);
            assert!(prepared.is_prepared() && prepared.marker().commit == commit);
            assert_eq!(prepared.end(P0, commit, 30), Err(ResponseError::ConcurrentTransactions));
            assert_eq!(prepared.end(P0, !commit, 30), Err(ResponseError::InvalidTxnState));
            assert_eq!(prepared.add(P0, &[place(0)], 30), Err(ResponseError::ConcurrentTransactions));
            let complete = prepared.completed(40);
            assert!(complete.is_idle() && complete.partitions.is_empty());
            assert_eq!(complete.end(P0, commit, 50), Ok(End::Repeated));
            assert_eq!(complete.end(P0, !commit, 50), Err(ResponseError::InvalidTxnState));
            assert_eq!(complete.add(P0, &[place(3)], 60).unwrap().unwrap().started_ms, 60);
        }
        assert_eq!(Transaction::new(9, 1, 0).end(P0, true, 1), Err(ResponseError::InvalidTxnState));
    }

    #[test]
    fn only_the_producer_of_the_epoch_may_do_anything() {
        let begun = ongoing();
        for (producer, error) in [
            (Producer { id: 8, epoch: 0 }, ResponseError::InvalidProducerIdMapping),
            (Producer { id: 9, epoch: 1 }, ResponseError::ProducerFenced),
            (Producer { id: 9, epoch: -1 }, ResponseError::ProducerFenced),
        ] {
            assert_eq!(begun.add(producer, &[place(0)], 1), Err(error));
            assert_eq!(begun.end(producer, true, 1), Err(error));
            assert!(begun.may_write(producer, &place(0)).is_err());
        }
        assert_eq!(begun.may_write(P0, &place(0)), Ok(()));
        assert_eq!(begun.may_write(P0, &place(1)), Err(ResponseError::InvalidTxnState), "not added");
        assert_eq!(prepared(true).may_write(P0, &place(0)), Err(ResponseError::InvalidTxnState));
    }

    #[test]
    fn every_init_is_a_new_epoch_and_aborts_what_is_open() {
        let Init::Next(second) = Transaction::new(9, 1, 0).init(None, 500, 5).unwrap() else { panic!() };
        assert_eq!((second.producer.epoch, second.timeout_ms, second.status), (1, 500, Status::Empty));
        let Init::AbortFirst(aborting) = ongoing().init(None, 500, 5).unwrap() else { panic!() };
        assert_eq!((aborting.producer.epoch, aborting.status), (1, Status::PrepareAbort));
        assert_eq!(aborting.marker().producer_epoch, 1);
        assert_eq!(aborting.init(None, 1, 6), Err(ResponseError::ConcurrentTransactions));
        let Init::Next(next) = aborting.completed(7).init(None, 1, 8).unwrap() else { panic!() };
        assert_eq!(next.producer.epoch, 2);
    }

    #[test]
    fn a_producer_may_ask_for_its_next_epoch_again_and_an_older_one_may_not() {
        let first = Transaction::new(9, 1, 0);
        let Init::Next(second) = first.init(Some(P0), 1, 1).unwrap() else { panic!() };
        assert_eq!(second.init(Some(P0), 1, 2), Ok(Init::Repeated));
        let Init::Next(third) = second.init(Some(second.producer), 1, 3).unwrap() else { panic!() };
        assert_eq!(third.init(Some(P0), 1, 4), Err(ResponseError::ProducerFenced));
    }

    #[test]
    fn used_up_epochs_take_a_new_producer_id() {
        let mut last = Transaction::new(9, 1_000, 0);
        last.producer.epoch = EPOCH_MAX;
        assert_eq!(last.init(None, 1, 1), Ok(Init::NeedsProducerId));
        let open = last.add(last.producer, &[place(0)], 2).unwrap().unwrap();
        let Init::AbortFirst(aborting) = open.init(None, 1, 3).unwrap() else { panic!() };
        assert_eq!(aborting.producer.epoch, i16::MAX);
        assert_eq!(aborting.completed(4).init(None, 1, 5), Ok(Init::NeedsProducerId));
    }

    #[test]
    fn what_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
        let begun = ongoing();
        assert_eq!(begun.timed_out(1_010), None);
        let aborting = begun.timed_out(1_011).unwrap();
        assert_eq!((aborting.status, aborting.producer.epoch), (Status::PrepareAbort, 1));
        assert_eq!(aborting.end(P0, true, 1_012), Err(ResponseError::ProducerFenced));
        assert_eq!(prepared(true).timed_out(i64::MAX), None, "what is decided is decided");
    }
}
