//! Fetch: whole batches as they lie in the log, from the one that holds the offset asked for.
//!
//! A fetch that finds too little is parked on the high watermarks of its partitions and woken by them. Incremental fetch
//! sessions (KIP-227) are declined with session id 0, which every client accepts.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use playhouse_log::{Batches, Isolation, Partition, Transfer};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Request, blocking, check_leader_epoch, read_error, topic_by_id};
use crate::connection::Context;
use crate::fetch_response::{self, FetchedPartition, FetchedTopic};
use crate::guard::Malformed;
use crate::quotas::Kind;
use crate::send_file::OpenRanges;
use crate::server::Shared;
use crate::wire::{Reply, Response};

/// Longer waits end here; the client asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub(super) const READ_COMMITTED: i8 = 1;

struct Wanted {
    topic: TopicName,
    topic_id: Uuid,
    partitions: Vec<WantedPartition>,
}

struct WantedPartition {
    index: i32,
    offset: i64,
    bytes_max: usize,
    place: Result<Arc<Partition>, ResponseError>,
    isolation: Isolation,
}

impl WantedPartition {
    /// The end of what this reader may see.
    fn end(&self, place: &Partition) -> i64 {
        match self.isolation {
            Isolation::Committed => place.last_stable_offset(),
            Isolation::Uncommitted => place.high_watermark(),
        }
    }
}

pub(super) fn handle(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: FetchRequest = request.decode()?;
    let call = request.call;
    if body.session_id != 0 {
        let error = ResponseError::FetchSessionIdNotFound.code();
        return call.now(&FetchResponse::default().with_error_code(error));
    }
    let shared = context.shared.clone();
    let (throttle, client_id) = (context.throttle.clone(), request.client_id);
    let deadline = Instant::now() + Duration::from_millis(body.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let bytes_min = body.min_bytes.max(0) as usize;
    let bytes_max = (body.max_bytes.max(0) as usize).min(shared.config.fetch_bytes_max);
    let by_id = call.version >= 13;
    let isolation = if body.isolation_level == READ_COMMITTED { Isolation::Committed } else { Isolation::Uncommitted };
    let wanted: Vec<Wanted> = body.topics.into_iter().map(|topic| resolve(context, topic, by_id, isolation)).collect();
    Ok(Reply::Later(Box::pin(async move {
        let (found, memory) = gather(shared, wanted, bytes_min, bytes_max, deadline).await?;
        let throttle_ms = throttle.charge(Kind::Fetch, &client_id, found.bytes);
        Ok(Response { _held: [memory, found.ranges], ..fetch_response::encode(call, throttle_ms, found.topics)? })
    })))
}

fn resolve(
    context: &Context,
    topic: kafka_protocol::messages::fetch_request::FetchTopic,
    by_id: bool,
    isolation: Isolation,
) -> Wanted {
    let log = context.shared.gate.log();
    let (found, unknown) = if by_id {
        (topic_by_id(log, topic.topic_id), ResponseError::UnknownTopicId)
    } else {
        (log.topic(&topic.topic), ResponseError::UnknownTopicOrPartition)
    };
    let found = match found {
        // An id that was good once: the client asks for the topic's new one.
        None if by_id => Err(unknown),
        found => context.caller.readable(found, &topic.topic, unknown),
    };
    let partitions = topic.partitions.into_iter().map(|partition| WantedPartition {
        index: partition.partition,
        offset: partition.fetch_offset,
        bytes_max: partition.partition_max_bytes.max(0) as usize,
        isolation,
        place: check_leader_epoch(partition.current_leader_epoch).and_then(|()| match &found {
            Ok(topic) => topic.partition(partition.partition).cloned().ok_or(ResponseError::UnknownTopicOrPartition),
            Err(error) => Err(*error),
        }),
    });
    Wanted { topic: topic.topic, topic_id: topic.topic_id, partitions: partitions.collect() }
}

/// What was read for an answer.
#[derive(Default)]
struct Found {
    topics: Vec<FetchedTopic>,
    bytes: usize,
    /// Of these, in memory.
    copied: usize,
    ranges: Option<OwnedSemaphorePermit>,
    failed: bool,
}

/// Reads until `bytes_min` are there, something failed, or the deadline has passed.
async fn gather(
    shared: Arc<Shared>,
    mut wanted: Vec<Wanted>,
    bytes_min: usize,
    bytes_max: usize,
    deadline: Instant,
) -> Result<(Found, Option<OwnedSemaphorePermit>), Malformed> {
    let places = || wanted.iter().flat_map(|topic| &topic.partitions).filter_map(|it| it.place.as_ref().ok());
    let mut moves: Vec<watch::Receiver<i64>> = places().map(|place| place.subscribe()).collect();
    loop {
        moves.iter_mut().for_each(|moved| drop(moved.borrow_and_update()));
        let budget = reserve(&shared, bytes_max);
        let limit = budget.as_ref().map_or(0, |permit| permit.num_permits() << 10).min(bytes_max);
        let nothing = wanted.iter().flat_map(|topic| &topic.partitions).all(|it| match &it.place {
            Ok(place) => it.offset >= it.end(place) && it.offset <= place.high_watermark(),
            Err(_) => false,
        });
        let found;
        if nothing {
            found = read(&wanted, limit, &shared.ranges);
        } else {
            let ranges = shared.ranges.clone();
            (wanted, found) = blocking(move || {
                let found = read(&wanted, limit, &ranges);
                (wanted, found)
            })
            .await?;
        }
        if found.bytes >= bytes_min || found.failed || Instant::now() >= deadline || shared.shutdown.is_cancelled() {
            let memory = shrink(budget, found.copied);
            return Ok((found, memory));
        }
        drop((found, budget));
        let moved = async {
            if moves.is_empty() {
                return std::future::pending().await;
            }
            // An error means that the partition is gone: look again, the read says so.
            let _ = select_all(moves.iter_mut().map(|moved| Box::pin(moved.changed()))).await;
        };
        tokio::select! {
            () = moved => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = shared.shutdown.cancelled() => {}
        }
    }
}

fn read(wanted: &[Wanted], limit: usize, ranges: &OpenRanges) -> Found {
    let mut found = Found { topics: Vec::with_capacity(wanted.len()), ..Found::default() };
    for topic in wanted {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let read = wanted.place.as_ref().map_err(|error| *error).and_then(|place| {
                let high_watermark = place.high_watermark();
                let none = Transfer { last_stable_offset: place.last_stable_offset(), ..Transfer::default() };
                // The first batch is given whatever its size; after it, nothing beyond the limit.
                let room = wanted.bytes_max.min(limit.saturating_sub(found.bytes));
                if found.bytes > 0 && room == 0 {
                    return Ok((place, high_watermark, none));
                }
                match place.transfer(wanted.offset, room, wanted.isolation) {
                    Ok(read) if found.bytes > 0 && read.batches.len() > room => Ok((place, high_watermark, none)),
                    Ok(read) => Ok((place, high_watermark.max(place.high_watermark()), read)),
                    Err(error) => Err(read_error(&error)),
                }
            });
            let read = read.and_then(|(place, high_watermark, read)| {
                let batches = ranges.prepare(read.batches, &mut found.ranges);
                let batches = batches.map_err(|_| ResponseError::KafkaStorageError)?;
                Ok((place, high_watermark, Transfer { batches, ..read }))
            });
            partitions.push(match read {
                Ok((place, high_watermark, Transfer { batches, aborted, last_stable_offset })) => {
                    found.bytes += batches.len();
                    if let Batches::Bytes(bytes) = &batches {
                        found.copied += bytes.len();
                    }
                    FetchedPartition {
                        index: wanted.index,
                        error_code: 0,
                        high_watermark,
                        last_stable_offset,
                        log_start_offset: place.log_start_offset(),
                        aborted: (wanted.isolation == Isolation::Committed).then_some(aborted),
                        batches,
                    }
                }
                Err(error) => {
                    found.failed = true;
                    FetchedPartition {
                        index: wanted.index,
                        error_code: error.code(),
                        high_watermark: -1,
                        last_stable_offset: -1,
                        log_start_offset: -1,
                        aborted: Some(Vec::new()),
                        batches: Batches::default(),
                    }
                }
            });
        }
        found.topics.push(FetchedTopic { topic: topic.topic.clone(), topic_id: topic.topic_id, partitions });
    }
    found
}

/// Memory for an answer: as much of `bytes` as there is.
fn reserve(shared: &Shared, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let available = shared.response_budget.available_permits().min(bytes >> 10);
    shared.response_budget.clone().try_acquire_many_owned(available as u32).ok()
}

/// Gives back what the answer does not take.
fn shrink(budget: Option<OwnedSemaphorePermit>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let mut budget = budget?;
    budget.split((bytes >> 10).min(budget.num_permits()))
}
