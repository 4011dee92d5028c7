//! Times in text as PostgreSQL writes them: `12:00:00.5`, `12:00:00`. The library writes six decimals always.

use bytes::{BufMut, BytesMut};
use futures::StreamExt;
use pgwire::api::Type;
use pgwire::api::results::{FieldFormat, QueryResponse};
use pgwire::messages::data::DataRow;

const DECIMALS: usize = 6;

/// The same rows, without zeros at the end of a fraction of a second.
pub(super) fn trimmed(response: QueryResponse) -> QueryResponse {
    let schema = response.row_schema();
    let is_time = |kind: &Type| [Type::TIMESTAMP, Type::TIMESTAMPTZ, Type::TIME].contains(kind);
    let times: Vec<bool> =
        schema.iter().map(|field| field.format() == FieldFormat::Text && is_time(field.datatype())).collect();
    if !times.contains(&true) {
        return response;
    }
    let tag = response.command_tag().to_owned();
    let rows = response.data_rows.map(move |row| row.map(|row| trim_row(row, &times)));
    let mut response = QueryResponse::new(schema, rows);
    response.set_command_tag(&tag);
    response
}

fn trim_row(row: DataRow, times: &[bool]) -> DataRow {
    let mut data = BytesMut::with_capacity(row.data.len());
    let mut rest = &row.data[..];
    for is_time in times {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return row };
        // A null has length -1 and no bytes.
        let bytes = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let Some((value, after)) = after.split_at_checked(bytes) else { return row };
        rest = after;
        match if *is_time { zeros(value) } else { None } {
            Some((from, to)) => {
                data.put_i32((value.len() - (to - from)) as i32);
                data.put_slice(&value[..from]);
                data.put_slice(&value[to..]);
            }
            None => {
                data.put_slice(length);
                data.put_slice(value);
            }
        }
    }
    DataRow { data, field_count: row.field_count }
}

/// Where the zeros at the end of the fraction stand, with the point if nothing else is left of it.
fn zeros(time: &[u8]) -> Option<(usize, usize)> {
    let point = time
        .windows(DECIMALS + 1)
        .position(|window| window[0] == b'.' && window[1..].iter().all(u8::is_ascii_digit))?;
    let end = point + 1 + DECIMALS;
    let kept = time[point + 1..end].iter().rposition(|digit| *digit != b'0');
    let from = kept.map_or(point, |last| point + 1 + last + 1);
    (from < end).then_some((from, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trim(time: &str) -> String {
        let mut data = BytesMut::new();
        data.put_i32(-1);
        for field in ["12:00:00.500000", time] {
            data.put_i32(field.len() as i32);
            data.put_slice(field.as_bytes());
        }
        let row = trim_row(DataRow { data, field_count: 3 }, &[true, false, true]);
        assert_eq!(row.data[..4], (-1i32).to_be_bytes());
        assert_eq!(&row.data[8..23], b"12:00:00.500000", "only times are touched");
        let length = i32::from_be_bytes(row.data[23..27].try_into().unwrap()) as usize;
        assert_eq!(row.data.len(), 27 + length);
        String::from_utf8(row.data[27..].to_vec()).unwrap()
    }

    #[test]
    fn fractions_end_where_postgresql_ends_them() {
        for (written, expected) in [
            ("2025-08-31 12:00:00.000000+00", "2025-08-31 12:00:00+00"),
            ("2025-08-31 12:00:00.500000+00", "2025-08-31 12:00:00.5+00"),
            ("2025-08-31 12:00:00.000001", "2025-08-31 12:00:00.000001"),
            ("31.08.2025 12:00:00.120000 UTC", "31.08.2025 12:00:00.12 UTC"),
            ("Sun Aug 31 12:00:00.000000 2025 UTC", "Sun Aug 31 12:00:00 2025 UTC"),
            ("12:00:00", "12:00:00"),
            ("", ""),
        ] {
            assert_eq!(trim(written), expected);
        }
    }
}
