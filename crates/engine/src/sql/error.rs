//! What can go wrong with a pipeline's text, and with running it.

use std::fmt;

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
}
