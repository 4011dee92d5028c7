//! What can go wrong with a pipeline's text, and with running it.

use std::fmt;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::Span;

/// One error in a pipeline's text: where, in which statement, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// 1-based; 0 where unknown.
    pub line: u64,
    /// 1-based; 0 where unknown.
    pub column: u64,
    /// The statement by its head, such as `CREATE TABLE lake_events`; empty where none was recognised.
    pub statement: String,
    pub message: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.statement.is_empty() {
            write!(f, "{}: ", self.statement)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for SqlError {}

/// A plan failed over the rows of one epoch, such as by a division by zero or a failed cast.
#[derive(Debug, thiserror::Error)]
#[error("{stage}: {message}")]
pub struct RunError {
    /// The view, stream or table whose plan failed.
    pub stage: String,
    pub message: String,
    /// It is not about the rows: the same ones may pass another time.
    pub is_passing: bool,
}

impl RunError {
    pub(super) fn new(stage: &str, error: impl fmt::Display) -> RunError {
        RunError { stage: stage.to_string(), message: error.to_string(), is_passing: false }
    }

    pub(crate) fn unsteady(pipeline: &str, reason: impl fmt::Display) -> RunError {
        RunError { is_passing: true, ..RunError::new(pipeline, format!("a row fails that passed before: {reason}")) }
    }

    pub(super) fn of_plan(stage: &str, error: &DataFusionError) -> RunError {
        let root = error.find_root();
        let is_passing = match root {
            DataFusionError::ResourcesExhausted(_) | DataFusionError::IoError(_) => true,
            DataFusionError::ArrowError(error, _) => {
                matches!(**error, ArrowError::MemoryError(_) | ArrowError::IoError(..))
            }
            _ => false,
        };
        let text = match root {
            DataFusionError::ArrowError(error, _) => error.to_string(),
            _ => root.strip_backtrace(),
        };
        RunError { stage: stage.to_string(), message: lowercase_first(&text), is_passing }
    }
}

/// A place in the text, for errors.
#[derive(Debug, Clone, Default)]
pub(super) struct At {
    pub line: u64,
    pub column: u64,
    pub statement: String,
}

impl At {
    pub fn error(&self, message: impl Into<String>) -> SqlError {
        SqlError { line: self.line, column: self.column, statement: self.statement.clone(), message: message.into() }
    }

    /// The same statement at a more exact place, where that is known.
    pub fn moved(&self, span: Span) -> At {
        match span.start.line {
            0 => self.clone(),
            line => At { line, column: span.start.column, statement: self.statement.clone() },
        }
    }

    /// What the planner had to say, at the place that it names.
    pub fn planner(&self, error: DataFusionError) -> SqlError {
        let mut at = self.clone();
        if let Some(span) = error.diagnostic().and_then(|diagnostic| diagnostic.span)
            && span.start.line > 0
        {
            at.line = span.start.line;
            at.column = span.start.column;
        }
        let mut cause = &error;
        while let DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) = cause {
            cause = inner;
        }
        let text = cause.strip_backtrace().replace('\n', " ");
        let plain = ["Error during planning: ", "Schema error: "].iter().find_map(|prefix| text.strip_prefix(prefix));
        at.error(lowercase_first(plain.unwrap_or(&text)))
    }
}

/// Messages are fragments, as ours are.
pub(super) fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        // `UNION …` stays as it is.
        Some(first) if !chars.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_string(),
    }
}
