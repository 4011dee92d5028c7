//! Errors as PostgreSQL clients expect them: with the SQLSTATE that PostgreSQL itself would give.

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use pgwire::error::{ErrorInfo, PgWireError};

pub(super) fn error(code: &str, message: impl Into<String>) -> ErrorInfo {
    ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.into())
}

pub(super) fn fatal(code: &str, message: impl Into<String>) -> ErrorInfo {
    ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.into())
}

pub(super) fn user(info: ErrorInfo) -> PgWireError {
    PgWireError::UserError(Box::new(info))
}

pub(super) fn engine(error: DataFusionError) -> PgWireError {
    user(from_datafusion(&error))
}

/// What the client is told; DataFusion's errors may come wrapped by the wire library.
pub(super) fn info(error: PgWireError) -> ErrorInfo {
    if let PgWireError::ApiError(inner) = &error {
        if let Some(inner) = inner.downcast_ref::<DataFusionError>() {
            return from_datafusion(inner);
        }
        if let Some(inner) = inner.downcast_ref::<ParserError>() {
            return from_parser(inner);
        }
        if let Some(inner) = inner.downcast_ref::<ArrowError>() {
            return from_arrow(inner);
        }
    }
    error.into()
}

pub(super) fn from_parser(parser: &ParserError) -> ErrorInfo {
    let message = match parser {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.as_str(),
        ParserError::RecursionLimitExceeded => return error("54001", "the statement is nested too deeply"),
    };
    // The parser works on tokens that have lost their place.
    let message = message.strip_suffix(" at Line: 0, Column: 0").unwrap_or(message);
    error("42601", format!("syntax error: {message}"))
}

fn from_datafusion(found: &DataFusionError) -> ErrorInfo {
    match found.find_root() {
        DataFusionError::SQL(parser, _) => from_parser(parser),
        DataFusionError::SchemaError(schema, _) => from_schema(schema),
        DataFusionError::Plan(message) => from_plan(message),
        DataFusionError::NotImplemented(message) => error("0A000", message.clone()),
        DataFusionError::ArrowError(arrow, _) => from_arrow(arrow),
        DataFusionError::ResourcesExhausted(message) => {
            let mut info = error("53200", format!("out of memory: {}", first_line(message)));
            info.hint = Some("narrow the query, or raise the memory of the PostgreSQL door".to_owned());
            info
        }
        DataFusionError::Execution(message) | DataFusionError::Configuration(message) => {
            error("22000", message.clone())
        }
        DataFusionError::External(inner) => match inner.downcast_ref::<ArrowError>() {
            Some(arrow) => from_arrow(arrow),
            None => error("58030", inner.to_string()),
        },
        other => error("XX000", other.strip_backtrace()),
    }
}

fn from_schema(schema: &SchemaError) -> ErrorInfo {
    match schema {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut info = error("42703", format!("column \"{}\" does not exist", field.flat_name()));
            if !valid_fields.is_empty() && valid_fields.len() <= 40 {
                let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
                info.hint = Some(format!("the columns are {}", names.join(", ")));
            }
            info
        }
        SchemaError::AmbiguousReference { field } => {
            error("42702", format!("column reference \"{}\" is ambiguous", field.flat_name()))
        }
        SchemaError::DuplicateQualifiedField { .. } | SchemaError::DuplicateUnqualifiedField { .. } => {
            error("42701", schema.to_string())
        }
    }
}

fn from_plan(message: &str) -> ErrorInfo {
    let message = first_line(message);
    if let Some(name) = message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
        let name = name.strip_prefix("playhouse.").unwrap_or(name);
        let name = name.strip_prefix("public.").unwrap_or(name);
        let mut info = error("42P01", format!("relation \"{name}\" does not exist"));
        info.hint = Some("\\d lists what there is".to_owned());
        return info;
    }
    let code =
        if message.starts_with("Invalid function") || message.contains("unction") && message.contains("not found") {
            "42883"
        } else if message.contains("column") && message.contains("not found") {
            "42703"
        } else if message.contains("GROUP BY") {
            "42803"
        } else if message.contains("coerc") || message.contains("type") {
            "42804"
        } else {
            "42000"
        };
    error(code, message)
}

fn from_arrow(arrow: &ArrowError) -> ErrorInfo {
    let code = match arrow {
        ArrowError::DivideByZero => return error("22012", "division by zero"),
        ArrowError::ArithmeticOverflow(_) => "22003",
        ArrowError::CastError(_) | ArrowError::ParseError(_) => "22P02",
        ArrowError::ExternalError(inner) => {
            return match inner.downcast_ref::<DataFusionError>() {
                Some(inner) => from_datafusion(inner),
                None => error("58030", inner.to_string()),
            };
        }
        ArrowError::IoError(..) => "58030",
        ArrowError::NotYetImplemented(_) => "0A000",
        _ => "XX000",
    };
    error(code, arrow.to_string())
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}
