//! Records on their way to a topic.

use playhouse_client::produce::{Outgoing, Placed, Producer};
use playhouse_client::{Error, ResponseError};

use crate::brokers::{Brokers, Link, LinkError};
use crate::error::{Api, ApiError};

/// What became of the records, one by one.
pub(crate) type Outcomes = Vec<Result<Placed, Error>>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("there is no partition {0}")]
    NoPartition(i32),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Client(#[from] Error),
}

impl SendError {
    pub(crate) fn api(&self, api: Api) -> ApiError {
        match self {
            SendError::NoPartition(_) if api == Api::V2 => ApiError::partition_not_found(),
            SendError::NoPartition(partition) => {
                let code = ResponseError::UnknownTopicOrPartition;
                let error = Error::Refused { what: format!("partition {partition}"), code, message: None };
                ApiError::of(&error, api)
            }
            SendError::Link(error) => link(error, api),
            SendError::Client(error) => ApiError::of(error, api),
        }
    }
}

pub(crate) fn link(error: &LinkError, api: Api) -> ApiError {
    match error {
        LinkError::Busy => ApiError::too_busy(error.to_string()),
        LinkError::Client(error) => ApiError::of(error, api),
    }
}

/// Whether a topic that is not there may be made: the broker has the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    MayBeMade,
    IsAnError,
}

/// Sends them all. What concerns the request as a whole is found out before anything is sent.
pub(crate) async fn send(
    brokers: &Brokers,
    topic: &str,
    records: &[Outgoing],
    missing: Missing,
) -> Result<Outcomes, SendError> {
    let mut link = brokers.lend().await?;
    let outcomes = send_by(&mut link, topic, records, missing).await;
    link.give_back();
    outcomes
}

async fn send_by(link: &mut Link, topic: &str, records: &[Outgoing], missing: Missing) -> Result<Outcomes, SendError> {
    let mut producer = match link.producer(topic).await {
        Err(error) if missing == Missing::MayBeMade && is_unknown(&error) => {
            link.client.topic_or_new(topic).await?;
            link.producer(topic).await?
        }
        opened => opened?,
    };
    check_partitions(link, &mut producer, records).await?;
    let mut outcomes = producer.send_each(&mut link.client, records).await;
    let gone = |outcome: &Result<Placed, Error>| outcome.as_ref().is_err_and(is_unknown);
    if !outcomes.is_empty() && outcomes.iter().all(gone) {
        // Deleted since the producer was opened, and perhaps made again.
        producer = link.producer(topic).await?;
        outcomes = producer.send_each(&mut link.client, records).await;
    }
    link.keep(topic, producer);
    Ok(outcomes)
}

async fn check_partitions(link: &mut Link, producer: &mut Producer, records: &[Outgoing]) -> Result<(), SendError> {
    let asked = || records.iter().filter_map(|record| record.partition);
    let missing = |producer: &Producer| asked().find(|partition| !(0..producer.partitions()).contains(partition));
    if missing(producer).is_some() {
        // It may have been added.
        producer.refresh(&mut link.client).await?;
    }
    missing(producer).map_or(Ok(()), |partition| Err(SendError::NoPartition(partition)))
}

fn is_unknown(error: &Error) -> bool {
    error.code() == Some(ResponseError::UnknownTopicOrPartition)
}
