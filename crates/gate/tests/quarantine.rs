//! Records are taken out of a batch as compaction would take them: whatever the batch, nothing else of it changes, and each
//! record is in one place only.

mod common;

use bytes::Bytes;
use common::*;
use playhouse_gate::{Origin, VALIDATION_SETTING};
use playhouse_log::batch::{BatchBuilder, BatchHeader, Compression, Record, Records, split_first};
use proptest::prelude::*;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[derive(Debug, Clone)]
struct Sent {
    is_good: bool,
    time_ms: i64,
    key: Option<Vec<u8>>,
    header: Option<Vec<u8>>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
    // Most batches are all good or all bad now and then.
    (prop::bool::weighted(0.6), 0i64..10_000, bytes(), bytes()).prop_map(|(is_good, time_ms, key, header)| Sent {
        is_good,
        time_ms,
        key,
        header,
    })
}

#[derive(Debug, Clone)]
struct Batch {
    codec: Compression,
    records: Vec<Sent>,
    /// How often it is sent.
    attempts: usize,
}

fn batch() -> impl Strategy<Value = Batch> {
    (prop::sample::select(&CODECS[..]), prop::collection::vec(sent(), 1..20), 1..3usize)
        .prop_map(|(codec, records, attempts)| Batch { codec, records, attempts })
}

fn value(number: usize, sent: &Sent) -> String {
    if sent.is_good { event(&number.to_string(), "u") } else { format!("bad {number}") }
}

fn build(batch: &Batch, sequence: i32, first: usize) -> Bytes {
    let mut builder = BatchBuilder::new(batch.codec).producer(5, 0, sequence);
    for (index, sent) in batch.records.iter().enumerate() {
        let headers: Vec<(&str, &[u8])> = sent.header.iter().map(|it| ("trace", &it[..])).collect();
        let value = value(first + index, sent);
        builder.push(sent.time_ms, sent.key.as_deref(), Some(value.as_bytes()), &headers);
    }
    Bytes::from(builder.build())
}

/// All that a batch says, but where it lies, and what follows from its length.
fn shape(header: &BatchHeader) -> impl PartialEq + std::fmt::Debug {
    // What is empty is not compressed.
    let varies = if header.record_count == 0 { 0x0f } else { 0x08 };
    let producer = (header.producer_id, header.producer_epoch, header.base_sequence);
    (producer, header.last_offset_delta, header.base_timestamp_ms, header.attributes & !varies)
}

/// All that a record says, but its time: the log stamps that.
fn contents<'a>(record: &Record<'a>) -> [Option<&'a [u8]>; 3] {
    [record.key, record.value, Some(record.raw_headers)]
}

async fn check(batches: Vec<Batch>) {
    let house = House::new();
    let origin = Origin { protocol: "kafka", ..Origin::default() };
    let partition = house.log.topic(TOPIC).unwrap().partition(1).unwrap().clone();
    let (mut next, mut bad_places) = (0, Vec::new());
    for batch in &batches {
        let whole = build(batch, next as i32, next as usize);
        let bad = batch.records.iter().filter(|it| !it.is_good).count();
        for attempt in 0..batch.attempts {
            let produced = house.gate.produce(TOPIC, 1, whole.clone(), &origin).await.unwrap();
            let appended = &produced.appended;
            assert_eq!((appended.base_offset, appended.next_offset), (next, next + batch.records.len() as i64));
            assert_eq!((produced.quarantined, appended.duplicate), (bad, attempt > 0));
            partition.durable(appended.next_offset).await.unwrap();
        }
        let (expected, _) = split_first(&whole).unwrap();
        let lying = partition.read(next, 1).unwrap();
        let (found, _) = split_first(&lying).unwrap();
        assert_eq!((found.base_offset, found.record_count as usize), (next, batch.records.len() - bad));
        let expected = BatchHeader { record_count: found.record_count, ..expected };
        assert_eq!(shape(&found), shape(&expected));
        // The survivors have the deltas, and all else, that they had.
        let (whole, lying) =
            (Records::decompress(&whole, 1 << 20).unwrap(), Records::decompress(&lying, 1 << 20).unwrap());
        let survivors = whole.iter().map(Result::unwrap).zip(&batch.records).filter(|(_, sent)| sent.is_good);
        let survivors: Vec<_> = survivors.map(|(record, _)| (next + record.offset, contents(&record))).collect();
        let stored: Vec<_> = lying.iter().map(Result::unwrap).map(|it| (it.offset, contents(&it))).collect();
        assert_eq!(stored, survivors);

        let places = batch.records.iter().zip(next..).filter(|(sent, _)| !sent.is_good);
        bad_places.extend(places.map(|(_, offset)| (1, offset)));
        next += batch.records.len() as i64;
    }

    let reader = house.gate.bad_events();
    let rows = house.bad();
    assert_eq!(rows.iter().map(|row| row.place.unwrap()).collect::<Vec<_>>(), bad_places);
    for row in &rows {
        let (partition, offset) = row.place.unwrap();
        assert_eq!(row.raw, format!("bad {offset}").into_bytes());
        let found = reader.find(&format!("{TOPIC}-{partition}-{offset}")).unwrap();
        assert_eq!(found.as_ref(), Some(row));
    }
    let kept = (0..next).find(|offset| !bad_places.contains(&(1, *offset)));
    for missing in [kept, Some(next)].into_iter().flatten() {
        assert_eq!(reader.find(&format!("{TOPIC}-1-{missing}")).unwrap(), None);
    }
    assert_eq!(reader.find("multimedia_events-0-0").unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_record_is_in_the_log_at_its_offset_or_a_bad_event_of_that_offset(
        batches in prop::collection::vec(batch(), 1..4),
    ) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap().block_on(check(batches));
    }
}

#[tokio::test]
async fn a_place_is_found_also_where_the_records_have_the_times_of_their_producers() {
    let house = House::new();
    let mut settings = house.log.topic("anything").unwrap().settings();
    settings.notes.insert(VALIDATION_SETTING.to_owned(), "id".to_owned());
    house.log.alter_topic("anything", settings).unwrap();
    let origin = Origin { protocol: "kafka", ..Origin::default() };
    for partition in [1, 2] {
        let mut builder = BatchBuilder::new(Compression::None);
        // Long before, and long after any bad event.
        builder.push(1, None, Some(b"first"), &[]);
        builder.push(i64::MAX, None, Some(b"second"), &[]);
        house.gate.produce("anything", partition, Bytes::from(builder.build()), &origin).await.unwrap();
    }
    let reader = house.gate.bad_events();
    let found = reader.find("anything-2-1").unwrap().unwrap();
    assert_eq!((found.raw.as_slice(), found.place), (&b"second"[..], Some((2, 1))));
    // The topic is gone; what it refused is not.
    house.log.delete_topic("anything").unwrap();
    assert_eq!(reader.find("anything-2-1").unwrap(), Some(found));
}
