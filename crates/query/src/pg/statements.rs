//! Which statements pass. The list names what is allowed: what nobody thought of is refused.

use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::Statement;
use pgwire::error::{ErrorInfo, PgWireError};

use super::errors::{engine, error};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// DataFusion plans and runs it.
    Query,
    /// The session answers it (`session.rs`).
    Session,
}

const HINT: &str = "this door only reads: events arrive through the ingest doors (HTTP, Kafka), and tables and views are \
                    defined by the pipelines in pipelines/*.sql (setting engine.pipeline)";

pub(super) fn classify(statement: &Statement) -> Result<Kind, ErrorInfo> {
    match statement {
        Statement::Query(_)
        | Statement::Explain { .. }
        | Statement::ExplainTable { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowFunctions { .. } => Ok(Kind::Query),
        Statement::Set(_)
        | Statement::ShowVariable { .. }
        | Statement::ShowStatus { .. }
        | Statement::ShowCatalogs { .. }
        | Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. }
        | Statement::Declare { .. }
        | Statement::Fetch { .. }
        | Statement::Close { .. }
        | Statement::Discard { .. }
        | Statement::Reset(_)
        | Statement::Deallocate { .. }
        | Statement::UNLISTEN { .. } => Ok(Kind::Session),
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_)
        | Statement::Truncate(_)
        | Statement::Copy { .. } => Err(refusal("25006", statement)),
        _ => Err(refusal("0A000", statement)),
    }
}

/// The same rule for what hides inside a query (a CTE that inserts, EXPLAIN of a CREATE).
pub(super) fn verify(plan: &LogicalPlan) -> Result<(), PgWireError> {
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reads.verify_plan(plan).map_err(|found| {
        let mut info = match engine(found) {
            PgWireError::UserError(info) => info,
            other => return other,
        };
        info.code = "25006".to_owned();
        info.hint = Some(HINT.to_owned());
        PgWireError::UserError(info)
    })
}

fn refusal(code: &str, statement: &Statement) -> ErrorInfo {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).filter(|word| word.len() < 20).collect();
    let mut info = error(code, format!("cannot run {} here", words.join(" ")));
    info.hint = Some(HINT.to_owned());
    info
}
