//! Errors as Confluent's clients read them: `{"error_code": …, "message": …}`.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use playhouse_registry::ChangeError;
use playhouse_schema::registry::RegistryError;
use serde_json::json;

use crate::Problem;

/// "Error in the backend data store"
const STORE_FAILED: u32 = 50001;

#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: u32,
    message: String,
    retry_after: Option<Duration>,
    closes: bool,
}

impl Refusal {
    /// Without a code of its own: that is the status.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        let code = u32::from(status.as_u16());
        Refusal { status, code, message: message.into(), retry_after: None, closes: false }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn unprocessable(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(super) fn stopping() -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, ChangeError::Stopped.to_string())
    }

    /// The request's body was not read to its end, so the connection cannot carry another request.
    pub(super) fn closing(self) -> Refusal {
        Refusal { closes: true, ..self }
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Refusal {
        let code = error.code();
        let status = if code < 1000 { code } else { code / 100 };
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let refusal = Refusal::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.to_string());
        Refusal { code, ..refusal }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Refusal {
        match error {
            ChangeError::Refused(error) => error.into(),
            ChangeError::Store(_) => {
                Refusal { code: STORE_FAILED, ..Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()) }
            }
            ChangeError::Stopped => Refusal::stopping(),
        }
    }
}

/// What the reading of bodies refuses, for all HTTP doors.
impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Refusal {
        let refusal = Refusal::new(problem.status(), problem.detail());
        Refusal { retry_after: problem.after(), closes: problem.is_closing(), ..refusal }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let json = json!({"error_code": self.code, "message": self.message});
        let mut response = Response::new(Body::from(json.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"playhouse\""));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
