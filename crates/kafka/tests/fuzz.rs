//! Damaged requests and record batches, made from a seed for a bounded time: no panic, no runaway memory, and whoever
//! sends whole requests is served on. `PLAYHOUSE_FUZZ_SECONDS` says for how long, `PLAYHOUSE_FUZZ_SEED` repeats a run.

mod support;

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use playhouse_kafka::KafkaConfig;
use playhouse_log::batch::{BatchBuilder, Compression, Records, split_first};
use support::{Broker, TOPIC, api_versions, batch, values};

const DECOMPRESSED_MAX: usize = 1 << 20;
/// Where in a batch the bytes begin that its length, and its CRC, are of.
const LENGTH_COVERS: usize = 12;
const CRC_COVERS: usize = 21;
/// What the process may grow by, far above what the budgets below allow and far below a runaway.
const GROWTH_MAX: usize = 512 << 20;

fn duration() -> Duration {
    let seconds = std::env::var("PLAYHOUSE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// A small generator of our own, so that a seed means the same everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let seed = std::env::var("PLAYHOUSE_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 | 1);
        // Shown when the test fails.
        println!("PLAYHOUSE_FUZZ_SEED={seed}");
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    /// Damages bytes in one to four places.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                _ if bytes.is_empty() => bytes.push(self.next() as u8),
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 => bytes.truncate(at),
                // What lengths and counts fear.
                3 => {
                    let evil: &[u8] = [
                        &[0xff; 4][..],
                        &[0x7f, 0xff, 0xff, 0xff],
                        &[0x80, 0, 0, 0],
                        &[0; 4],
                        &[0xff, 0xff, 0xff, 0xff, 0x07],
                    ][self.below(5)];
                    let end = (at + evil.len()).min(bytes.len());
                    bytes[at..end].copy_from_slice(&evil[..end - at]);
                }
                4 => {
                    let end = at + self.below(bytes.len() - at);
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => bytes.extend((0..self.below(40)).map(|_| 0xff)),
            }
        }
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn frame<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(text("fuzz")));
    let mut out = BytesMut::new();
    header.encode(&mut out, R::header_version(version)).unwrap();
    request.encode(&mut out, version).unwrap();
    out.to_vec()
}

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

fn group() -> GroupId {
    GroupId(text("group"))
}

fn frames() -> Vec<Vec<u8>> {
    let data = PartitionProduceData::default().with_records(Some(batch(&["a", "b", "c"])));
    let data = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
    let produce = ProduceRequest::default().with_acks(-1).with_topic_data(vec![data]);
    let wanted = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let wanted = FetchTopic::default().with_topic(topic()).with_partitions(vec![wanted]);
    let fetch = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![wanted]);
    let asked = MetadataRequestTopic::default().with_name(Some(topic()));
    let metadata = MetadataRequest::default().with_topics(Some(vec![asked]));
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
    let join = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(6_000)
        .with_rebalance_timeout_ms(1)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let beat = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("newer")))
        .with_member_id(text("member"))
        .with_rebalance_timeout_ms(1)
        .with_subscribed_topic_names(Some(vec![topic()]))
        .with_topic_partitions(Some(Vec::new()));
    let described = DescribeTopicPartitionsRequest::default()
        .with_response_partition_limit(9)
        .with_cursor(Some(describe_topic_partitions_request::Cursor::default().with_topic_name(topic())));
    let committed = OffsetFetchRequest::default()
        .with_groups(vec![offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group())]);
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(TOPIC));
    vec![
        frame(3, &produce),
        frame(9, &produce),
        frame(4, &fetch),
        frame(12, &fetch),
        frame(1, &metadata),
        frame(12, &metadata),
        frame(2, &join),
        frame(9, &join),
        frame(1, &beat),
        frame(0, &described),
        frame(9, &committed),
        frame(4, &DescribeConfigsRequest::default().with_resources(vec![resource])),
        frame(3, &api_versions()),
        frame(4, &ListGroupsRequest::default().with_states_filter(vec![text("Stable")])),
    ]
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_requests_disturb_nobody() {
    let config = KafkaConfig { transfer_timeout: Duration::from_millis(50), ..KafkaConfig::default() };
    let broker = Broker::start_with(config).await;
    let mut good = broker.client().await;
    let (frames, mut dice) = (frames(), Dice::new());
    let (before, end) = (resident_bytes(), Instant::now() + duration());
    let mut sent = 0;
    while Instant::now() < end {
        let mut bad = broker.client().await;
        for _ in 0..8 {
            let mut bytes = frames[dice.below(frames.len())].clone();
            dice.damage(&mut bytes);
            let mut out = BytesMut::new();
            // Now and then a length that lies.
            out.put_i32(if dice.below(16) == 0 { dice.next() as i32 } else { bytes.len() as i32 });
            out.put_slice(&bytes);
            if tokio::io::AsyncWriteExt::write_all(&mut bad.stream, &out).await.is_err() {
                break;
            }
            sent += 1;
        }
        // An answer, the end of the connection, or nothing yet: all are fine, and none may take the broker along.
        let mut some = [0; 64];
        let _ =
            tokio::time::timeout(Duration::from_millis(2), tokio::io::AsyncReadExt::read(&mut bad.stream, &mut some))
                .await;
        drop(bad);
        let answer = tokio::time::timeout(Duration::from_secs(10), good.call(3, &api_versions())).await;
        assert_eq!(answer.expect("the broker answers others").error_code, 0);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < GROWTH_MAX, "{grown} bytes after {sent} requests");
    }
    assert!(sent > 100, "{sent} requests are no test");
    // What was accepted meanwhile is whole.
    for partition in broker.log.topic(TOPIC).unwrap().partitions() {
        let mut offset = partition.log_start_offset();
        while offset < partition.high_watermark() {
            let bytes = partition.read(offset, 1 << 20).unwrap();
            let (header, _) = split_first(&bytes).unwrap();
            values(bytes.slice(..header.total_bytes));
            offset = header.base_offset + i64::from(header.last_offset_delta) + 1;
        }
    }
}

#[test]
fn damaged_batches_are_refused_or_read_within_the_limit() {
    let mut dice = Dice::new();
    let batches: Vec<Vec<u8>> =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            .into_iter()
            .map(|compression| {
                let mut builder = BatchBuilder::new(compression);
                for number in 0..20 {
                    let value = format!("a value {number} that repeats, that repeats");
                    builder.push(1_000, Some(b"key"), Some(value.as_bytes()), &[("header", b"value")]);
                }
                builder.build()
            })
            .collect();
    let (before, end) = (resident_bytes(), Instant::now() + duration());
    let mut read = 0;
    while Instant::now() < end {
        let mut bytes = batches[dice.below(batches.len())].clone();
        dice.damage(&mut bytes);
        // Mostly with a length and a CRC that fit, or nothing behind them would be reached.
        if dice.below(8) > 0 && bytes.len() > CRC_COVERS {
            let length = (bytes.len() - LENGTH_COVERS) as u32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[CRC_COVERS..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        if let Ok(records) = Records::decompress(&Bytes::from(bytes), DECOMPRESSED_MAX) {
            // Ends at the first damaged record.
            let sizes = records.iter().map_while(Result::ok).map(|it| it.value.map_or(0, <[u8]>::len));
            assert!(sizes.sum::<usize>() <= DECOMPRESSED_MAX + (1 << 20));
            read += 1;
        }
        assert!(resident_bytes().saturating_sub(before) < GROWTH_MAX);
    }
    assert!(read > 100, "{read} batches were readable: that is no test");
}
