//! Records from given offsets on: of one topic ([`Client::fetch`]), or of whatever partitions within bounds of memory
//! ([`Fetcher`]).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use playhouse_log::batch::{Records, split_first};

use crate::client::{To, retry};
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
        retry!(self, client => client.fetch_once(topic, positions, wait).await)
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
                let batches = it.records.clone().unwrap_or_default();
                let read = read(batches, it.partition_index, position, &mut Room::unlimited());
                records.extend(read.map_err(|reason| Error::Invalid { what: what(), reason })?);
            }
        }
        records.sort_by_key(|record| record.timestamp_ms);
        Ok(records)
    }
}

/// Topic and partition.
pub type Place = (String, i32);

#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// For the first record.
    pub wait: Duration,
    /// Of the brokers' answers, and of keys and values of the records made of them; the first record may exceed it.
    pub bytes_max: usize,
    /// A batch that decompresses to more is not read.
    pub batch_bytes_max: usize,
}

#[derive(Debug, Default)]
pub struct Fetched {
    /// Each with its topic.
    pub records: Vec<(String, Incoming)>,
    /// Partitions that could not be read, and why.
    pub failed: Vec<(Place, Error)>,
}

/// Fetches from partitions of several topics, each in its turn first.
#[derive(Debug, Default)]
pub struct Fetcher {
    leaders: BTreeMap<Place, i32>,
    turn: usize,
}

impl Fetcher {
    /// One fetch from `positions` (the next offset of each partition), which move behind what is returned.
    pub async fn fetch(
        &mut self,
        client: &mut Client,
        positions: &mut BTreeMap<Place, i64>,
        limits: FetchLimits,
    ) -> Result<Fetched, Error> {
        let fetched = self.fetch_once(client, positions, limits).await;
        let moved = |(_, error): &(Place, Error)| error.may_pass() || error.code().is_some_and(is_elsewhere);
        if fetched.as_ref().map_or(true, |fetched| fetched.failed.iter().any(moved)) {
            self.leaders.clear();
        }
        fetched
    }

    async fn fetch_once(
        &mut self,
        client: &mut Client,
        positions: &mut BTreeMap<Place, i64>,
        limits: FetchLimits,
    ) -> Result<Fetched, Error> {
        let mut fetched = Fetched::default();
        let by_leader = self.by_leader(client, positions, &mut fetched).await?;
        // With several brokers each waits its share.
        let wait_ms = (limits.wait.as_millis() as usize / by_leader.len().max(1)) as i32;
        let mut room = Room { left: limits.bytes_max, batch_bytes_max: limits.batch_bytes_max, taken: false };
        for (leader, places) in by_leader {
            if room.is_full() {
                break;
            }
            let request = self.request(&places, positions, &room, if room.taken { 0 } else { wait_ms });
            let answer = client.call(To::Broker(leader), FETCH, &request).await?;
            check(answer.error_code, || "a fetch".to_owned(), None)?;
            for topic in answer.responses {
                for it in topic.partitions {
                    let place = (topic.topic.to_string(), it.partition_index);
                    let what = || format!("partition {} of topic {:?}", place.1, place.0);
                    let Some(position) = positions.get_mut(&place) else { continue };
                    let batches = it.records.unwrap_or_default();
                    let read = check(it.error_code, what, None).and_then(|()| {
                        let read = read(batches, place.1, position, &mut room);
                        read.map_err(|reason| Error::Invalid { what: what(), reason })
                    });
                    match read {
                        Ok(records) => {
                            fetched.records.extend(records.into_iter().map(|record| (place.0.clone(), record)));
                        }
                        Err(error) => fetched.failed.push((place, error)),
                    }
                }
            }
        }
        self.turn = self.turn.wrapping_add(1);
        Ok(fetched)
    }

    fn request(&self, places: &[Place], positions: &BTreeMap<Place, i64>, room: &Room, wait_ms: i32) -> FetchRequest {
        let bytes_max = i32::try_from(room.left).unwrap_or(i32::MAX);
        let mut topics: Vec<FetchTopic> = Vec::new();
        // Brokers fill an answer in the order of the request.
        let first = self.turn % places.len().max(1);
        for (topic, index) in places[first..].iter().chain(&places[..first]) {
            let offset = positions.get(&(topic.clone(), *index)).copied().unwrap_or_default();
            let partition = FetchPartition::default()
                .with_partition(*index)
                .with_fetch_offset(offset)
                .with_partition_max_bytes(bytes_max.min(PARTITION_BYTES));
            match topics.last_mut().filter(|last| **last.topic == **topic) {
                Some(last) => last.partitions.push(partition),
                None => {
                    let topic = FetchTopic::default().with_topic(topic_name(topic));
                    topics.push(topic.with_partitions(vec![partition]));
                }
            }
        }
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(bytes_max)
            // No session.
            .with_session_epoch(-1)
            .with_topics(topics)
    }

    async fn by_leader(
        &mut self,
        client: &mut Client,
        positions: &BTreeMap<Place, i64>,
        fetched: &mut Fetched,
    ) -> Result<BTreeMap<i32, Vec<Place>>, Error> {
        self.leaders.retain(|place, _| positions.contains_key(place));
        let unknown: Vec<&str> = {
            let mut topics: Vec<&str> = positions
                .keys()
                .filter(|place| !self.leaders.contains_key(place))
                .map(|(topic, _)| topic.as_str())
                .collect();
            topics.dedup();
            topics
        };
        for name in unknown {
            match client.topic(name).await {
                Ok(topic) => {
                    let leaders = topic.partitions.iter().filter(|partition| partition.leader >= 0);
                    self.leaders.extend(leaders.map(|it| ((name.to_owned(), it.index), it.leader)));
                }
                Err(error) if error.code().is_some() => {
                    let places = positions.keys().filter(|(topic, _)| topic == name);
                    fetched.failed.extend(places.map(|place| (place.clone(), error.clone())));
                }
                Err(error) => return Err(error),
            }
        }
        let mut by_leader: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
        for place in positions.keys() {
            match self.leaders.get(place) {
                Some(leader) => by_leader.entry(*leader).or_default().push(place.clone()),
                None if fetched.failed.iter().any(|(failed, _)| failed == place) => {}
                None => {
                    let what = format!("partition {} of topic {:?}", place.1, place.0);
                    let code = ResponseError::UnknownTopicOrPartition.code();
                    fetched.failed.push((place.clone(), Error::refused(what, code, None)));
                }
            }
        }
        Ok(by_leader)
    }
}

fn is_elsewhere(code: ResponseError) -> bool {
    matches!(code, ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId)
}

/// What may still be read into memory.
struct Room {
    left: usize,
    batch_bytes_max: usize,
    /// Whether there is a record already: the first one is taken whatever its size, lest a reader never get past it.
    taken: bool,
}

impl Room {
    fn unlimited() -> Room {
        Room { left: usize::MAX, batch_bytes_max: BATCH_BYTES_MAX, taken: false }
    }

    fn is_full(&self) -> bool {
        self.taken && self.left == 0
    }

    fn take(&mut self, bytes: usize) -> bool {
        if self.taken && bytes > self.left {
            // A smaller one after it would come out of order.
            self.left = 0;
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        self.taken = true;
        true
    }
}

/// The records of whole batches at or after `position`, which moves behind them, as far as there is room.
fn read(mut batches: Bytes, partition: i32, position: &mut i64, room: &mut Room) -> Result<Vec<Incoming>, String> {
    let mut out = Vec::new();
    while let Ok((header, length)) = split_first(&batches) {
        if room.is_full() {
            break;
        }
        let records = Records::decompress(&batches.split_to(length), room.batch_bytes_max);
        let records = records.map_err(|error| error.to_string())?;
        // Control batches are marks of transactions, not somebody's records.
        for record in records.iter().filter(|_| !header.is_control()) {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset < *position {
                continue;
            }
            if !room.take(record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) {
                return Ok(out);
            }
            out.push(Incoming {
                partition,
                offset: record.offset,
                timestamp_ms: if header.is_log_append_time() { header.max_timestamp_ms } else { record.timestamp_ms },
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect(),
            });
            *position = record.offset + 1;
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
        let records = read(Bytes::from(bytes), 3, &mut position, &mut Room::unlimited()).unwrap();
        assert_eq!((records.len(), position), (2, 3));
        let first = &records[0];
        assert_eq!((first.partition, first.offset, first.timestamp_ms), (3, 1, 7));
        assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"k"[..]), Some(&b"b"[..])));
        assert_eq!(first.headers, [("h".to_owned(), Some(b"v".to_vec()))]);
    }
    #[test]
    fn what_has_no_room_waits_and_the_first_record_always_has() {
        let mut builder = BatchBuilder::new(Compression::None);
        for value in ["12345678", "1234", "1"] {
            builder.push(7, None, Some(value.as_bytes()), &[]);
        }
        let bytes = Bytes::from(builder.build());
        let mut position = 0;
        let mut read_within = |left| {
            let mut room = Room { left, batch_bytes_max: 1 << 20, taken: false };
            read(bytes.clone(), 0, &mut position, &mut room).unwrap().iter().map(|it| it.offset).collect::<Vec<_>>()
        };
        assert_eq!(read_within(3), [0]);
        assert_eq!(read_within(3), [1]);
        assert_eq!(read_within(3), [2]);
        assert!(read_within(3).is_empty());
        position = 0;
        let mut room = Room { left: 12, batch_bytes_max: 1 << 20, taken: false };
        assert_eq!(read(bytes, 0, &mut position, &mut room).unwrap().len(), 2);
        assert_eq!(position, 2);
    }
}
