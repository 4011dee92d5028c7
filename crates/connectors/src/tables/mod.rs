//! Tables: rows by key, in SQLite or PostgreSQL.
//!
//! A commit is one transaction: it checks the stored position, upserts the staged rows and stores the new position. Both
//! stores create the table where it is missing, and refuse one of another shape by naming the column. A single row that
//! the store will not take (a null key, a text too long for an index) stops nobody: before the transaction that leaves it
//! out is committed, whoever keeps such rows is told of it with the store's reason.

mod cells;
mod copy;
mod jsonb;
mod postgres;
mod shape;
mod sqlite;
mod staged;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use playhouse_engine::sink::{CommitPolicy, Refusals, RefusedRow, Sink, SinkError, Target};

use self::shape::Shape;
use crate::options;

const DEFAULT_POLICY: CommitPolicy = CommitPolicy { bytes: 8 << 20, interval: Duration::from_millis(500) };

/// The store that `tables = "…"` names.
#[derive(Clone)]
pub struct TablesStore {
    server: Server,
    counters: Arc<Counters>,
}

#[derive(Clone)]
enum Server {
    Sqlite(Arc<sqlite::Database>),
    Postgres(Arc<tokio_postgres::Config>),
}

/// What the sinks of a store had to change, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    replaced: AtomicU64,
}

impl Counters {
    /// Values stored in another form, since the store cannot hold them: NUL in a text, JSON that is none.
    pub fn values_replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }
    fn count_replaced(&self) {
        self.replaced.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells of the rows that a commit is about to leave out, if there are any.
async fn refuse(refusals: Option<&Refusals>, sink: &str, rows: Vec<RefusedRow>) -> Result<(), SinkError> {
    match (refusals, rows.first()) {
        (_, None) => Ok(()),
        (Some(refusals), _) => refusals(rows).await,
        (None, Some(row)) => Err(SinkError::Fatal(format!("{sink}: nobody keeps refused rows: {}", row.reason))),
    }
}

impl TablesStore {
    /// `address` is `embedded` (then the file is `<data>/tables.db`) or `postgres://…`. Does not connect.
    pub fn open(address: &str, data: &Path) -> Result<Self, SinkError> {
        let server = match address.split_once("://").map(|(scheme, _)| scheme) {
            None if address == "embedded" => Server::Sqlite(Arc::new(sqlite::Database::new(data.join("tables.db")))),
            Some("postgres" | "postgresql") => Server::Postgres(Arc::new(postgres::config(address)?)),
            _ => {
                // Not the address itself: it may have a password.
                return Err(SinkError::Fatal(
                    "tables is neither \"embedded\" nor \"postgres://user@host/database\"".into(),
                ));
            }
        };
        Ok(Self { server, counters: Arc::default() })
    }

    pub fn sink(&self, target: &Target) -> Result<Box<dyn Sink>, SinkError> {
        let shape = Shape::new(target)?;
        let policy = options::commit_policy(target, DEFAULT_POLICY)?;
        let counters = self.counters.clone();
        Ok(match &self.server {
            Server::Sqlite(database) => Box::new(sqlite::SqliteSink::new(database.clone(), shape, policy, counters)),
            Server::Postgres(config) => Box::new(postgres::PostgresSink::new(config.clone(), shape, policy, counters)),
        })
    }

    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}
