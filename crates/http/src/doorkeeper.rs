//! Who may use the doors that show and change what is there (admin, registry), where callers have to show a key.

use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use playhouse_gate::{Auth, KeyRing, Principal, Shown};

use crate::Problem;

/// What the `Authorization` header holds; `None` where it is missing, or of a kind that is not understood.
pub fn shown(headers: &HeaderMap) -> Option<Shown> {
    Shown::parse(headers.get(AUTHORIZATION)?.to_str().ok()?)
}

pub(crate) fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "An API key is required", detail)
}

/// Lets those pass whose key has the right; everybody, where no keys are asked for.
pub(crate) fn admit(auth: &Auth, headers: &HeaderMap, may: fn(&Principal) -> bool) -> Result<(), Problem> {
    let ring: &Arc<KeyRing> = match auth {
        Auth::None => return Ok(()),
        Auth::Keys(ring) => ring,
    };
    let shown = shown(headers).ok_or_else(|| {
        unauthorized("send an API key, as Authorization: Bearer, or Basic with the key for a password")
    })?;
    let principal = ring.principal(&shown.key);
    let principal = principal.ok_or_else(|| unauthorized("this API key is not known, or was revoked"))?;
    if !may(&principal) {
        let detail = "this API key has not the right to do this: `playhouse key list` shows what it may";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not-allowed", "The key lacks the right", detail));
    }
    Ok(())
}
