//! What may be done to the payload of a bad event, so that it becomes a good one.
//!
//! Two ways, each compiled once and applied to any number of events: a [`JsonPatch`] (RFC 6902), and an [`Expression`] in
//! SQL, evaluated by SQLite in a sandbox. Bytes in, bytes out: whether what comes out is valid is for the gate to say.
//! It knows nothing of the log, the gate or the network, and touches no file.

mod numbers;
mod patch;
mod pointer;
mod sql;

pub use patch::JsonPatch;
pub use sql::Expression;

/// A bad event, as far as a change may look at it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub bad_id: &'a str,
    pub topic: &'a str,
    pub received_at_ms: i64,
    /// As sent.
    pub raw: &'a [u8],
}

/// The change itself is not one. A message is about what somebody wrote, so it may be told as it is.
#[derive(Debug, thiserror::Error)]
pub enum InvalidChange {
    #[error("not a JSON patch (RFC 6902): {0}")]
    Patch(serde_json::Error),
    #[error("a JSON patch of {found} operations: {limit} are allowed")]
    TooManyOperations { found: usize, limit: usize },
    #[error("not an SQL expression over raw, bad_id, topic, received_at and received_at_ms: {0}")]
    Sql(String),
    #[error("the sandbox for SQL does not open: {0}")]
    Sandbox(String),
}

/// The change cannot be applied to this event.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("the event is not JSON, which a patch cannot change: {0}; an SQL expression can")]
    NotJson(serde_json::Error),
    #[error("the number {0} would lose digits in a patch: an SQL expression (json_set) keeps it")]
    Number(String),
    #[error("operation {index} of the patch: {message}")]
    Operation { index: usize, message: String },
    #[error("the event would grow to more than {0} bytes")]
    TooLarge(usize),
    #[error("the expression fails: {0}")]
    Sql(String),
    #[error("the expression took longer than {0} ms")]
    TooSlow(u128),
    #[error("the expression gives {0}: it has to give the event, as text or a blob")]
    NoText(&'static str),
}
