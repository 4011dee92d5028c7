//! A request being answered, and its encoded answer.

use bytes::{BufMut, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};
use playhouse_log::Batches;
use tokio::sync::OwnedSemaphorePermit;

use crate::answers::Answer;
use crate::guard::Malformed;

/// An encoded response with its length prefix, and what it holds until it is written.
#[derive(Debug)]
pub(crate) struct Response {
    /// What is written one after the other.
    pub(crate) parts: Vec<Batches>,
    /// What it tells of errors.
    pub(crate) errors: usize,
    /// Shares of what all connections have together, given back when the response is dropped.
    pub(crate) _held: [Option<OwnedSemaphorePermit>; 2],
}

impl Response {
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(Batches::len).sum()
    }
}

/// What a request leads to.
pub(crate) enum Reply {
    Now(Response),
    /// Answered once something happened: the disk, new records, the other members of a group.
    Later(futures::future::BoxFuture<'static, Result<Response, Malformed>>),
    /// Nothing is read after it.
    Last(Response),
    /// `acks=0`.
    Silent,
}

/// Which request a response belongs to, and how to encode it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

impl Call {
    pub(crate) fn encode<T: Answer>(&self, body: &T) -> Result<Response, Malformed> {
        self.encode_as(body, self.version)
    }

    pub(crate) fn encode_as<T: Answer>(&self, body: &T, version: i16) -> Result<Response, Malformed> {
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        let header_version = self.api.response_header_version(version);
        let encode = || -> Result<BytesMut, Box<dyn std::error::Error + Send + Sync>> {
            let length = header.compute_size(header_version)? + body.compute_size(version)?;
            let mut bytes = BytesMut::with_capacity(4 + length);
            bytes.put_i32(i32::try_from(length)?);
            header.encode(&mut bytes, header_version)?;
            body.encode(&mut bytes, version)?;
            Ok(bytes)
        };
        match encode() {
            Ok(bytes) => {
                let parts = vec![Batches::Bytes(bytes.freeze())];
                Ok(Response { parts, errors: body.errors(), _held: [None, None] })
            }
            Err(error) => {
                tracing::error!(api = ?self.api, version, %error, "cannot encode a response");
                Err(Malformed("its response cannot be encoded"))
            }
        }
    }

    pub(crate) fn now<T: Answer>(&self, body: &T) -> Result<Reply, Malformed> {
        self.encode(body).map(Reply::Now)
    }
}

pub(crate) fn string(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The wire code: 0 for `None`.
pub(crate) fn code(error: Option<ResponseError>) -> i16 {
    error.map_or(0, |error| error.code())
}
