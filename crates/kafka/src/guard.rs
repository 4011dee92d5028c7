//! Walks a request before it is decoded, and refuses what the codec would trust.
//!
//! The codec reserves memory for as many array elements as a request announces. A frame of fifty bytes may announce two
//! thousand million, and a failed reservation ends the process. So every request is first walked along its shape: each
//! length and count must fit into the bytes that are there, and all elements together stay under a limit.
//!
//! A shape is text, one character per field in wire order: `b` 1 byte, `h` 2, `i` 4, `l` 8, `u` 16 (uuid), `s` string,
//! `B` bytes, `[…]` an array of structs, `(x)` an array of one plain type, `{…}` a struct that may be null. The same shape serves the flexible versions
//! (KIP-482), where lengths are compact and every struct ends in tagged fields. No shape here has tagged fields that the
//! codec knows anywhere but at the very end, so a false tag length cannot put codec and walk out of step.

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;

/// Array elements and tagged fields of one request; beyond it the request is refused.
const ELEMENTS_MAX: usize = 200_000;

#[derive(Debug, thiserror::Error)]
#[error("malformed request: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The head of a request, after its API key and version.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) correlation_id: i32,
    pub(crate) client_id: String,
}

/// Takes the header off `frame`, of the version that `flexible` chooses (KIP-482: header v2 has tagged fields).
pub(crate) fn read_header(frame: &mut Bytes, flexible: bool) -> Result<Header, Malformed> {
    let mut walk = Walk { bytes: frame, flexible: false, elements: 0 };
    walk.take(4)?;
    let correlation_id = walk.take(4)?.get_i32();
    let client_id = walk.string()?;
    let client_id = std::str::from_utf8(client_id).map_err(|_| Malformed("client id is not UTF-8"))?.to_owned();
    walk.flexible = flexible;
    walk.tags()?;
    let rest = walk.bytes.len();
    frame.advance(frame.len() - rest);
    Ok(Header { correlation_id, client_id })
}

/// Checks the lengths and counts of a request body.
pub(crate) fn check_body(key: ApiKey, version: i16, body: &[u8]) -> Result<(), Malformed> {
    walk_body(key, version, body).map(drop)
}

/// Returns what is left after the body.
fn walk_body(key: ApiKey, version: i16, body: &[u8]) -> Result<&[u8], Malformed> {
    let shape = shape(key, version).ok_or(Malformed("unknown API version"))?;
    let flexible = key.request_header_version(version) >= 2;
    let mut walk = Walk { bytes: body, flexible, elements: 0 };
    walk.structure(shape.as_bytes())?;
    Ok(walk.bytes)
}

fn shape(key: ApiKey, version: i16) -> Option<&'static str> {
    Some(match (key, version) {
        (ApiKey::Produce, 3..=12) => "shi[s[iB]]",
        (ApiKey::Produce, 13) => "shi[u[iB]]",
        (ApiKey::Fetch, 4) => "iiiib[s[ili]]",
        (ApiKey::Fetch, 5..=6) => "iiiib[s[illi]]",
        (ApiKey::Fetch, 7..=8) => "iiiibii[s[illi]][s(i)]",
        (ApiKey::Fetch, 9..=10) => "iiiibii[s[iilli]][s(i)]",
        (ApiKey::Fetch, 11) => "iiiibii[s[iilli]][s(i)]s",
        (ApiKey::Fetch, 12) => "iiiibii[s[iilili]][s(i)]s",
        (ApiKey::Fetch, 13..=14) => "iiiibii[u[iilili]][u(i)]s",
        (ApiKey::Fetch, 15..=16) => "iiibii[u[iilili]][u(i)]s",
        (ApiKey::ListOffsets, 1) => "i[s[il]]",
        (ApiKey::ListOffsets, 2..=3) => "ib[s[il]]",
        (ApiKey::ListOffsets, 4..=9) => "ib[s[iil]]",
        (ApiKey::Metadata, 0..=3) => "[s]",
        (ApiKey::Metadata, 4..=7) => "[s]b",
        (ApiKey::Metadata, 8..=9) => "[s]bbb",
        (ApiKey::Metadata, 10) => "[us]bbb",
        (ApiKey::Metadata, 11..=13) => "[us]bb",
        (ApiKey::OffsetCommit, 2..=4) => "sisl[s[ils]]",
        (ApiKey::OffsetCommit, 5) => "sis[s[ils]]",
        (ApiKey::OffsetCommit, 6) => "sis[s[ilis]]",
        (ApiKey::OffsetCommit, 7..=9) => "siss[s[ilis]]",
        (ApiKey::OffsetFetch, 1..=6) => "s[s(i)]",
        (ApiKey::OffsetFetch, 7) => "s[s(i)]b",
        (ApiKey::OffsetFetch, 8) => "[s[s(i)]]b",
        (ApiKey::OffsetFetch, 9) => "[ssi[s(i)]]b",
        (ApiKey::FindCoordinator, 0) => "s",
        (ApiKey::FindCoordinator, 1..=3) => "sb",
        (ApiKey::FindCoordinator, 4..=6) => "b(s)",
        (ApiKey::JoinGroup, 0) => "siss[sB]",
        (ApiKey::JoinGroup, 1..=4) => "siiss[sB]",
        (ApiKey::JoinGroup, 5..=7) => "siisss[sB]",
        (ApiKey::JoinGroup, 8..=9) => "siisss[sB]s",
        (ApiKey::SyncGroup, 0..=2) => "sis[sB]",
        (ApiKey::SyncGroup, 3..=4) => "siss[sB]",
        (ApiKey::SyncGroup, 5) => "sissss[sB]",
        (ApiKey::Heartbeat, 0..=2) => "sis",
        (ApiKey::Heartbeat, 3..=4) => "siss",
        (ApiKey::LeaveGroup, 0..=2) => "ss",
        (ApiKey::LeaveGroup, 3..=4) => "s[ss]",
        (ApiKey::LeaveGroup, 5) => "s[sss]",
        (ApiKey::DescribeGroups, 0..=2) => "(s)",
        (ApiKey::DescribeGroups, 3..=6) => "(s)b",
        (ApiKey::ListGroups, 0..=3) => "",
        (ApiKey::ListGroups, 4) => "(s)",
        (ApiKey::ListGroups, 5) => "(s)(s)",
        (ApiKey::DeleteGroups, 0..=2) => "(s)",
        (ApiKey::ApiVersions, 0..=2) => "",
        (ApiKey::ApiVersions, 3..=4) => "ss",
        (ApiKey::SaslHandshake, 0..=1) => "s",
        (ApiKey::SaslAuthenticate, 0..=2) => "B",
        (ApiKey::InitProducerId, 0..=2) => "si",
        (ApiKey::InitProducerId, 3..=5) => "silh",
        (ApiKey::DeleteRecords, 0..=2) => "[s[il]]i",
        (ApiKey::AddPartitionsToTxn, 0..=3) => "slh[s(i)]",
        (ApiKey::AddOffsetsToTxn, 0..=4) => "slhs",
        (ApiKey::EndTxn, 0..=4) => "slhb",
        (ApiKey::TxnOffsetCommit, 0..=1) => "sslh[s[ils]]",
        (ApiKey::TxnOffsetCommit, 2) => "sslh[s[ilis]]",
        (ApiKey::TxnOffsetCommit, 3..=4) => "sslhiss[s[ilis]]",
        (ApiKey::DescribeProducers, 0) => "[s(i)]",
        (ApiKey::DescribeTransactions, 0) => "(s)",
        (ApiKey::ListTransactions, 0) => "(s)(l)",
        (ApiKey::ListTransactions, 1) => "(s)(l)l",
        (ApiKey::CreateTopics, 2..=7) => "[sih[i(i)][ss]]ib",
        (ApiKey::DeleteTopics, 1..=5) => "(s)i",
        (ApiKey::DeleteTopics, 6) => "[su]i",
        (ApiKey::DescribeConfigs, 1..=2) => "[bs(s)]b",
        (ApiKey::DescribeConfigs, 3..=4) => "[bs(s)]bb",
        (ApiKey::DescribeCluster, 0) => "b",
        (ApiKey::DescribeCluster, 1) => "bb",
        (ApiKey::DescribeCluster, 2) => "bbb",
        (ApiKey::OffsetForLeaderEpoch, 2) => "[s[iii]]",
        (ApiKey::OffsetForLeaderEpoch, 3..=4) => "i[s[iii]]",
        (ApiKey::AlterConfigs, 0..=2) => "[bs[ss]]b",
        (ApiKey::IncrementalAlterConfigs, 0..=1) => "[bs[sbs]]b",
        (ApiKey::CreatePartitions, 0..=3) => "[si[(i)]]ib",
        (ApiKey::DescribeLogDirs, 1..=4) => "[s(i)]",
        (ApiKey::ListPartitionReassignments, 0) => "i[s(i)]",
        (ApiKey::OffsetDelete, 0) => "s[s[i]]",
        (ApiKey::ConsumerGroupHeartbeat, 0) => "ssissi(s)s[u(i)]",
        (ApiKey::ConsumerGroupHeartbeat, 1) => "ssissi(s)ss[u(i)]",
        (ApiKey::ConsumerGroupDescribe, 0..=1) => "(s)b",
        (ApiKey::DescribeTopicPartitions, 0) => "[s]i{si}",
        _ => return None,
    })
}

struct Walk<'a> {
    bytes: &'a [u8],
    flexible: bool,
    elements: usize,
}

impl<'a> Walk<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(Malformed("a length exceeds the request"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<usize, Malformed> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).map_err(|_| Malformed("a length exceeds the request"));
            }
        }
        Err(Malformed("a variable-length integer is too long"))
    }

    /// `None` stands for null.
    fn signed(&mut self, width: usize) -> Result<Option<usize>, Malformed> {
        let mut bytes = self.take(width)?;
        match bytes.get_int(width) {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Malformed("a length is negative")),
        }
    }

    fn length(&mut self, width: usize) -> Result<usize, Malformed> {
        if self.flexible { Ok(self.varint()?.saturating_sub(1)) } else { Ok(self.signed(width)?.unwrap_or(0)) }
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length(2)?;
        self.take(length)
    }

    fn count(&mut self, count: usize) -> Result<usize, Malformed> {
        self.elements += count.min(ELEMENTS_MAX + 1);
        if count > self.bytes.len() || self.elements > ELEMENTS_MAX {
            return Err(Malformed("a count exceeds the request"));
        }
        Ok(count)
    }

    fn tags(&mut self) -> Result<(), Malformed> {
        if self.flexible {
            let count = self.varint()?;
            for _ in 0..self.count(count)? {
                self.varint()?;
                let length = self.varint()?;
                self.take(length)?;
            }
        }
        Ok(())
    }

    fn structure(&mut self, shape: &[u8]) -> Result<(), Malformed> {
        self.fields(shape)?;
        self.tags()
    }

    fn fields(&mut self, shape: &[u8]) -> Result<(), Malformed> {
        let mut rest = shape;
        while let Some((&field, after)) = rest.split_first() {
            rest = after;
            match field {
                b'b' => self.take(1).map(drop)?,
                b'h' => self.take(2).map(drop)?,
                b'i' => self.take(4).map(drop)?,
                b'l' => self.take(8).map(drop)?,
                b'u' => self.take(16).map(drop)?,
                b's' => self.string().map(drop)?,
                b'B' => {
                    let length = self.length(4)?;
                    self.take(length)?;
                }
                b'{' => {
                    let (element, after) = rest.split_at(closing(rest));
                    rest = &after[1..];
                    if self.signed(1)?.is_some() {
                        self.structure(element)?;
                    }
                }
                _ => {
                    let (element, after) = rest.split_at(closing(rest));
                    rest = &after[1..];
                    let count = self.length(4)?;
                    for _ in 0..self.count(count)? {
                        if field == b'[' { self.structure(element)? } else { self.fields(element)? }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Where the array or struct that opened just before `shape` closes.
fn closing(shape: &[u8]) -> usize {
    let mut depth = 1;
    let closes = |byte: &u8| {
        match byte {
            b'[' | b'(' | b'{' => depth += 1,
            b']' | b')' | b'}' => depth -= 1,
            _ => {}
        }
        depth == 0
    };
    shape.iter().position(closes).expect("every array of a shape closes")
}
