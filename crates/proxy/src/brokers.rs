//! Connections to the brokers, lent to one request at a time.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use playhouse_client::produce::Producer;
use playhouse_client::{Client, Compression, Credentials, Error, Options};
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

/// The brokers, as one caller reaches them; connections of all callers are counted together.
pub(crate) struct Brokers {
    pool: Arc<Pool>,
    credentials: Option<Credentials>,
}

struct Pool {
    bootstrap: String,
    turns: Semaphore,
    /// Those used last come last.
    idle: Mutex<Vec<(Option<Credentials>, Link)>>,
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

impl Brokers {
    pub(crate) fn new(bootstrap: String, connections: usize) -> Brokers {
        let turns = Semaphore::new(connections);
        let pool = Pool { bootstrap, turns, idle: Mutex::new(Vec::new()) };
        Brokers { pool: Arc::new(pool), credentials: None }
    }

    /// The same for another caller.
    pub(crate) fn with(&self, credentials: Credentials) -> Brokers {
        Brokers { pool: self.pool.clone(), credentials: Some(credentials) }
    }

    /// Whether both are the same caller's.
    pub(crate) fn is_of(&self, other: &Brokers) -> bool {
        same(self.credentials.as_ref(), other.credentials.as_ref())
    }

    /// A client of its own, for who keeps it.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let options = Options {
            client_id: CLIENT_ID.to_owned(),
            request_timeout: REQUEST_TIMEOUT,
            patience: PATIENCE,
            credentials: self.credentials.clone(),
        };
        Client::connect(&self.pool.bootstrap, options).await
    }

    /// A connection, to be given back with [`Lent::give_back`] once its answers are there. One that is dropped before is
    /// closed: what is under way on it belongs to no other request.
    pub(crate) async fn lend(&self) -> Result<Lent<'_>, LinkError> {
        let turn = timeout(TURN_MAX, self.pool.turns.acquire()).await;
        let Ok(Ok(turn)) = turn else { return Err(LinkError::Busy) };
        let idle = self.take_idle();
        let link = match idle {
            Some(link) => link,
            None => Link { client: self.connect().await?, producers: HashMap::new() },
        };
        Ok(Lent { link, brokers: self, _turn: turn })
    }

    fn take_idle(&self) -> Option<Link> {
        let mut idle = self.idle();
        let mine = idle.iter().rposition(|(of, _)| same(of.as_ref(), self.credentials.as_ref()));
        if let Some(mine) = mine {
            return Some(idle.remove(mine).1);
        }
        // Those at work and those idle are no more together than may be open.
        if idle.len() > self.pool.turns.available_permits() {
            idle.remove(0);
        }
        None
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Option<Credentials>, Link)>> {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes as long wherever two passwords differ.
fn same(one: Option<&Credentials>, other: Option<&Credentials>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let (ours, theirs) = (one.password.as_bytes(), other.password.as_bytes());
            let differ = ours.iter().zip(theirs).fold(0, |differ, (ours, theirs)| differ | (ours ^ theirs));
            one.user == other.user && ours.len() == theirs.len() && differ == 0
        }
        _ => false,
    }
}

pub(crate) struct Lent<'a> {
    link: Link,
    brokers: &'a Brokers,
    _turn: SemaphorePermit<'a>,
}

impl Lent<'_> {
    pub(crate) fn give_back(self) {
        self.brokers.idle().push((self.brokers.credentials.clone(), self.link));
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
