//! The calls of `playhouse.v1.Ingest`.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use playhouse_gate::{Gate, Origin, Outcome, RequestError, Status as EventStatus, is_internal};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::metered::Held;
use crate::v1::event_result::Status as ResultStatus;
use crate::v1::ingest_server::Ingest;
use crate::v1::{EventResult, Place, Reason, Rejection, SendReply, SendRequest};

/// Answers of one stream that wait to be read; with so many, no further batch is taken from it.
const ANSWERS_WAITING_MAX: usize = 4;
/// How long a caller may read no answer before its stream ends.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a stream's batch is tried again while the gate has no room.
const BUSY_TRIES_MAX: usize = 10;

pub(crate) struct IngestService {
    pub(crate) gate: Arc<Gate>,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl Ingest for IngestService {
    async fn send(&self, request: Request<SendRequest>) -> Result<Response<SendReply>, Status> {
        let origin = origin(&request);
        let outcome = ingest(&self.gate, request.get_ref(), &origin).await.map_err(refusal)?;
        Ok(Response::new(reply(&outcome)))
    }

    type SendStreamStream = Pin<Box<dyn Stream<Item = Result<SendReply, Status>> + Send>>;

    async fn send_stream(
        &self,
        request: Request<Streaming<SendRequest>>,
    ) -> Result<Response<Self::SendStreamStream>, Status> {
        let origin = origin(&request);
        let held = request.extensions().get::<Held>().cloned();
        let (answers, waiting) = mpsc::channel(ANSWERS_WAITING_MAX);
        let stream = BatchStream { gate: self.gate.clone(), origin, held, answers };
        let stop = self.stop.clone();
        // Not part of the answer's own future: a batch that is being appended is finished, whoever reads.
        tokio::spawn(stream.run(request.into_inner(), stop));
        Ok(Response::new(Box::pin(ReceiverStream::new(waiting))))
    }
}

struct BatchStream {
    gate: Arc<Gate>,
    origin: Origin,
    held: Option<Held>,
    answers: mpsc::Sender<Result<SendReply, Status>>,
}

impl BatchStream {
    async fn run(self, mut batches: Streaming<SendRequest>, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => Err(Status::unavailable("the server is stopping")),
                () = self.answers.closed() => return,
                next = batches.message() => next,
            };
            let answer = match next {
                Ok(None) => return,
                Ok(Some(batch)) => {
                    let answer = self.batch(&batch).await;
                    if let Some(held) = &self.held {
                        // Five bytes before each message say its length (gRPC over HTTP/2, "Length-Prefixed-Message").
                        held.release(batch.encoded_len() + 5);
                    }
                    answer
                }
                Err(status) => Err(status),
            };
            let last = answer.is_err();
            match self.answers.send_timeout(answer, READ_TIMEOUT).await {
                Ok(()) if !last => {}
                _ => return,
            }
        }
    }

    /// Waits while the gate has no room, so that a busy server slows a stream down instead of ending it.
    async fn batch(&self, batch: &SendRequest) -> Result<SendReply, Status> {
        let mut tries = 0;
        loop {
            match ingest(&self.gate, batch, &self.origin).await {
                Ok(outcome) => return Ok(reply(&outcome)),
                Err(RequestError::Busy { retry_after, .. }) if tries < BUSY_TRIES_MAX => {
                    tries += 1;
                    tokio::select! {
                        () = tokio::time::sleep(retry_after) => {}
                        () = self.answers.closed() => return Err(Status::cancelled("the caller is gone")),
                    }
                }
                Err(error) => return Err(refusal(error)),
            }
        }
    }
}

async fn ingest(gate: &Gate, batch: &SendRequest, origin: &Origin) -> Result<Outcome, RequestError> {
    let topic = if batch.topic.is_empty() { gate.default_topic() } else { &batch.topic };
    gate.ingest_events(topic, &batch.events, origin).await
}

fn origin<T>(request: &Request<T>) -> Origin {
    let agent = request.metadata().get("user-agent");
    Origin {
        protocol: "grpc",
        address: request.extensions().get::<SocketAddr>().map(|peer| peer.ip().to_canonical()),
        user_agent: agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
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

fn refusal(error: RequestError) -> Status {
    let message = error.to_string();
    match error {
        RequestError::UnknownTopic(topic) if is_internal(&topic) => {
            Status::not_found(format!("topic {topic:?} is written by Playhouse itself"))
        }
        RequestError::UnknownTopic(topic) => Status::not_found(format!("there is no topic {topic:?}")),
        RequestError::Empty | RequestError::TooManyEvents(_) | RequestError::TooLarge { .. } => {
            Status::invalid_argument(message)
        }
        RequestError::Busy { retry_after, .. } => {
            let mut metadata = tonic::metadata::MetadataMap::new();
            let wait = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            metadata.insert("grpc-retry-pushback-ms", wait.into());
            Status::with_metadata(Code::ResourceExhausted, message, metadata)
        }
        RequestError::Log(_) => Status::unavailable(message),
    }
}
