//! Consumer groups of either protocol: what there is, who is in one, and its committed offsets.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::*;

use crate::client::{To, retry};
use crate::connection::Versions;
use crate::error::check;
use crate::member::protocol::read_assignment;
use crate::{Client, Error, group_id, text, topic_name};

const LIST_GROUPS: Versions = (0, 5);
const DESCRIBE_GROUPS: Versions = (0, 5);
const CONSUMER_GROUP_DESCRIBE: Versions = (0, 0);
const OFFSET_FETCH: Versions = (2, 7);
const OFFSET_COMMIT: Versions = (2, 6);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    /// Empty where the broker is too old to tell.
    pub state: String,
    /// `classic` or `consumer`; empty where the broker is too old to tell.
    pub kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub state: String,
    pub assignor: String,
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub client_id: String,
    pub host: String,
    /// Topic and partition.
    pub assignment: Vec<(String, i32)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub metadata: String,
}

impl Client {
    /// The groups of all brokers, by id.
    pub async fn groups(&mut self) -> Result<Vec<Listed>, Error> {
        retry!(self, client => client.list_groups().await)
    }

    async fn list_groups(&mut self) -> Result<Vec<Listed>, Error> {
        let brokers: Vec<i32> = self.brokers().map(|(id, _)| id).collect();
        let mut groups = BTreeMap::new();
        for broker in brokers {
            let answer = self.call(To::Broker(broker), LIST_GROUPS, &ListGroupsRequest::default()).await?;
            check(answer.error_code, || format!("the groups of broker {broker}"), None)?;
            for it in answer.groups {
                let id = it.group_id.to_string();
                let (state, kind) = (it.group_state.to_string(), it.group_type.to_string());
                groups.insert(id.clone(), Listed { id, state, kind });
            }
        }
        Ok(groups.into_values().collect())
    }

    pub async fn group(&mut self, id: &str) -> Result<Group, Error> {
        retry!(self, client => client.describe_group(id).await)
    }

    async fn describe_group(&mut self, id: &str) -> Result<Group, Error> {
        let to = To::CoordinatorOf(id);
        if self.knows::<ConsumerGroupDescribeRequest>(to, CONSUMER_GROUP_DESCRIBE).await? {
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(id)]);
            let answer = self.call(to, CONSUMER_GROUP_DESCRIBE, &request).await?;
            // A group of the classic protocol is not found here.
            let found = answer.groups.into_iter().find(|it| it.error_code != ResponseError::GroupIdNotFound.code());
            if let Some(group) = found {
                check(group.error_code, || group_named(id), group.error_message.as_deref())?;
                return Ok(of_newer(id, group));
            }
        }
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(id)]);
        let answer = self.call(to, DESCRIBE_GROUPS, &request).await?;
        let not_found =
            || Error::refused(group_named(id), ResponseError::GroupIdNotFound.code(), Some("no such group"));
        let group = answer.groups.into_iter().next().ok_or_else(not_found)?;
        check(group.error_code, || group_named(id), None)?;
        if &*group.group_state == "Dead" {
            return Err(not_found());
        }
        let members = group.members.into_iter().map(|it| Member {
            id: it.member_id.to_string(),
            client_id: it.client_id.to_string(),
            host: it.client_host.to_string(),
            assignment: read_assignment(it.member_assignment),
        });
        Ok(Group {
            id: id.to_owned(),
            state: group.group_state.to_string(),
            assignor: group.protocol_data.to_string(),
            members: members.collect(),
        })
    }

    /// What a group has committed, by topic and partition.
    pub async fn committed(&mut self, id: &str) -> Result<BTreeMap<(String, i32), Committed>, Error> {
        let request = OffsetFetchRequest::default().with_group_id(group_id(id)).with_topics(None);
        retry!(self, client => {
            let answer = client.call(To::CoordinatorOf(id), OFFSET_FETCH, &request).await?;
            check(answer.error_code, || group_named(id), None)?;
            let mut committed = BTreeMap::new();
            for topic in answer.topics {
                for it in topic.partitions.into_iter().filter(|it| it.committed_offset >= 0) {
                    check(it.error_code, || group_named(id), None)?;
                    let metadata = it.metadata.map_or_else(String::new, |it| it.to_string());
                    let place = (topic.name.to_string(), it.partition_index);
                    committed.insert(place, Committed { offset: it.committed_offset, metadata });
                }
            }
            Ok(committed)
        })
    }

    /// Commits offsets for a group that has no members.
    pub async fn commit(&mut self, id: &str, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), Error> {
        self.commit_as(id, "", -1, offsets).await
    }

    pub(crate) async fn commit_as(
        &mut self,
        id: &str,
        member: &str,
        generation: i32,
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> Result<(), Error> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, index), offset) in offsets {
            let it = OffsetCommitRequestPartition::default()
                .with_partition_index(*index)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text("")));
            topics.entry(topic).or_default().push(it);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(id))
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(member))
            .with_topics(topics.collect());
        retry!(self, client => {
            let answer = client.call(To::CoordinatorOf(id), OFFSET_COMMIT, &request).await?;
            let mut answers = answer.topics.iter().flat_map(|it| &it.partitions);
            answers.try_for_each(|it| check(it.error_code, || group_named(id), None))
        })
    }
}

fn group_named(id: &str) -> String {
    format!("group {id:?}")
}

fn of_newer(id: &str, group: consumer_group_describe_response::DescribedGroup) -> Group {
    let members = group.members.into_iter().map(|it| {
        let places = it.assignment.topic_partitions.into_iter().flat_map(|it| {
            let topic = it.topic_name.to_string();
            it.partitions.into_iter().map(move |index| (topic.clone(), index))
        });
        Member {
            id: it.member_id.to_string(),
            client_id: it.client_id.to_string(),
            host: it.client_host.to_string(),
            assignment: places.collect(),
        }
    });
    Group {
        id: id.to_owned(),
        state: group.group_state.to_string(),
        assignor: group.assignor_name.to_string(),
        members: members.collect(),
    }
}
