//! The task that keeps a subscribed instance in its group while nobody asks it for anything: it joins, beats, and joins
//! again when the group assigns anew, so that the other members never wait for an HTTP caller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use playhouse_client::member::Beat;
use playhouse_client::{Client, Error};
use tokio::time::{Instant, sleep};

use super::consumer::{Consumer, Subscription};

pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// So many heartbeats apart, topics are looked at: partitions and topics may have come.
const BEATS_PER_LOOK: u32 = 10;

pub(super) async fn keep(consumer: Arc<Consumer>) {
    tokio::select! {
        () = stay(&consumer) => {}
        () = consumer.closed.cancelled() => {}
    }
}

async fn stay(consumer: &Consumer) {
    loop {
        if !is_subscribed(consumer) {
            consumer.leave().await;
            consumer.resubscribed.notified().await;
            continue;
        }
        if let Err(error) = turn(consumer).await {
            tracing::debug!(group = %consumer.group, %error, "a consumer instance of the REST proxy is in no group");
            consumer.state().failure = Some(error);
            consumer.assigned.notify_waiters();
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = consumer.resubscribed.notified() => {}
            }
        }
    }
}

/// Joins, and stays until the group assigns anew, or something else is subscribed to.
async fn turn(consumer: &Consumer) -> Result<(), Error> {
    let shape = shape(consumer).await?;
    let topics: BTreeSet<String> = shape.keys().cloned().collect();
    join(consumer, &topics).await?;
    let mut heard = Instant::now();
    let mut beats = 0;
    loop {
        tokio::select! {
            () = sleep(HEARTBEAT) => {}
            () = consumer.resubscribed.notified() => return Ok(()),
        }
        match beat(consumer).await {
            Ok(Beat::Stable) => heard = Instant::now(),
            Ok(Beat::Rebalancing) => {
                consumer.commit_by_itself(Duration::ZERO).await;
                return Ok(());
            }
            Ok(Beat::Lost) => {
                consumer.state().hold(BTreeSet::new());
                return Ok(());
            }
            // Its partitions are given to others when its session is over.
            Err(error) if heard.elapsed() >= SESSION_TIMEOUT => {
                consumer.state().hold(BTreeSet::new());
                return Err(error);
            }
            Err(_) => continue,
        }
        beats += 1;
        if beats % BEATS_PER_LOOK == 0 && self::shape(consumer).await.is_ok_and(|now| now != shape) {
            return Ok(());
        }
    }
}

async fn join(consumer: &Consumer, topics: &BTreeSet<String>) -> Result<(), Error> {
    let mut coordination = consumer.coordination().await;
    let (client, member) = consumer.connected(&mut coordination).await?;
    let places = member.join(client, topics).await?;
    drop(coordination);
    let mut state = consumer.state();
    let is_wanted = |topic: &String| match &state.subscription {
        Subscription::Topics(wanted) | Subscription::Pattern { topics: wanted, .. } => wanted.contains(topic),
        Subscription::None | Subscription::Places => false,
    };
    // What is subscribed to may be another meanwhile.
    let places = places.into_iter().filter(|(topic, _)| is_wanted(topic)).collect();
    state.hold(places);
    state.failure = None;
    drop(state);
    consumer.assigned.notify_waiters();
    Ok(())
}

async fn beat(consumer: &Consumer) -> Result<Beat, Error> {
    let mut coordination = consumer.coordination().await;
    let (client, member) = consumer.connected(&mut coordination).await?;
    member.beat(client).await
}

fn is_subscribed(consumer: &Consumer) -> bool {
    matches!(consumer.state().subscription, Subscription::Topics(_) | Subscription::Pattern { .. })
}

/// The topics subscribed to, with how many partitions they have now.
async fn shape(consumer: &Consumer) -> Result<BTreeMap<String, usize>, Error> {
    let subscription = consumer.state().subscription.clone();
    let mut coordination = consumer.coordination().await;
    let (client, _) = consumer.connected(&mut coordination).await?;
    match subscription {
        Subscription::Topics(topics) => {
            let mut shape = BTreeMap::new();
            for topic in topics {
                let partitions = partitions(client, &topic).await?;
                shape.insert(topic, partitions);
            }
            Ok(shape)
        }
        Subscription::Pattern { regex, .. } => {
            let all = client.topics().await?;
            drop(coordination);
            let found = all.into_iter().filter(|topic| !topic.internal && regex.is_match(&topic.name));
            let shape: BTreeMap<String, usize> = found.map(|it| (it.name, it.partitions.len())).collect();
            if let Subscription::Pattern { topics, .. } = &mut consumer.state().subscription {
                *topics = shape.keys().cloned().collect();
            }
            Ok(shape)
        }
        Subscription::None | Subscription::Places => Ok(BTreeMap::new()),
    }
}

/// A topic that is not there yet has none.
async fn partitions(client: &mut Client, topic: &str) -> Result<usize, Error> {
    match client.topic(topic).await {
        Ok(described) => Ok(described.partitions.len()),
        Err(error) if error.code().is_some() && !error.may_pass() => Ok(0),
        Err(error) => Err(error),
    }
}
