//! PostgreSQL's binary COPY format: rows in, bytes out (PostgreSQL manual, COPY, "Binary Format").

use super::Counters;
use super::cells::{Cell, Cells};

/// 2000-01-01, the epoch of PostgreSQL, since 1970-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;
/// The last instant and the first that a timestamptz can hold; the ends of i64 mean infinity there.
const TIMESTAMP_RANGE: (i64, i64) = (-211_813_488_000_000_000, 9_223_371_331_199_999_999);
const DATE_RANGE: (i32, i32) = (-2_451_545, 2_145_031_948);

pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
pub(super) const TRAILER: &[u8] = &(-1i16).to_be_bytes();

/// Appends a row, led by its ordinal so that the newest of a key can be told.
pub(super) fn write_row(out: &mut Vec<u8>, columns: &[Cells<'_>], row: usize, ordinal: i64, counters: &Counters) {
    out.extend_from_slice(&(columns.len() as i16 + 1).to_be_bytes());
    field(out, &ordinal.to_be_bytes());
    for column in columns {
        match column.get(row, counters) {
            Cell::Null => out.extend_from_slice(&(-1i32).to_be_bytes()),
            Cell::Text(text) => field(out, text.as_bytes()),
            Cell::Json(text) => {
                out.extend_from_slice(&(text.len() as i32 + 1).to_be_bytes());
                // Version of jsonb's binary form.
                out.push(1);
                out.extend_from_slice(text.as_bytes());
            }
            Cell::BigInt(value) => field(out, &value.to_be_bytes()),
            Cell::Double(value) => field(out, &value.to_be_bytes()),
            Cell::Boolean(value) => field(out, &[u8::from(value)]),
            Cell::Timestamp(micros) => {
                let (first, last) = TIMESTAMP_RANGE;
                field(out, &micros.saturating_sub(EPOCH_MICROS).clamp(first, last).to_be_bytes());
            }
            Cell::Date(days) => {
                let (first, last) = DATE_RANGE;
                field(out, &days.saturating_sub(EPOCH_DAYS).clamp(first, last).to_be_bytes());
            }
            Cell::Bytes(bytes) => field(out, bytes),
        }
    }
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}
