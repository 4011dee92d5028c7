//! One request: sent until it is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::Instant;

/// Where events go: the ingest door's address and a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Uri);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    #[error("`{0}` is not the address of an ingest door: write it like http://127.0.0.1:60000")]
    Url(String),
    #[error("`{0}`: only http:// is spoken here; put a TLS proxy in front")]
    Scheme(String),
    #[error("`{0}` is not a topic name: letters, digits, `.`, `_` and `-`, at most 249")]
    Topic(String),
    #[error("the topic is named twice: in the address `{0}` and beside it")]
    TopicTwice(String),
}

impl Target {
    /// `url` is the door's root or already ends in `/events` or `/events/{topic}`; no topic means the default one.
    pub fn new(url: &str, topic: Option<&str>) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url(url.to_owned());
        let parsed: Uri = url.parse().map_err(|_| wrong())?;
        match parsed.scheme_str() {
            Some("http") => {}
            Some(_) => return Err(TargetError::Scheme(url.to_owned())),
            None => return Err(wrong()),
        }
        let authority = parsed.authority().ok_or_else(wrong)?.as_str();
        let path = parsed.path().trim_end_matches('/');
        let path = match path {
            "" => "/events",
            path if path == "/events" || path.starts_with("/events/") => path,
            _ => return Err(wrong()),
        };
        let place = match topic {
            None => path.to_owned(),
            Some(_) if path != "/events" => return Err(TargetError::TopicTwice(url.to_owned())),
            Some(topic) => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                if topic.is_empty() || topic.len() > 249 || !topic.bytes().all(allowed) {
                    return Err(TargetError::Topic(topic.to_owned()));
                }
                format!("/events/{topic}")
            }
        };
        format!("http://{authority}{place}").parse().map(Self).map_err(|_| wrong())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone)]
pub struct ClientConfig {
    pub target: Target,
    pub api_key: Option<String>,
    /// How long one request may go unanswered, or be turned away, before the delivery is given up.
    pub patience: Duration,
    /// Called once when a request has to be repeated, with the cause.
    pub on_trouble: Arc<dyn Fn(&str) + Send + Sync>,
}

impl ClientConfig {
    pub fn new(target: Target) -> Self {
        Self { target, api_key: None, patience: Duration::from_secs(60), on_trouble: Arc::new(|_| {}) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("{target} did not take the events within {seconds} s: {cause}")]
    GivenUp { target: String, seconds: u64, cause: String },
    #[error("{target} refuses the request: {status}{detail}")]
    Refused { target: String, status: StatusCode, detail: String },
    #[error("{target} gave an answer that is not understood ({cause}): is it an ingest door?")]
    Answer { target: String, cause: String },
    #[error("a delivery ended unexpectedly: {0}")]
    Task(String),
}

/// What the door said about one batch. Indexes count the batch's events from 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    pub accepted: u64,
    pub rejected: Vec<(usize, Vec<String>)>,
    /// Events larger than the door takes.
    pub too_large: Vec<usize>,
}

#[derive(Deserialize)]
struct Counts {
    accepted: u64,
    rejected: u64,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<ResultLine>,
}

#[derive(Deserialize)]
struct ResultLine {
    index: usize,
    #[serde(default)]
    reasons: Vec<ReasonLine>,
    status: String,
}

#[derive(Deserialize)]
struct ReasonLine {
    #[serde(default)]
    path: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

enum Attempt {
    Done(Delivery),
    TooLarge(String),
    Again { cause: String, after: Option<Duration> },
}

pub struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    config: ClientConfig,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 20;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

impl Client {
    pub fn new(config: ClientConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        Self { http: HttpClient::builder(TokioExecutor::new()).build(connector), config }
    }

    /// Sends `events` lines of NDJSON until they are answered. A batch that the door finds too large goes in halves.
    pub async fn deliver(&self, body: Bytes, events: usize) -> Result<Delivery, SendError> {
        let mut whole = Delivery::default();
        let mut parts = vec![(0, body, events)];
        while let Some((first, body, events)) = parts.pop() {
            match self.deliver_part(body.clone(), events).await? {
                Ok(part) => {
                    whole.accepted += part.accepted;
                    whole.rejected.extend(part.rejected.into_iter().map(|(index, reasons)| (first + index, reasons)));
                }
                Err(_) if events == 1 => whole.too_large.push(first),
                Err(_) => {
                    let half = events / 2;
                    let cut = body.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(half - 1);
                    let cut = cut.map_or(body.len(), |(place, _)| place + 1);
                    parts.push((first + half, body.slice(cut..), events - half));
                    parts.push((first, body.slice(..cut), half));
                }
            }
        }
        Ok(whole)
    }

    /// The inner error: too large.
    async fn deliver_part(&self, body: Bytes, events: usize) -> Result<Result<Delivery, String>, SendError> {
        let begin = Instant::now();
        let mut pause = PAUSE_FIRST;
        let mut troubled = false;
        loop {
            let (cause, after) = match self.attempt(body.clone(), events).await? {
                Attempt::Done(delivery) => return Ok(Ok(delivery)),
                Attempt::TooLarge(detail) => return Ok(Err(detail)),
                Attempt::Again { cause, after } => (cause, after),
            };
            let wait = after.unwrap_or(pause).min(RETRY_AFTER_MAX);
            if begin.elapsed() + wait > self.config.patience {
                return Err(SendError::GivenUp {
                    target: self.config.target.to_string(),
                    seconds: self.config.patience.as_secs(),
                    cause,
                });
            }
            if !troubled {
                (self.config.on_trouble)(&cause);
                troubled = true;
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&self, body: Bytes, events: usize) -> Result<Attempt, SendError> {
        let mut request = Request::post(self.config.target.0.clone())
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header(USER_AGENT, concat!("playhouse/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = &self.config.api_key {
            request = request.header("x-api-key", key);
        }
        let request = request.body(Full::new(body)).map_err(|error| self.answer_error(error.to_string()))?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| root_cause(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| root_cause(&*error))?;
            Ok::<_, String>((parts.status, parts.headers, body.to_bytes()))
        };
        let (status, headers, answer) = match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(Ok(exchanged)) => exchanged,
            Ok(Err(cause)) => return Ok(Attempt::Again { cause, after: None }),
            Err(_) => {
                let cause = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
                return Ok(Attempt::Again { cause, after: None });
            }
        };
        match status {
            StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => self.understand(&answer, events).map(Attempt::Done),
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Attempt::TooLarge(detail(&answer))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Ok(again(status, &headers, &answer)),
            status if status.is_server_error() => Ok(again(status, &headers, &answer)),
            status => {
                Err(SendError::Refused { target: self.config.target.to_string(), status, detail: detail(&answer) })
            }
        }
    }

    fn understand(&self, answer: &[u8], events: usize) -> Result<Delivery, SendError> {
        let counts: Counts = serde_json::from_slice(answer).map_err(|error| self.answer_error(error.to_string()))?;
        if counts.accepted.checked_add(counts.rejected) != Some(events as u64) {
            let cause = format!("{} accepted and {} rejected of {events} events", counts.accepted, counts.rejected);
            return Err(self.answer_error(cause));
        }
        let mut delivery = Delivery { accepted: counts.accepted, ..Delivery::default() };
        if counts.rejected > 0 {
            let results: Results =
                serde_json::from_slice(answer).map_err(|error| self.answer_error(error.to_string()))?;
            delivery.rejected = results
                .results
                .into_iter()
                .filter(|result| result.status == "rejected")
                .map(|result| (result.index, result.reasons.into_iter().map(ReasonLine::text).collect()))
                .collect();
            let told = delivery.rejected.len() as u64;
            if told != counts.rejected || delivery.rejected.iter().any(|(index, _)| *index >= events) {
                return Err(self.answer_error(format!("{told} results for {} rejected events", counts.rejected)));
            }
        }
        Ok(delivery)
    }

    fn answer_error(&self, cause: String) -> SendError {
        SendError::Answer { target: self.config.target.to_string(), cause }
    }
}

impl ReasonLine {
    fn text(self) -> String {
        if self.path.is_empty() { self.message } else { format!("{}: {}", self.path, self.message) }
    }
}

fn again(status: StatusCode, headers: &HeaderMap, answer: &[u8]) -> Attempt {
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Attempt::Again { cause: format!("{status}{}", detail(answer)), after: after.map(Duration::from_secs) }
}

/// What a problem document says, as the end of a sentence.
fn detail(answer: &[u8]) -> String {
    let problem: Problem = serde_json::from_slice(answer).unwrap_or_default();
    let text = if problem.detail.is_empty() { problem.title } else { problem.detail };
    if text.is_empty() { text } else { format!(": {text}") }
}

/// The last cause says what happened; those around it only where.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target = |url: &str, topic: Option<&str>| Target::new(url, topic).map(|target| target.to_string());
        assert_eq!(target("http://127.0.0.1:60000", None).unwrap(), "http://127.0.0.1:60000/events");
        assert_eq!(target("http://h:1/", Some("a.b")).unwrap(), "http://h:1/events/a.b");
        assert_eq!(target("http://h:1/events", Some("a")).unwrap(), "http://h:1/events/a");
        assert_eq!(target("http://h:1/events/a", None).unwrap(), "http://h:1/events/a");
        assert_eq!(
            target("http://h:1/events/a", Some("b")),
            Err(TargetError::TopicTwice("http://h:1/events/a".into()))
        );
        assert_eq!(target("https://h", None), Err(TargetError::Scheme("https://h".into())));
        assert_eq!(target("http://h/else", None), Err(TargetError::Url("http://h/else".into())));
        assert_eq!(target("http://h", Some("a/b")), Err(TargetError::Topic("a/b".into())));
        assert!(target("localhost:60000", None).is_err());
        assert!(target("", None).is_err());
    }
}
