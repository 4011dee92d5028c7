//! Pipeline text to statements that know where they stand.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{self, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::error::{At, SqlError, lowercase_first};
use super::options::unknown;

#[derive(Debug)]
pub struct Parsed {
    pub statement: Statement,
    pub at: At,
}

/// Splits and parses; `${name}` inside quoted strings becomes the variable's value.
pub fn parse(sql: &str, variables: &BTreeMap<String, String>) -> Result<Vec<Parsed>, SqlError> {
    let mut tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().map_err(|error| {
        At { line: error.location.line, column: error.location.column, statement: String::new() }.error(error.message)
    })?;
    for token in &mut tokens {
        let at = At::default().moved(token.span);
        if let Token::SingleQuotedString(text) = &mut token.token {
            *text = substitute(text, variables).map_err(|message| at.error(message))?;
        }
    }
    let end_of_text =
        tokens.iter().rev().find(|token| !matches!(token.token, Token::EOF | Token::Whitespace(_))).map_or(
            At::default(),
            |token| At { line: token.span.end.line, column: token.span.end.column, statement: String::new() },
        );
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens);
    let mut statements = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        let first = parser.peek_token();
        if first.token == Token::EOF {
            return Ok(statements);
        }
        let start = At::default().moved(first.span);
        let statement = parser.parse_statement().map_err(|error| located(error, &end_of_text))?;
        let end = parser.peek_token();
        if !matches!(end.token, Token::SemiColon | Token::EOF) {
            let message = format!("expected a semicolon after the statement, found {}", end.token);
            return Err(At { statement: head(&statement), ..At::default().moved(end.span) }.error(message));
        }
        let at = At { statement: head(&statement), ..start };
        statements.push(Parsed { statement, at });
    }
}

fn substitute(text: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err(format!("'${{' without '}}' in '{text}'"));
        };
        let known: Vec<&str> = variables.keys().map(String::as_str).collect();
        let value = variables.get(name).ok_or_else(|| unknown("variable", name, &known))?;
        result.push_str(before);
        result.push_str(value);
        rest = after;
    }
    Ok(result + rest)
}

/// The parser writes the place into its message; it becomes the error's own. Without a place it is the end of the text.
fn located(error: ParserError, end_of_text: &At) -> SqlError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => "nested too deep".to_string(),
    };
    if let Some((message, place)) = text.rsplit_once(" at Line: ")
        && let Some((line, column)) = place.split_once(", Column: ")
        && let (Ok(line), Ok(column)) = (line.trim().parse(), column.trim().parse())
    {
        return At { line, column, statement: String::new() }.error(lowercase_first(message));
    }
    end_of_text.error(lowercase_first(&text))
}

/// `CREATE VIEW enriched`, `INSERT INTO lake_events`: how errors name a statement.
fn head(statement: &Statement) -> String {
    match statement {
        Statement::CreateTable(table) => format!("CREATE TABLE {}", table.name),
        Statement::CreateView(view) if view.materialized => format!("CREATE MATERIALIZED VIEW {}", view.name),
        Statement::CreateView(view) => format!("CREATE VIEW {}", view.name),
        Statement::Insert(insert) => match &insert.table {
            ast::TableObject::TableName(name) => format!("INSERT INTO {name}"),
            other => format!("INSERT INTO {other}"),
        },
        other => other.to_string().split_whitespace().take(2).collect::<Vec<_>>().join(" "),
    }
}
