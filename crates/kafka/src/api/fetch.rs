//! Fetch: whole batches as they lie in the log, from the one that holds the offset asked for.
//!
//! A fetch that finds too little is parked on the high watermarks of its partitions and woken by them. Incremental fetch
//! sessions (KIP-227) are declined with session id 0, which every client accepts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::select_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProducerId, TopicName};
use playhouse_log::{CommittedRead, Partition};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Request, blocking, check_leader_epoch, read_error, topic_by_id};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::quotas::Kind;
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
    /// Only what was committed.
    committed: bool,
}

impl WantedPartition {
    /// The end of what this reader may see.
    fn end(&self, place: &Partition) -> i64 {
        if self.committed { place.last_stable_offset() } else { place.high_watermark() }
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
    let committed = body.isolation_level == READ_COMMITTED;
    let wanted: Vec<Wanted> = body.topics.into_iter().map(|topic| resolve(&shared, topic, by_id, committed)).collect();
    Ok(Reply::Later(Box::pin(async move {
        let (topics, budget) = gather(shared, wanted, bytes_min, bytes_max, deadline).await?;
        let size =
            topics.iter().flat_map(|it| &it.partitions).filter_map(|it| it.records.as_ref()).map(Bytes::len).sum();
        let throttle_ms = throttle.charge(Kind::Fetch, &client_id, size);
        let response = FetchResponse::default().with_responses(topics).with_throttle_time_ms(throttle_ms);
        Ok(Response { _budget: budget, ..call.encode(&response)? })
    })))
}

fn resolve(
    shared: &Shared,
    topic: kafka_protocol::messages::fetch_request::FetchTopic,
    by_id: bool,
    committed: bool,
) -> Wanted {
    let log = shared.gate.log();
    let (found, unknown) = if by_id {
        (topic_by_id(log, topic.topic_id), ResponseError::UnknownTopicId)
    } else {
        (log.topic(&topic.topic), ResponseError::UnknownTopicOrPartition)
    };
    let partitions = topic.partitions.into_iter().map(|partition| WantedPartition {
        index: partition.partition,
        offset: partition.fetch_offset,
        bytes_max: partition.partition_max_bytes.max(0) as usize,
        committed,
        place: check_leader_epoch(partition.current_leader_epoch).and_then(|()| match &found {
            Some(topic) => topic.partition(partition.partition).cloned().ok_or(ResponseError::UnknownTopicOrPartition),
            None => Err(unknown),
        }),
    });
    Wanted { topic: topic.topic, topic_id: topic.topic_id, partitions: partitions.collect() }
}

/// Reads until `bytes_min` are there, something failed, or the deadline has passed.
async fn gather(
    shared: Arc<Shared>,
    mut wanted: Vec<Wanted>,
    bytes_min: usize,
    bytes_max: usize,
    deadline: Instant,
) -> Result<(Vec<FetchableTopicResponse>, Option<OwnedSemaphorePermit>), Malformed> {
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
        let (topics, bytes, failed);
        if nothing {
            (topics, bytes, failed) = read(&wanted, limit);
        } else {
            (wanted, (topics, bytes, failed)) = blocking(move || {
                let result = read(&wanted, limit);
                (wanted, result)
            })
            .await?;
        }
        if bytes >= bytes_min || failed || Instant::now() >= deadline || shared.shutdown.is_cancelled() {
            return Ok((topics, shrink(budget, bytes)));
        }
        drop((topics, budget));
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

fn read(wanted: &[Wanted], limit: usize) -> (Vec<FetchableTopicResponse>, usize, bool) {
    let (mut total, mut failed) = (0, false);
    let mut topics = Vec::with_capacity(wanted.len());
    for topic in wanted {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let data = PartitionData::default().with_partition_index(wanted.index).with_records(Some(Bytes::new()));
            let read = wanted.place.as_ref().map_err(|error| (*error, -1)).and_then(|place| {
                let (high_watermark, stable) = (place.high_watermark(), place.last_stable_offset());
                let none = CommittedRead { last_stable_offset: stable, ..CommittedRead::default() };
                // The first batch is given whatever its size; after it, nothing beyond the limit.
                let room = wanted.bytes_max.min(limit.saturating_sub(total));
                if total > 0 && room == 0 {
                    return Ok((place, high_watermark, none));
                }
                let read = if wanted.committed {
                    place.read_committed(wanted.offset, room)
                } else {
                    place.read(wanted.offset, room).map(|batches| CommittedRead { batches, ..none.clone() })
                };
                match read {
                    Ok(read) if total > 0 && read.batches.len() > room => Ok((place, high_watermark, none)),
                    Ok(read) => Ok((place, high_watermark.max(place.high_watermark()), read)),
                    Err(error) => Err((read_error(&error), high_watermark)),
                }
            });
            partitions.push(match read {
                Ok((place, high_watermark, read)) => {
                    total += read.batches.len();
                    let aborted = read.aborted.into_iter().map(|it| {
                        AbortedTransaction::default()
                            .with_producer_id(ProducerId(it.producer_id))
                            .with_first_offset(it.first_offset)
                    });
                    data.with_high_watermark(high_watermark)
                        .with_last_stable_offset(read.last_stable_offset)
                        .with_log_start_offset(place.log_start_offset())
                        .with_aborted_transactions(wanted.committed.then(|| aborted.collect()))
                        .with_records(Some(read.batches))
                }
                Err((error, high_watermark)) => {
                    failed = true;
                    data.with_error_code(error.code()).with_high_watermark(high_watermark)
                }
            });
        }
        topics.push(
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    (topics, total, failed)
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
