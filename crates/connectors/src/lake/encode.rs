//! Rows to Parquet files, one open file by date, in bounded memory. No I/O: what is due to be stored comes out as
//! [`Output`], and somebody else stores it.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, Date32Array, RecordBatch, UInt32Array};
use arrow::compute::{max, min, take_record_batch};
use arrow::datatypes::{DataType, Date32Type, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use deltalake::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageEncodingStats, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::schema::PARTITION_COLUMN;
use super::stats;
use crate::rows::write_date;

/// Files open at once; one more closes the one that was written to least recently.
const OPEN_FILES: usize = 16;
/// Encoded rows held for all open files together before the largest row group is closed.
const MEMORY_BYTES: usize = 12 << 20;
/// An object store wants every part but the last at least this large.
const PART_BYTES: usize = 5 << 20;
const ROW_GROUP_ROWS: usize = 1 << 20;
/// A column with more different values than this is written plainly for the rest of its row group and in later files:
/// looking each value up costs more than it saves.
const DICTIONARY_BYTES: usize = 256 << 10;
/// Pages are grown, compressed and copied whole: what fits a processor's cache is fastest, and larger ones compress hardly
/// better.
const PAGE_BYTES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
}

/// What must be stored, in this order.
pub(super) enum Output {
    /// The next bytes of a file.
    Part { path: String, bytes: Bytes },
    /// The last bytes of a file, and the action that adds it to the table.
    End { bytes: Bytes, add: Box<Add> },
}

pub(super) struct Encoder {
    /// Without the partition column, which Delta keeps in the path and the log.
    file_schema: SchemaRef,
    /// Of the columns that have a dictionary.
    dictionaries: BTreeSet<String>,
    /// Names of files start with it: how this scope knows its own.
    name_prefix: String,
    /// Most recently written last.
    open: Vec<OpenFile>,
}

struct OpenFile {
    /// `None` for rows without a date.
    date: Option<i32>,
    path: String,
    writer: ArrowWriter<Vec<u8>>,
}

impl Encoder {
    pub(super) fn new(rows: &SchemaRef, name_prefix: String) -> Result<Self, EncodeError> {
        let columns: Vec<usize> = (0..rows.fields().len() - 1).collect();
        let file_schema: SchemaRef = rows.project(&columns)?.into();
        // Raw payloads hardly repeat.
        let repeating = file_schema.fields().iter().filter(|field| *field.data_type() != DataType::Binary);
        let dictionaries = repeating.map(|field| field.name().clone()).collect();
        Ok(Self { file_schema, dictionaries, name_prefix, open: Vec::new() })
    }

    pub(super) fn write(&mut self, rows: &RecordBatch, out: &mut Vec<Output>) -> Result<(), EncodeError> {
        for (date, rows) in by_date(rows)? {
            let rows =
                RecordBatch::try_new(self.file_schema.clone(), rows.columns()[..rows.num_columns() - 1].to_vec())?;
            self.file_of(date, out)?.writer.write(&rows)?;
            self.bound_memory(out)?;
        }
        Ok(())
    }

    /// Ends all files.
    pub(super) fn finish(&mut self, out: &mut Vec<Output>) -> Result<(), EncodeError> {
        while !self.open.is_empty() {
            self.end(0, out)?;
        }
        Ok(())
    }

    fn properties(&self) -> Result<WriterProperties, EncodeError> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_data_page_size_limit(PAGE_BYTES)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_statistics_enabled(EnabledStatistics::Chunk);
        for field in self.file_schema.fields() {
            let column = ColumnPath::from(field.name().as_str());
            if !self.dictionaries.contains(field.name()) {
                properties = properties.set_column_dictionary_enabled(column.clone(), false);
            }
            // Nobody looks for payloads between two others.
            if *field.data_type() == DataType::Binary {
                properties = properties.set_column_statistics_enabled(column, EnabledStatistics::None);
            }
        }
        Ok(properties.build())
    }

    fn file_of(&mut self, date: Option<i32>, out: &mut Vec<Output>) -> Result<&mut OpenFile, EncodeError> {
        let at = match self.open.iter().position(|file| file.date == date) {
            Some(at) => {
                let file = self.open.remove(at);
                self.open.push(file);
                self.open.len() - 1
            }
            None => {
                if self.open.len() >= OPEN_FILES {
                    self.end(0, out)?;
                }
                let writer = ArrowWriter::try_new(Vec::new(), self.file_schema.clone(), Some(self.properties()?))?;
                let value = partition_value(date).unwrap_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_owned());
                let path = format!("{PARTITION_COLUMN}={value}/{}{}.parquet", self.name_prefix, uuid::Uuid::new_v4());
                self.open.push(OpenFile { date, path, writer });
                self.open.len() - 1
            }
        };
        Ok(&mut self.open[at])
    }

    /// Closes row groups, largest first, and hands out what is long enough for a part; where many files hold too little
    /// each for a part, ends the one that holds most.
    fn bound_memory(&mut self, out: &mut Vec<Output>) -> Result<(), EncodeError> {
        let held = |file: &OpenFile| file.writer.inner().len();
        while self.open.iter().map(|file| file.writer.memory_size() + held(file)).sum::<usize>() > MEMORY_BYTES {
            let places = 0..self.open.len();
            let Some(largest) = places.clone().max_by_key(|at| self.open[*at].writer.memory_size()) else {
                return Ok(());
            };
            let Some(fullest) = places.max_by_key(|at| held(&self.open[*at])) else { return Ok(()) };
            if self.open[largest].writer.memory_size() < held(&self.open[fullest]) {
                self.end(fullest, out)?;
                continue;
            }
            let file = &mut self.open[largest];
            file.writer.flush()?;
            file.writer.sync().map_err(ParquetError::from)?;
            if file.writer.inner().len() >= PART_BYTES {
                let bytes = std::mem::take(file.writer.inner_mut()).into();
                out.push(Output::Part { path: file.path.clone(), bytes });
            }
        }
        Ok(())
    }

    fn end(&mut self, at: usize, out: &mut Vec<Output>) -> Result<(), EncodeError> {
        let OpenFile { date, path, mut writer } = self.open.remove(at);
        let metadata = writer.finish()?;
        for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
            let pages = column.page_encoding_stats().into_iter().flatten();
            let data =
                |page: &PageEncodingStats| matches!(page.page_type, PageType::DATA_PAGE | PageType::DATA_PAGE_V2);
            if pages.filter(|page| data(page)).any(|page| page.encoding == Encoding::PLAIN) {
                self.dictionaries.remove(column.column_path().string().as_str());
            }
        }
        let bytes = Bytes::from(std::mem::take(writer.inner_mut()));
        let size = writer.bytes_written();
        let add = Add {
            path,
            partition_values: [(PARTITION_COLUMN.to_owned(), partition_value(date))].into(),
            size: size as i64,
            modification_time: chrono::Utc::now().timestamp_millis(),
            data_change: true,
            stats: Some(stats::of(&metadata, &self.file_schema)),
            ..Add::default()
        };
        out.push(Output::End { bytes, add: Box::new(add) });
        Ok(())
    }
}

/// `2025-08-31`. Delta has no text for days outside the years 0 to 9999: rows with such a date read back with none.
fn partition_value(date: Option<i32>) -> Option<String> {
    let mut text = Vec::new();
    write_date(&mut text, date?.into());
    String::from_utf8(text).ok().filter(|text| text.len() == 10)
}

/// The rows apart by date, in order; all at once in the usual case of one date.
fn by_date(rows: &RecordBatch) -> Result<Vec<(Option<i32>, RecordBatch)>, ArrowError> {
    let dates: &Date32Array = rows.column(rows.num_columns() - 1).as_primitive::<Date32Type>();
    if rows.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let (first, last) = (min(dates), max(dates));
    if dates.null_count() == rows.num_rows() || (dates.null_count() == 0 && first == last) {
        return Ok(vec![(first, rows.clone())]);
    }
    let mut places: BTreeMap<Option<i32>, Vec<u32>> = BTreeMap::new();
    for (row, date) in dates.iter().enumerate() {
        places.entry(date).or_default().push(row as u32);
    }
    places.into_iter().map(|(date, places)| Ok((date, take_record_batch(rows, &UInt32Array::from(places))?))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn a_column_whose_values_do_not_repeat_goes_without_a_dictionary_from_the_second_file_on() {
        let ids = StringArray::from_iter_values((0..40_000).map(|id| format!("{id:016}")));
        let kinds = StringArray::from_iter_values((0..40_000).map(|id| ["play", "pause"][id % 2]));
        let days: Date32Array = std::iter::repeat_n(Some(20_000), 40_000).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(kinds), Arc::new(days)];
        let fields = [("id", DataType::Utf8), ("kind", DataType::Utf8), (PARTITION_COLUMN, DataType::Date32)];
        let fields: Vec<Field> = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();

        let mut encoder = Encoder::new(&rows.schema(), "part-".to_owned()).unwrap();
        assert_eq!(encoder.dictionaries, ["id", "kind"].map(str::to_owned).into());
        let mut out = Vec::new();
        encoder.write(&rows, &mut out).unwrap();
        encoder.finish(&mut out).unwrap();
        assert_eq!(encoder.dictionaries, ["kind".to_owned()].into());
    }
}
