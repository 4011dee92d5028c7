//! Who the client is (SASL/PLAIN, RFC 4616), shown to every broker before anything else is asked.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Shown as it is, so only to brokers on this machine or behind TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl Credentials {
    pub(crate) fn token(&self) -> Bytes {
        let mut token = BytesMut::with_capacity(2 + self.user.len() + self.password.len());
        token.put_u8(0);
        token.put_slice(self.user.as_bytes());
        token.put_u8(0);
        token.put_slice(self.password.as_bytes());
        token.freeze()
    }
}

/// Never the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Credentials(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_has_both_and_the_debug_form_neither() {
        let credentials = Credentials { user: "me".into(), password: "secret".into() };
        assert_eq!(&credentials.token()[..], b"\0me\0secret");
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
