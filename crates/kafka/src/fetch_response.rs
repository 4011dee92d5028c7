//! A response to Fetch, encoded around its batches: they stay where they are, in memory or in a file, and are written from
//! there. The codec's own encoder would copy them into one buffer.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::TopicName;
use playhouse_log::{AbortedTransaction, Batches};
use uuid::Uuid;

use crate::guard::Malformed;
use crate::wire::{Call, Response};

/// From this version on lengths are varints, and fields may be tagged (KIP-482).
const FLEXIBLE: i16 = 12;
/// From this version on topics go by id.
const BY_ID: i16 = 13;
/// Room for one partition.
const HEAD_BYTES: usize = 128;
const TOO_LARGE: Malformed = Malformed("its response cannot be encoded");

#[derive(Debug)]
pub(crate) struct FetchedTopic {
    pub(crate) topic: TopicName,
    pub(crate) topic_id: Uuid,
    pub(crate) partitions: Vec<FetchedPartition>,
}

#[derive(Debug)]
pub(crate) struct FetchedPartition {
    pub(crate) index: i32,
    pub(crate) error_code: i16,
    pub(crate) high_watermark: i64,
    /// -1 where it is not known.
    pub(crate) last_stable_offset: i64,
    /// -1 where it is not known.
    pub(crate) log_start_offset: i64,
    /// `None` where the reader did not ask for committed records only.
    pub(crate) aborted: Option<Vec<AbortedTransaction>>,
    pub(crate) batches: Batches,
}

pub(crate) fn encode(call: Call, throttle_ms: i32, topics: Vec<FetchedTopic>) -> Result<Response, Malformed> {
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    let errors = partitions.filter(|partition| partition.error_code != 0).count();
    let mut encoder = Encoder::new(call.version);
    encoder.bytes.put_i32(call.correlation_id);
    encoder.no_tags();
    encoder.bytes.put_i32(throttle_ms);
    if call.version >= 7 {
        // No error of the whole, and no session (KIP-227): each request names all that it wants.
        encoder.bytes.put_i16(0);
        encoder.bytes.put_i32(0);
    }
    encoder.count(topics.len())?;
    for topic in topics {
        encoder.topic(topic)?;
    }
    encoder.no_tags();
    Ok(Response { parts: encoder.finish()?, errors, _held: [None, None] })
}

struct Encoder {
    version: i16,
    /// All but the batches.
    bytes: BytesMut,
    /// Batches, and after how many bytes they come.
    batches: Vec<(usize, Batches)>,
}

impl Encoder {
    fn new(version: i16) -> Encoder {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES);
        // The length, once it is known.
        bytes.put_i32(0);
        Encoder { version, bytes, batches: Vec::new() }
    }

    fn topic(&mut self, topic: FetchedTopic) -> Result<(), Malformed> {
        if self.version >= BY_ID {
            self.bytes.put_slice(topic.topic_id.as_bytes());
        } else {
            let name = topic.topic.as_bytes();
            if self.version >= FLEXIBLE {
                self.count(name.len())?;
            } else {
                self.bytes.put_i16(i16::try_from(name.len()).map_err(|_| TOO_LARGE)?);
            }
            self.bytes.put_slice(name);
        }
        self.count(topic.partitions.len())?;
        for partition in topic.partitions {
            self.partition(partition)?;
        }
        self.no_tags();
        Ok(())
    }

    fn partition(&mut self, partition: FetchedPartition) -> Result<(), Malformed> {
        self.bytes.put_i32(partition.index);
        self.bytes.put_i16(partition.error_code);
        self.bytes.put_i64(partition.high_watermark);
        self.bytes.put_i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.bytes.put_i64(partition.log_start_offset);
        }
        match partition.aborted {
            Some(aborted) => {
                self.count(aborted.len())?;
                for transaction in aborted {
                    self.bytes.put_i64(transaction.producer_id);
                    self.bytes.put_i64(transaction.first_offset);
                    self.no_tags();
                }
            }
            None if self.version >= FLEXIBLE => self.bytes.put_u8(0),
            None => self.bytes.put_i32(-1),
        }
        if self.version >= 11 {
            // No other replica to read from.
            self.bytes.put_i32(-1);
        }
        self.count(partition.batches.len())?;
        if !partition.batches.is_empty() {
            self.batches.push((self.bytes.len(), partition.batches));
        }
        self.no_tags();
        Ok(())
    }

    /// How many elements or bytes follow.
    fn count(&mut self, count: usize) -> Result<(), Malformed> {
        let count = i32::try_from(count).map_err(|_| TOO_LARGE)?;
        if self.version < FLEXIBLE {
            self.bytes.put_i32(count);
            return Ok(());
        }
        // One more than it is: 0 means null.
        let mut rest = count as u32 + 1;
        while rest >= 0x80 {
            self.bytes.put_u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.put_u8(rest as u8);
        Ok(())
    }

    fn no_tags(&mut self) {
        if self.version >= FLEXIBLE {
            self.bytes.put_u8(0);
        }
    }

    fn finish(mut self) -> Result<Vec<Batches>, Malformed> {
        let batches: usize = self.batches.iter().map(|(_, batches)| batches.len()).sum();
        let length = i32::try_from(self.bytes.len() - 4 + batches).map_err(|_| TOO_LARGE)?;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        let bytes = self.bytes.freeze();
        let mut parts = Vec::with_capacity(2 * self.batches.len() + 1);
        let mut done = 0;
        for (at, batches) in self.batches {
            parts.push(Batches::Bytes(bytes.slice(done..at)));
            parts.push(batches);
            done = at;
        }
        parts.push(Batches::Bytes(bytes.slice(done..)));
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::fetch_response::{self, FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::{ApiKey, FetchResponse, ProducerId};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::string;

    fn partition() -> impl Strategy<Value = FetchedPartition> {
        let aborted = (any::<i64>(), any::<i64>()).prop_map(|(producer_id, first_offset)| AbortedTransaction {
            producer_id,
            first_offset,
            last_offset: 0,
            last_stable_offset: 0,
        });
        let aborted = proptest::option::of(proptest::collection::vec(aborted, 0..200));
        let batches = proptest::collection::vec(any::<u8>(), 0..300);
        (any::<i32>(), any::<i16>(), any::<[i64; 3]>(), aborted, batches).prop_map(
            |(index, error_code, [high_watermark, last_stable_offset, log_start_offset], aborted, batches)| {
                let batches = Batches::Bytes(batches.into());
                FetchedPartition {
                    index,
                    error_code,
                    high_watermark,
                    last_stable_offset,
                    log_start_offset,
                    aborted,
                    batches,
                }
            },
        )
    }

    fn topic() -> impl Strategy<Value = FetchedTopic> {
        ("[a-z]{1,200}", any::<u128>(), proptest::collection::vec(partition(), 0..4)).prop_map(
            |(topic, topic_id, partitions)| FetchedTopic {
                topic: TopicName(string(topic)),
                topic_id: Uuid::from_u128(topic_id),
                partitions,
            },
        )
    }

    fn bytes_of(batches: &Batches) -> Bytes {
        match batches {
            Batches::Bytes(bytes) => bytes.clone(),
            Batches::Range(range) => range.read().unwrap(),
        }
    }

    /// As the codec knows it.
    fn known(throttle_ms: i32, topics: &[FetchedTopic], version: i16) -> FetchResponse {
        let aborted = |it: &AbortedTransaction| {
            fetch_response::AbortedTransaction::default()
                .with_producer_id(ProducerId(it.producer_id))
                .with_first_offset(it.first_offset)
        };
        let partition = |it: &FetchedPartition| {
            PartitionData::default()
                .with_partition_index(it.index)
                .with_error_code(it.error_code)
                .with_high_watermark(it.high_watermark)
                .with_last_stable_offset(it.last_stable_offset)
                .with_log_start_offset(if version >= 5 { it.log_start_offset } else { -1 })
                .with_aborted_transactions(it.aborted.as_ref().map(|it| it.iter().map(aborted).collect()))
                .with_records(Some(bytes_of(&it.batches)))
        };
        let topic = |it: &FetchedTopic| {
            let topic =
                FetchableTopicResponse::default().with_partitions(it.partitions.iter().map(partition).collect());
            if version >= BY_ID { topic.with_topic_id(it.topic_id) } else { topic.with_topic(it.topic.clone()) }
        };
        FetchResponse::default().with_throttle_time_ms(throttle_ms).with_responses(topics.iter().map(topic).collect())
    }

    proptest! {
        #[test]
        fn it_is_what_the_codec_makes_of_it(
            topics in proptest::collection::vec(topic(), 0..4),
            throttle_ms in any::<i32>(),
            version in 4i16..=16,
        ) {
            let call = Call { api: ApiKey::Fetch, version, correlation_id: 7 };
            let expected = call.encode(&known(throttle_ms, &topics, version)).unwrap();
            let encoded = encode(call, throttle_ms, topics).unwrap();
            let whole = |response: &Response| response.parts.iter().map(bytes_of).collect::<Vec<_>>().concat();
            prop_assert_eq!(whole(&encoded), whole(&expected));
            prop_assert_eq!(encoded.errors, expected.errors);
        }
    }
}
