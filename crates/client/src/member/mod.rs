//! Membership in a consumer group by the classic protocol: joining, the leader's assignment, heartbeats, leaving, and
//! offsets committed as a member.
//!
//! [`Member`] keeps what the coordinator knows of it and nothing of records or positions; who uses it decides when to
//! join again and what becomes of partitions that it loses.

mod assignors;
pub(crate) mod protocol;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;

use crate::client::{To, retry};
use crate::connection::Versions;
use crate::error::check;
use crate::fetch::Place;
use crate::{Client, Error, group_id, text};

use assignors::{ASSIGNORS, Assignor};

const JOIN_GROUP: Versions = (1, 7);
const SYNC_GROUP: Versions = (0, 5);
const HEARTBEAT: Versions = (0, 4);
/// Later versions let several members leave at once.
const LEAVE_GROUP: Versions = (0, 2);
const PROTOCOL_TYPE: &str = "consumer";
/// A group that starts again so often while one member joins does so without an end.
const ROUNDS_MAX: usize = 20;

#[derive(Debug, Clone, Copy)]
pub struct MemberOptions {
    /// Dropped by the coordinator when it has not heard of the member for so long.
    pub session_timeout: Duration,
    /// How long the group waits for the member to join again.
    pub rebalance_timeout: Duration,
}

#[derive(Debug)]
pub struct Member {
    group: String,
    options: MemberOptions,
    /// Empty outside the group.
    id: String,
    generation: i32,
}

/// What a heartbeat tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Stable,
    /// The group assigns anew: commit what is to be committed, and join again.
    Rebalancing,
    /// No member any more: its partitions may be another's already.
    Lost,
}

impl Member {
    pub fn new(group: &str, options: MemberOptions) -> Member {
        Member { group: group.to_owned(), options, id: String::new(), generation: -1 }
    }

    /// Joins the group, or joins it again, with these topics; answers with the partitions assigned. It takes as long as
    /// the other members take to join. After a failure it is outside the group, or has to join again.
    pub async fn join(&mut self, client: &mut Client, topics: &BTreeSet<String>) -> Result<Vec<Place>, Error> {
        let mut refusal = None;
        for _ in 0..ROUNDS_MAX {
            match self.round(client, topics).await {
                Ok(places) => return Ok(places),
                Err(error) => match error.code() {
                    // Its id is in place now, or the group has begun again since.
                    Some(ResponseError::MemberIdRequired | ResponseError::RebalanceInProgress) => {
                        refusal = Some(error);
                    }
                    Some(ResponseError::UnknownMemberId | ResponseError::IllegalGeneration) => {
                        self.forget();
                        refusal = Some(error);
                    }
                    _ => return Err(error),
                },
            }
        }
        let what = self.named();
        Err(refusal.unwrap_or(Error::Invalid { what, reason: "it cannot be joined".to_owned() }))
    }

    async fn round(&mut self, client: &mut Client, topics: &BTreeSet<String>) -> Result<Vec<Place>, Error> {
        let metadata = protocol::subscription(topics);
        let protocols = ASSIGNORS
            .iter()
            .map(|(name, _)| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone()));
        let request = JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_session_timeout_ms(self.options.session_timeout.as_millis() as i32)
            .with_rebalance_timeout_ms(self.options.rebalance_timeout.as_millis() as i32)
            .with_member_id(text(&self.id))
            .with_protocol_type(text(PROTOCOL_TYPE))
            .with_protocols(protocols.collect());
        let patience = self.options.rebalance_timeout + client.options.request_timeout;
        let to = To::CoordinatorOf(&self.group);
        let joined = retry!(client, client => {
            let answer = client.call_within(patience, to, JOIN_GROUP, &request).await?;
            if answer.error_code != ResponseError::MemberIdRequired.code() {
                check(answer.error_code, || format!("group {:?}", self.group), None)?;
            }
            Ok(answer)
        })?;
        self.id = joined.member_id.to_string();
        check(joined.error_code, || self.named(), None)?;
        self.generation = joined.generation_id;
        let protocol = joined.protocol_name.as_deref().unwrap_or_default().to_owned();
        let mut assignments = Vec::new();
        if joined.leader == joined.member_id {
            let metadata = joined.members.into_iter().map(|it| (it.member_id.to_string(), it.metadata));
            assignments = self.assign(client, &protocol, metadata.collect()).await?;
        }
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_protocol_type(Some(text(PROTOCOL_TYPE)))
            .with_protocol_name(Some(text(&protocol)))
            .with_assignments(assignments);
        let patience = self.options.rebalance_timeout + client.options.request_timeout;
        let synced = client.call_within(patience, To::CoordinatorOf(&self.group), SYNC_GROUP, &request).await?;
        check(synced.error_code, || self.named(), None)?;
        Ok(protocol::read_assignment(synced.assignment))
    }

    /// The leader's part.
    async fn assign(
        &self,
        client: &mut Client,
        protocol: &str,
        metadata: BTreeMap<String, Bytes>,
    ) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        let assignor: Option<Assignor> =
            ASSIGNORS.iter().find(|(name, _)| *name == protocol).map(|(_, assignor)| *assignor);
        let assignor = assignor.ok_or_else(|| Error::Invalid {
            what: self.named(),
            reason: format!("it assigns by {protocol:?}, which was not offered"),
        })?;
        let members: BTreeMap<String, BTreeSet<String>> =
            metadata.into_iter().map(|(id, metadata)| (id, protocol::read_subscription(metadata))).collect();
        let mut partitions = BTreeMap::new();
        for topic in members.values().flatten().collect::<BTreeSet<_>>() {
            match client.topic(topic).await {
                Ok(described) => {
                    partitions.insert(topic.clone(), described.partitions.len() as i32);
                }
                // Topics may be made later.
                Err(error) if error.code().is_some() && !error.may_pass() => {}
                Err(error) => return Err(error),
            }
        }
        let assigned = assignor(&members, &partitions);
        let assignment = |(id, places): (String, Vec<Place>)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(&id))
                .with_assignment(protocol::assignment(&places))
        };
        Ok(assigned.into_iter().map(assignment).collect())
    }

    pub async fn beat(&mut self, client: &mut Client) -> Result<Beat, Error> {
        if self.id.is_empty() {
            return Ok(Beat::Lost);
        }
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        let answer = client.call(To::CoordinatorOf(&self.group), HEARTBEAT, &request).await?;
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok(Beat::Stable),
            Some(ResponseError::RebalanceInProgress) => Ok(Beat::Rebalancing),
            Some(ResponseError::UnknownMemberId | ResponseError::IllegalGeneration) => {
                self.forget();
                Ok(Beat::Lost)
            }
            Some(_) => check(answer.error_code, || self.named(), None).map(|()| Beat::Stable),
        }
    }

    /// Gives its partitions to the others at once, instead of when its session ends.
    pub async fn leave(&mut self, client: &mut Client) -> Result<(), Error> {
        if self.id.is_empty() {
            return Ok(());
        }
        let request = LeaveGroupRequest::default().with_group_id(group_id(&self.group)).with_member_id(text(&self.id));
        self.forget();
        let answer = client.call(To::CoordinatorOf(&self.group), LEAVE_GROUP, &request).await?;
        check(answer.error_code, || self.named(), None)
    }

    /// Commits offsets as this member, or for the group where it is none.
    pub async fn commit(&self, client: &mut Client, offsets: &BTreeMap<Place, i64>) -> Result<(), Error> {
        client.commit_as(&self.group, &self.id, self.generation, offsets).await
    }

    fn forget(&mut self) {
        self.id.clear();
        self.generation = -1;
    }

    fn named(&self) -> String {
        format!("group {:?}", self.group)
    }
}
