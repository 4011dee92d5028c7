//! Which commit may follow which position.
//!
//! A sink remembers the position it opened at. When it commits, the store must still hold exactly that one: a store
//! that is already at or past the new position has these rows (a replay), and one that moved otherwise has a second
//! writer, which only opening again can sort out.

use playhouse_engine::Position;
use playhouse_engine::sink::{Scope, SinkError};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The rows are new: commit them.
    New,
    /// The store has them already: drop them.
    AlreadyCommitted,
}

/// `opened` is the position this sink last saw, `stored` what the store holds now, `next` what is to be committed.
pub(crate) fn check(opened: &Position, stored: &Position, next: &Position) -> Result<Progress, SinkError> {
    if stored.covers(next) {
        return Ok(Progress::AlreadyCommitted);
    }
    if stored.covers(opened) && opened.covers(stored) && next.covers(stored) {
        return Ok(Progress::New);
    }
    Err(SinkError::Unavailable(
        "the stored position moved since this sink was opened: another process writes as the same pipeline".into(),
    ))
}

pub(crate) fn not_open(name: &str) -> SinkError {
    SinkError::Unavailable(format!("{name}: the sink is not open"))
}

/// A stable number for this scope and sink, for advisory locks and file names (FNV-1a).
pub(crate) fn scope_hash(scope: &Scope, sink: &str) -> u64 {
    let parts = [scope.log_id.as_bytes().as_slice(), scope.pipeline.as_bytes(), &[0], sink.as_bytes()];
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use playhouse_engine::TopicPartition;

    use super::*;

    fn at(offsets: &[(i32, i64)]) -> Position {
        let mut position = Position::default();
        for (partition, offset) in offsets {
            position.set(TopicPartition { topic: "t".into(), partition: *partition }, *offset);
        }
        position
    }

    #[test]
    fn follows_the_opened_position_only() {
        let opened = at(&[(0, 10), (1, 5)]);
        assert_eq!(check(&opened, &opened, &at(&[(0, 11), (1, 5)])).ok(), Some(Progress::New));
        assert_eq!(check(&opened, &opened, &at(&[(0, 11), (1, 5), (2, 1)])).ok(), Some(Progress::New));
        assert_eq!(check(&opened, &opened, &opened).ok(), Some(Progress::AlreadyCommitted));
        assert_eq!(
            check(&opened, &at(&[(0, 20), (1, 9)]), &at(&[(0, 11), (1, 5)])).ok(),
            Some(Progress::AlreadyCommitted)
        );
        assert!(
            check(&opened, &at(&[(0, 11), (1, 5)]), &at(&[(0, 12), (1, 5)])).is_err(),
            "a second writer got in between"
        );
        assert!(check(&opened, &opened, &at(&[(0, 11), (1, 4)])).is_err(), "a partition went back");
        assert!(check(&opened, &Position::default(), &at(&[(0, 11), (1, 5)])).is_err(), "the store lost its position");
    }
}
