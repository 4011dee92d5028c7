//! Tables: rows by key, in SQLite or PostgreSQL.
//!
//! A commit is one transaction: it checks the stored position, upserts the staged rows and stores the new position. Both
//! stores create the table where it is missing, and refuse one of another shape by naming the column. A single row that
//! the store will not take (a null key, a text too long for an index) stops nobody: it goes to `playhouse_refused` with
//! the store's reason, in the same transaction, and is counted.

mod cells;
mod copy;
mod jsonb;
mod postgres;
mod shape;
mod sqlite;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use playhouse_engine::sink::{CommitPolicy, Sink, SinkError, Target};

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

/// What the sinks of a store had to change or leave out, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    replaced: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    /// Values stored in another form, since the store cannot hold them: NUL in a text, JSON that is none.
    pub fn values_replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }
    /// Rows in `playhouse_refused`, by this process.
    pub fn rows_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
    fn count_replaced(&self) {
        self.replaced.fetch_add(1, Ordering::Relaxed);
    }
    /// After the commit that keeps them; one line of log, however many they are.
    fn report_refused(&self, sink: &str, refused: &Refused) {
        if let Some(reason) = &refused.last_reason {
            self.refused.fetch_add(refused.rows, Ordering::Relaxed);
            let rows = refused.rows;
            tracing::warn!(sink, rows, reason, "rows refused by the table, kept in playhouse_refused");
        }
    }
}

/// Rows that one commit could not put into the table.
#[derive(Debug, Default)]
struct Refused {
    rows: u64,
    last_reason: Option<String>,
}

impl Refused {
    fn add(&mut self, reason: String) {
        self.rows += 1;
        self.last_reason = Some(reason);
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
