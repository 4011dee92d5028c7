//! An SQL expression over the raw payload, evaluated by SQLite in a sandbox.
//!
//! The sandbox is an empty database in memory. It may select and call functions, and nothing else: an authorizer refuses
//! every other statement, recursion included, when the expression is compiled. What an expression makes is limited in
//! size, its steps in time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, named_params};

use crate::{ChangeError, Event, InvalidChange};

const EXPRESSION_BYTES_MAX: i32 = 64 << 10;
const DEPTH_MAX: i32 = 200;
/// Steps of SQLite's machine between two looks at the clock: microseconds.
const STEPS: i32 = 1000;
/// What SQLite makes on the way may be larger than the event that comes out.
const ROOM: usize = 4;

#[derive(Debug)]
pub struct Expression {
    /// One event at a time: so is a statement.
    sandbox: Mutex<Sandbox>,
    bytes_max: usize,
    time_max: Duration,
}

#[derive(Debug)]
struct Sandbox {
    connection: Connection,
    statement: String,
    /// When the expression that runs is stopped.
    deadline: Arc<Mutex<Option<Instant>>>,
}

impl Expression {
    /// `sql` is any expression of SQLite over the columns `raw` (text where the payload is UTF-8, else a blob), `bad_id`,
    /// `topic`, `received_at` (RFC 3339) and `received_at_ms`, such as `json_set(raw, '$.user', 'unknown')`.
    pub fn new(sql: &str, bytes_max: usize, time_max: Duration) -> Result<Expression, InvalidChange> {
        let deadline = Arc::default();
        let connection = open(bytes_max, &deadline).map_err(|error| InvalidChange::Sandbox(error.to_string()))?;
        // The line feeds end a comment at the expression's end.
        let statement = format!(
            "SELECT (\n{sql}\n) FROM (SELECT :raw AS raw, :bad_id AS bad_id, :topic AS topic, \
             :received_at_ms AS received_at_ms, \
             strftime('%Y-%m-%dT%H:%M:%fZ', :received_at_ms / 1000.0, 'unixepoch') AS received_at) AS event"
        );
        let invalid = |error: rusqlite::Error| InvalidChange::Sql(told(&error));
        let columns = connection.prepare(&statement).map_err(invalid)?.column_count();
        if columns != 1 {
            return Err(InvalidChange::Sql(format!("it has {columns} columns")));
        }
        Ok(Expression { sandbox: Mutex::new(Sandbox { connection, statement, deadline }), bytes_max, time_max })
    }

    pub fn apply(&self, event: &Event<'_>) -> Result<Vec<u8>, ChangeError> {
        let sandbox = self.sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        let set_deadline = |deadline| *sandbox.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        set_deadline(Some(Instant::now() + self.time_max));
        let outcome = sandbox.evaluate(event);
        set_deadline(None);
        match outcome {
            Ok(Some(bytes)) if bytes.len() > self.bytes_max => Err(ChangeError::TooLarge(self.bytes_max)),
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(ChangeError::NoText("NULL")),
            Err(error) => Err(match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => ChangeError::TooSlow(self.time_max.as_millis()),
                Some(ErrorCode::TooBig) => ChangeError::TooLarge(self.bytes_max),
                _ => match error {
                    rusqlite::Error::InvalidColumnType(..) => ChangeError::NoText("a number"),
                    error => ChangeError::Sql(told(&error)),
                },
            }),
        }
    }
}

impl Sandbox {
    /// `None` for NULL.
    fn evaluate(&self, event: &Event<'_>) -> rusqlite::Result<Option<Vec<u8>>> {
        let raw = match std::str::from_utf8(event.raw) {
            Ok(text) => ValueRef::Text(text.as_bytes()),
            Err(_) => ValueRef::Blob(event.raw),
        };
        let mut statement = self.connection.prepare_cached(&self.statement)?;
        let parameters = named_params! {
            ":raw": rusqlite::types::ToSqlOutput::Borrowed(raw),
            ":bad_id": event.bad_id,
            ":topic": event.topic,
            ":received_at_ms": event.received_at_ms,
        };
        statement.query_row(parameters, |row| match row.get_ref(0)? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Some(bytes.to_vec())),
            number => Err(rusqlite::Error::InvalidColumnType(0, String::new(), number.data_type())),
        })
    }
}

fn open(bytes_max: usize, deadline: &Arc<Mutex<Option<Instant>>>) -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    // In memory too, whatever the library was built with: nothing of an event goes to a file.
    connection.pragma_update(None, "temp_store", "memory")?;
    // Text in double quotes is a column, and an error where there is none.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    let length = i32::try_from(bytes_max.saturating_mul(ROOM)).unwrap_or(i32::MAX);
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, length.max(EXPRESSION_BYTES_MAX)),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, EXPRESSION_BYTES_MAX),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, DEPTH_MAX),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    connection.authorizer(Some(|context: AuthContext<'_>| match context.action {
        AuthAction::Select | AuthAction::Read { .. } => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }))?;
    let deadline = deadline.clone();
    let is_over = move || {
        let deadline = *deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.is_some_and(|deadline| Instant::now() > deadline)
    };
    connection.progress_handler(STEPS, Some(is_over))?;
    Ok(connection)
}

/// Without the statement around the expression, which its author did not write.
fn told(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}
