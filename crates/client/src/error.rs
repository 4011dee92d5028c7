//! What can go wrong, and whether trying again may help.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not HOST:PORT")]
    Address(String),
    #[error("cannot reach a broker at {address}: {cause}")]
    Connect { address: String, cause: Arc<io::Error> },
    #[error("the connection to {address} failed: {cause}")]
    Io { address: String, cause: Arc<io::Error> },
    #[error("{address} did not answer within {} s", .after.as_secs())]
    Timeout { address: String, after: Duration },
    #[error("the broker at {address} does not know {api} in a version this client speaks")]
    Unsupported { address: String, api: &'static str },
    #[error("{address} answered with what is not a response: {reason}")]
    Protocol { address: String, reason: String },
    #[error("{}", describe(.what, *.code, .message.as_deref()))]
    Refused { what: String, code: ResponseError, message: Option<String> },
    #[error("{what}: {reason}")]
    Invalid { what: String, reason: String },
}

impl Error {
    pub(crate) fn refused(what: impl Into<String>, code: i16, message: Option<&str>) -> Error {
        let code = ResponseError::try_from_code(code).unwrap_or(ResponseError::UnknownServerError);
        Error::Refused { what: what.into(), code, message: message.map(str::to_owned) }
    }

    /// What the broker said, where it said something.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the broker does not know the caller, or does not let it do this.
    pub fn is_denied(&self) -> bool {
        use ResponseError::*;
        matches!(
            self.code(),
            Some(
                SaslAuthenticationFailed
                    | TopicAuthorizationFailed
                    | GroupAuthorizationFailed
                    | ClusterAuthorizationFailed
                    | TransactionalIdAuthorizationFailed
            )
        )
    }

    /// Whether trying again later may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Io { .. } | Error::Timeout { .. } => true,
            // A topic that was only just made is unknown for a moment; one that is not there is told at once.
            Error::Refused { code, .. } => code.is_retriable() && *code != ResponseError::UnknownTopicOrPartition,
            _ => false,
        }
    }
}

/// Fails with the code of an answer, if it has one.
pub(crate) fn check(code: i16, what: impl Fn() -> String, message: Option<&str>) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::refused(what(), code, message)) }
}

fn describe(what: &str, code: ResponseError, message: Option<&str>) -> String {
    match message.map(|message| message.trim_end_matches('.')).filter(|message| !message.is_empty()) {
        Some(message) if message.contains(what) => message.to_owned(),
        Some(message) => format!("{what}: {message}"),
        // The variant's name in words: "unknown topic or partition".
        None => {
            let mut words = String::new();
            for letter in format!("{code:?}").chars() {
                if letter.is_uppercase() && !words.is_empty() {
                    words.push(' ');
                }
                words.extend(letter.to_lowercase());
            }
            format!("{what}: {words}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_without_a_message_is_told_in_words() {
        let error = Error::refused("topic \"a\"", 3, None);
        assert_eq!(error.to_string(), "topic \"a\": unknown topic or partition");
        let error = Error::refused("topic \"a\"", 36, Some("It is there."));
        assert_eq!(error.to_string(), "topic \"a\": It is there");
        assert_eq!(error.code(), Some(ResponseError::TopicAlreadyExists));
    }
}
