//! A group as records of `__consumer_offsets`, in Apache Kafka's own formats (group-coordinator record types 3 and 5 to 8),
//! and back. What a restart needs: epochs, members, their targets, and what each of them holds.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use uuid::Uuid;

use super::assignor::Assignor;
use super::{Group, Member, Places, Progress, newcomer};
use crate::groups::offsets::{get_string, put_string};

const GROUP: i16 = 3;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const VALUE_VERSION: i16 = 0;

/// Key to value.
pub(crate) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) fn write(group_id: &str, group: &Group) -> Records {
    let mut records = Records::new();
    let key = |kind: i16, member: Option<&str>| {
        let mut key = Vec::new();
        key.put_i16(kind);
        put_string(&mut key, group_id);
        if let Some(member) = member {
            put_string(&mut key, member);
        }
        key
    };
    for kind in [GROUP, TARGET_EPOCH] {
        records.insert(key(kind, None), value(|out| out.put_i32(group.epoch)));
    }
    for (id, member) in group.members() {
        let described = value(|out| {
            put_nullable(out, member.instance_id.as_deref());
            put_nullable(out, member.rack_id.as_deref());
            put_compact(out, &member.client_id);
            put_compact(out, &member.client_host);
            put_varint(out, member.topics.len() + 1);
            member.topics.iter().for_each(|topic| put_compact(out, topic));
            put_nullable(out, member.regex.as_deref());
            out.put_i32(i32::try_from(member.rebalance_timeout_ms).unwrap_or(i32::MAX));
            put_nullable(out, member.assignor.map(Assignor::name));
        });
        records.insert(key(MEMBER, Some(id)), described);
        records.insert(key(TARGET, Some(id)), value(|out| put_places(out, &member.target)));
        let current = value(|out| {
            out.put_i32(member.epoch);
            out.put_i32(member.previous_epoch);
            out.put_i8(member.progress as i8);
            put_places(out, &member.assigned);
            put_places(out, &member.revoking);
        });
        records.insert(key(CURRENT, Some(id)), current);
    }
    records
}

/// The group that a record's key names, where it is of a kind that is kept here.
pub(crate) fn group_of(mut key: &[u8]) -> Option<String> {
    let kind = key.try_get_i16().ok()?;
    [GROUP, MEMBER, TARGET_EPOCH, TARGET, CURRENT].contains(&kind).then(|| get_string(&mut key))?
}

/// The group of these records; records that cannot be read are as if they were not there. Sessions begin anew.
pub(crate) fn read(records: &Records, mut group: Group, now_ms: u64) -> Group {
    let mut members: BTreeMap<String, Member> = BTreeMap::new();
    // Keys sort by kind: members come before what they hold.
    for (key, value) in records {
        let mut key = &key[..];
        let Ok(kind) = key.try_get_i16() else { continue };
        let (Some(_), member_id) = (get_string(&mut key), get_string(&mut key)) else { continue };
        let mut value = &value[..];
        if value.try_get_i16() != Ok(VALUE_VERSION) {
            continue;
        }
        match (kind, member_id) {
            (GROUP, None) => group.epoch = value.try_get_i32().unwrap_or(0),
            (MEMBER, Some(id)) => {
                if let Some(member) = read_member(value, now_ms) {
                    members.insert(id, member);
                }
            }
            (TARGET, Some(id)) => {
                if let (Some(member), Some(target)) = (members.get_mut(&id), get_places(&mut value)) {
                    member.target = target;
                }
            }
            (CURRENT, Some(id)) => {
                if let Some(member) = members.get_mut(&id) {
                    let _ = read_current(value, member, now_ms);
                }
            }
            _ => {}
        }
    }
    for (id, member) in members {
        for place in member.assigned.iter().chain(&member.revoking) {
            group.owners.insert(*place, id.clone());
        }
        group.insert(id, member);
    }
    group
}

fn read_member(mut value: &[u8], now_ms: u64) -> Option<Member> {
    let instance_id = get_nullable(&mut value)?;
    let rack_id = get_nullable(&mut value)?;
    let client_id = get_nullable(&mut value)??;
    let client_host = get_nullable(&mut value)??;
    let topics = (1..get_varint(&mut value)?).map(|_| get_nullable(&mut value)?).collect::<Option<_>>()?;
    let regex = get_nullable(&mut value)?;
    let rebalance_timeout_ms = u64::try_from(value.try_get_i32().ok()?).ok()?;
    let assignor = get_nullable(&mut value)?.and_then(|name| Assignor::named(&name));
    let mut member = newcomer(&super::Beat { instance_id, ..super::Beat::default() }, now_ms);
    member.pattern = regex.as_deref().and_then(super::pattern);
    Some(Member { rack_id, client_id, client_host, topics, regex, rebalance_timeout_ms, assignor, ..member })
}

fn read_current(mut value: &[u8], member: &mut Member, now_ms: u64) -> Option<()> {
    member.epoch = value.try_get_i32().ok()?;
    member.previous_epoch = value.try_get_i32().ok()?;
    member.progress = match value.try_get_i8().ok()? {
        1 => Progress::Unrevoked,
        2 => Progress::Unreleased,
        _ => Progress::Stable,
    };
    member.assigned = get_places(&mut value)?;
    member.revoking = get_places(&mut value)?;
    member.revoked_by_ms = now_ms + member.rebalance_timeout_ms;
    Some(())
}

fn value(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(VALUE_VERSION);
    write(&mut out);
    // No tagged fields.
    out.put_u8(0);
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_compact(out, text),
        None => out.put_u8(0),
    }
}

fn put_compact(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() + 1);
    out.put_slice(text.as_bytes());
}

fn put_places(out: &mut Vec<u8>, places: &Places) {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(*topic).or_default().push(*partition);
    }
    put_varint(out, topics.len() + 1);
    for (topic, partitions) in topics {
        out.put_slice(topic.as_bytes());
        put_varint(out, partitions.len() + 1);
        partitions.into_iter().for_each(|partition| out.put_i32(partition));
        out.put_u8(0);
    }
}

fn get_varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn get_nullable(bytes: &mut &[u8]) -> Option<Option<String>> {
    let Some(length) = get_varint(bytes)?.checked_sub(1) else { return Some(None) };
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok().map(Some)
}

fn get_places(bytes: &mut &[u8]) -> Option<Places> {
    let mut places = Places::new();
    for _ in 1..get_varint(bytes)? {
        let (topic, rest) = bytes.split_first_chunk::<16>()?;
        *bytes = rest;
        for _ in 1..get_varint(bytes)? {
            places.insert((Uuid::from_bytes(*topic), bytes.try_get_i32().ok()?));
        }
        bytes.try_get_u8().ok()?;
    }
    Some(places)
}
