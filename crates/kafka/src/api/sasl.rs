//! SaslHandshake and SaslAuthenticate (KIP-43, KIP-152): who is on the connection. A caller has one attempt; one that fails
//! is told so, and its connection is closed.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use playhouse_log::Batches;

use super::Request;
use crate::access::{MECHANISM, Unknown};
use crate::connection::Context;
use crate::guard::Malformed;
use crate::metrics;
use crate::wire::{Reply, Response, string};

/// Clients try again at once, and for ever. It holds up none but the one connection.
const FAILURE_DELAY: Duration = Duration::from_millis(200);

pub(super) fn handshake(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: SaslHandshakeRequest = request.decode()?;
    let response = SaslHandshakeResponse::default().with_mechanisms(vec![string(MECHANISM)]);
    let refused = if body.mechanism.as_str() == MECHANISM {
        context.caller.begin(request.call.version == 0).err().map(|_| ResponseError::IllegalSaslState)
    } else {
        Some(ResponseError::UnsupportedSaslMechanism)
    };
    match refused {
        None => request.call.now(&response),
        Some(error) => request.call.encode(&response.with_error_code(error.code())).map(Reply::Last),
    }
}

pub(super) async fn authenticate(context: &Context, mut request: Request) -> Result<Reply, Malformed> {
    let body: SaslAuthenticateRequest = request.decode()?;
    let (error, message) = match context.caller.authenticate(&body.auth_bytes) {
        // Never to be shown again on this connection: a key that is revoked ends it.
        Ok(()) => return request.call.now(&SaslAuthenticateResponse::default()),
        Err(Unknown::Handshake) => (ResponseError::IllegalSaslState, "a handshake comes first, and once"),
        Err(Unknown::Key) => {
            failed(context).await;
            (ResponseError::SaslAuthenticationFailed, "the password is no API key, or one that was revoked")
        }
    };
    let response = SaslAuthenticateResponse::default().with_error_code(error.code());
    request.call.encode(&response.with_error_message(Some(string(message)))).map(Reply::Last)
}

/// A token without a request around it, after a handshake of version 0. The answer is as bare; that it failed is told by
/// closing.
pub(super) async fn token(context: &Context, token: &[u8]) -> Result<Reply, Malformed> {
    if context.caller.authenticate(token).is_err() {
        failed(context).await;
        return Err(Malformed("its API key is not known"));
    }
    let empty = Batches::Bytes(Bytes::from_static(&[0; 4]));
    Ok(Reply::Now(Response { parts: vec![empty], errors: 0, _held: [None, None] }))
}

async fn failed(context: &Context) {
    metrics::add(&context.shared.metrics.authentications_failed, 1);
    tokio::time::sleep(FAILURE_DELAY).await;
    tracing::debug!(peer = %context.peer, "a Kafka client has shown no good API key");
}
