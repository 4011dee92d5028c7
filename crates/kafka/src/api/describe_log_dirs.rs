//! DescribeLogDirs: the one directory there is, and what each partition takes in it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};

use super::Request;
use crate::connection::Context;
use crate::guard::Malformed;
use crate::wire::{Reply, string};

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: DescribeLogDirsRequest = request.decode()?;
    let log = context.shared.gate.log();
    // Null asks for all.
    let asked: Option<HashMap<String, HashSet<i32>>> = body.topics.map(|topics| {
        topics.into_iter().map(|it| (it.topic.to_string(), it.partitions.into_iter().collect())).collect()
    });
    let topics = log.topics().into_iter().filter_map(|topic| {
        let wanted = match &asked {
            None => None,
            Some(asked) => Some(asked.get(topic.name())?),
        };
        let partitions =
            topic.partitions().iter().filter(|it| wanted.is_none_or(|wanted| wanted.contains(&it.index())));
        let partitions = partitions.map(|it| {
            DescribeLogDirsPartition::default()
                .with_partition_index(it.index())
                .with_partition_size(i64::try_from(it.size_bytes()).unwrap_or(i64::MAX))
        });
        let name = TopicName(string(topic.name()));
        Some(DescribeLogDirsTopic::default().with_name(name).with_partitions(partitions.collect()))
    });
    // From version 4 on: of the volume.
    let (total_bytes, usable_bytes) = volume(log.directory()).unwrap_or((-1, -1));
    let directory = DescribeLogDirsResult::default()
        .with_log_dir(string(log.directory().display().to_string()))
        .with_topics(topics.collect())
        .with_total_bytes(total_bytes)
        .with_usable_bytes(usable_bytes);
    request.call.now(&DescribeLogDirsResponse::default().with_results(vec![directory]))
}

/// How large it is, and how much of it is free; `None` where the system does not tell.
fn volume(directory: &Path) -> Option<(i64, i64)> {
    let told = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(told.f_frsize)).unwrap_or(i64::MAX);
    Some((bytes(told.f_blocks), bytes(told.f_bavail)))
}
