//! Event schemas: compiled validators.
//!
//! A [`Validator`] answers two questions about a JSON document in one pass over its bytes: is it well-formed (strictly:
//! no duplicate keys, no lone surrogates, bounded depth and numbers), and is it valid under its JSON Schema. Its pieces:
//!
//! - `scan`: the strict JSON scanner, which runs a plan while it reads and remembers where wanted fields stand;
//! - `plan`: the part of a schema that the scanner can decide by itself. It only ever says "certainly valid";
//! - `format`: the string formats among that part;
//! - `cost`: which schemas would never end, or end too late;
//! - `validator`: the reference implementation (`jsonschema`) for everything else. It decides and explains.
//!
//! For a registry, `formats` parses schemas (Avro so far) and has the text by which it knows them, and `compatibility` says
//! why data of one cannot be read with another.
//!
//! `wire` reads how a record names the schema of its value.
//!
//! This crate knows nothing of the log, of sockets or of topics, and fetches nothing: a remote `$ref` is an error.

mod cost;
mod format;
mod plan;
mod scan;
mod text;
mod validator;

pub mod compatibility;
pub mod formats;
pub mod wire;

pub use scan::{Break, Scanned, Verdict};
pub use text::string_value;
pub use validator::{Checked, Fields, SchemaError, Validator, key_bytes, not_json, not_utf8};

/// Why an event is not valid.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// JSON pointer (RFC 6901) to the offending value; empty for the whole event.
    pub path: String,
    pub message: String,
    /// The schema keyword that failed (`required`, `type`, …), or `json`, `encoding`, `depth`, `size`, `avro`, `schema_id`.
    pub keyword: String,
}

impl Reason {
    /// A reason that concerns the whole event.
    pub fn whole(keyword: &str, message: impl Into<String>) -> Reason {
        Reason { path: String::new(), message: message.into(), keyword: keyword.to_owned() }
    }
}
