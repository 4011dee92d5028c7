//! Where partitions begin and end, and which offset a time has.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use crate::client::{To, retry};
use crate::connection::Versions;
use crate::error::check;
use crate::topics::Topic;
use crate::{Client, Error, topic_name};

const LIST_OFFSETS: Versions = (1, 6);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Earliest,
    /// Behind the last record.
    Latest,
    /// The first record at or after this time, in milliseconds since 1970; the end where there is none.
    Time(i64),
}

impl Client {
    /// One offset per partition.
    pub async fn offsets(&mut self, topic: &str, at: At) -> Result<BTreeMap<i32, i64>, Error> {
        let found = retry!(self, client => client.list_offsets(topic, at).await)?;
        if found.values().all(|offset| *offset >= 0) {
            return Ok(found);
        }
        let ends = retry!(self, client => client.list_offsets(topic, At::Latest).await)?;
        Ok(found.into_iter().map(|(index, offset)| (index, if offset < 0 { ends[&index] } else { offset })).collect())
    }

    async fn list_offsets(&mut self, topic: &str, at: At) -> Result<BTreeMap<i32, i64>, Error> {
        let timestamp = match at {
            At::Earliest => -2,
            At::Latest => -1,
            At::Time(ms) => ms.max(0),
        };
        let described = self.topic(topic).await?;
        let mut offsets = BTreeMap::new();
        for (leader, partitions) in by_leader(&described)? {
            let asked = partitions
                .into_iter()
                .map(|index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp));
            let asked = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(asked.collect());
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
            let answer = self.call(To::Broker(leader), LIST_OFFSETS, &request).await?;
            for it in answer.topics.into_iter().flat_map(|it| it.partitions) {
                check(it.error_code, || format!("partition {} of topic {topic:?}", it.partition_index), None)?;
                offsets.insert(it.partition_index, it.offset);
            }
        }
        Ok(offsets)
    }
}

/// The partitions that each broker leads.
pub(crate) fn by_leader(topic: &Topic) -> Result<BTreeMap<i32, Vec<i32>>, Error> {
    let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in &topic.partitions {
        if partition.leader < 0 {
            let code = kafka_protocol::ResponseError::LeaderNotAvailable.code();
            return Err(Error::refused(format!("partition {} of topic {:?}", partition.index, topic.name), code, None));
        }
        leaders.entry(partition.leader).or_default().push(partition.index);
    }
    Ok(leaders)
}
