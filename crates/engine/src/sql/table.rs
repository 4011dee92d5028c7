//! `CREATE TABLE`: sources, look-up tables and sinks, as declared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use bytes::Bytes;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, DataType, Expr, TableConstraint, TimezoneInfo,
};

use super::decoder::{Decoder, Field, FieldType, Layout, SystemColumn};
use super::error::{At, SqlError};
use super::identifier;
use super::json::Scanner;
use super::lookup::LookupTable;
use super::options::{CompileOptions, Options, connector, unknown};

/// A declared column.
#[derive(Debug, Clone)]
pub struct DeclaredColumn {
    pub name: String,
    pub key: String,
    pub kind: FieldType,
    pub not_null: bool,
}

#[derive(Debug)]
pub struct SourceTable {
    pub topic: String,
    pub columns: Vec<DeclaredColumn>,
    pub dedup: Option<(String, Duration)>,
    /// Column, delay, idle timeout.
    pub watermark: Option<(String, Duration, Duration)>,
}

#[derive(Debug)]
pub struct SinkTable {
    /// With the connector's name.
    pub options: BTreeMap<String, String>,
    pub connector: usize,
    pub at: At,
}

pub enum Table {
    Source(SourceTable),
    /// With the bytes that its version is made of.
    Lookup(LookupTable, Bytes),
    Sink(SinkTable),
}

pub fn read(table: &CreateTable, options: &CompileOptions, name: &str, at: &At) -> Result<Table, SqlError> {
    if table.query.is_some() || table.external || table.temporary || table.or_replace || table.if_not_exists {
        return Err(at.error("write CREATE TABLE name (columns) WITH (connector = '…', …) and nothing more"));
    }
    let (connector, connector_at) = connector(&table.table_options, at)?;
    match connector.as_str() {
        "log" => source(table, at).map(Table::Source),
        "file" => lookup(table, options, name, at).map(|(table, bytes)| Table::Lookup(table, bytes)),
        _ => {
            let Some(index) = options.connectors.iter().position(|known| known.name == connector) else {
                let known: Vec<&str> =
                    ["log", "file"].into_iter().chain(options.connectors.iter().map(|known| known.name)).collect();
                return Err(connector_at.error(unknown("connector", &connector, &known)));
            };
            sink(table, options, index, at).map(Table::Sink)
        }
    }
}

fn source(table: &CreateTable, at: &At) -> Result<SourceTable, SqlError> {
    const KNOWN: [&str; 9] = [
        "connector",
        "topic",
        "format",
        "fields",
        "dedup_key",
        "dedup_window",
        "watermark",
        "watermark_delay",
        "idle_timeout",
    ];
    let options = Options::read(&table.table_options, &KNOWN, at)?;
    format(&options)?;
    let (mut columns, key) = columns(table, at)?;
    if key.is_some() {
        return Err(at.error("a source has no PRIMARY KEY: name the column that makes events unique as dedup_key"));
    }
    for column in &columns {
        if SystemColumn::ALL.iter().any(|(name, _)| *name == column.name) {
            return Err(at.error(format!("{} is a column that every source has already: leave it out", column.name)));
        }
    }
    if let Some((text, at)) = options.get("fields") {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, key) = pair
                .split_once('=')
                .map(|(name, key)| (name.trim(), key.trim()))
                .ok_or_else(|| at.error(format!("'{pair}': write fields = 'column=json_key, …'")))?;
            match columns.iter_mut().find(|column| column.name == name) {
                Some(column) => column.key = key.to_string(),
                None => return Err(at.error(unknown("column", name, &names))),
            }
        }
    }
    for (index, column) in columns.iter().enumerate() {
        if let Some(other) = columns[..index].iter().find(|other| other.key == column.key) {
            let (first, second, key) = (&other.name, &column.name, &column.key);
            return Err(at.error(format!("{first} and {second} are both read from the JSON field {key:?}")));
        }
    }
    let of_type = |option: &str, kind: FieldType, type_name: &str| match options.get(option) {
        None => Ok(None),
        Some((name, at)) => match columns.iter().find(|column| column.name == name) {
            Some(column) if column.kind == kind => Ok(Some(name.to_string())),
            Some(_) => Err(at.error(format!("{option} = '{name}': the column must be {type_name}"))),
            None => {
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                Err(at.error(unknown("column", name, &names)))
            }
        },
    };
    let (dedup, watermark) =
        (of_type("dedup_key", FieldType::Text, "TEXT")?, of_type("watermark", FieldType::Timestamp, "TIMESTAMPTZ")?);
    let dependents = [("dedup_window", "dedup_key"), ("watermark_delay", "watermark"), ("idle_timeout", "watermark")];
    for (dependent, needed) in dependents {
        if let (Some((_, at)), None) = (options.get(dependent), options.get(needed)) {
            return Err(at.error(format!("{dependent} has no meaning without {needed}")));
        }
    }
    let or = |option: &str, seconds| Ok(options.duration(option)?.unwrap_or(Duration::from_secs(seconds)));
    let (window, delay, idle) = (or("dedup_window", 86_400)?, or("watermark_delay", 10)?, or("idle_timeout", 30)?);
    Ok(SourceTable {
        topic: options.required("topic")?.0.to_string(),
        dedup: dedup.map(|column| (column, window)),
        watermark: watermark.map(|column| (column, delay, idle)),
        columns,
    })
}

fn format(options: &Options) -> Result<(), SqlError> {
    match options.get("format") {
        None | Some(("json", _)) => Ok(()),
        Some((other, at)) => Err(at.error(unknown("format", other, &["json"]))),
    }
}

fn lookup(
    table: &CreateTable,
    options: &CompileOptions,
    name: &str,
    at: &At,
) -> Result<(LookupTable, Bytes), SqlError> {
    let given = Options::read(&table.table_options, &["connector", "path", "format"], at)?;
    format(&given)?;
    let (columns, key) = columns(table, at)?;
    let key = key.ok_or_else(|| at.error("a look-up table needs PRIMARY KEY (column): it is joined by it"))?;
    let key = columns
        .iter()
        .position(|column| column.name == key)
        .ok_or_else(|| at.error(format!("the primary key {key} is not a column")))?;
    if !matches!(columns[key].kind, FieldType::Text | FieldType::BigInt) {
        return Err(at.error("the primary key of a look-up table must be TEXT or BIGINT"));
    }
    let (path, path_at) = given.required("path")?;
    let bytes = match path.strip_prefix("builtin:") {
        Some(builtin) => options.builtin.get(builtin).cloned().ok_or_else(|| {
            let known: Vec<&str> = options.builtin.keys().map(String::as_str).collect();
            path_at.error(unknown("builtin file", builtin, &known))
        })?,
        None => std::fs::read(options.directory.join(path))
            .map(Bytes::from)
            .map_err(|error| path_at.error(format!("cannot read {path}: {error}")))?,
    };
    let rows = rows(&columns, &bytes).map_err(|message| path_at.error(format!("{path}: {message}")))?;
    let table =
        LookupTable::new(name.to_string(), rows, key).map_err(|message| path_at.error(format!("{path}: {message}")))?;
    Ok((table, bytes))
}

/// One JSON object after another, or one array of them.
fn rows(columns: &[DeclaredColumn], bytes: &[u8]) -> Result<arrow::record_batch::RecordBatch, String> {
    if u32::try_from(bytes.len()).is_err() {
        return Err("larger than 4 GiB".to_string());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let fields = columns.iter().enumerate().map(|(index, column)| column.field(Some(index))).collect();
    let schema: Vec<_> = columns.iter().map(DeclaredColumn::arrow).collect();
    let layout = Layout { topic: String::new(), schema: Arc::new(Schema::new(schema)), fields, system: Vec::new() };
    let mut decoder = Decoder::new(Arc::new(layout));
    let mut scanner = Scanner::new(text);
    let array = scanner.take(b'[');
    while !(scanner.at_end() || array && scanner.take(b']')) {
        if array && !decoder.is_empty() && !scanner.take(b',') {
            return Err(format!("expected a comma after record {}", decoder.len()));
        }
        let number = decoder.len() + 1;
        let value = scanner.value().map_err(|error| format!("record {number}: {error}"))?;
        decoder.push_payload(text[value.range()].as_bytes()).map_err(|error| format!("record {number}: {error}"))?;
    }
    Ok(decoder.finish())
}

fn sink(table: &CreateTable, options: &CompileOptions, index: usize, at: &At) -> Result<SinkTable, SqlError> {
    let connector = &options.connectors[index];
    if !table.columns.is_empty() || !table.constraints.is_empty() {
        return Err(at.error("a sink takes its columns from what is inserted: leave the column list out"));
    }
    let known: Vec<&str> = ["connector"].iter().chain(connector.options).copied().collect();
    let given = Options::read(&table.table_options, &known, at)?;
    for required in connector.required {
        given.required(required)?;
    }
    for option in connector.durations {
        given.duration(option)?;
    }
    Ok(SinkTable { options: given.into_values(), connector: index, at: at.clone() })
}

impl SinkTable {
    /// Checks the options that name columns against the rows that will arrive; gives the primary key.
    pub fn check(&self, options: &CompileOptions, columns: &[&str]) -> Result<Vec<String>, SqlError> {
        let connector = &options.connectors[self.connector];
        let mut primary_key = Vec::new();
        let exists = |option: &str, name: &str| match columns.contains(&name) {
            true => Ok(()),
            false => Err(self.at.error(format!("{option}: {}", unknown("column", name, columns)))),
        };
        for option in connector.columns {
            for name in self.options.get(*option).into_iter().flat_map(|list| list.split(',')).map(str::trim) {
                exists(option, name)?;
                if *option == "primary_key" {
                    primary_key.push(name.to_string());
                }
            }
        }
        for option in connector.templates {
            let Some(mut rest) = self.options.get(*option).map(String::as_str) else { continue };
            while let Some((_, after)) = rest.split_once('{') {
                let (name, after) = after.split_once('}').ok_or_else(|| {
                    self.at.error(format!("{option}: '{{' without '}}' in '{}'", self.options[*option]))
                })?;
                exists(option, name)?;
                rest = after;
            }
        }
        Ok(primary_key)
    }
}

impl DeclaredColumn {
    pub fn field(&self, column: Option<usize>) -> Field {
        Field { key: self.key.clone(), kind: self.kind, not_null: self.not_null, column }
    }
    pub fn arrow(&self) -> arrow::datatypes::Field {
        arrow::datatypes::Field::new(&self.name, self.kind.data_type(), !self.not_null)
    }
}

/// The declared columns, and the primary key's column if one is declared.
fn columns(table: &CreateTable, at: &At) -> Result<(Vec<DeclaredColumn>, Option<String>), SqlError> {
    let mut columns: Vec<DeclaredColumn> = Vec::with_capacity(table.columns.len());
    let mut key = None;
    for definition in &table.columns {
        let at = at.moved(definition.name.span);
        let (column, is_key) = column(definition, &at)?;
        if columns.iter().any(|other| other.name == column.name) {
            return Err(at.error(format!("column {} is declared twice", column.name)));
        }
        if is_key {
            key = Some(column.name.clone());
        }
        columns.push(column);
    }
    for constraint in &table.constraints {
        match constraint {
            TableConstraint::PrimaryKey(primary) => match (primary.columns.as_slice(), &key) {
                ([only], None) => match &only.column.expr {
                    Expr::Identifier(name) => key = Some(identifier(name)),
                    other => return Err(at.error(format!("{other}: a primary key is a column"))),
                },
                _ => return Err(at.error("a primary key has one column here")),
            },
            other => return Err(at.error(format!("{other}: only PRIMARY KEY and NOT NULL are known"))),
        }
    }
    for column in columns.iter_mut().filter(|column| Some(&column.name) == key.as_ref()) {
        column.not_null = true;
    }
    if columns.is_empty() {
        return Err(at.error("the columns are missing: CREATE TABLE name (column TYPE, …) WITH (…)"));
    }
    Ok((columns, key))
}

fn column(definition: &ColumnDef, at: &At) -> Result<(DeclaredColumn, bool), SqlError> {
    let name = identifier(&definition.name);
    let kind = match &definition.data_type {
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) | DataType::String(_) => FieldType::Text,
        DataType::JSON | DataType::JSONB => FieldType::Json,
        DataType::SmallInt(_) | DataType::Int2(_) => FieldType::SmallInt,
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => FieldType::Integer,
        DataType::BigInt(_) | DataType::Int8(_) => FieldType::BigInt,
        DataType::Real | DataType::Float4 => FieldType::Real,
        DataType::DoublePrecision | DataType::Float8 | DataType::Double(_) => FieldType::Double,
        DataType::Boolean | DataType::Bool => FieldType::Boolean,
        DataType::Date => FieldType::Date,
        DataType::Timestamp(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => FieldType::Timestamp,
        DataType::Timestamp(..) => {
            return Err(at.error(format!("{name}: every time here is UTC; write TIMESTAMPTZ, not TIMESTAMP")));
        }
        other => {
            return Err(at.error(format!(
                "{name}: type {other} is not known (known: TEXT, BIGINT, INTEGER, SMALLINT, DOUBLE PRECISION, REAL, \
                 BOOLEAN, TIMESTAMPTZ, DATE, JSON)"
            )));
        }
    };
    let (mut not_null, mut is_key) = (false, false);
    for option in &definition.options {
        match &option.option {
            ColumnOption::NotNull => not_null = true,
            ColumnOption::Null => {}
            ColumnOption::PrimaryKey(_) => is_key = true,
            other => return Err(at.error(format!("{name}: {other}: only NOT NULL and PRIMARY KEY are known"))),
        }
    }
    Ok((DeclaredColumn { key: name.clone(), name, kind, not_null }, is_key))
}
