//! What calls are refused with. Who is to come again later is told when, in the two ways that clients look for: the trailer
//! `grpc-retry-pushback-ms` (gRPC's retry design, A6) and `google.rpc.RetryInfo` among the details of the status.

use std::time::Duration;

use playhouse_gate::{Denied, RequestError, is_internal};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

pub(crate) fn of_request(error: RequestError) -> Status {
    let message = error.to_string();
    match error {
        RequestError::UnknownTopic(topic) if is_internal(&topic) => {
            Status::not_found(format!("topic {topic:?} is written by Playhouse itself"))
        }
        RequestError::UnknownTopic(topic) => Status::not_found(format!("there is no topic {topic:?}")),
        RequestError::Empty | RequestError::TooManyEvents(_) | RequestError::TooLarge { .. } => {
            Status::invalid_argument(message)
        }
        RequestError::Busy { retry_after, .. } => later(message, retry_after),
        RequestError::Log(_) => Status::unavailable(message),
    }
}

pub(crate) fn of_denied(denied: &Denied) -> Status {
    let message = denied.to_string();
    match denied {
        Denied::NoKey => Status::unauthenticated(format!("{message}: send it as authorization: Bearer KEY")),
        Denied::UnknownKey => Status::unauthenticated(message),
        Denied::TooMuch(wait) => later(message, *wait),
        Denied::Topic(_) => Status::permission_denied(message),
    }
}

/// Nothing of it was kept: the same again, after that time.
pub(crate) fn later(message: String, wait: Duration) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-retry-pushback-ms", u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into());
    let delay = RetryDelay {
        seconds: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(wait.subsec_nanos()).unwrap_or(0),
    };
    let info = RetryInfo { retry_delay: Some(delay) };
    let detail = Detail { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() };
    let details = Details { code: Code::ResourceExhausted as i32, message: message.clone(), details: vec![detail] };
    Status::with_details_and_metadata(Code::ResourceExhausted, message, details.encode_to_vec().into(), metadata)
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`, as it stands in `grpc-status-details-bin`.
#[derive(Clone, PartialEq, prost::Message)]
struct Details {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, prost::Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_again_is_told_twice() {
        let status = later("full".into(), Duration::from_millis(1_250));
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1250");
        let details = Details::decode(status.details()).unwrap();
        assert_eq!((details.code, details.message.as_str()), (8, "full"));
        let info = RetryInfo::decode(&*details.details[0].value).unwrap();
        assert_eq!(info.retry_delay, Some(RetryDelay { seconds: 1, nanos: 250_000_000 }));
    }
}
