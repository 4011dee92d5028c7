//! SQLite as the tables: one file, one connection that the sinks share, every commit on disk before it is reported.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use parking_lot::Mutex;
use playhouse_engine::sink::{CommitPolicy, Refusals, RefusedRow, Scope, Sink, SinkError};
use playhouse_engine::{Position, TopicPartition};
use rusqlite::{CachedStatement, Connection, ErrorCode, TransactionBehavior, params};

use super::cells::{Cell, Cells};
use super::shape::{Kind, Shape, qualified, quoted};
use super::staged::Staged;
use super::{Counters, refuse};
use crate::progress::{self, Progress};
use crate::rows::{write_date, write_sortable_timestamp};

/// How long a commit waits for a lock that another process holds on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Parameters of one multi-row insert; SQLite's own limit is 32,766.
const PARAMETERS: usize = 960;

const BOOKS: &str = r#"
CREATE TABLE IF NOT EXISTS playhouse_positions (log_id TEXT NOT NULL, pipeline TEXT NOT NULL, sink TEXT NOT NULL,
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL, next_offset BIGINT NOT NULL,
    PRIMARY KEY (log_id, pipeline, sink, topic, "partition"));
"#;

pub(super) struct Database {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Database {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, connection: Mutex::default() }
    }

    /// Runs `work` with the connection, off the async runtime. A failure closes it: the next use opens it anew.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let database = self.clone();
        let run = move || {
            let mut held = database.connection.lock();
            let connection = match &mut *held {
                Some(connection) => connection,
                closed => closed.insert(database.connect()?),
            };
            let result = work(connection);
            if result.is_err() {
                *held = None;
            }
            result
        };
        tokio::task::spawn_blocking(run).await.map_err(|error| SinkError::Unavailable(format!("tables: {error}")))?
    }

    fn connect(&self) -> Result<Connection, SinkError> {
        let explain = |error| match sink_error(error) {
            SinkError::Unavailable(why) => SinkError::Unavailable(format!("{}: {why}", self.path.display())),
            SinkError::Fatal(why) => SinkError::Fatal(format!("{}: {why}", self.path.display())),
        };
        let connection = Connection::open(&self.path).map_err(explain)?;
        let prepare = || {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -8192")?;
            connection.execute_batch(BOOKS)
        };
        prepare().map_err(explain)?;
        Ok(connection)
    }
}

pub(super) struct SqliteSink {
    database: Arc<Database>,
    shape: Arc<Shape>,
    policy: CommitPolicy,
    counters: Arc<Counters>,
    refusals: Option<Refusals>,
    opened: Option<(Scope, Position)>,
    staged: Staged,
}

impl SqliteSink {
    pub(super) fn new(database: Arc<Database>, shape: Shape, policy: CommitPolicy, counters: Arc<Counters>) -> Self {
        let staged = Staged::default();
        Self { database, shape: Arc::new(shape), policy, counters, refusals: None, opened: None, staged }
    }
}

#[async_trait]
impl Sink for SqliteSink {
    fn refuse_to(&mut self, refusals: Refusals) -> bool {
        self.refusals = Some(refusals);
        true
    }

    async fn open(&mut self, scope: &Scope) -> Result<Option<Position>, SinkError> {
        self.staged = Staged::default();
        self.opened = None;
        let (shape, for_query) = (self.shape.clone(), scope.clone());
        let stored = self
            .database
            .with(move |connection| {
                create(connection, &shape)?;
                stored_position(connection, &for_query, &shape.sink).map_err(sink_error)
            })
            .await?;
        self.opened = Some((scope.clone(), stored.clone().unwrap_or_default()));
        Ok(stored)
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        if self.opened.is_none() {
            return Err(progress::not_open(&self.shape.sink));
        }
        self.staged.write(&self.shape, rows)
    }

    fn staged_bytes(&self) -> usize {
        self.staged.bytes()
    }

    fn commit_policy(&self) -> CommitPolicy {
        self.policy
    }

    async fn commit(&mut self, position: &Position) -> Result<(), SinkError> {
        let Some((scope, opened)) = self.opened.take() else { return Err(progress::not_open(&self.shape.sink)) };
        let mut staged = std::mem::take(&mut self.staged);
        let (shape, counters, next) = (self.shape.clone(), self.counters.clone(), position.clone());
        let refusals = self.refusals.clone();
        let reached = self
            .database
            .with(move |connection| {
                let commit = Commit { shape: &shape, scope: &scope, counters: &counters, refusals: refusals.as_ref() };
                Ok((commit.run(connection, &opened, &next, &mut staged)?, scope))
            })
            .await?;
        self.opened = Some((reached.1, reached.0));
        Ok(())
    }

    fn guarantee(&self) -> &'static str {
        "exactly once: rows and position in one SQLite transaction, on disk before it is reported"
    }

    async fn close(&mut self) {
        self.staged = Staged::default();
        self.opened = None;
    }
}

struct Commit<'a> {
    shape: &'a Shape,
    scope: &'a Scope,
    counters: &'a Counters,
    refusals: Option<&'a Refusals>,
}

impl Commit<'_> {
    /// Returns the position that the table now has.
    fn run(
        &self,
        connection: &mut Connection,
        opened: &Position,
        next: &Position,
        staged: &mut Staged,
    ) -> Result<Position, SinkError> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sink_error)?;
        let stored =
            stored_position(&transaction, self.scope, &self.shape.sink).map_err(sink_error)?.unwrap_or_default();
        if progress::check(opened, &stored, next)? == Progress::AlreadyCommitted {
            return Ok(stored);
        }
        let refused = self.insert(&transaction, staged).map_err(sink_error)?;
        self.advance(&transaction, next).map_err(sink_error)?;
        tokio::runtime::Handle::current().block_on(refuse(self.refusals, &self.shape.sink, refused))?;
        transaction.commit().map_err(sink_error)?;
        Ok(next.clone())
    }

    /// Returns the rows that stay out.
    fn insert(&self, connection: &Connection, staged: &mut Staged) -> rusqlite::Result<Vec<RefusedRow>> {
        let mut refused = staged.take_misfits();
        let together = (PARAMETERS / self.shape.columns.len().max(1)).max(1);
        let mut many = connection.prepare_cached(&self.insert_statement(together))?;
        let mut one = connection.prepare_cached(&self.insert_statement(1))?;
        for (first, rows) in staged.batches() {
            let columns = Cells::of(self.shape, rows);
            let mut row = 0;
            while row < rows.num_rows() {
                let whole = rows.num_rows() - row >= together;
                if whole && accepted(self.execute(&mut many, &columns, row..row + together))?.is_none() {
                    row += together;
                    continue;
                }
                let end = if whole { row + together } else { rows.num_rows() };
                for row in row..end {
                    if let Some(reason) = accepted(self.execute(&mut one, &columns, row..row + 1))? {
                        refused.push(RefusedRow { row: first + row as u64, reason });
                    }
                }
                row = end;
            }
        }
        Ok(refused)
    }

    fn insert_statement(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.shape.columns.len()].join(", "));
        format!(
            "INSERT INTO {} ({}) VALUES {}{}",
            qualified(&self.shape.table),
            self.shape.column_list(),
            vec![row.as_str(); rows].join(", "),
            self.shape.conflict_clause()
        )
    }

    fn execute(
        &self,
        statement: &mut CachedStatement<'_>,
        columns: &[Cells<'_>],
        rows: std::ops::Range<usize>,
    ) -> rusqlite::Result<()> {
        let mut parameter = 0;
        let mut text = Vec::new();
        for row in rows {
            for column in columns {
                parameter += 1;
                match column.get(row, self.counters) {
                    Cell::Null => statement.raw_bind_parameter(parameter, rusqlite::types::Null)?,
                    Cell::Text(value) | Cell::Json(value) => statement.raw_bind_parameter(parameter, &*value)?,
                    Cell::BigInt(value) => statement.raw_bind_parameter(parameter, value)?,
                    Cell::Double(value) => statement.raw_bind_parameter(parameter, value)?,
                    Cell::Boolean(value) => statement.raw_bind_parameter(parameter, value)?,
                    Cell::Timestamp(micros) => {
                        text.clear();
                        write_sortable_timestamp(&mut text, micros);
                        statement.raw_bind_parameter(parameter, String::from_utf8_lossy(&text))?;
                    }
                    Cell::Date(days) => {
                        text.clear();
                        write_date(&mut text, days.into());
                        statement.raw_bind_parameter(parameter, String::from_utf8_lossy(&text))?;
                    }
                    Cell::Bytes(value) => statement.raw_bind_parameter(parameter, value)?,
                }
            }
        }
        statement.raw_execute().map(|_| ())
    }

    fn advance(&self, connection: &Connection, position: &Position) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            r#"INSERT INTO playhouse_positions (log_id, pipeline, sink, topic, "partition", next_offset) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset"#,
        )?;
        for (partition, offset) in &position.0 {
            let log_id = self.scope.log_id.to_string();
            statement.execute(params![
                log_id,
                self.scope.pipeline,
                self.shape.sink,
                &*partition.topic,
                partition.partition,
                offset
            ])?;
        }
        Ok(())
    }
}

fn stored_position(connection: &Connection, scope: &Scope, sink: &str) -> rusqlite::Result<Option<Position>> {
    let mut statement = connection.prepare_cached(
        r#"SELECT topic, "partition", next_offset FROM playhouse_positions WHERE log_id = ? AND pipeline = ? AND sink = ?"#,
    )?;
    let mut position = Position::default();
    let mut rows = statement.query(params![scope.log_id.to_string(), scope.pipeline, sink])?;
    while let Some(row) = rows.next()? {
        let topic: String = row.get(0)?;
        position.set(TopicPartition { topic: topic.into(), partition: row.get(1)? }, row.get(2)?);
    }
    Ok((!position.0.is_empty()).then_some(position))
}

/// Creates the table and its indexes, or checks the one that is there.
fn create(connection: &Connection, shape: &Shape) -> Result<(), SinkError> {
    let found = columns_of(connection, &shape.table).map_err(sink_error)?;
    if found.is_empty() {
        let indexes = shape.indexes.iter().map(|column| {
            let name = quoted(&format!("{}_{column}_idx", shape.table));
            format!("; CREATE INDEX IF NOT EXISTS {name} ON {} ({})", qualified(&shape.table), quoted(column))
        });
        let statements = shape.create_statement(type_name) + &indexes.collect::<String>();
        return connection.execute_batch(&format!("BEGIN IMMEDIATE; {statements}; COMMIT")).map_err(sink_error);
    }
    for column in &shape.columns {
        let expected = type_name(column.kind);
        match found.iter().find(|(name, _)| *name == column.name) {
            None => return Err(shape.missing_column(&column.name, expected)),
            Some((_, declared)) if !declared.eq_ignore_ascii_case(expected) => {
                return Err(shape.wrong_type(&column.name, declared, expected));
            }
            Some(_) => {}
        }
    }
    if shape.key.is_empty()
        || unique_keys(connection, &shape.table).map_err(sink_error)?.iter().any(|key| same_set(key, &shape.key))
    {
        return Ok(());
    }
    Err(shape.missing_key())
}

fn columns_of(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare("SELECT name, type FROM pragma_table_info(?)")?;
    statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn unique_keys(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let mut statement = connection.prepare(
        r#"SELECT l.seq, i.name FROM pragma_index_list(?1) l, pragma_index_info(l.name) i WHERE l."unique" AND NOT l.partial
           UNION ALL SELECT -1, name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY 1"#,
    )?;
    let found: Vec<(i64, Option<String>)> =
        statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(found.chunk_by(|a, b| a.0 == b.0).map(|key| key.iter().filter_map(|(_, name)| name.clone()).collect()).collect())
}

fn same_set(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|name| b.contains(name))
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Json => "TEXT",
        Kind::BigInt => "BIGINT",
        Kind::Double => "DOUBLE",
        Kind::Boolean => "BOOLEAN",
        Kind::Timestamp => "TIMESTAMP",
        Kind::Date => "DATE",
        Kind::Bytes => "BLOB",
    }
}

/// The store's reason for refusing the rows of a statement, `None` where it took them; other failures stay failures.
fn accepted(result: rusqlite::Result<()>) -> rusqlite::Result<Option<String>> {
    match result {
        Ok(()) => Ok(None),
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
            ) =>
        {
            Ok(Some(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

fn sink_error(error: rusqlite::Error) -> SinkError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            SinkError::Fatal(format!("tables: {error}: the file is damaged; move it away and it is rebuilt"))
        }
        _ => SinkError::Unavailable(format!("tables: {error}")),
    }
}
