use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::{Field, Float64Type, Int64Type, Schema};
use proptest::prelude::*;

use super::*;

fn shape() -> Shape {
    let aggregate = |kind, output_type| Aggregate { kind, input: Some(1), output_type };
    Shape {
        schema: Arc::new(Schema::new(vec![
            Field::new("key", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
            Field::new("sum", DataType::Int64, true),
            Field::new("min", DataType::Int64, true),
            Field::new("max", DataType::Int64, true),
            Field::new("avg", DataType::Float64, true),
            Field::new("distinct", DataType::Int64, true),
        ])),
        group_count: 1,
        aggregates: vec![
            Aggregate { kind: Kind::Count, input: None, output_type: DataType::Int64 },
            aggregate(Kind::SumInteger, DataType::Int64),
            aggregate(Kind::MinInteger, DataType::Int64),
            aggregate(Kind::MaxInteger, DataType::Int64),
            aggregate(Kind::Average, DataType::Float64),
            aggregate(Kind::CountDistinct, DataType::Int64),
        ],
        seals: false,
    }
}

fn batch(rows: &[(Option<String>, Option<i64>)]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Int64, true)]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(rows.iter().map(|(key, _)| key.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|(_, value)| *value).collect::<Int64Array>()),
        ],
    )
    .unwrap()
}

type Row = (i64, Option<i64>, Option<i64>, Option<i64>, Option<f64>, i64);

fn table(groups: &Groups) -> BTreeMap<Option<String>, Row> {
    let (_, rows) = groups.evaluate_all().unwrap();
    let integer = |column: usize, row: usize| {
        let values = rows.column(column).as_primitive::<Int64Type>();
        arrow::array::Array::is_valid(values, row).then(|| values.value(row))
    };
    (0..rows.num_rows())
        .map(|row| {
            let keys = rows.column(0).as_string::<i32>();
            let key = arrow::array::Array::is_valid(keys, row).then(|| keys.value(row).to_owned());
            let averages = rows.column(5).as_primitive::<Float64Type>();
            let average = arrow::array::Array::is_valid(averages, row).then(|| averages.value(row));
            let whole = (
                integer(1, row).unwrap(),
                integer(2, row),
                integer(3, row),
                integer(4, row),
                average,
                integer(6, row).unwrap(),
            );
            (key, whole)
        })
        .collect()
}

fn expected(rows: &[(Option<String>, Option<i64>)]) -> BTreeMap<Option<String>, Row> {
    let mut groups: BTreeMap<Option<String>, (i64, Vec<i64>)> = BTreeMap::new();
    for (key, value) in rows {
        let group = groups.entry(key.clone()).or_default();
        group.0 += 1;
        group.1.extend(value);
    }
    groups
        .into_iter()
        .map(|(key, (count, values))| {
            let sum = (!values.is_empty()).then(|| values.iter().sum());
            let average = sum.map(|sum: i64| sum as f64 / values.len() as f64);
            let distinct = values.iter().collect::<BTreeSet<_>>().len() as i64;
            (key, (count, sum, values.iter().min().copied(), values.iter().max().copied(), average, distinct))
        })
        .collect()
}

fn rows() -> impl Strategy<Value = Vec<(Option<String>, Option<i64>)>> {
    proptest::collection::vec((proptest::option::of("[a-d]{0,2}"), proptest::option::of(-50i64..50)), 0..80)
}

proptest! {
    #[test]
    fn epochs_deltas_and_checkpoints_agree_with_plain_counting(epochs in proptest::collection::vec(rows(), 1..5), cut in 0usize..5) {
        let mut live = Groups::new(shape(), [1; 16]).unwrap();
        let mut recovered = Groups::new(shape(), [1; 16]).unwrap();
        for (number, rows) in epochs.iter().enumerate() {
            if number == cut {
                let checkpoint = live.checkpoint(16).collect::<Vec<_>>().concat();
                recovered = Groups::new(shape(), [1; 16]).unwrap();
                recovered.restore(&checkpoint).unwrap();
            }
            let mut delta = Vec::new();
            let half = rows.len() / 2;
            live.apply(&[batch(&rows[..half]), batch(&rows[half..])], number as i64, &mut delta).unwrap();
            recovered.merge(&delta).unwrap();
        }
        let all: Vec<_> = epochs.concat();
        prop_assert_eq!(table(&live), expected(&all));
        prop_assert_eq!(table(&recovered), expected(&all));
        prop_assert_eq!(live.size_bytes(), recovered.size_bytes());
    }

    #[test]
    fn corrupt_deltas_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut groups = Groups::new(shape(), [1; 16]).unwrap();
        let _ = groups.merge(&bytes);
        let _ = groups.restore(&bytes);
    }
}

#[test]
fn groups_leave_by_age_and_by_budget() {
    let mut groups = Groups::new(shape(), [1; 16]).unwrap();
    let row = |key: &str| (Some(key.to_owned()), Some(1));
    for (clock, key) in [(0, "a"), (10, "b"), (20, "c"), (20, "d")] {
        groups.apply(&[batch(&[row(key)])], clock, &mut Vec::new()).unwrap();
    }
    assert_eq!(groups.expire(15, 10, usize::MAX).len(), 1, "a had no row for more than 10 ms");
    let budget = groups.size_bytes() * 5 / 6;
    assert_eq!(groups.expire(20, 1_000, budget).len(), 1, "the oldest makes room");
    assert_eq!(table(&groups).into_keys().flatten().collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(groups.expire(10_000, 10, budget).len(), 2);
    assert_eq!(groups.size_bytes(), 0);
}

#[test]
fn a_sealed_window_keeps_its_answers_and_frees_its_sets() {
    let ends = |ends: &[i64]| Arc::new(arrow::array::TimestampMicrosecondArray::from(ends.to_vec())) as ArrayRef;
    let window = |rows: &[(Option<String>, Option<i64>)], end: i64| {
        let rows = batch(rows);
        let mut fields: Vec<Arc<Field>> = rows.schema().fields().to_vec();
        let end = ends(&vec![end; rows.num_rows()]);
        fields.push(Arc::new(Field::new("__window_end", end.data_type().clone(), false)));
        let mut columns = rows.columns().to_vec();
        columns.push(end);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    };
    let rows = |key: &str, values: std::ops::Range<i64>| -> Vec<(Option<String>, Option<i64>)> {
        values.map(|value| (Some(key.to_owned()), Some(value))).collect()
    };
    let seals = Shape { seals: true, ..shape() };
    let mut groups = Groups::new(seals.clone(), [3; 16]).unwrap();
    let mut delta = Vec::new();
    let batches = [window(&rows("old", 0..100), 10), window(&rows("young", 0..50), 20)];
    groups.apply(&batches, 1, &mut delta).unwrap();
    let (before, bytes) = (table(&groups), groups.size_bytes());

    groups.seal(9);
    assert_eq!(groups.size_bytes(), bytes);
    groups.seal(10);
    assert_eq!(groups.size_bytes(), bytes - 100 * state::DISTINCT_BYTES);
    assert_eq!(table(&groups), before);

    // A checkpoint has the sealed window, and what comes after it adds to the open one.
    let checkpoint = groups.checkpoint(16).collect::<Vec<_>>().concat();
    let mut restored = Groups::new(seals.clone(), [3; 16]).unwrap();
    restored.restore(&checkpoint).unwrap();
    assert_eq!((table(&restored), restored.size_bytes()), (before.clone(), groups.size_bytes()));
    for groups in [&mut groups, &mut restored] {
        groups.apply(&[window(&rows("young", 40..60), 20)], 2, &mut Vec::new()).unwrap();
    }
    assert_eq!(table(&restored)[&Some("young".to_owned())].5, 60);
    restored.seal(20);
    assert_eq!(table(&restored), table(&groups));

    let mut merged = Groups::new(seals, [3; 16]).unwrap();
    merged.merge(&delta).unwrap();
    assert_eq!(table(&merged), before);
}
