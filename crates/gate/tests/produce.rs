mod common;

use bytes::Bytes;
use common::*;
use playhouse_gate::{Origin, ProduceError, Stage};
use playhouse_log::AppendError;
use playhouse_log::batch::{BatchBuilder, Compression, Records, split_first};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn kafka() -> Origin {
    Origin { protocol: "kafka", address: Some([10, 0, 0, 1].into()), user_agent: None }
}

fn batch(compression: Compression, sequence: Option<i32>, values: &[Option<&str>]) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    if let Some(sequence) = sequence {
        builder = builder.producer(5, 0, sequence);
    }
    for value in values {
        builder.push(1_000, Some(b"key"), value.map(str::as_bytes), &[("trace", b"1")]);
    }
    builder.build().into()
}

fn in_log(house: &House, topic: &str) -> Bytes {
    house.log.topic(topic).unwrap().partition(1).unwrap().read(0, 1 << 20).unwrap()
}

#[tokio::test]
async fn valid_batches_are_appended_verbatim() {
    let house = House::new();
    for (number, codec) in CODECS.into_iter().enumerate() {
        let sent = batch(codec, None, &[Some(&event("a", "u")), Some(&event("b", "u"))]);
        let produced = house.gate.produce(TOPIC, 1, sent.clone(), &kafka()).await.unwrap();
        assert_eq!((produced.appended.base_offset, produced.quarantined), (2 * number as i64, 0));
        let bytes = house.log.topic(TOPIC).unwrap().partition(1).unwrap().read(2 * number as i64, 1).unwrap();
        // Behind the header, which has the offset, the append time and a checksum.
        assert_eq!(bytes[61..], sent[61..]);
    }
    assert_eq!(house.gate.counters().accepted, 10);

    let opaque = batch(Compression::Zstd, None, &[Some("anything"), None]);
    house.gate.produce("made_by_kafka", 1, opaque.clone(), &kafka()).await.unwrap();
    assert_eq!(in_log(&house, "made_by_kafka")[16..], opaque[16..]);
}

#[tokio::test]
async fn invalid_records_are_taken_out() {
    for codec in CODECS {
        let house = House::new();
        let good = [event("a", "u"), event("b", "u")];
        let values = [Some("not json"), Some(&*good[0]), None, Some("{}"), Some(&*good[1])];
        let produced = house.gate.produce(TOPIC, 1, batch(codec, Some(0), &values), &kafka()).await.unwrap();
        assert_eq!((produced.appended.base_offset, produced.appended.next_offset, produced.quarantined), (0, 5, 3));

        let stored = house.stored(TOPIC, 1);
        assert_eq!(stored.iter().map(|record| record.offset).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(stored.iter().map(|record| record.value.clone().unwrap()).collect::<Vec<_>>(), good);
        assert_eq!(stored[0].headers, [("trace".to_owned(), "1".to_owned())]);
        let header = split_first(&in_log(&house, TOPIC)).unwrap().0;
        assert_eq!((header.producer_id, header.base_sequence, header.last_offset_delta), (5, 0, 4));
        assert_eq!((header.record_count, header.compression().unwrap()), (2, codec));

        let bad = house.bad();
        let shown: Vec<_> = bad.iter().map(|row| (row.place, row.stage.clone(), row.raw.as_slice())).collect();
        assert_eq!(
            shown,
            [
                (Some((1, 0)), Stage::Decode, &b"not json"[..]),
                (Some((1, 2)), Stage::Validate, b""),
                (Some((1, 3)), Stage::Validate, b"{}")
            ]
        );
        assert_eq!((bad[0].source_protocol.as_str(), bad[0].source_address.as_deref()), ("kafka", Some("10.0.0.1")));
        let counters = house.gate.counters();
        assert_eq!((counters.accepted, counters.rejected, counters.in_flight_bytes), (2, 3, 0));

        // The sequence goes on behind the gap, and offsets too.
        let next = batch(codec, Some(5), &[Some(&*good[0])]);
        assert_eq!(house.gate.produce(TOPIC, 1, next, &kafka()).await.unwrap().appended.base_offset, 5);
    }
}

#[tokio::test]
async fn an_emptied_batch_keeps_its_place() {
    for codec in CODECS {
        let house = House::new();
        let sent = batch(codec, Some(0), &[Some("x"), Some("y")]);
        let produced = house.gate.produce(TOPIC, 1, sent, &kafka()).await.unwrap();
        assert_eq!((produced.appended.next_offset, produced.quarantined), (2, 2));
        let bytes = in_log(&house, TOPIC);
        assert_eq!(bytes.len(), 61);
        assert_eq!(Records::decompress(&bytes, 100).unwrap().iter().count(), 0);
        let next = batch(codec, Some(2), &[Some(&*event("a", "u"))]);
        assert_eq!(house.gate.produce(TOPIC, 1, next, &kafka()).await.unwrap().appended.base_offset, 2);
        assert_eq!(house.stored(TOPIC, 1).len(), 1);
    }
}

#[tokio::test]
async fn a_retry_stores_nothing_twice() {
    let house = House::new();
    let good = event("a", "u");
    let sent = batch(Compression::Lz4, Some(0), &[Some("bad"), Some(&good)]);
    for attempt in 0..3 {
        let produced = house.gate.produce(TOPIC, 1, sent.clone(), &kafka()).await.unwrap();
        assert_eq!((produced.appended.base_offset, produced.appended.duplicate), (0, attempt > 0));
    }
    assert_eq!((house.bad().len(), house.stored(TOPIC, 1).len()), (1, 1));
    let counters = house.gate.counters();
    assert_eq!((counters.accepted, counters.rejected), (1, 1));

    let gap = batch(Compression::Lz4, Some(9), &[Some("bad")]);
    let error = house.gate.produce(TOPIC, 1, gap, &kafka()).await.unwrap_err();
    assert!(matches!(error, ProduceError::Append(AppendError::OutOfOrderSequence { .. })), "{error}");
    assert_eq!(house.bad().len(), 1);
}

#[tokio::test]
async fn a_retry_stores_what_a_crash_kept_from_bad_events() {
    let house = House::new();
    let good = event("a", "u");
    let values = [Some("bad"), Some(&*good), Some("worse")];
    let sent = batch(Compression::Lz4, Some(0), &values);
    // As if the process had died between the two appends: the batch is there, its bad events are not.
    let kept = Records::decompress(&sent, 10_000).unwrap().retain(|index| index == 1).unwrap();
    house.log.topic(TOPIC).unwrap().partition(1).unwrap().append(&kept).unwrap();
    for _ in 0..2 {
        let produced = house.gate.produce(TOPIC, 1, sent.clone(), &kafka()).await.unwrap();
        assert!(produced.appended.duplicate);
    }
    let places: Vec<_> = house.bad().iter().map(|row| row.place.unwrap()).collect();
    assert_eq!(places, [(1, 0), (1, 2)]);
    assert_eq!(house.stored(TOPIC, 1).len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_a_whole() {
    let house = House::new();
    let sent = batch(Compression::None, None, &[Some(&event("a", "u"))]);
    let refused = async |topic: &str, partition, bytes: Vec<u8>| {
        house.gate.produce(topic, partition, bytes.into(), &kafka()).await.unwrap_err()
    };
    let mut flipped = sent.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(matches!(refused(TOPIC, 1, flipped).await, ProduceError::Append(AppendError::Corrupt(_))));
    let cut = sent[..sent.len() - 1].to_vec();
    assert!(matches!(refused(TOPIC, 1, cut).await, ProduceError::Append(AppendError::Invalid(_))));
    let mut old = sent.to_vec();
    old[16] = 1;
    assert!(matches!(refused(TOPIC, 1, old).await, ProduceError::Append(AppendError::UnsupportedFormat(1))));
    assert!(matches!(refused(TOPIC, 9, sent.to_vec()).await, ProduceError::UnknownTopicOrPartition));
    assert!(matches!(refused("bad_events", 0, sent.to_vec()).await, ProduceError::Invalid(_)));
    // A batch with fewer records than its offsets count is the gate's own.
    let sparse = Records::decompress(&sent, 10_000).unwrap().retain(|_| false).unwrap();
    assert!(matches!(refused("anything", 1, sparse).await, ProduceError::Append(AppendError::Invalid(_))));
    let bomb = batch(Compression::Zstd, None, &[Some(&" ".repeat(70 << 20))]);
    assert!(bomb.len() < 100_000);
    let error = refused(TOPIC, 1, bomb.to_vec()).await;
    assert!(matches!(&error, ProduceError::Invalid(reasons) if reasons[0].keyword == "size"), "{error}");
    house.gate.set_overload(Some("behind".into()));
    assert!(matches!(refused(TOPIC, 1, sent.to_vec()).await, ProduceError::Busy(_)));
    assert!(house.everything(TOPIC).is_empty() && house.bad().is_empty());
    assert_eq!(house.gate.counters().in_flight_bytes, 0);
}
