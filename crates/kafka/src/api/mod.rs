//! The APIs: which versions of which are served, and one `match` that dispatches to one file per API.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod denied;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod describe_transactions;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sasl;
mod sync_group;
mod txn_offset_commit;

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Decodable;
use playhouse_gate::SCHEMAS_TOPIC;
use playhouse_log::{Log, ReadError, Topic};
use uuid::Uuid;

use crate::access::needs;
use crate::connection::Context;
use crate::guard::{self, Header, Malformed};
use crate::wire::{Call, Reply};

/// What is served: API, lowest and highest version. Fetch ends at 16: 17 adds only what followers need.
pub(crate) const SUPPORTED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 16),
    (ApiKey::ListOffsets, 1, 9),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::SaslAuthenticate, 0, 2),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::AddOffsetsToTxn, 0, 4),
    (ApiKey::EndTxn, 0, 4),
    (ApiKey::TxnOffsetCommit, 0, 4),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::DescribeTransactions, 0, 0),
    (ApiKey::ListTransactions, 0, 1),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::ListPartitionReassignments, 0, 0),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
    (ApiKey::ConsumerGroupDescribe, 0, 1),
    (ApiKey::DescribeTopicPartitions, 0, 0),
];

/// What is served to this caller: SASL only where keys are asked for.
fn served(context: &Context) -> impl Iterator<Item = &'static (ApiKey, i16, i16)> {
    let with_sasl = context.caller.is_asked();
    let is_sasl = |api: ApiKey| matches!(api, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
    SUPPORTED.iter().filter(move |(api, ..)| with_sasl || !is_sasl(*api))
}

/// A request of a known API and version, its body not yet decoded.
pub(crate) struct Request {
    pub(crate) call: Call,
    pub(crate) client_id: String,
    body: Bytes,
}

impl Request {
    fn decode<T: Decodable>(&mut self) -> Result<T, Malformed> {
        T::decode(&mut self.body, self.call.version).map_err(|error| {
            tracing::debug!(api = ?self.call.api, %error, "cannot decode a request");
            Malformed("its body cannot be decoded")
        })
    }
}

/// Begins a request. What must happen in the order of requests has happened when this returns; the rest is in the reply.
pub(crate) async fn handle(context: &Context, mut frame: Bytes) -> Result<(ApiKey, Reply), Malformed> {
    if context.caller.sends_token() {
        return sasl::token(context, &frame).await.map(|reply| (ApiKey::SaslAuthenticate, reply));
    }
    let (key, version) = match frame.first_chunk::<4>() {
        Some(&[a, b, c, d]) => (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d])),
        None => return Err(Malformed("it is too short")),
    };
    let known = served(context).find(|(api, ..)| *api as i16 == key);
    let &(api, lowest, highest) = known.ok_or(Malformed("unknown API"))?;
    if !(lowest..=highest).contains(&version) {
        // KIP-511: the one request whose version a client cannot know is answered at version 0.
        if api == ApiKey::ApiVersions {
            let header = guard::read_header(&mut frame, false)?;
            let call = Call { api, version: 0, correlation_id: header.correlation_id };
            return api_versions::unsupported(call).map(|reply| (api, reply));
        }
        return Err(Malformed("unsupported API version"));
    }
    let Header { correlation_id, client_id, .. } =
        guard::read_header(&mut frame, api.request_header_version(version) >= 2)?;
    guard::check_body(api, version, &frame)?;
    let request = Request { call: Call { api, version, correlation_id }, client_id, body: frame };
    let needed = needs(api);
    if !context.caller.has(needed) {
        if context.caller.is_unknown() {
            return Err(Malformed("an API key comes first (SASL/PLAIN, with the key for a password)"));
        }
        return denied::handle(request).map(|reply| (api, reply));
    }
    let reply = match api {
        ApiKey::Produce => produce::handle(context, request).await,
        ApiKey::Fetch => fetch::handle(context, request),
        ApiKey::ListOffsets => list_offsets::handle(context, request),
        ApiKey::Metadata => metadata::handle(context, request).await,
        ApiKey::OffsetCommit => offset_commit::handle(context, request),
        ApiKey::OffsetFetch => offset_fetch::handle(context, request),
        ApiKey::FindCoordinator => find_coordinator::handle(context, request),
        ApiKey::JoinGroup => join_group::handle(context, request),
        ApiKey::Heartbeat => heartbeat::handle(context, request),
        ApiKey::LeaveGroup => leave_group::handle(context, request),
        ApiKey::SyncGroup => sync_group::handle(context, request),
        ApiKey::DescribeGroups => describe_groups::handle(context, request),
        ApiKey::ListGroups => list_groups::handle(context, request),
        ApiKey::ApiVersions => api_versions::handle(context, request),
        ApiKey::SaslHandshake => sasl::handshake(context, request),
        ApiKey::SaslAuthenticate => sasl::authenticate(context, request).await,
        ApiKey::CreateTopics => create_topics::handle(context, request).await,
        ApiKey::DeleteTopics => delete_topics::handle(context, request).await,
        ApiKey::InitProducerId => init_producer_id::handle(context, request),
        ApiKey::AddPartitionsToTxn => add_partitions_to_txn::handle(context, request),
        ApiKey::AddOffsetsToTxn => add_offsets_to_txn::handle(context, request),
        ApiKey::DeleteRecords => delete_records::handle(context, request),
        ApiKey::EndTxn => end_txn::handle(context, request),
        ApiKey::TxnOffsetCommit => txn_offset_commit::handle(context, request).await,
        ApiKey::DescribeProducers => describe_producers::handle(context, request),
        ApiKey::DescribeTransactions => describe_transactions::handle(context, request),
        ApiKey::ListTransactions => list_transactions::handle(context, request),
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::handle(context, request),
        ApiKey::DescribeConfigs => describe_configs::handle(context, request),
        ApiKey::DeleteGroups => delete_groups::handle(context, request).await,
        ApiKey::DescribeCluster => describe_cluster::handle(context, request),
        ApiKey::AlterConfigs => alter_configs::handle(context, request).await,
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs::handle(context, request).await,
        ApiKey::CreatePartitions => create_partitions::handle(context, request).await,
        ApiKey::DescribeLogDirs => describe_log_dirs::handle(context, request),
        ApiKey::ListPartitionReassignments => list_partition_reassignments::handle(request),
        ApiKey::OffsetDelete => offset_delete::handle(context, request).await,
        ApiKey::ConsumerGroupHeartbeat => consumer_group_heartbeat::handle(context, request),
        ApiKey::ConsumerGroupDescribe => consumer_group_describe::handle(context, request),
        ApiKey::DescribeTopicPartitions => describe_topic_partitions::handle(context, request),
        _ => Err(Malformed("unknown API")),
    };
    reply.map(|reply| (api, reply))
}

/// Kafka's own topics begin so, and there are the schema registry's records; clients read them but neither write nor
/// delete them.
pub(crate) fn is_internal(topic: &str) -> bool {
    topic.starts_with("__") || topic == SCHEMAS_TOPIC
}

fn topic_by_id(log: &Log, id: Uuid) -> Option<Arc<Topic>> {
    log.topics().into_iter().find(|topic| topic.id() == id)
}

fn read_error(error: &ReadError) -> ResponseError {
    match error {
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::Corrupt(_) => ResponseError::CorruptMessage,
        ReadError::Io(_) => ResponseError::KafkaStorageError,
    }
}

/// What a client may do, as bits of `AclOperation`: everything there is to do, as nobody is refused anything.
#[derive(Debug, Clone, Copy)]
enum Operations {
    Topic = 0b1101_1111_1000,
    Group = 0b1101_0100_1000,
    Cluster = 0b1_1111_1010_0000,
}

impl Operations {
    /// For `authorized_operations`: told to those who ask.
    fn told(self, asked: bool) -> i32 {
        if asked { self as i32 } else { i32::MIN }
    }
}

/// The one leader epoch there is: the log has one node.
const LEADER_EPOCH: i32 = 0;

/// A client that knows a leader epoch later than ours talks to a log that was wiped or restored.
fn check_leader_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > LEADER_EPOCH { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}

/// Runs what blocks on the disk away from the connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Malformed> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Malformed("it could not be finished"))
}

/// Runs what must not stop half-way, even where the client leaves.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Malformed> {
    tokio::spawn(work).await.map_err(|_| Malformed("it could not be finished"))
}

/// PRODUCER_FENCED where the client knows it, and what clients knew before (KIP-588).
fn fenced_since(version: i16, asked: i16, error: ResponseError) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if asked < version => ResponseError::InvalidProducerEpoch,
        error => error,
    }
}
