//! PostgreSQL as the tables: binary COPY into a temporary table, then one upsert from it, with the position, in one
//! transaction.
//!
//! Connections are plain (no TLS yet): `sslmode=require` is refused in so many words.

use std::sync::Arc;
use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::SinkExt;
use playhouse_engine::sink::{CommitPolicy, Refusals, RefusedRow, Scope, Sink, SinkError};
use playhouse_engine::{Position, TopicPartition};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};

use super::cells::Cells;
use super::copy;
use super::shape::{Kind, Shape, qualified, quoted};
use super::staged::Staged;
use super::{Counters, refuse};
use crate::progress::{self, Progress};

/// The longest that one step (a COPY, a statement) may take before the server counts as gone.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);
const COPY_CHUNK_BYTES: usize = 256 << 10;
/// One at a time creates tables: `IF NOT EXISTS` alone fails where two race.
const CREATE_LOCK: i64 = 0x706c_6179_686f_7573;

const BOOKS: &str = r#"
CREATE TABLE IF NOT EXISTS playhouse_positions (log_id text, pipeline text, sink text, topic text, "partition" integer,
    next_offset bigint NOT NULL, PRIMARY KEY (log_id, pipeline, sink, topic, "partition"));
"#;

pub(super) fn config(address: &str) -> Result<Config, SinkError> {
    let mut config: Config = address.parse().map_err(|error| {
        SinkError::Fatal(format!(
            "tables: not an address of PostgreSQL: {error} (postgres://user:password@host:5432/database)"
        ))
    })?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(SinkError::Fatal(
            "tables: TLS to PostgreSQL is not built in yet; use sslmode=disable over a trusted network".into(),
        ));
    }
    config.ssl_mode(SslMode::Disable).connect_timeout(Duration::from_secs(5)).keepalives_idle(Duration::from_secs(30));
    if config.get_application_name().is_none() {
        config.application_name("playhouse");
    }
    Ok(config)
}

pub(super) struct PostgresSink {
    config: Arc<Config>,
    shape: Shape,
    policy: CommitPolicy,
    counters: Arc<Counters>,
    refusals: Option<Refusals>,
    open: Option<Open>,
    staged: Staged,
}

struct Open {
    client: Client,
    scope: Scope,
    position: Position,
    read_position: Statement,
    write_position: Statement,
}

impl PostgresSink {
    pub(super) fn new(config: Arc<Config>, shape: Shape, policy: CommitPolicy, counters: Arc<Counters>) -> Self {
        Self { config, shape, policy, counters, refusals: None, open: None, staged: Staged::default() }
    }

    async fn connect(&self, scope: &Scope) -> Result<(Open, Option<Position>), SinkError> {
        let (client, connection) = step(self.config.connect(NoTls)).await?;
        let sink = self.shape.sink.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(sink, %error, "connection to PostgreSQL ended");
            }
        });
        // A server that acknowledges before it has written would lose commits that were reported.
        let durable =
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
        step(client.batch_execute(durable)).await?;
        self.create(&client).await?;
        let read = r#"SELECT topic, "partition", next_offset FROM playhouse_positions WHERE log_id = $1 AND pipeline = $2 AND sink = $3"#;
        let write = r#"INSERT INTO playhouse_positions VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (log_id, pipeline, sink, topic, "partition") DO UPDATE SET next_offset = excluded.next_offset"#;
        let mut open = Open {
            read_position: step(client.prepare(read)).await?,
            write_position: step(client.prepare(write)).await?,
            client,
            scope: scope.clone(),
            position: Position::default(),
        };
        let stored = open.stored_position(&self.shape.sink).await?;
        open.position = stored.clone().unwrap_or_default();
        Ok((open, stored))
    }

    /// Creates what is missing, or checks the table that is there; then the temporary table rows are copied into.
    async fn create(&self, client: &Client) -> Result<(), SinkError> {
        let shape = &self.shape;
        let table = qualified(&shape.table);
        step(client.batch_execute(&format!(
            "BEGIN; SELECT pg_advisory_xact_lock({CREATE_LOCK}); SET LOCAL client_min_messages = warning; {BOOKS}"
        )))
        .await?;
        let columns = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
            WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let found: Vec<(String, String)> =
            step(client.query(columns, &[&table])).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
        if found.is_empty() {
            let mut statements = shape.create_statement(type_name);
            for column in &shape.indexes {
                statements.push_str(&format!("; CREATE INDEX ON {table} ({})", quoted(column)));
            }
            step(client.batch_execute(&statements)).await?;
        } else {
            self.check(&found)?;
            let keys = "SELECT array_agg(attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL GROUP BY i.indexrelid";
            let keys: Vec<Vec<String>> =
                step(client.query(keys, &[&table])).await?.iter().map(|row| row.get(0)).collect();
            let same =
                |key: &Vec<String>| key.len() == shape.key.len() && key.iter().all(|name| shape.key.contains(name));
            if !shape.key.is_empty() && !keys.iter().any(same) {
                return Err(shape.missing_key());
            }
        }
        let stage: Vec<String> =
            shape.columns.iter().map(|column| format!("{} {}", quoted(&column.name), type_name(column.kind))).collect();
        let stage = format!(
            "CREATE TEMP TABLE playhouse_stage (playhouse_ordinal bigint, {}) ON COMMIT DELETE ROWS",
            stage.join(", ")
        );
        step(client.batch_execute(&format!("COMMIT; {stage}"))).await
    }

    fn check(&self, found: &[(String, String)]) -> Result<(), SinkError> {
        for column in &self.shape.columns {
            let expected = type_name(column.kind);
            let Some((_, declared)) = found.iter().find(|(name, _)| *name == column.name) else {
                return Err(self.shape.missing_column(&column.name, expected));
            };
            let accepted: &[&str] = match column.kind {
                Kind::Text => &["text", "character varying"],
                Kind::Json => &["jsonb", "json"],
                Kind::Timestamp => &["timestamp with time zone"],
                _ => &[expected],
            };
            if !accepted.contains(&declared.as_str()) {
                return Err(self.shape.wrong_type(&column.name, declared, expected));
            }
        }
        Ok(())
    }

    async fn commit_on(&self, open: &mut Open, next: &Position, mut staged: Staged) -> Result<(), SinkError> {
        let lock = progress::scope_hash(&open.scope, &self.shape.sink).cast_signed();
        step(open.client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({lock})"))).await?;
        let stored = open.stored_position(&self.shape.sink).await?.unwrap_or_default();
        if progress::check(&open.position, &stored, next)? == Progress::AlreadyCommitted {
            open.position = stored;
            return step(open.client.batch_execute("ROLLBACK")).await;
        }
        let mut refused = staged.take_misfits();
        if !staged.batches().is_empty() {
            let rows = concat_batches(self.shape.canonical_schema(), staged.batches().iter().map(|(_, rows)| rows))
                .map_err(|error| SinkError::Fatal(format!("{}: {error}", self.shape.sink)))?;
            let rejected = self.load(open, &rows).await?.into_iter();
            refused.extend(rejected.map(|(index, reason)| RefusedRow { row: staged.number(index), reason }));
        }
        let log_id = open.scope.log_id.to_string();
        for (partition, offset) in &next.0 {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&log_id, &open.scope.pipeline, &self.shape.sink, &&*partition.topic, &partition.partition, offset];
            step(open.client.execute(&open.write_position, &values)).await?;
        }
        refuse(self.refusals.as_ref(), &self.shape.sink, refused).await?;
        step(open.client.batch_execute("COMMIT")).await?;
        open.position = next.clone();
        Ok(())
    }

    /// Upserts all rows; where the server refuses the data, halves them until only the refused rows are left out. Returns
    /// those, and why.
    async fn load(&self, open: &Open, rows: &RecordBatch) -> Result<Vec<(usize, String)>, SinkError> {
        let mut refused = Vec::new();
        let mut pieces = vec![(0, rows.num_rows())];
        while let Some((from, count)) = pieces.pop() {
            step(open.client.batch_execute("SAVEPOINT piece")).await?;
            let loaded = tokio::time::timeout(STEP_TIMEOUT, self.load_piece(open, rows, from, count))
                .await
                .map_err(|_| timed_out())?;
            let Err(error) = loaded else {
                step(open.client.batch_execute("RELEASE SAVEPOINT piece")).await?;
                continue;
            };
            if !is_about_data(&error) {
                return Err(sink_error(error));
            }
            step(open.client.batch_execute("ROLLBACK TO SAVEPOINT piece; RELEASE SAVEPOINT piece")).await?;
            if count == 1 {
                refused.push((from, describe(&error)));
            } else {
                pieces.push((from + count / 2, count - count / 2));
                pieces.push((from, count / 2));
            }
        }
        Ok(refused)
    }

    async fn load_piece(&self, open: &Open, rows: &RecordBatch, from: usize, count: usize) -> Result<(), Error> {
        let columns = Cells::of(&self.shape, rows);
        let names = self.shape.column_list();
        if from > 0 {
            open.client.batch_execute("DELETE FROM pg_temp.playhouse_stage").await?;
        }
        let copy = format!("COPY pg_temp.playhouse_stage (playhouse_ordinal, {names}) FROM STDIN (FORMAT binary)");
        let mut copying = Box::pin(open.client.copy_in::<_, Bytes>(&copy).await?);
        let mut chunk = copy::HEADER.to_vec();
        for row in from..from + count {
            copy::write_row(&mut chunk, &columns, row, row as i64, &self.counters);
            if chunk.len() >= COPY_CHUNK_BYTES {
                copying.send(Bytes::from(std::mem::take(&mut chunk))).await?;
            }
        }
        chunk.extend_from_slice(copy::TRAILER);
        copying.send(Bytes::from(chunk)).await?;
        copying.as_mut().finish().await?;
        let table = qualified(&self.shape.table);
        let (distinct, order) = match self.shape.key_list() {
            none if none.is_empty() => (String::new(), "playhouse_ordinal".to_owned()),
            key => (format!("DISTINCT ON ({key}) "), format!("{key}, playhouse_ordinal DESC")),
        };
        let conflict = self.shape.conflict_clause();
        let insert = format!(
            "INSERT INTO {table} ({names}) SELECT {distinct}{names} FROM pg_temp.playhouse_stage ORDER BY {order}{conflict}"
        );
        open.client.batch_execute(&insert).await
    }
}

impl Open {
    async fn stored_position(&self, sink: &str) -> Result<Option<Position>, SinkError> {
        let log_id = self.scope.log_id.to_string();
        let rows = step(self.client.query(&self.read_position, &[&log_id, &self.scope.pipeline, &sink])).await?;
        let mut position = Position::default();
        for row in &rows {
            let topic: String = row.get(0);
            position.set(TopicPartition { topic: topic.into(), partition: row.get(1) }, row.get(2));
        }
        Ok((!rows.is_empty()).then_some(position))
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn refuse_to(&mut self, refusals: Refusals) -> bool {
        self.refusals = Some(refusals);
        true
    }

    async fn open(&mut self, scope: &Scope) -> Result<Option<Position>, SinkError> {
        self.close().await;
        let (open, stored) = self.connect(scope).await?;
        self.open = Some(open);
        Ok(stored)
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        if self.open.is_none() {
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
        let Some(mut open) = self.open.take() else { return Err(progress::not_open(&self.shape.sink)) };
        let staged = std::mem::take(&mut self.staged);
        // A connection with a failed transaction is dropped, and the server rolls back.
        self.commit_on(&mut open, position, staged).await?;
        self.open = Some(open);
        Ok(())
    }

    fn guarantee(&self) -> &'static str {
        "exactly once: rows and position in one PostgreSQL transaction"
    }

    async fn close(&mut self) {
        self.staged = Staged::default();
        self.open = None;
    }
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Json => "jsonb",
        Kind::BigInt => "bigint",
        Kind::Double => "double precision",
        Kind::Boolean => "boolean",
        Kind::Timestamp => "timestamptz",
        Kind::Date => "date",
        Kind::Bytes => "bytea",
    }
}

async fn step<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, SinkError> {
    tokio::time::timeout(STEP_TIMEOUT, work).await.map_err(|_| timed_out())?.map_err(sink_error)
}

fn timed_out() -> SinkError {
    SinkError::Unavailable(format!("tables: PostgreSQL did not answer within {} s", STEP_TIMEOUT.as_secs()))
}

/// SQLSTATE classes that blame the row: data exception, constraint violation, program limit exceeded.
fn is_about_data(error: &Error) -> bool {
    error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.code().starts_with(class)))
}

fn sink_error(error: Error) -> SinkError {
    let what = format!("tables: {}", describe(&error));
    // Refused credentials, no such database or schema, no privilege.
    let hopeless = error
        .code()
        .is_some_and(|code| code.code().starts_with("28") || ["3D000", "3F000", "42501"].contains(&code.code()));
    if hopeless { SinkError::Fatal(what) } else { SinkError::Unavailable(what) }
}

/// The server's own words; the driver's say only "db error".
fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(server) => match server.detail() {
            Some(detail) => format!("{} ({detail})", server.message()),
            None => server.message().to_owned(),
        },
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
