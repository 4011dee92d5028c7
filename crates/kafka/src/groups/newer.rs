//! The coordinator's half for groups of the newer protocol: they are kept beside the classic ones, and every change of
//! one is written next to the committed offsets before a member hears of it.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use playhouse_log::{Appended, Log};
use uuid::Uuid;

use super::consumer::{AWAY, Answer, Beat, Catalog, Group, Member, Refused, records};
use super::{Groups, unix_ms};
use crate::api::is_internal;

/// Shown by ConsumerGroupDescribe.
pub(crate) struct NewerDescription {
    pub(crate) state: &'static str,
    pub(crate) epoch: i32,
    pub(crate) assignor: &'static str,
    pub(crate) members: Vec<(String, Member)>,
}

/// The log's topics, for assignments.
pub(crate) struct LogCatalog<'a>(pub(crate) &'a Log);

impl Catalog for LogCatalog<'_> {
    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        let topic = self.0.topic(name)?;
        Some((topic.id(), topic.partitions().len() as i32))
    }

    fn names(&self) -> Vec<String> {
        let topics = self.0.topics();
        topics.iter().map(|topic| topic.name()).filter(|name| !is_internal(name)).map(str::to_owned).collect()
    }
}

impl Groups {
    /// Takes the groups over that the last process wrote down.
    pub(super) fn restore(&self) {
        let now_ms = self.now_ms();
        let mut newer = self.newer.lock();
        for (id, kept) in self.offsets.kept() {
            newer.insert(id, records::read(&kept, self.new_group(), now_ms));
        }
    }

    fn new_group(&self) -> Group {
        Group::new(self.config.consumer_session_timeout.as_millis() as u64, self.config.members_max)
    }

    /// The answer, and what has to be durable before it is given.
    pub(crate) fn beat(
        &self,
        group_id: &str,
        beat: &Beat,
        catalog: &dyn Catalog,
    ) -> Result<(Answer, Option<Appended>), Refused> {
        if group_id.is_empty() {
            return Err((ResponseError::InvalidRequest, "the group id is empty".to_owned()));
        }
        if beat.epoch < AWAY {
            return Err((ResponseError::InvalidRequest, format!("{} is not a member epoch", beat.epoch)));
        }
        for (name, id) in [("instance", &beat.instance_id), ("rack", &beat.rack_id)] {
            if id.as_ref().is_some_and(String::is_empty) {
                return Err((ResponseError::InvalidRequest, format!("the {name} id is empty: leave it out")));
            }
        }
        let mut classic = self.groups.lock();
        if classic.get(group_id).is_some_and(|group| !group.is_vacant()) {
            let message = "the group has members of the classic protocol: they have to leave first";
            return Err((ResponseError::GroupIdNotFound, message.to_owned()));
        }
        let more: usize = beat.topics.iter().flatten().map(|topic| 48 + topic.len()).sum();
        let mut newer = self.newer.lock();
        let held = |newer: &HashMap<String, Group>| newer.values().map(Group::size_bytes).sum::<usize>();
        if more > 0 && !self.has_room(&classic, held(&newer) + more) {
            return Err((ResponseError::GroupMaxSizeReached, "consumer groups have reached their memory limit".into()));
        }
        if !newer.contains_key(group_id) {
            if beat.epoch != 0 {
                return Err((ResponseError::UnknownMemberId, format!("there is no group {group_id:?}: join")));
            }
            if classic.len() + newer.len() >= self.config.groups_max && !super::forget_vacant(&mut classic) {
                return Err((ResponseError::GroupMaxSizeReached, "there are too many groups".to_owned()));
            }
            classic.remove(group_id);
        }
        let group = newer.entry(group_id.to_owned()).or_insert_with(|| self.new_group());
        let answer = group.heartbeat(beat, self.now_ms(), catalog);
        let written = self.write_down(group_id, group);
        if group.is_empty() && !self.offsets.has(group_id) {
            newer.remove(group_id);
        }
        drop((classic, newer));
        // Another heartbeat alone only moves a deadline away.
        if !matches!(written, Ok(None)) {
            self.changed.notify_one();
        }
        let answer = answer?;
        let appended = written.map_err(|error| (error, "cannot write the group down".to_owned()))?;
        Ok((answer, appended))
    }

    /// Writes down what changed. An empty group that nobody committed for is forgotten.
    fn write_down(&self, group_id: &str, group: &mut Group) -> Result<Option<Appended>, ResponseError> {
        if !group.take_changed() {
            return Ok(None);
        }
        let forgotten = group.is_empty() && !self.offsets.has(group_id);
        let records = if forgotten { records::Records::new() } else { records::write(group_id, group) };
        self.offsets.keep(group_id, records, unix_ms()).map_err(|error| {
            group.set_changed();
            tracing::warn!(group = group_id, %error, "cannot write a consumer group down");
            ResponseError::CoordinatorNotAvailable
        })
    }

    /// Drops members whose time is up; the next thing due.
    pub(super) fn tick_newer(&self, now_ms: u64) -> Option<u64> {
        let mut newer = self.newer.lock();
        newer.retain(|id, group| {
            group.tick(now_ms);
            // What cannot be written now is tried again with the next change.
            let _ = self.write_down(id, group);
            if !group.is_empty() || self.offsets.has(id) {
                return true;
            }
            // Its last offsets have expired.
            self.offsets.keep(id, records::Records::new(), unix_ms()).is_err()
        });
        newer.values().filter_map(Group::next_deadline_ms).min()
    }

    /// What an empty group leaves behind, when it goes or turns into a classic one. Not one that has members.
    pub(super) fn drop_newer(&self, group_id: &str) -> Result<(), ResponseError> {
        let mut newer = self.newer.lock();
        match newer.get(group_id) {
            None => return Ok(()),
            Some(group) if !group.is_empty() => return Err(ResponseError::NonEmptyGroup),
            Some(_) => drop(newer.remove(group_id)),
        }
        let kept = self.offsets.keep(group_id, records::Records::new(), unix_ms());
        kept.map(drop).map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    pub(crate) fn describe_newer(&self, group_id: &str) -> Option<NewerDescription> {
        let newer = self.newer.lock();
        let group = newer.get(group_id)?;
        Some(NewerDescription {
            state: group.state(),
            epoch: group.epoch(),
            assignor: group.assignor().name(),
            members: group.members().map(|(id, member)| (id.clone(), member.clone())).collect(),
        })
    }

    /// Whether a member of the group reads the topic.
    pub(crate) fn is_subscribed(&self, group_id: &str, topic: &str) -> bool {
        if let Some(group) = self.newer.lock().get(group_id) {
            return group.is_subscribed(topic);
        }
        let groups = self.groups.lock();
        let Some(group) = groups.get(group_id).filter(|group| group.protocol_type() == "consumer") else {
            return false;
        };
        group.members().any(|(_, member)| subscription(&group.metadata(member)).any(|name| name == topic))
    }
}

/// The topics in a classic member's metadata (`ConsumerProtocolSubscription`), as far as it can be read.
pub(super) fn subscription(metadata: &Bytes) -> impl Iterator<Item = String> + use<> {
    let mut rest = metadata.slice(metadata.len().min(2)..);
    let count = if rest.len() < 4 { 0 } else { bytes::Buf::get_i32(&mut rest) };
    (0..count).map_while(move |_| {
        let mut bytes = &rest[..];
        let name = super::offsets::get_string(&mut bytes);
        rest = rest.slice_ref(bytes);
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_a_classic_subscription_are_read_and_damage_ends_the_list() {
        let metadata = Bytes::from_static(b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff");
        assert_eq!(subscription(&metadata).collect::<Vec<_>>(), ["a", "bc"]);
        for cut in 0..metadata.len() - 4 {
            assert!(subscription(&metadata.slice(..cut)).count() < 2);
        }
    }
}
