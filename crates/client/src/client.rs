//! Which broker to ask, and when to ask again.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest};
use kafka_protocol::protocol::Request;
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, Versions};
use crate::error::check;
use crate::{Credentials, Error, text};

const PORT: u16 = 9092;
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(2);
const FIND_COORDINATOR: Versions = (0, 3);
pub(crate) const METADATA: Versions = (1, 9);

#[derive(Debug, Clone)]
pub struct Options {
    pub client_id: String,
    /// For one answer.
    pub request_timeout: Duration,
    /// How long to keep trying where that may help.
    pub patience: Duration,
    /// For brokers that ask who comes.
    pub credentials: Option<Credentials>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            client_id: "playhouse-cli".to_owned(),
            request_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(30),
            credentials: None,
        }
    }
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To<'a> {
    Any,
    Controller,
    Broker(i32),
    CoordinatorOf(&'a str),
}

#[derive(Debug)]
pub struct Client {
    bootstrap: Vec<String>,
    pub(crate) options: Options,
    /// By address.
    connections: HashMap<String, Connection>,
    brokers: HashMap<i32, String>,
    controller: i32,
    cluster: Option<String>,
}

/// Again and again, with pauses, until it works, cannot work, or patience is over.
///
/// A macro, because a function that takes an async closure is no future that may be sent between threads.
macro_rules! retry {
    ($this:expr, $client:ident => $act:expr) => {{
        let mut attempts = $crate::client::Attempts::new(&$this.options);
        loop {
            let done: Result<_, $crate::Error> = {
                let $client = &mut *$this;
                async { $act }.await
            };
            match done {
                Err(error) if attempts.another(&mut *$this, &error).await => {}
                done => break done,
            }
        }
    }};
}
pub(crate) use retry;

pub(crate) struct Attempts {
    deadline: Instant,
    pause: Duration,
}

impl Attempts {
    pub(crate) fn new(options: &Options) -> Attempts {
        Attempts { deadline: Instant::now() + options.patience, pause: PAUSE }
    }

    /// Pauses and answers yes, if another attempt may help and there is time for it.
    pub(crate) async fn another(&mut self, client: &mut Client, error: &Error) -> bool {
        if !error.may_pass() || Instant::now() + self.pause >= self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        // Leaders and coordinators may have moved.
        let _ = client.look_around().await;
        true
    }
}

impl Client {
    /// Brokers to begin with: `host:port`, several with commas; 9092 where no port is given. Fails if none of them answers.
    pub async fn connect(bootstrap: &str, options: Options) -> Result<Client, Error> {
        let addresses = bootstrap.split(',').map(str::trim).filter(|it| !it.is_empty()).map(address);
        let bootstrap = addresses.collect::<Result<Vec<_>, _>>()?;
        if bootstrap.is_empty() {
            return Err(Error::Address(String::new()));
        }
        let (connections, brokers) = (HashMap::new(), HashMap::new());
        let mut client = Client { bootstrap, options, connections, brokers, controller: -1, cluster: None };
        client.look_around().await?;
        Ok(client)
    }

    /// The brokers of the cluster: number and address.
    pub fn brokers(&self) -> impl Iterator<Item = (i32, &str)> {
        self.brokers.iter().map(|(id, address)| (*id, address.as_str()))
    }

    /// -1 where the cluster has none for the moment.
    pub fn controller(&self) -> i32 {
        self.controller
    }

    /// `None` where the brokers are too old to tell.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    pub(crate) async fn call<R: Request>(
        &mut self,
        to: To<'_>,
        versions: Versions,
        request: &R,
    ) -> Result<R::Response, Error> {
        self.call_within(self.options.request_timeout, to, versions, request).await
    }

    /// For requests that a broker may take its time to answer.
    pub(crate) async fn call_within<R: Request>(
        &mut self,
        timeout: Duration,
        to: To<'_>,
        versions: Versions,
        request: &R,
    ) -> Result<R::Response, Error> {
        let address = self.address_of(to).await?;
        self.connection(&address).await?;
        // Out of the map while it waits: if nobody waits for the answer any more, it goes with the connection, and is
        // not taken for the answer to the next request.
        let mut connection = self.connections.remove(&address).expect("it was just opened");
        let answer = connection.call(versions, request, timeout).await;
        let broken = matches!(&answer, Err(Error::Io { .. } | Error::Timeout { .. } | Error::Protocol { .. }));
        if !broken {
            self.connections.insert(address, connection);
        }
        answer
    }

    /// Whether the broker asked knows the request in one of these versions.
    pub(crate) async fn knows<R: Request>(&mut self, to: To<'_>, versions: Versions) -> Result<bool, Error> {
        let address = self.address_of(to).await?;
        Ok(self.connection(&address).await?.version::<R>(versions).is_some())
    }

    async fn address_of(&mut self, to: To<'_>) -> Result<String, Error> {
        let id = match to {
            To::Any => None,
            To::Controller => Some(self.controller),
            To::Broker(id) => Some(id),
            To::CoordinatorOf(group) => {
                // Without caching: a group's coordinator is asked a few questions at most.
                let request = FindCoordinatorRequest::default().with_key(text(group));
                let answer = Box::pin(self.call(To::Any, FIND_COORDINATOR, &request)).await?;
                check(
                    answer.error_code,
                    || format!("the coordinator of group {group:?}"),
                    answer.error_message.as_deref(),
                )?;
                let address = format!("{}:{}", &*answer.host, answer.port);
                self.brokers.insert(answer.node_id.0, address);
                Some(answer.node_id.0)
            }
        };
        let known = id.and_then(|id| self.brokers.get(&id)).or_else(|| self.brokers.values().min());
        match (known, id) {
            (Some(address), _) => Ok(address.clone()),
            (None, None) => Ok(self.bootstrap[0].clone()),
            (None, Some(_)) => {
                Err(Error::refused("the cluster", ResponseError::LeaderNotAvailable.code(), Some("no broker is known")))
            }
        }
    }

    async fn connection(&mut self, address: &str) -> Result<&mut Connection, Error> {
        if !self.connections.contains_key(address) {
            let opened = Connection::open(address, &self.options).await?;
            self.connections.insert(address.to_owned(), opened);
        }
        Ok(self.connections.get_mut(address).expect("it was just inserted"))
    }

    /// Learns the brokers from the first that answers.
    pub async fn look_around(&mut self) -> Result<(), Error> {
        let addresses: Vec<String> = self.brokers.values().chain(&self.bootstrap).cloned().collect();
        // No topics.
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let timeout = self.options.request_timeout;
        let mut failure = None;
        for address in addresses {
            let asked = match self.connection(&address).await {
                Ok(_) => {
                    let mut connection = self.connections.remove(&address).expect("it was just opened");
                    let answer = connection.call(METADATA, &request, timeout).await;
                    answer.map(|answer| (answer, connection))
                }
                Err(error) => Err(error),
            };
            match asked {
                Ok((answer, connection)) => {
                    self.connections.insert(address, connection);
                    let brokers = answer.brokers.iter().map(|it| (it.node_id.0, format!("{}:{}", &*it.host, it.port)));
                    self.brokers = brokers.collect();
                    self.controller = answer.controller_id.0;
                    self.cluster = answer.cluster_id.map(|id| id.to_string());
                    return Ok(());
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or(Error::Address(String::new())))
    }
}

fn address(text: &str) -> Result<String, Error> {
    let wrong = || Error::Address(text.to_owned());
    let (host, port) = match text.rsplit_once(':') {
        // [::1] and [::1]:9092, but not ::1, whose port would be anybody's guess.
        _ if text.ends_with(']') => (text, PORT),
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        Some(_) => return Err(wrong()),
        None => (text, PORT),
    };
    if host.is_empty() { Err(wrong()) } else { Ok(format!("{host}:{port}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port() {
        for (given, meant) in
            [("localhost", "localhost:9092"), ("a:1", "a:1"), ("[::1]", "[::1]:9092"), ("[::1]:7", "[::1]:7")]
        {
            assert_eq!(address(given).unwrap(), meant);
        }
        for wrong in ["a:b", "::1", ":9092", "a:99999"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
