//! A connection to one broker: what it can do is asked first, then requests go one at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::check;
use crate::{Credentials, Error, Options, text};

/// A larger answer is taken for garbage.
const RESPONSE_BYTES_MAX: usize = 512 << 20;
const API_VERSIONS: i16 = 0;

#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    stream: TcpStream,
    client_id: String,
    next_id: i32,
    /// What the broker offers, by API key.
    versions: HashMap<i16, (i16, i16)>,
}

/// The versions of an API in which its request means the same.
pub(crate) type Versions = (i16, i16);

impl Connection {
    pub(crate) async fn open(address: &str, options: &Options) -> Result<Connection, Error> {
        let patience = options.request_timeout;
        let stream = timeout(patience, TcpStream::connect(address))
            .await
            .map_err(|_| Error::Timeout { address: address.to_owned(), after: patience })?
            .map_err(|cause| Error::Connect { address: address.to_owned(), cause: Arc::new(cause) })?;
        let _ = stream.set_nodelay(true);
        let mut connection = Connection {
            address: address.to_owned(),
            stream,
            client_id: options.client_id.clone(),
            next_id: 0,
            versions: HashMap::new(),
        };
        let answer = connection.exchange(API_VERSIONS, &ApiVersionsRequest::default(), patience).await?;
        check(answer.error_code, || format!("asking {address} for its versions"), None)?;
        connection.versions = answer.api_keys.iter().map(|it| (it.api_key, (it.min_version, it.max_version))).collect();
        if let Some(credentials) = &options.credentials {
            connection.introduce(credentials, patience).await?;
        }
        Ok(connection)
    }

    async fn introduce(&mut self, credentials: &Credentials, patience: Duration) -> Result<(), Error> {
        let what = || "authentication".to_owned();
        let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        let answer = self.call((1, 1), &request, patience).await?;
        check(answer.error_code, what, None)?;
        let request = SaslAuthenticateRequest::default().with_auth_bytes(credentials.token());
        let answer = self.call((0, 1), &request, patience).await?;
        check(answer.error_code, what, answer.error_message.as_deref())
    }

    /// The highest version that both sides know; `None` where there is none.
    pub(crate) fn version<R: Request>(&self, (lowest, highest): Versions) -> Option<i16> {
        let (offered_lowest, offered_highest) = *self.versions.get(&R::KEY)?;
        let version = highest.min(offered_highest);
        (version >= lowest.max(offered_lowest)).then_some(version)
    }

    pub(crate) async fn call<R: Request>(
        &mut self,
        versions: Versions,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, Error> {
        let version = self.version::<R>(versions).ok_or_else(|| self.unsupported::<R>())?;
        self.exchange(version, request, patience).await
    }

    pub(crate) fn unsupported<R: Request>(&self) -> Error {
        Error::Unsupported { address: self.address.clone(), api: name::<R>() }
    }

    async fn exchange<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, Error> {
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(text(&self.client_id)));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let encoded =
            header.encode(&mut frame, R::header_version(version)).and_then(|()| request.encode(&mut frame, version));
        let cannot = |reason: String| Error::Invalid { what: format!("a {} request", name::<R>()), reason };
        encoded.map_err(|error| cannot(error.to_string()))?;
        let length = i32::try_from(frame.len() - 4).map_err(|_| cannot("it is too large".to_owned()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let answered = timeout(patience, self.send_and_receive(&frame)).await;
        let mut answer = match answered {
            Ok(answer) => answer?,
            Err(_) => return Err(Error::Timeout { address: self.address.clone(), after: patience }),
        };
        let wrong = |reason: String| Error::Protocol { address: self.address.clone(), reason };
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version));
        let header = header.map_err(|error| wrong(error.to_string()))?;
        if header.correlation_id != id {
            return Err(wrong(format!("the answer is to request {}, not {id}", header.correlation_id)));
        }
        R::Response::decode(&mut answer, version).map_err(|error| wrong(error.to_string()))
    }

    async fn send_and_receive(&mut self, frame: &[u8]) -> Result<Bytes, Error> {
        let failed = |cause| Error::Io { address: self.address.clone(), cause: Arc::new(cause) };
        self.stream.write_all(frame).await.map_err(failed)?;
        let length = self.stream.read_i32().await.map_err(failed)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= RESPONSE_BYTES_MAX);
        let length = length.ok_or_else(|| Error::Protocol {
            address: self.address.clone(),
            reason: "its length is none that a broker sends".to_owned(),
        })?;
        let mut answer = BytesMut::with_capacity(length.min(1 << 20));
        while answer.len() < length {
            let rest = (length - answer.len()) as u64;
            let read = (&mut self.stream).take(rest).read_buf(&mut answer).await.map_err(failed)?;
            if read == 0 {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(answer.freeze())
    }
}

fn name<R: Request>() -> &'static str {
    match ApiKey::try_from(R::KEY) {
        Ok(ApiKey::ConsumerGroupDescribe) => "ConsumerGroupDescribe",
        Ok(ApiKey::IncrementalAlterConfigs) => "IncrementalAlterConfigs",
        Ok(ApiKey::InitProducerId) => "InitProducerId",
        Ok(ApiKey::Produce) => "Produce",
        Ok(ApiKey::Fetch) => "Fetch",
        Ok(ApiKey::Metadata) => "Metadata",
        Ok(ApiKey::SaslHandshake) => "SASL",
        _ => "a request",
    }
}
