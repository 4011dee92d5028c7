//! Sinks: what a connector implements, and the task that drives one.

mod driver;
mod refusals;

pub(crate) use driver::{Driver, DriverHandle, SinkMark};
pub use driver::{SinkProgress, SinkState, SinkStatus};
pub(crate) use refusals::RefusedRows;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::Position;

/// Whose position a sink stores: a wiped data directory has a new log id and so a new scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub log_id: uuid::Uuid,
    pub pipeline: String,
}

/// What a sink writes to: the target table of an `INSERT INTO`.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the SQL table that declares the sink, also its name in metrics.
    pub name: String,
    /// `connector = '…'` and the other options of its `WITH` clause, all recognised before the sink is made.
    pub options: std::collections::BTreeMap<String, String>,
    /// Columns of the rows that will arrive.
    pub schema: SchemaRef,
    /// Key columns (upsert), from `primary_key`; empty for append.
    pub primary_key: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Worth trying again: connection lost, server busy, disk full. All staged rows are sent again after `open`.
    #[error("{0}")]
    Unavailable(String),
    /// Will not heal by itself: wrong table shape, refused credentials.
    #[error("{0}")]
    Fatal(String),
}

/// A row that the target refuses for itself: a constraint, a value that it cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// Among those written since the last commit or `open`, counted from 0.
    pub row: u64,
    pub reason: String,
}

/// Keeps refused rows as bad events. Once it has answered, they stay left out whatever happens to the commit: they are not
/// written again.
pub type Refusals = Arc<dyn Fn(Vec<RefusedRow>) -> BoxFuture<'static, Result<(), SinkError>> + Send + Sync>;

/// Rows go in by `write`, and become visible by `commit`, atomically with the position. After any error the driver
/// drops what was staged, waits, calls `open` again and resumes from the position it returns.
#[async_trait]
pub trait Sink: Send {
    /// Called once, before anything else: whom to tell of rows that the target refuses for themselves, before the commit that
    /// leaves them out. Returns whether that may ever happen.
    fn refuse_to(&mut self, _refusals: Refusals) -> bool {
        false
    }
    /// Connects, creates what is missing at the target, removes leftovers of an unfinished commit; returns the position
    /// last committed in this scope, `None` where there is none.
    async fn open(&mut self, scope: &Scope) -> Result<Option<Position>, SinkError>;
    /// Stages rows, in order. May flush to storage, but nothing becomes visible.
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError>;
    /// Rough bytes staged, so that the driver can commit by size.
    fn staged_bytes(&self) -> usize;
    /// When the driver should commit: at this many staged bytes or this long after the first staged row.
    fn commit_policy(&self) -> CommitPolicy;
    /// Makes all staged rows visible and durable together with `position`; a crash leaves both or neither.
    async fn commit(&mut self, position: &Position) -> Result<(), SinkError>;
    /// One line for `/api/sinks` and the docs: what this sink guarantees.
    fn guarantee(&self) -> &'static str;
    /// Releases connections and files; staged rows are dropped.
    async fn close(&mut self);
}

#[derive(Debug, Clone, Copy)]
pub struct CommitPolicy {
    pub bytes: usize,
    pub interval: std::time::Duration,
}
