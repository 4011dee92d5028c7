//! `Idempotency-Key` (the IETF's draft of that name): a request that is sent again is answered with the first answer.
//!
//! The answer is stored after the events are durable and before it is sent: [`store`] keeps it in the log's topic
//! `__idempotency`, so that it survives a restart, and remembers in memory only which keys there are. Whoever hangs up
//! does not stop its request: that is when it will be sent again. Between the events and the answer a crash leaves events
//! without an answer; the request sent again then appends them again, and the topic's dedup key drops them behind the log.

mod record;
mod store;

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, StatusCode};
use playhouse_gate::Caller;
use sha2::{Digest, Sha256};

use crate::Problem;

pub(super) use record::Answer;
pub(super) use store::{Answers, Begun};
pub use store::{IdempotencyConfig, IdempotencyError};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_BYTES_MAX: usize = 255;
/// When to ask again for an answer that is being made.
const RETRY_UNDER_WAY: Duration = Duration::from_secs(1);

/// A caller's key, hashed: keys of different callers have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

/// What the key stands for: topic and decoded body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u128);

impl Key {
    /// The draft asks for a quoted string, most clients send a bare one: both are the same key.
    pub(super) fn of(headers: &HeaderMap, caller: &Caller) -> Result<Option<Key>, Problem> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let refused = |why: &str| Problem::bad_request(format!("the Idempotency-Key {why}")).closing();
        if values.next().is_some() {
            return Err(refused("is given twice: send one"));
        }
        let text = value.to_str().map_err(|_| refused("is not ASCII text: a UUID will do"))?.trim();
        let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(refused(&format!("has {} characters: use 1 to {KEY_BYTES_MAX}", key.len())));
        }
        // Not the address: whoever asks again may have another one by then.
        let principal = match caller {
            Caller::Key(id) => id,
            Caller::Address(_) | Caller::Unknown => "",
        };
        Ok(Some(Key(hash(principal, key.as_bytes()))))
    }
}

impl Fingerprint {
    /// Takes as long as the body is large.
    pub(super) fn of(topic: &str, body: &[u8]) -> Fingerprint {
        Fingerprint(hash(topic, body))
    }
}

fn hash(scope: &str, bytes: &[u8]) -> u128 {
    let mut hasher = Sha256::new();
    hasher.update((scope.len() as u64).to_be_bytes());
    hasher.update(scope);
    hasher.update(bytes);
    let digest = hasher.finalize();
    u128::from_be_bytes(std::array::from_fn(|index| digest[index]))
}

pub(super) fn under_way() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "idempotency-key-under-way",
        "The first request of this key is under way",
        "the first request with this Idempotency-Key is not answered yet: ask again later",
    )
    .retry_after(RETRY_UNDER_WAY)
}

pub(super) fn reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "The key belongs to another request",
        "this Idempotency-Key was sent with another body or topic: make a new key for every request",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(principal: &str, values: &[&str]) -> Result<Option<Key>, u16> {
        let caller = if principal.is_empty() { Caller::Unknown } else { Caller::Key(principal.into()) };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
        }
        Key::of(&headers, &caller).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn keys_are_bare_or_quoted_and_belong_to_their_caller() {
        assert_eq!(key("", &[]), Ok(None));
        let bare = key("", &["8e03978e-40d5"]).unwrap().unwrap();
        assert_eq!(key("", &["\"8e03978e-40d5\""]), Ok(Some(bare)));
        assert_ne!(key("somebody", &["8e03978e-40d5"]).unwrap(), Some(bare));
        assert_ne!(key("a", &["bc"]), key("ab", &["c"]));
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        for wrong in [&[""][..], &["\"\""], &["a", "b"], &[&long]] {
            assert_eq!(key("", wrong), Err(400), "{wrong:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_of_topic_and_body() {
        assert_eq!(Fingerprint::of("a", b"{}"), Fingerprint::of("a", b"{}"));
        assert_ne!(Fingerprint::of("a", b"{}"), Fingerprint::of("b", b"{}"));
        assert_ne!(Fingerprint::of("a", b"{}"), Fingerprint::of("a", b"{ }"));
        assert_ne!(Fingerprint::of("a", b"b"), Fingerprint::of("ab", b""));
    }
}
