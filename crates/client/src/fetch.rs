//! Records from given offsets on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use playhouse_log::batch::{Records, split_first};

use crate::client::To;
use crate::connection::Versions;
use crate::error::check;
use crate::offsets::by_leader;
use crate::{Client, Error, topic_name};

const FETCH: Versions = (4, 11);
const FETCH_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// A batch that decompresses to more is not read.
const BATCH_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Client {
    /// What is there from `positions` (partition to offset) on, which move along; waits up to `wait` for the first record.
    /// Records of aborted transactions are among them, unless the broker hides them.
    pub async fn fetch(
        &mut self,
        topic: &str,
        positions: &mut BTreeMap<i32, i64>,
        wait: Duration,
    ) -> Result<Vec<Incoming>, Error> {
        self.retry(async |client| client.fetch_once(topic, positions, wait).await).await
    }

    async fn fetch_once(
        &mut self,
        topic: &str,
        positions: &mut BTreeMap<i32, i64>,
        wait: Duration,
    ) -> Result<Vec<Incoming>, Error> {
        let described = self.topic(topic).await?;
        let leaders = by_leader(&described)?;
        // With several brokers each waits its share.
        let wait_ms = (wait.as_millis() as usize / leaders.len().max(1)) as i32;
        let mut records = Vec::new();
        for (leader, partitions) in leaders {
            let asked = partitions.iter().filter_map(|index| {
                let offset = *positions.get(index)?;
                let it = FetchPartition::default().with_partition(*index).with_fetch_offset(offset);
                Some(it.with_partition_max_bytes(PARTITION_BYTES))
            });
            let asked: Vec<_> = asked.collect();
            if asked.is_empty() {
                continue;
            }
            let request = FetchRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_max_wait_ms(wait_ms)
                .with_min_bytes(1)
                .with_max_bytes(FETCH_BYTES)
                // No session.
                .with_session_epoch(-1)
                .with_topics(vec![FetchTopic::default().with_topic(topic_name(topic)).with_partitions(asked)]);
            let answer = self.call(To::Broker(leader), FETCH, &request).await?;
            check(answer.error_code, || format!("topic {topic:?}"), None)?;
            for it in answer.responses.into_iter().flat_map(|it| it.partitions) {
                let what = || format!("partition {} of topic {topic:?}", it.partition_index);
                check(it.error_code, what, None)?;
                let Some(position) = positions.get_mut(&it.partition_index) else { continue };
                let read = read(it.records.clone().unwrap_or_default(), it.partition_index, position);
                records.extend(read.map_err(|reason| Error::Invalid { what: what(), reason })?);
            }
        }
        records.sort_by_key(|record| record.timestamp_ms);
        Ok(records)
    }
}

/// The records of whole batches at or after `position`, which moves behind them.
fn read(mut batches: Bytes, partition: i32, position: &mut i64) -> Result<Vec<Incoming>, String> {
    let mut out = Vec::new();
    while let Ok((header, length)) = split_first(&batches) {
        let records = Records::decompress(&batches.split_to(length), BATCH_BYTES_MAX);
        let records = records.map_err(|error| error.to_string())?;
        // Control batches are marks of transactions, not somebody's records.
        for record in records.iter().filter(|_| !header.is_control()) {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset < *position {
                continue;
            }
            out.push(Incoming {
                partition,
                offset: record.offset,
                timestamp_ms: if header.is_log_append_time() { header.max_timestamp_ms } else { record.timestamp_ms },
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect(),
            });
        }
        *position = (*position).max(header.next_offset());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use playhouse_log::batch::{BatchBuilder, Compression};

    use super::*;

    #[test]
    fn records_before_the_position_are_skipped_and_a_cut_batch_waits() {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        for value in ["a", "b", "c"] {
            builder.push(7, Some(b"k"), Some(value.as_bytes()), &[("h", b"v")]);
        }
        let whole = builder.build();
        let mut position = 1;
        let bytes = [&whole[..], &whole[..20]].concat();
        let records = read(Bytes::from(bytes), 3, &mut position).unwrap();
        assert_eq!((records.len(), position), (2, 3));
        let first = &records[0];
        assert_eq!((first.partition, first.offset, first.timestamp_ms), (3, 1, 7));
        assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"k"[..]), Some(&b"b"[..])));
        assert_eq!(first.headers, [("h".to_owned(), Some(b"v".to_vec()))]);
    }
}
