//! `phk_<id>_<secret>`: the id is looked up, the secret is compared by its hash.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::grant::Grant;

const PREFIX: &str = "phk_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 24;

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub id: String,
    /// Whom it was made for.
    pub name: String,
    #[serde(flatten)]
    pub grant: Grant,
    pub created_ms: i64,
    #[serde(with = "hex_digest")]
    pub(super) secret_sha256: [u8; 32],
}

/// A key that was just made: what its owner has to keep is never shown again.
#[derive(Debug)]
pub struct NewKey {
    pub key: Key,
    pub token: String,
}

impl NewKey {
    pub(super) fn make(name: &str, grant: Grant, now_ms: i64) -> Result<NewKey, getrandom::Error> {
        let mut random = [0; ID_BYTES + SECRET_BYTES];
        getrandom::fill(&mut random)?;
        let (id, secret) = random.split_at(ID_BYTES);
        let (id, secret) = (hex(id), hex(secret));
        let token = format!("{PREFIX}{id}_{secret}");
        let secret_sha256 = digest(&secret);
        Ok(NewKey { key: Key { id, name: name.to_owned(), grant, created_ms: now_ms, secret_sha256 }, token })
    }
}

/// Id and secret.
pub(super) fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES).then_some((id, secret))
}

/// Takes as long for every secret that does not match.
pub(super) fn matches(secret: &str, kept: &[u8; 32]) -> bool {
    digest(secret).iter().zip(kept).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs)) == 0
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

mod hex_digest {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(digest))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
        let pairs = text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
        let bytes: Option<Vec<u8>> = pairs.collect();
        bytes
            .filter(|_| text.len() == 64)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| D::Error::custom("a hash has 64 hexadecimal digits"))
    }
}
