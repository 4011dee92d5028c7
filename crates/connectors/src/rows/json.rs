//! A row as a JSON object: columns in order, nulls left out, instants as RFC 3339, JSON text embedded as JSON.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
};
use arrow::datatypes::{Date32Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::time::{write_date, write_timestamp};

/// Writes rows of one schema.
#[derive(Debug, Clone)]
pub struct RowWriter {
    fields: Vec<Field>,
}

#[derive(Debug, Clone)]
struct Field {
    /// `"name":`, escaped.
    label: Vec<u8>,
    embedded: bool,
}

impl RowWriter {
    /// `json_columns` hold JSON text. A text that is not valid JSON all the same appears as a string.
    pub fn new(schema: &Schema, json_columns: &[String]) -> Self {
        let field = |name: &str| {
            let mut label = Vec::new();
            write_string(&mut label, name);
            label.push(b':');
            Field { label, embedded: json_columns.iter().any(|column| column == name) }
        };
        Self { fields: schema.fields().iter().map(|f| field(f.name())).collect() }
    }

    /// Appends one row.
    pub fn write(&self, out: &mut Vec<u8>, rows: &RecordBatch, row: usize) {
        out.push(b'{');
        let start = out.len();
        for (field, column) in self.fields.iter().zip(rows.columns()) {
            if column.is_null(row) {
                continue;
            }
            let before = out.len();
            if before > start {
                out.push(b',');
            }
            out.extend_from_slice(&field.label);
            if !write_value(out, column, row, field.embedded) {
                out.truncate(before);
            }
        }
        out.push(b'}');
    }
}

/// Appends one value as bare text, for keys: a string without quotes. False where it is null or has no text.
pub(crate) fn write_plain(out: &mut Vec<u8>, column: &ArrayRef, row: usize) -> bool {
    if column.is_null(row) {
        return false;
    }
    match column.data_type() {
        DataType::Utf8 => out.extend_from_slice(column.as_string::<i32>().value(row).as_bytes()),
        DataType::LargeUtf8 => out.extend_from_slice(column.as_string::<i64>().value(row).as_bytes()),
        DataType::Utf8View => out.extend_from_slice(column.as_string_view().value(row).as_bytes()),
        _ => {
            let start = out.len();
            if !write_value(out, column, row, false) {
                return false;
            }
            if out[start] == b'"' {
                out.pop();
                out.remove(start);
            }
        }
    }
    true
}

/// False where the value has no JSON (not a finite number).
fn write_value(out: &mut Vec<u8>, column: &ArrayRef, row: usize, embedded: bool) -> bool {
    match column.data_type() {
        DataType::Utf8 => write_text(out, column.as_string::<i32>().value(row), embedded),
        DataType::LargeUtf8 => write_text(out, column.as_string::<i64>().value(row), embedded),
        DataType::Utf8View => write_text(out, column.as_string_view().value(row), embedded),
        DataType::Boolean => out.extend_from_slice(if column.as_boolean().value(row) { b"true" } else { b"false" }),
        DataType::Int64 => write_integer(out, column.as_primitive::<Int64Type>().value(row)),
        DataType::Int32 => write_integer(out, column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int16 => write_integer(out, column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int8 => write_integer(out, column.as_primitive::<Int8Type>().value(row).into()),
        DataType::UInt64 => {
            out.extend_from_slice(column.as_primitive::<UInt64Type>().value(row).to_string().as_bytes())
        }
        DataType::UInt32 => write_integer(out, column.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt16 => write_integer(out, column.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt8 => write_integer(out, column.as_primitive::<UInt8Type>().value(row).into()),
        DataType::Float64 => return write_float(out, column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => return write_float(out, column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            out.push(b'"');
            write_timestamp(out, column.as_primitive::<TimestampMicrosecondType>().value(row));
            out.push(b'"');
        }
        DataType::Date32 => {
            out.push(b'"');
            write_date(out, column.as_primitive::<Date32Type>().value(row).into());
            out.push(b'"');
        }
        _ => match arrow::util::display::array_value_to_string(column, row) {
            Ok(text) => write_string(out, &text),
            Err(_) => return false,
        },
    }
    true
}

fn write_text(out: &mut Vec<u8>, text: &str, embedded: bool) {
    if embedded && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        out.extend_from_slice(text.trim().as_bytes());
    } else {
        write_string(out, text);
    }
}

fn write_integer(out: &mut Vec<u8>, value: i64) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&buffer[at..]);
}

fn write_float(out: &mut Vec<u8>, value: f64) -> bool {
    value.is_finite() && serde_json::to_writer(out, &value).is_ok()
}

/// Appends a text as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[clean..at]);
        clean = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                for nibble in [control >> 4, control & 15] {
                    out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
                }
            }
        }
    }
    out.extend_from_slice(&bytes[clean..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn render(columns: Vec<(&str, ArrayRef)>, row: usize) -> String {
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .expect("equal lengths");
        let mut out = Vec::new();
        RowWriter::new(&rows.schema(), &["metadata".to_owned()]).write(&mut out, &rows, row);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn every_type() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(StringArray::from(vec!["a\"\\\n\u{1}ü"]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_756_641_600_000_000]).with_timezone("UTC"))),
            ("n", Arc::new(Int64Array::from(vec![i64::MIN]))),
            ("none", Arc::new(Int64Array::from(vec![None]))),
            ("x", Arc::new(Float64Array::from(vec![0.5]))),
            ("nan", Arc::new(Float64Array::from(vec![f64::NAN]))),
            ("yes", Arc::new(BooleanArray::from(vec![true]))),
            ("metadata", Arc::new(StringArray::from(vec![r#"{"quality": "1080p"}"#]))),
            ("date", Arc::new(Date32Array::from(vec![20_331]))),
        ];
        let text = render(columns, 0);
        assert_eq!(
            text,
            r#"{"id":"a\"\\\n\u0001ü","at":"2025-08-31T12:00:00Z","n":-9223372036854775808,"x":0.5,"yes":true,"metadata":{"quality": "1080p"},"date":"2025-08-31"}"#
        );
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn broken_json_text_stays_a_string() {
        let metadata: ArrayRef = Arc::new(StringArray::from(vec!["{\"a\":", "{} {}", "7", ""]));
        let rendered: Vec<String> = (0..4).map(|row| render(vec![("metadata", metadata.clone())], row)).collect();
        assert_eq!(
            rendered,
            [r#"{"metadata":"{\"a\":"}"#, r#"{"metadata":"{} {}"}"#, r#"{"metadata":7}"#, r#"{"metadata":""}"#]
        );
    }
}
