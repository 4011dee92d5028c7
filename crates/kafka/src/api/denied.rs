//! The answers to callers whose key lacks the right that an API needs as a whole, in each API's own shape.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::Request;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

/// The wire codes of `…AuthorizationFailed`.
const TOPIC: i16 = 29;
const GROUP: i16 = 30;
const CLUSTER: i16 = 31;
const TRANSACTIONAL_ID: i16 = 53;

fn why() -> Option<StrBytes> {
    Some(string("this API key lacks the right: `playhouse key list` shows what it may"))
}

/// An API that is not here closes the connection: nothing is done without a right.
pub(super) fn handle(request: Request) -> Result<Reply, Malformed> {
    match request.call.api {
        ApiKey::InitProducerId
        | ApiKey::AddPartitionsToTxn
        | ApiKey::AddOffsetsToTxn
        | ApiKey::TxnOffsetCommit
        | ApiKey::EndTxn
        | ApiKey::DescribeTransactions
        | ApiKey::ListTransactions => transactions(request),
        ApiKey::JoinGroup
        | ApiKey::SyncGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::OffsetDelete
        | ApiKey::ListGroups
        | ApiKey::DescribeGroups
        | ApiKey::DeleteGroups
        | ApiKey::ConsumerGroupHeartbeat
        | ApiKey::ConsumerGroupDescribe => groups(request),
        _ => administration(request),
    }
}

fn transactions(mut request: Request) -> Result<Reply, Malformed> {
    let call = request.call;
    match call.api {
        ApiKey::InitProducerId => {
            let body: InitProducerIdRequest = request.decode()?;
            let error = if body.transactional_id.is_some() { TRANSACTIONAL_ID } else { CLUSTER };
            let response = InitProducerIdResponse::default().with_error_code(error);
            call.now(&response.with_producer_id(ProducerId(-1)).with_producer_epoch(-1))
        }
        ApiKey::AddPartitionsToTxn => {
            use add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult};
            let body: AddPartitionsToTxnRequest = request.decode()?;
            let results = body.v3_and_below_topics.into_iter().map(|topic| {
                let partitions = topic.partitions.into_iter().map(|index| {
                    let result = AddPartitionsToTxnPartitionResult::default().with_partition_index(index);
                    result.with_partition_error_code(TRANSACTIONAL_ID)
                });
                let result = AddPartitionsToTxnTopicResult::default().with_name(topic.name);
                result.with_results_by_partition(partitions.collect())
            });
            let response = AddPartitionsToTxnResponse::default();
            call.now(&response.with_results_by_topic_v3_and_below(results.collect()))
        }
        ApiKey::AddOffsetsToTxn => call.now(&AddOffsetsToTxnResponse::default().with_error_code(TRANSACTIONAL_ID)),
        ApiKey::TxnOffsetCommit => {
            use txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
            let body: TxnOffsetCommitRequest = request.decode()?;
            let topics = body.topics.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|it| {
                    let partition = TxnOffsetCommitResponsePartition::default();
                    partition.with_partition_index(it.partition_index).with_error_code(TRANSACTIONAL_ID)
                });
                TxnOffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
            });
            call.now(&TxnOffsetCommitResponse::default().with_topics(topics.collect()))
        }
        ApiKey::EndTxn => call.now(&EndTxnResponse::default().with_error_code(TRANSACTIONAL_ID)),
        ApiKey::DescribeTransactions => {
            let body: DescribeTransactionsRequest = request.decode()?;
            let states = body.transactional_ids.into_iter().map(|id| {
                let state = describe_transactions_response::TransactionState::default().with_transactional_id(id);
                state.with_error_code(TRANSACTIONAL_ID)
            });
            call.now(&DescribeTransactionsResponse::default().with_transaction_states(states.collect()))
        }
        // As Kafka has it: what is not for the caller is not listed.
        _ => call.now(&ListTransactionsResponse::default()),
    }
}

fn groups(mut request: Request) -> Result<Reply, Malformed> {
    let call = request.call;
    match call.api {
        ApiKey::JoinGroup => {
            let body: JoinGroupRequest = request.decode()?;
            let response = JoinGroupResponse::default().with_error_code(GROUP).with_generation_id(-1);
            // Not nullable before version 7.
            let protocol = if call.version >= 7 { None } else { Some(StrBytes::default()) };
            call.now(&response.with_protocol_name(protocol).with_member_id(body.member_id))
        }
        ApiKey::SyncGroup => call.now(&SyncGroupResponse::default().with_error_code(GROUP)),
        ApiKey::Heartbeat => call.now(&HeartbeatResponse::default().with_error_code(GROUP)),
        ApiKey::LeaveGroup => call.now(&LeaveGroupResponse::default().with_error_code(GROUP)),
        ApiKey::OffsetCommit => {
            use offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
            let body: OffsetCommitRequest = request.decode()?;
            let topics = body.topics.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|it| {
                    let partition = OffsetCommitResponsePartition::default();
                    partition.with_partition_index(it.partition_index).with_error_code(GROUP)
                });
                OffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
            });
            call.now(&OffsetCommitResponse::default().with_topics(topics.collect()))
        }
        ApiKey::OffsetFetch => {
            let body: OffsetFetchRequest = request.decode()?;
            let groups = body.groups.into_iter().map(|group| {
                let refused = offset_fetch_response::OffsetFetchResponseGroup::default();
                refused.with_group_id(group.group_id).with_error_code(GROUP)
            });
            let response = OffsetFetchResponse::default().with_groups(groups.collect());
            // Version 1 has no place for it.
            call.now(&if (2..8).contains(&call.version) { response.with_error_code(GROUP) } else { response })
        }
        ApiKey::OffsetDelete => call.now(&OffsetDeleteResponse::default().with_error_code(GROUP)),
        ApiKey::ListGroups => call.now(&ListGroupsResponse::default().with_error_code(CLUSTER)),
        ApiKey::DescribeGroups => {
            let body: DescribeGroupsRequest = request.decode()?;
            let groups = body
                .groups
                .into_iter()
                .map(|id| describe_groups_response::DescribedGroup::default().with_group_id(id).with_error_code(GROUP));
            call.now(&DescribeGroupsResponse::default().with_groups(groups.collect()))
        }
        ApiKey::DeleteGroups => {
            let body: DeleteGroupsRequest = request.decode()?;
            let results = body.groups_names.into_iter().map(|id| {
                delete_groups_response::DeletableGroupResult::default().with_group_id(id).with_error_code(GROUP)
            });
            call.now(&DeleteGroupsResponse::default().with_results(results.collect()))
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let response = ConsumerGroupHeartbeatResponse::default().with_error_code(GROUP);
            call.now(&response.with_error_message(why()))
        }
        _ => {
            let body: ConsumerGroupDescribeRequest = request.decode()?;
            let groups = body.group_ids.into_iter().map(|id| {
                let group = consumer_group_describe_response::DescribedGroup::default().with_group_id(id);
                group.with_error_code(GROUP).with_error_message(why())
            });
            call.now(&ConsumerGroupDescribeResponse::default().with_groups(groups.collect()))
        }
    }
}

fn administration(mut request: Request) -> Result<Reply, Malformed> {
    let call = request.call;
    match call.api {
        ApiKey::CreateTopics => {
            let body: CreateTopicsRequest = request.decode()?;
            let topics = body.topics.into_iter().map(|topic| {
                let result = create_topics_response::CreatableTopicResult::default().with_name(topic.name);
                let result = result.with_error_code(TOPIC).with_error_message(why());
                result.with_num_partitions(-1).with_replication_factor(-1)
            });
            call.now(&CreateTopicsResponse::default().with_topics(topics.collect()))
        }
        ApiKey::DeleteTopics => {
            let body: DeleteTopicsRequest = request.decode()?;
            let named = body.topic_names.into_iter().map(|name| (Some(name), uuid::Uuid::nil()));
            let asked = named.chain(body.topics.into_iter().map(|topic| (topic.name, topic.topic_id)));
            let responses = asked.map(|(name, id)| {
                let result = delete_topics_response::DeletableTopicResult::default().with_name(name).with_topic_id(id);
                result.with_error_code(TOPIC).with_error_message(if call.version >= 5 { why() } else { None })
            });
            call.now(&DeleteTopicsResponse::default().with_responses(responses.collect()))
        }
        ApiKey::CreatePartitions => {
            let body: CreatePartitionsRequest = request.decode()?;
            let results = body.topics.into_iter().map(|topic| {
                let result = create_partitions_response::CreatePartitionsTopicResult::default().with_name(topic.name);
                result.with_error_code(TOPIC).with_error_message(why())
            });
            call.now(&CreatePartitionsResponse::default().with_results(results.collect()))
        }
        ApiKey::DeleteRecords => {
            use delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
            let body: DeleteRecordsRequest = request.decode()?;
            let topics = body.topics.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|it| {
                    let result = DeleteRecordsPartitionResult::default().with_partition_index(it.partition_index);
                    result.with_low_watermark(-1).with_error_code(TOPIC)
                });
                DeleteRecordsTopicResult::default().with_partitions(partitions.collect()).with_name(topic.name)
            });
            call.now(&DeleteRecordsResponse::default().with_topics(topics.collect()))
        }
        ApiKey::AlterConfigs => {
            let body: AlterConfigsRequest = request.decode()?;
            let responses = body.resources.into_iter().map(|it| {
                let response = alter_configs_response::AlterConfigsResourceResponse::default();
                let response = response.with_resource_type(it.resource_type).with_resource_name(it.resource_name);
                response.with_error_code(of_resource(it.resource_type)).with_error_message(why())
            });
            call.now(&AlterConfigsResponse::default().with_responses(responses.collect()))
        }
        ApiKey::IncrementalAlterConfigs => {
            let body: IncrementalAlterConfigsRequest = request.decode()?;
            let responses = body.resources.into_iter().map(|it| {
                let response = incremental_alter_configs_response::AlterConfigsResourceResponse::default();
                let response = response.with_resource_type(it.resource_type).with_resource_name(it.resource_name);
                response.with_error_code(of_resource(it.resource_type)).with_error_message(why())
            });
            call.now(&IncrementalAlterConfigsResponse::default().with_responses(responses.collect()))
        }
        // Before version 3 an answer without directories says it.
        ApiKey::DescribeLogDirs if call.version < 3 => call.now(&DescribeLogDirsResponse::default()),
        ApiKey::DescribeLogDirs => call.now(&DescribeLogDirsResponse::default().with_error_code(CLUSTER)),
        ApiKey::ListPartitionReassignments => {
            let response = ListPartitionReassignmentsResponse::default().with_error_code(CLUSTER);
            call.now(&response.with_error_message(why()))
        }
        _ => Err(Malformed("its API key lacks the right")),
    }
}

fn of_resource(kind: i8) -> i16 {
    if kind == super::describe_configs::TOPIC { TOPIC } else { CLUSTER }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::*;

    #[test]
    fn codes_are_the_protocols() {
        assert_eq!(TOPIC, ResponseError::TopicAuthorizationFailed.code());
        assert_eq!(GROUP, ResponseError::GroupAuthorizationFailed.code());
        assert_eq!(CLUSTER, ResponseError::ClusterAuthorizationFailed.code());
        assert_eq!(TRANSACTIONAL_ID, ResponseError::TransactionalIdAuthorizationFailed.code());
    }
}
