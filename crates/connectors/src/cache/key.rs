//! Key templates: literal text with columns in braces, `event:{id}`.

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;

use crate::rows::write_plain;

#[derive(Debug, Clone)]
pub(super) struct KeyTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Column(usize),
}

impl KeyTemplate {
    pub(super) fn parse(template: &str, schema: &Schema) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((literal, after)) = rest.split_once('{') {
            let (column, after) = after
                .split_once('}')
                .ok_or_else(|| format!("option key = '{template}' has a brace that is not closed"))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let index = schema.index_of(column.trim());
            parts.push(Part::Column(index.map_err(|_| {
                format!("option key = '{template}' names column \"{column}\", which the rows do not have")
            })?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        if !parts.iter().any(|part| matches!(part, Part::Column(_))) {
            return Err(format!(
                "option key = '{template}' names no column in braces: every row would have the same key"
            ));
        }
        Ok(Self { parts })
    }

    /// Appends the key of a row; false where one of its columns is null: such a row has no key.
    pub(super) fn write(&self, out: &mut Vec<u8>, rows: &RecordBatch, row: usize) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Literal(text) => {
                out.extend_from_slice(text.as_bytes());
                true
            }
            Part::Column(index) => write_plain(out, rows.column(*index), row),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn renders_columns_between_literals() {
        let ids = StringArray::from(vec![Some("e1"), None]);
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(ids) as _, true),
            ("n", Arc::new(Int64Array::from(vec![7, 8])) as _, false),
        ])
        .expect("equal lengths");
        let template = KeyTemplate::parse("event:{id}/{n}.", &rows.schema()).expect("a good template");
        let mut key = Vec::new();
        assert!(template.write(&mut key, &rows, 0));
        assert_eq!(key, b"event:e1/7.");
        assert!(!template.write(&mut key, &rows, 1), "null has no key");
        for wrong in ["event", "{nope}", "{id", ""] {
            assert!(KeyTemplate::parse(wrong, &rows.schema()).is_err(), "{wrong}");
        }
    }
}
