//! The shape of a table: what the Arrow schema and the options of a target ask of SQL.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use playhouse_engine::sink::{SinkError, Target};

use crate::options;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Json,
    BigInt,
    Double,
    Boolean,
    Timestamp,
    Date,
    Bytes,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Name of the sink, part of its position's key.
    pub sink: String,
    /// `table` or `schema.table`, unquoted.
    pub table: String,
    pub columns: Vec<Column>,
    /// Names of the key columns; empty for append.
    pub key: Vec<String>,
    pub indexes: Vec<String>,
    /// The rows' schema once every column has the one Arrow type of its kind.
    canonical: SchemaRef,
}

impl Shape {
    pub(super) fn new(target: &Target) -> Result<Self, SinkError> {
        let json = options::columns(target, "json")?.unwrap_or_default();
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for field in target.schema.fields() {
            let kind = Kind::of(field.data_type(), json.contains(field.name())).ok_or_else(|| {
                SinkError::Fatal(format!(
                    "{}: column \"{}\" has type {}, which tables cannot hold; cast it to text",
                    target.name,
                    field.name(),
                    field.data_type()
                ))
            })?;
            fields.push(Field::new(field.name(), kind.arrow(), true));
            columns.push(Column { name: field.name().clone(), kind });
        }
        for name in &target.primary_key {
            if target.schema.index_of(name).is_err() {
                return Err(SinkError::Fatal(format!(
                    "{}: primary_key names column \"{name}\", which the rows do not have",
                    target.name
                )));
            }
        }
        Ok(Self {
            sink: target.name.clone(),
            table: target.options.get("table").unwrap_or(&target.name).clone(),
            columns,
            key: target.primary_key.clone(),
            indexes: options::columns(target, "index")?.unwrap_or_default(),
            canonical: Arc::new(Schema::new(fields)),
        })
    }

    /// The rows with one Arrow type by kind.
    pub(super) fn canonical(&self, rows: &RecordBatch) -> Result<RecordBatch, SinkError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns: Result<Vec<_>, _> = rows
            .columns()
            .iter()
            .zip(self.canonical.fields())
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(column.clone())
                } else {
                    cast_with_options(column, field.data_type(), &strict)
                }
            })
            .collect();
        columns
            .and_then(|columns| RecordBatch::try_new(self.canonical.clone(), columns))
            .map_err(|error| SinkError::Fatal(format!("{}: rows do not fit the table: {error}", self.sink)))
    }

    pub(super) fn canonical_schema(&self) -> &SchemaRef {
        &self.canonical
    }

    /// Column names, quoted, separated by commas.
    pub(super) fn column_list(&self) -> String {
        quoted_list(self.columns.iter().map(|column| column.name.as_str()))
    }

    pub(super) fn key_list(&self) -> String {
        quoted_list(self.key.iter().map(String::as_str))
    }

    /// `CREATE TABLE IF NOT EXISTS`, with the store's own names of types.
    pub(super) fn create_statement(&self, type_name: fn(Kind) -> &'static str) -> String {
        let columns = self.columns.iter().map(|column| {
            let constraint = if self.key.contains(&column.name) { " NOT NULL" } else { "" };
            format!("{} {}{constraint}", quoted(&column.name), type_name(column.kind))
        });
        let key = (!self.key.is_empty()).then(|| format!("PRIMARY KEY ({})", self.key_list()));
        let body: Vec<String> = columns.chain(key).collect();
        format!("CREATE TABLE IF NOT EXISTS {} ({})", qualified(&self.table), body.join(", "))
    }

    /// `ON CONFLICT …` for an upsert, nothing for an append. Both stores spell it alike.
    pub(super) fn conflict_clause(&self) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        let updates: Vec<String> = self
            .columns
            .iter()
            .filter(|column| !self.key.contains(&column.name))
            .map(|column| format!("{0} = excluded.{0}", quoted(&column.name)))
            .collect();
        let action =
            if updates.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", updates.join(", ")) };
        format!(" ON CONFLICT ({}) DO {action}", self.key_list())
    }

    pub(super) fn missing_column(&self, column: &str, expected: &str) -> SinkError {
        SinkError::Fatal(format!(
            "{}: table {} has no column \"{column}\"; add it (ALTER TABLE {} ADD COLUMN {} {expected}), or name another table with the option table",
            self.sink,
            self.table,
            qualified(&self.table),
            quoted(column),
        ))
    }

    pub(super) fn wrong_type(&self, column: &str, found: &str, expected: &str) -> SinkError {
        SinkError::Fatal(format!(
            "{}: column \"{column}\" of table {} has type {found}, expected {expected}; change it, or name another table with the option table",
            self.sink, self.table,
        ))
    }

    pub(super) fn missing_key(&self) -> SinkError {
        SinkError::Fatal(format!(
            "{}: table {} has no unique index on ({}), which an upsert needs; add one, or name another table with the option table",
            self.sink,
            self.table,
            self.key_list(),
        ))
    }
}

impl Kind {
    fn of(data_type: &DataType, json: bool) -> Option<Self> {
        Some(match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if json => Self::Json,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Dictionary(_, value) => return Self::of(value, json),
            _ if data_type.is_integer() => Self::BigInt,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Double,
            DataType::Boolean => Self::Boolean,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytes
            }
            _ => return None,
        })
    }

    fn arrow(self) -> DataType {
        match self {
            Self::Text | Self::Json => DataType::Utf8,
            Self::BigInt => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => DataType::Date32,
            Self::Bytes => DataType::Binary,
        }
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.table` is two names.
pub(super) fn qualified(table: &str) -> String {
    table.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn quoted_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quoted).collect::<Vec<_>>().join(", ")
}
