//! The value of an `Authorization` header, as HTTP and gRPC have it: `Bearer KEY` (RFC 6750), or `Basic` with the key for a
//! password (RFC 7617), for clients that know nothing else.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a caller shows. Not yet checked, and never to be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    /// Whatever a caller with `Basic` calls itself; nothing hangs on it.
    pub user: String,
    pub key: String,
}

impl Shown {
    pub fn parse(authorization: &str) -> Option<Shown> {
        let (scheme, shown) = authorization.trim().split_once(' ')?;
        let shown = shown.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Shown { user: String::new(), key: shown.to_owned() });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = String::from_utf8(STANDARD.decode(shown).ok()?).ok()?;
            let (user, key) = decoded.split_once(':')?;
            return Some(Shown { user: user.to_owned(), key: key.to_owned() });
        }
        None
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Shown(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_and_basic_are_understood_and_nothing_else() {
        let parse = |value: &str| Shown::parse(value).map(|shown| (shown.user, shown.key));
        let shown = |user: &str, key: &str| Some((user.to_owned(), key.to_owned()));
        assert_eq!(parse("bearer  phk_1 "), shown("", "phk_1"));
        assert_eq!(parse("Basic bWU6cGhrXzE6eA=="), shown("me", "phk_1:x"));
        for wrong in ["", "Bearer", "phk_1", "Digest a", "Basic !", "Basic bWU=", "Basic /w=="] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", Shown::parse("Bearer secret")).contains("secret"));
    }
}
