//! Connections to the brokers, lent to one request at a time.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use playhouse_client::produce::Producer;
use playhouse_client::{Client, Compression, Error, Options};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// How long a request waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(10);
/// How long to keep trying for one request.
const PATIENCE: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CLIENT_ID: &str = "playhouse-rest-proxy";
/// Topics whose producers a connection keeps.
const PRODUCERS_MAX: usize = 64;

pub(crate) struct Brokers {
    bootstrap: String,
    turns: Semaphore,
    idle: Mutex<Vec<Link>>,
}

/// A client and its producers.
pub(crate) struct Link {
    pub client: Client,
    producers: HashMap<String, Producer>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("all connections to the brokers are at work: retry, or raise rest_proxy.broker_connections")]
    Busy,
    #[error(transparent)]
    Client(#[from] Error),
}

pub(crate) fn options() -> Options {
    Options { client_id: CLIENT_ID.to_owned(), request_timeout: REQUEST_TIMEOUT, patience: PATIENCE }
}

impl Brokers {
    pub(crate) fn new(bootstrap: String, connections: usize) -> Brokers {
        Brokers { bootstrap, turns: Semaphore::new(connections), idle: Mutex::new(Vec::new()) }
    }

    /// A client of its own, for who keeps it.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        Client::connect(&self.bootstrap, options()).await
    }

    /// A connection, to be given back with [`Lent::give_back`] once its answers are there. One that is dropped before is
    /// closed: what is under way on it belongs to no other request.
    pub(crate) async fn lend(&self) -> Result<Lent<'_>, LinkError> {
        let turn = timeout(TURN_MAX, self.turns.acquire()).await;
        let Ok(Ok(turn)) = turn else { return Err(LinkError::Busy) };
        let idle = self.idle().pop();
        let link = match idle {
            Some(link) => link,
            None => Link { client: self.connect().await?, producers: HashMap::new() },
        };
        Ok(Lent { link, brokers: self, _turn: turn })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Lent<'a> {
    link: Link,
    brokers: &'a Brokers,
    _turn: SemaphorePermit<'a>,
}

impl Lent<'_> {
    pub(crate) fn give_back(self) {
        self.brokers.idle().push(self.link);
    }
}

impl Deref for Lent<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Link {
    /// Takes the producer of a topic; put it back with [`Link::keep`] if it is to be used again.
    pub(crate) async fn producer(&mut self, topic: &str) -> Result<Producer, Error> {
        match self.producers.remove(topic) {
            Some(producer) => Ok(producer),
            None => Producer::open(&mut self.client, topic, Compression::None).await,
        }
    }

    pub(crate) fn keep(&mut self, topic: &str, producer: Producer) {
        if self.producers.len() >= PRODUCERS_MAX {
            self.producers.clear();
        }
        self.producers.insert(topic.to_owned(), producer);
    }
}
