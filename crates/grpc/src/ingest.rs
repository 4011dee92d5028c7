//! The calls of `playhouse.v1.Ingest`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use playhouse_gate::{Access, Denied, Gate, Origin, Outcome, RequestError, Share, Status as EventStatus, Visitor};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::incoming::Peer;
use crate::metered::Held;
use crate::refusal;
use crate::v1::event_result::Status as ResultStatus;
use crate::v1::ingest_server::Ingest;
use crate::v1::{EventResult, Place, Reason, Rejection, SendReply, SendRequest};

/// Answers of one stream that wait to be read; with so many, no further batch is taken from it.
const ANSWERS_WAITING_MAX: usize = 4;
/// How often a stream's batch is tried again while the gate has no room, or its caller sends more than it may.
const BUSY_TRIES_MAX: usize = 10;

pub(crate) struct IngestService {
    pub(crate) gate: Arc<Gate>,
    pub(crate) access: Arc<Access>,
    pub(crate) stop: CancellationToken,
}

/// A reply, and what it holds of the in-flight budget until it is sent.
type Answered = (SendReply, Share);

#[tonic::async_trait]
impl Ingest for IngestService {
    async fn send(&self, request: Request<SendRequest>) -> Result<Response<SendReply>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let sender = Sender::of(self, &request)?;
        let (reply, share) = sender.batch(request.get_ref()).await.map_err(Refused::status)?;
        if let Some(held) = held {
            held.keep(share);
        }
        Ok(Response::new(reply))
    }

    type SendStreamStream = Answers;

    async fn send_stream(&self, request: Request<Streaming<SendRequest>>) -> Result<Response<Answers>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let sender = Sender::of(self, &request)?;
        let (answers, waiting) = mpsc::channel(ANSWERS_WAITING_MAX);
        let stream = BatchStream { sender, held, answers, stop: self.stop.clone() };
        // Not part of the answer's own future: a batch that is being appended is finished, whoever reads.
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(Answers { waiting, taken: None }))
    }
}

/// The replies of a stream. Each holds its share until the next one is asked for: by then it has been sent.
pub(crate) struct Answers {
    waiting: mpsc::Receiver<Result<Answered, Status>>,
    taken: Option<Share>,
}

impl Stream for Answers {
    type Item = Result<SendReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.taken = None;
        Poll::Ready(match ready!(self.waiting.poll_recv(context)) {
            None => None,
            Some(Err(status)) => Some(Err(status)),
            Some(Ok((reply, share))) => {
                self.taken = Some(share);
                Some(Ok(reply))
            }
        })
    }
}

struct BatchStream {
    sender: Sender,
    held: Option<Held>,
    answers: mpsc::Sender<Result<Answered, Status>>,
    stop: CancellationToken,
}

impl BatchStream {
    async fn run(self, mut batches: Streaming<SendRequest>) {
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(Status::unavailable("the server is stopping")),
                () = self.answers.closed() => return,
                next = batches.message() => next,
            };
            let answer = match next {
                Ok(None) => return,
                Ok(Some(batch)) => {
                    let answer = self.batch(&batch).await;
                    if let Some(held) = &self.held {
                        held.release();
                    }
                    answer
                }
                Err(status) => Err(status),
            };
            let last = answer.is_err();
            // A caller that takes no answer loses its connection, and this channel with it.
            let sent = tokio::select! {
                biased;
                sent = self.answers.send(answer) => sent.is_ok(),
                () = self.stop.cancelled() => false,
            };
            if last || !sent {
                return;
            }
        }
    }

    /// Waits while the gate has no room or the caller sends too much, so that a stream is slowed down and not ended.
    async fn batch(&self, batch: &SendRequest) -> Result<Answered, Status> {
        let mut tries = 0;
        loop {
            let refused = match self.sender.batch(batch).await {
                Ok(answered) => return Ok(answered),
                Err(refused) => refused,
            };
            let Some(wait) = refused.wait().filter(|_| tries < BUSY_TRIES_MAX) else { return Err(refused.status()) };
            tries += 1;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.answers.closed() => return Err(Status::cancelled("the caller is gone")),
                () = self.stop.cancelled() => return Err(Status::unavailable("the server is stopping")),
            }
        }
    }
}

enum Refused {
    Denied(Denied),
    Request(RequestError),
}

impl Refused {
    /// After which time it may work.
    fn wait(&self) -> Option<Duration> {
        match self {
            Refused::Denied(Denied::TooMuch(wait)) => Some(*wait),
            Refused::Request(RequestError::Busy { retry_after, .. }) => Some(*retry_after),
            _ => None,
        }
    }

    fn status(self) -> Status {
        match self {
            Refused::Denied(denied) => refusal::of_denied(&denied),
            Refused::Request(error) => refusal::of_request(error),
        }
    }
}

/// Whose events they are, and where they go.
struct Sender {
    gate: Arc<Gate>,
    access: Arc<Access>,
    visitor: Visitor,
    origin: Origin,
}

impl Sender {
    fn of<T>(service: &IngestService, request: &Request<T>) -> Result<Sender, Status> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        // The doorway has let nobody else in.
        let visitor = visitor.ok_or_else(|| refusal::of_denied(&Denied::NoKey))?;
        let agent = request.metadata().get("user-agent");
        let origin = Origin {
            protocol: "grpc",
            address: request.extensions().get::<Peer>().map(|peer| peer.address.ip().to_canonical()),
            user_agent: agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
        };
        Ok(Sender { gate: service.gate.clone(), access: service.access.clone(), visitor, origin })
    }

    async fn batch(&self, batch: &SendRequest) -> Result<Answered, Refused> {
        let topic = if batch.topic.is_empty() { self.gate.default_topic() } else { &batch.topic };
        self.access.admit(&self.visitor, topic).map_err(Refused::Denied)?;
        self.access.charge(&self.visitor.caller, batch.events.iter().map(|event| event.len()).sum());
        let outcome = self.gate.ingest_events(topic, &batch.events, &self.origin).await.map_err(Refused::Request)?;
        Ok((reply(&outcome), outcome.into_share()))
    }
}

fn reply(outcome: &Outcome) -> SendReply {
    let results = outcome.results.iter().enumerate().map(|(index, result)| EventResult {
        id: outcome.id(index).map(id).unwrap_or_default(),
        status: Some(match &result.status {
            EventStatus::Accepted { partition, offset } => {
                ResultStatus::Accepted(Place { partition: *partition, offset: *offset })
            }
            EventStatus::Rejected { reasons } => {
                let reasons = reasons.iter().cloned();
                let reasons = reasons.map(|it| Reason { path: it.path, message: it.message, keyword: it.keyword });
                ResultStatus::Rejected(Rejection { reasons: reasons.collect() })
            }
        }),
    });
    SendReply {
        topic: outcome.topic.to_string(),
        accepted: outcome.accepted as u32,
        rejected: outcome.rejected as u32,
        results: results.collect(),
    }
}

fn id(sent: &[u8]) -> String {
    serde_json::from_slice(sent).unwrap_or_else(|_| String::from_utf8_lossy(sent).into_owned())
}
