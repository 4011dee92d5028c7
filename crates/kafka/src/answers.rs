//! How many errors an answer tells: one for the whole, and one for each topic, partition or group that has one. For the
//! metrics; an answer of a new API is counted when it is added here.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Encodable;

pub(crate) trait Answer: Encodable {
    fn errors(&self) -> usize;
}

fn count(codes: impl IntoIterator<Item = i16>) -> usize {
    codes.into_iter().filter(|code| *code != 0).count()
}

impl Answer for AddOffsetsToTxnResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for AddPartitionsToTxnResponse {
    fn errors(&self) -> usize {
        let partitions = |it: &add_partitions_to_txn_response::AddPartitionsToTxnTopicResult| {
            count(it.results_by_partition.iter().map(|it| it.partition_error_code))
        };
        let one: usize = self.results_by_topic_v3_and_below.iter().map(partitions).sum();
        let many = self.results_by_transaction.iter().flat_map(|it| &it.topic_results);
        count([self.error_code]) + one + many.map(partitions).sum::<usize>()
    }
}

impl Answer for AlterConfigsResponse {
    fn errors(&self) -> usize {
        count(self.responses.iter().map(|it| it.error_code))
    }
}

impl Answer for ApiVersionsResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for ConsumerGroupDescribeResponse {
    fn errors(&self) -> usize {
        count(self.groups.iter().map(|it| it.error_code))
    }
}

impl Answer for ConsumerGroupHeartbeatResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for CreatePartitionsResponse {
    fn errors(&self) -> usize {
        count(self.results.iter().map(|it| it.error_code))
    }
}

impl Answer for CreateTopicsResponse {
    fn errors(&self) -> usize {
        count(self.topics.iter().map(|it| it.error_code))
    }
}

impl Answer for DeleteGroupsResponse {
    fn errors(&self) -> usize {
        count(self.results.iter().map(|it| it.error_code))
    }
}

impl Answer for DeleteRecordsResponse {
    fn errors(&self) -> usize {
        count(self.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code))
    }
}

impl Answer for DeleteTopicsResponse {
    fn errors(&self) -> usize {
        count(self.responses.iter().map(|it| it.error_code))
    }
}

impl Answer for DescribeClusterResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for DescribeConfigsResponse {
    fn errors(&self) -> usize {
        count(self.results.iter().map(|it| it.error_code))
    }
}

impl Answer for DescribeGroupsResponse {
    fn errors(&self) -> usize {
        count(self.groups.iter().map(|it| it.error_code))
    }
}

impl Answer for DescribeLogDirsResponse {
    fn errors(&self) -> usize {
        count([self.error_code]) + count(self.results.iter().map(|it| it.error_code))
    }
}

impl Answer for DescribeProducersResponse {
    fn errors(&self) -> usize {
        count(self.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code))
    }
}

impl Answer for DescribeTopicPartitionsResponse {
    fn errors(&self) -> usize {
        count(self.topics.iter().map(|it| it.error_code))
    }
}

impl Answer for DescribeTransactionsResponse {
    fn errors(&self) -> usize {
        count(self.transaction_states.iter().map(|it| it.error_code))
    }
}

impl Answer for EndTxnResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for FetchResponse {
    fn errors(&self) -> usize {
        count([self.error_code]) + count(self.responses.iter().flat_map(|it| &it.partitions).map(|it| it.error_code))
    }
}

impl Answer for FindCoordinatorResponse {
    fn errors(&self) -> usize {
        count([self.error_code]) + count(self.coordinators.iter().map(|it| it.error_code))
    }
}

impl Answer for HeartbeatResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for IncrementalAlterConfigsResponse {
    fn errors(&self) -> usize {
        count(self.responses.iter().map(|it| it.error_code))
    }
}

impl Answer for InitProducerIdResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for JoinGroupResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for LeaveGroupResponse {
    fn errors(&self) -> usize {
        count([self.error_code]) + count(self.members.iter().map(|it| it.error_code))
    }
}

impl Answer for ListGroupsResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for ListOffsetsResponse {
    fn errors(&self) -> usize {
        count(self.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code))
    }
}

impl Answer for ListPartitionReassignmentsResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for ListTransactionsResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for MetadataResponse {
    fn errors(&self) -> usize {
        count([self.error_code]) + count(self.topics.iter().map(|it| it.error_code))
    }
}

impl Answer for OffsetCommitResponse {
    fn errors(&self) -> usize {
        count(self.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code))
    }
}

impl Answer for OffsetDeleteResponse {
    fn errors(&self) -> usize {
        count([self.error_code]) + count(self.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code))
    }
}

impl Answer for OffsetFetchResponse {
    fn errors(&self) -> usize {
        count([self.error_code]) + count(self.groups.iter().map(|it| it.error_code))
    }
}

impl Answer for OffsetForLeaderEpochResponse {
    fn errors(&self) -> usize {
        count(self.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code))
    }
}

impl Answer for ProduceResponse {
    fn errors(&self) -> usize {
        count(self.responses.iter().flat_map(|it| &it.partition_responses).map(|it| it.error_code))
    }
}

impl Answer for SaslAuthenticateResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for SaslHandshakeResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for SyncGroupResponse {
    fn errors(&self) -> usize {
        count([self.error_code])
    }
}

impl Answer for TxnOffsetCommitResponse {
    fn errors(&self) -> usize {
        count(self.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code))
    }
}
