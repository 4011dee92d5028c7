//! What a request is refused with: `{"error_code": 40401, "message": "Topic not found."}`, the HTTP status being the
//! code's first three digits.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use playhouse_client::ResponseError;
use playhouse_http::Problem;
use serde_json::json;

use crate::media;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub status: StatusCode,
    pub code: u32,
    pub message: String,
    /// The body was not read to its end, so the connection cannot carry another request.
    closes: bool,
}

/// The two versions of the API tell the same failure by different codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    V2,
    V3,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: u32, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), closes: false }
    }

    /// With the HTTP status as its code, and the words that say no more than that.
    pub(crate) fn plain(status: StatusCode) -> ApiError {
        let reason = status.canonical_reason().unwrap_or("");
        ApiError::new(status, status.as_u16().into(), format!("HTTP {} {reason}", status.as_u16()))
    }

    pub(crate) fn malformed(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, 400, reason)
    }

    pub(crate) fn unprocessable(code: u32, reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, reason)
    }

    pub(crate) fn topic_not_found() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, 40401, "Topic not found.")
    }

    pub(crate) fn partition_not_found() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, 40402, "Partition not found.")
    }

    pub(crate) fn too_busy(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, 429, reason)
    }

    pub(crate) fn unauthenticated() -> ApiError {
        ApiError::new(
            StatusCode::UNAUTHORIZED,
            40101,
            "An API key is required: as Authorization: Basic, with any user, or Bearer.",
        )
    }

    pub(crate) fn closing(self) -> ApiError {
        ApiError { closes: true, ..self }
    }

    /// What a broker said, or could not say.
    pub(crate) fn of(error: &playhouse_client::Error, api: Api) -> ApiError {
        use ResponseError::*;
        let (bad_request, not_found) = (StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND);
        match (error.code(), api) {
            (Some(SaslAuthenticationFailed), _) => {
                ApiError::new(StatusCode::UNAUTHORIZED, 40101, format!("Kafka Authentication Error: {error}"))
            }
            _ if error.is_denied() => {
                ApiError::new(StatusCode::FORBIDDEN, 40301, format!("Kafka Authorization Error: {error}"))
            }
            (Some(UnknownTopicOrPartition | UnknownTopicId), Api::V2) => ApiError::topic_not_found(),
            // A name that no topic can have.
            (Some(InvalidTopicException), Api::V2) => ApiError::topic_not_found(),
            (Some(UnknownTopicOrPartition | UnknownTopicId), Api::V3) => {
                ApiError::new(not_found, 40403, "This server does not host this topic-partition.")
            }
            (
                Some(
                    TopicAlreadyExists
                    | InvalidTopicException
                    | InvalidPartitions
                    | InvalidReplicationFactor
                    | InvalidConfig
                    | InvalidRequest
                    | PolicyViolation
                    | InvalidReplicaAssignment,
                ),
                Api::V3,
            ) => ApiError::new(bad_request, 40002, error.to_string()),
            _ if error.may_pass() => {
                let message = format!("Retriable Kafka error: {error}");
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, 50003, message)
            }
            _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, 50002, format!("Kafka error: {error}")),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json!({"error_code": self.code, "message": self.message})
    }
}

/// A body that did not arrive within its limits.
impl From<Problem> for ApiError {
    fn from(problem: Problem) -> ApiError {
        let status = problem.status();
        ApiError::new(status, status.as_u16().into(), problem.detail()).closing()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media::V2));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"playhouse\""));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(Refused);
        response
    }
}

/// Marks a response that is an error, so that each version of the API can give it its own content type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused;
