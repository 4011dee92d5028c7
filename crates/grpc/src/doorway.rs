//! What every call passes on its way in and out: it is counted, its bytes are metered, and whoever wants to send shows a key
//! before any of it is read, where the door asks for one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use playhouse_gate::{Access, Denied, Shown, Visitor};
use playhouse_http::Traffic;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use crate::answers::{Answer, Call, Untaken};
use crate::incoming::Peer;
use crate::metered::{Arrival, Held, Metered};
use crate::refusal;

#[derive(Clone)]
pub(crate) struct Doorway(pub(crate) Arc<Rules>);

pub(crate) struct Rules {
    pub(crate) access: Arc<Access>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) budget: Arc<Semaphore>,
    pub(crate) untaken: Arc<Untaken>,
    pub(crate) arrival: Arrival,
    pub(crate) answer_patience: Duration,
}

impl Rules {
    fn identify(&self, request: &Request<Body>, peer: &Peer) -> Result<Visitor, Denied> {
        let shown = request.headers().get(AUTHORIZATION).and_then(|value| Shown::parse(value.to_str().ok()?));
        self.access.identify(shown.as_ref().map(|shown| shown.key.as_str()), Some(peer.address.ip()))
    }
}

/// The calls there are, as they are counted. Only the first two need a key: health and the descriptions are anybody's.
fn name(path: &str) -> &'static str {
    match path {
        "/playhouse.v1.Ingest/Send" => "Send",
        "/playhouse.v1.Ingest/SendStream" => "SendStream",
        "/grpc.health.v1.Health/Check" => "Check",
        "/grpc.health.v1.Health/Watch" => "Watch",
        _ if path.starts_with("/grpc.reflection.") => "ServerReflectionInfo",
        _ => "other",
    }
}

impl<S> Layer<S> for Doorway {
    type Service = Passing<S>;

    fn layer(&self, inner: S) -> Passing<S> {
        Passing { inner, rules: self.0.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Passing<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S> Service<Request<Body>> for Passing<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let rules = &self.rules;
        let name = name(request.uri().path());
        let held = Held::new(rules.budget.clone());
        let begun = rules.traffic.begin(name);
        // The transport always says.
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Box::pin(async { Ok(Status::internal("a call of nobody").into_http()) });
        };
        let mut call = Call {
            begun,
            _held: held.clone(),
            untaken: rules.untaken.clone(),
            patience: rules.answer_patience,
            cut: peer.cut.clone(),
        };
        if name.starts_with("Send") {
            match rules.identify(&request, &peer) {
                Ok(visitor) => {
                    request.extensions_mut().insert(visitor);
                }
                Err(denied) => {
                    let status = refusal::of_denied(&denied);
                    call.begun.ended(status.code() as u16);
                    return Box::pin(async move { Ok(status.into_http()) });
                }
            }
        }
        request.extensions_mut().insert(held.clone());
        let arrival = rules.arrival;
        let request = request.map(|body| Body::new(Metered::new(body, held, arrival)));
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = answered.await?;
            // An answer that is an error and nothing else has its status in front.
            if let Some(status) = Status::from_header_map(response.headers()) {
                call.begun.ended(status.code() as u16);
            }
            Ok(response.map(|body| Body::new(Answer::new(body, call))))
        })
    }
}
