//! Which statements pass. The list names what is allowed: what nobody thought of is refused.

use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};

use super::errors::{engine, error, from_parser, user};

/// Operators in one message. A chain of them (`a or b or c …`) becomes a tree as deep as it is long, and what walks the
/// tree recurses: without a limit, one long chain would overflow the stack and end the process.
const OPERATORS_MAX: usize = 400;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// DataFusion plans and runs it.
    Query,
    /// The session answers it (`session.rs`).
    Session,
}

const HINT: &str = "this door only reads: events arrive through the ingest doors (HTTP, Kafka), and tables and views are \
                    defined by the pipelines in pipelines/*.sql (setting pipeline.file)";

pub(super) fn classify(statement: &Statement) -> PgWireResult<Kind> {
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
        | Statement::Copy { .. } => Err(user(refusal("25006", statement))),
        _ => Err(user(refusal("0A000", statement))),
    }
}

/// Refuses what would nest too deeply, before a tree is made of it.
pub(super) fn check_depth(sql: &str) -> PgWireResult<()> {
    let tokens =
        Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().map_err(|found| user(from_parser(&found.into())))?;
    let operators = tokens.iter().filter(|token| deepens(token)).count();
    if operators > OPERATORS_MAX {
        let mut info = error("54001", format!("{operators} operators in one statement: the limit is {OPERATORS_MAX}"));
        info.hint = Some("write a long chain of OR as IN (…) or as a join with VALUES".to_owned());
        return Err(user(info));
    }
    Ok(())
}

fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::AT
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::OPERATOR
                | Keyword::NOTNULL
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::OVERLAPS
                | Keyword::XOR
                | Keyword::DIV
                | Keyword::IN
        ),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::Whitespace(_)
        | Token::Placeholder(_)
        | Token::Comma
        | Token::Period
        | Token::SemiColon
        | Token::LParen
        | Token::RParen
        | Token::RBracket
        | Token::EOF => false,
        _ => true,
    }
}

/// The same rule for what hides inside a query (a CTE that inserts, EXPLAIN of a CREATE).
pub(super) fn verify(plan: &LogicalPlan) -> PgWireResult<()> {
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
