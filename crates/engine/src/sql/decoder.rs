//! JSON records to Arrow columns.
//!
//! One pass over the payload finds the top-level values and converts those that are columns; only when the whole record
//! is good are they appended, so that a bad record leaves no trace. Every declared column is checked, also those that no
//! plan needs and that are therefore not built: whether a record is good does not depend on the plans.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Float32Builder, Float64Builder, Int16Builder, Int32Builder,
    Int64Builder, StringArray, StringBuilder, TimestampMicrosecondBuilder, UInt64Array,
};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use playhouse_log::batch::Record;

use super::json::{self, Kind, Scanner, Value};
use super::timestamp::{parse_date, parse_rfc3339_us};

/// Why one record could not be decoded; its neighbours are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct DecodeFailure {
    /// JSON pointer into the payload; empty for the payload as a whole.
    pub path: String,
    pub message: String,
}

/// How a JSON value becomes a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldType {
    /// A string's content; an object or array keeps its JSON text.
    Text,
    /// The JSON text of whatever stands there.
    Json,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    Boolean,
    Timestamp,
    Date,
}

impl FieldType {
    pub fn data_type(self) -> DataType {
        match self {
            FieldType::Text | FieldType::Json => DataType::Utf8,
            FieldType::SmallInt => DataType::Int16,
            FieldType::Integer => DataType::Int32,
            FieldType::BigInt => DataType::Int64,
            FieldType::Real => DataType::Float32,
            FieldType::Double => DataType::Float64,
            FieldType::Boolean => DataType::Boolean,
            FieldType::Timestamp => super::timestamp_type(),
            FieldType::Date => DataType::Date32,
        }
    }
}

/// Columns that come from the record's place and headers, not from its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SystemColumn {
    Raw,
    Topic,
    Partition,
    Offset,
    IngestedAt,
    IngestId,
    SourceAddress,
    SourceUserAgent,
    Row,
}

impl SystemColumn {
    pub const ALL: [(&'static str, SystemColumn); 9] = [
        ("raw", SystemColumn::Raw),
        ("topic", SystemColumn::Topic),
        ("partition", SystemColumn::Partition),
        ("offset", SystemColumn::Offset),
        ("ingested_at", SystemColumn::IngestedAt),
        ("ingest_id", SystemColumn::IngestId),
        ("source_address", SystemColumn::SourceAddress),
        ("source_user_agent", SystemColumn::SourceUserAgent),
        (super::ROW, SystemColumn::Row),
    ];

    pub fn data_type(self) -> DataType {
        match self {
            SystemColumn::Raw => DataType::Binary,
            SystemColumn::Partition => DataType::Int32,
            SystemColumn::Offset => DataType::Int64,
            SystemColumn::IngestedAt => super::timestamp_type(),
            SystemColumn::Row => DataType::UInt64,
            SystemColumn::Topic
            | SystemColumn::IngestId
            | SystemColumn::SourceAddress
            | SystemColumn::SourceUserAgent => DataType::Utf8,
        }
    }

    pub fn nullable(self) -> bool {
        matches!(self, SystemColumn::SourceAddress | SystemColumn::SourceUserAgent)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Field {
    pub key: String,
    pub kind: FieldType,
    pub not_null: bool,
    /// Index into the schema; `None` where no plan needs it.
    pub column: Option<usize>,
}

/// What a decoder builds.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub topic: String,
    pub schema: SchemaRef,
    pub fields: Vec<Field>,
    /// With the index into the schema.
    pub system: Vec<(SystemColumn, usize)>,
}

/// One converted value of the record at hand.
#[derive(Debug, Clone, Copy)]
enum Cell {
    Null,
    /// Bytes of the payload, from and to.
    Text(u32, u32),
    /// Bytes of the scratch text, for strings with escapes.
    Scratch(u32, u32),
    Long(i64),
    Float(f64),
    Flag(bool),
}

enum Column {
    Text(StringBuilder),
    SmallInt(Int16Builder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Real(Float32Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Binary(BinaryBuilder),
    /// Made in `finish` from the number of rows alone.
    Topic,
    Row,
}

/// Decodes the records of one source into columns. The builders start each batch with the last one's capacity.
pub struct Decoder {
    layout: Arc<Layout>,
    columns: Vec<Column>,
    cells: Vec<Cell>,
    /// The field that followed each field last time (`fields.len()` stands for the beginning): keys mostly come in the
    /// same order.
    followers: Vec<usize>,
    scratch: String,
    rows: usize,
    bytes: usize,
    needs_headers: bool,
}

impl Decoder {
    pub(super) fn new(layout: Arc<Layout>) -> Decoder {
        let columns = layout.schema.fields().iter().map(|field| Column::new(field.data_type(), 0, 0)).collect();
        let mut decoder = Decoder {
            columns,
            cells: vec![Cell::Null; layout.fields.len()],
            followers: (1..=layout.fields.len()).chain([0]).collect(),
            scratch: String::new(),
            rows: 0,
            bytes: 0,
            needs_headers: (layout.system.iter())
                .any(|(system, _)| matches!(system, SystemColumn::SourceAddress | SystemColumn::SourceUserAgent)),
            layout,
        };
        for (system, index) in &decoder.layout.system {
            match system {
                SystemColumn::Topic => decoder.columns[*index] = Column::Topic,
                SystemColumn::Row => decoder.columns[*index] = Column::Row,
                _ => {}
            }
        }
        decoder
    }

    /// Appends one record as one row: its index is `len() - 1` afterwards. A failure appends nothing.
    pub fn push(&mut self, partition: i32, record: &Record<'_>, append_time_ms: i64) -> Result<(), DecodeFailure> {
        let Some(payload) = record.value else {
            return Err(failure("", "the record has no value"));
        };
        self.push_payload(without_schema_name(payload))?;
        let (mut address, mut user_agent) = (None, None);
        if self.needs_headers {
            for (name, value) in record.headers() {
                match name {
                    "source_address" => address = value,
                    "user_agent" => user_agent = value,
                    _ => {}
                }
            }
        }
        for (system, index) in &self.layout.system {
            match (system, &mut self.columns[*index]) {
                (SystemColumn::Raw, Column::Binary(builder)) => builder.append_value(payload),
                (SystemColumn::Partition, Column::Integer(builder)) => builder.append_value(partition),
                (SystemColumn::Offset, Column::BigInt(builder)) => builder.append_value(record.offset),
                (SystemColumn::IngestedAt, Column::Timestamp(builder)) => {
                    builder.append_value(append_time_ms.saturating_mul(1000));
                }
                (SystemColumn::IngestId, Column::Text(builder)) => {
                    self.scratch.clear();
                    let written = write!(self.scratch, "{}/{partition}/{}", self.layout.topic, record.offset);
                    debug_assert!(written.is_ok());
                    builder.append_value(&self.scratch);
                }
                (SystemColumn::SourceAddress, Column::Text(builder)) => append_header(builder, address),
                (SystemColumn::SourceUserAgent, Column::Text(builder)) => append_header(builder, user_agent),
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends the payload's columns. For sources with system columns these must follow.
    pub(super) fn push_payload(&mut self, payload: &[u8]) -> Result<(), DecodeFailure> {
        if u32::try_from(payload.len()).is_err() {
            return Err(failure("", "larger than 4 GiB"));
        }
        let text = std::str::from_utf8(payload)
            .map_err(|error| failure("", format!("not UTF-8 at byte {}", error.valid_up_to())))?;
        self.scan(text)?;
        for (field, cell) in self.layout.fields.iter().zip(&self.cells) {
            if let Some(index) = field.column {
                self.columns[index].append(cell, text, &self.scratch);
            }
        }
        self.rows += 1;
        self.bytes += payload.len();
        Ok(())
    }

    fn scan(&mut self, text: &str) -> Result<(), DecodeFailure> {
        let fields = &self.layout.fields;
        self.cells.fill(Cell::Null);
        self.scratch.clear();
        let mut scanner = Scanner::new(text);
        if !scanner.take(b'{') {
            return Err(failure("", "expected a JSON object"));
        }
        let malformed = |error: json::Malformed| failure("", error.to_string());
        let mut previous = fields.len();
        let mut first = true;
        while !scanner.take(b'}') {
            if !first && !scanner.take(b',') {
                return Err(failure("", "expected a comma or the end of the object"));
            }
            first = false;
            let key = scanner.key().map_err(malformed)?;
            let value = scanner.value().map_err(malformed)?;
            let unescaped;
            let name = if key.kind == (Kind::String { escaped: false }) {
                &text[key.inner()]
            } else {
                match json::content(text, key) {
                    Some(content) => unescaped = content,
                    None => continue,
                }
                &*unescaped
            };
            let guess = self.followers[previous];
            let found = match fields.get(guess) {
                Some(field) if field.key == *name => Some(guess),
                _ => fields.iter().position(|field| field.key == *name),
            };
            if let Some(index) = found {
                self.followers[previous] = index;
                previous = index;
                convert(&fields[index], text, value, &mut self.scratch, &mut self.cells[index])
                    .map_err(|message| failure(pointer(&fields[index].key), message))?;
            }
        }
        if !scanner.at_end() {
            return Err(failure("", "more text after the object"));
        }
        for (field, cell) in fields.iter().zip(&self.cells) {
            if field.not_null && matches!(cell, Cell::Null) {
                return Err(failure(pointer(&field.key), "must be present and not null"));
            }
        }
        Ok(())
    }

    /// Rows since the last `finish`.
    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Payload bytes since the last `finish`. A batch must stay below 2 GiB of text in any one column, so an epoch is
    /// best cut by this too.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows so far as one batch with the schema of the source; the decoder is then empty again.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let arrays: Vec<ArrayRef> =
            self.columns.iter_mut().map(|column| column.finish(rows, &self.layout.topic)).collect();
        RecordBatch::try_new_with_options(
            self.layout.schema.clone(),
            arrays,
            &RecordBatchOptions::new().with_row_count(Some(rows)),
        )
        .expect("every row appends one value of the schema's type to every column")
    }
}

/// A registry's clients put the name of a payload's schema before it: a byte 0 and an id of four bytes, or a byte 1 and a guid
/// of sixteen. No JSON begins so.
fn without_schema_name(payload: &[u8]) -> &[u8] {
    let name = match payload.first() {
        Some(0) => 5,
        Some(1) => 17,
        _ => 0,
    };
    payload.get(name..).unwrap_or(payload)
}

fn failure(path: impl Into<String>, message: impl Into<String>) -> DecodeFailure {
    DecodeFailure { path: path.into(), message: message.into() }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn append_header(builder: &mut StringBuilder, value: Option<&[u8]>) {
    match value {
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => builder.append_value(text),
            Err(_) => builder.append_value(String::from_utf8_lossy(bytes)),
        },
        None => builder.append_null(),
    }
}

/// The cell is written in place and the error is boxed: both for speed, as [`Value`] says.
fn convert(field: &Field, text: &str, value: Value, scratch: &mut String, cell: &mut Cell) -> Result<(), Box<str>> {
    let wrong = |expected: &str| Err(format!("expected {expected}, found {}", value.kind.name()).into());
    let written = &text[value.range()];
    if value.kind == Kind::Null {
        *cell = Cell::Null;
        return Ok(());
    }
    *cell = match field.kind {
        FieldType::Json => Cell::Text(value.start, value.end),
        FieldType::Text => match value.kind {
            Kind::String { escaped: false } => Cell::Text(value.start + 1, value.end - 1),
            Kind::String { escaped: true } => {
                let start = scratch.len();
                json::unescape(&text[value.inner()], scratch).ok_or("half of a surrogate pair is no text")?;
                Cell::Scratch(start as u32, scratch.len() as u32)
            }
            Kind::Object | Kind::Array => Cell::Text(value.start, value.end),
            _ => return wrong("a string"),
        },
        FieldType::SmallInt => Cell::Long(integer(written, value, i16::MIN.into(), i16::MAX.into())?),
        FieldType::Integer => Cell::Long(integer(written, value, i32::MIN.into(), i32::MAX.into())?),
        FieldType::BigInt => Cell::Long(integer(written, value, i64::MIN, i64::MAX)?),
        FieldType::Real | FieldType::Double => match value.kind {
            Kind::Number { .. } => match written.parse::<f64>() {
                Ok(number)
                    if number.is_finite() && (field.kind == FieldType::Double || (number as f32).is_finite()) =>
                {
                    Cell::Float(number)
                }
                _ => return Err(format!("{written} is out of range").into()),
            },
            _ => return wrong("a number"),
        },
        FieldType::Boolean => match value.kind {
            Kind::True => Cell::Flag(true),
            Kind::False => Cell::Flag(false),
            _ => return wrong("a boolean"),
        },
        FieldType::Timestamp | FieldType::Date => {
            let Kind::String { .. } = value.kind else {
                return wrong("a string");
            };
            let content = json::content(text, value).ok_or("half of a surrogate pair is no text")?;
            let (parsed, form) = match field.kind {
                FieldType::Timestamp => (parse_rfc3339_us(&content), "an RFC 3339 timestamp"),
                _ => (parse_date(&content).map(i64::from), "a date like 2025-08-31"),
            };
            Cell::Long(parsed.ok_or_else(|| format!("{written} is not {form}"))?)
        }
    };
    Ok(())
}

/// JSON knows one kind of number: 1.0 and 1e3 are integers too.
fn integer(written: &str, value: Value, least: i64, most: i64) -> Result<i64, Box<str>> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = match value.kind {
        Kind::Number { integer: true } => written.parse::<i64>().ok(),
        Kind::Number { integer: false } => match written.parse::<f64>() {
            Ok(float) if float.fract() != 0.0 => return Err(format!("expected an integer, found {written}").into()),
            Ok(float) if float.abs() <= EXACT => Some(float as i64),
            _ => None,
        },
        _ => return Err(format!("expected an integer, found {}", value.kind.name()).into()),
    };
    number.filter(|number| (least..=most).contains(number)).ok_or_else(|| format!("{written} is out of range").into())
}

/// Room for an epoch a little larger than the last: growing in the middle copies everything.
fn roomy(bytes: usize) -> usize {
    bytes + bytes / 8
}

impl Column {
    fn new(data_type: &DataType, rows: usize, bytes: usize) -> Column {
        match data_type {
            DataType::Int16 => Column::SmallInt(Int16Builder::with_capacity(rows)),
            DataType::Int32 => Column::Integer(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Column::BigInt(Int64Builder::with_capacity(rows)),
            DataType::Float32 => Column::Real(Float32Builder::with_capacity(rows)),
            DataType::Float64 => Column::Double(Float64Builder::with_capacity(rows)),
            DataType::Boolean => Column::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Date32 => Column::Date(Date32Builder::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Column::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(super::timestamp_type()),
            ),
            DataType::Binary => Column::Binary(BinaryBuilder::with_capacity(rows, bytes)),
            _ => Column::Text(StringBuilder::with_capacity(rows, bytes)),
        }
    }

    fn append(&mut self, cell: &Cell, text: &str, scratch: &str) {
        match (self, cell) {
            (Column::Text(builder), Cell::Text(start, end)) => {
                builder.append_value(&text[*start as usize..*end as usize])
            }
            (Column::Text(builder), Cell::Scratch(start, end)) => {
                builder.append_value(&scratch[*start as usize..*end as usize])
            }
            (Column::Text(builder), _) => builder.append_null(),
            (Column::SmallInt(builder), Cell::Long(value)) => builder.append_value(*value as i16),
            (Column::SmallInt(builder), _) => builder.append_null(),
            (Column::Integer(builder), Cell::Long(value)) => builder.append_value(*value as i32),
            (Column::Integer(builder), _) => builder.append_null(),
            (Column::BigInt(builder), Cell::Long(value)) => builder.append_value(*value),
            (Column::BigInt(builder), _) => builder.append_null(),
            (Column::Real(builder), Cell::Float(value)) => builder.append_value(*value as f32),
            (Column::Real(builder), _) => builder.append_null(),
            (Column::Double(builder), Cell::Float(value)) => builder.append_value(*value),
            (Column::Double(builder), _) => builder.append_null(),
            (Column::Boolean(builder), Cell::Flag(value)) => builder.append_value(*value),
            (Column::Boolean(builder), _) => builder.append_null(),
            (Column::Timestamp(builder), Cell::Long(value)) => builder.append_value(*value),
            (Column::Timestamp(builder), _) => builder.append_null(),
            (Column::Date(builder), Cell::Long(value)) => builder.append_value(*value as i32),
            (Column::Date(builder), _) => builder.append_null(),
            (Column::Binary(builder), _) => builder.append_null(),
            (Column::Topic | Column::Row, _) => {}
        }
    }

    fn finish(&mut self, rows: usize, topic: &str) -> ArrayRef {
        match self {
            Column::Text(builder) => {
                let array = builder.finish();
                *builder = StringBuilder::with_capacity(rows, roomy(array.value_data().len()));
                Arc::new(array)
            }
            Column::Binary(builder) => {
                let array = builder.finish();
                *builder = BinaryBuilder::with_capacity(rows, roomy(array.value_data().len()));
                Arc::new(array)
            }
            Column::SmallInt(builder) => {
                Arc::new(std::mem::replace(builder, Int16Builder::with_capacity(rows)).finish())
            }
            Column::Integer(builder) => {
                Arc::new(std::mem::replace(builder, Int32Builder::with_capacity(rows)).finish())
            }
            Column::BigInt(builder) => Arc::new(std::mem::replace(builder, Int64Builder::with_capacity(rows)).finish()),
            Column::Real(builder) => Arc::new(std::mem::replace(builder, Float32Builder::with_capacity(rows)).finish()),
            Column::Double(builder) => {
                Arc::new(std::mem::replace(builder, Float64Builder::with_capacity(rows)).finish())
            }
            Column::Boolean(builder) => Arc::new(builder.finish()),
            Column::Date(builder) => Arc::new(std::mem::replace(builder, Date32Builder::with_capacity(rows)).finish()),
            Column::Timestamp(builder) => {
                let fresh = TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(super::timestamp_type());
                Arc::new(std::mem::replace(builder, fresh).finish())
            }
            Column::Topic => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, rows))),
            Column::Row => Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
        }
    }
}
