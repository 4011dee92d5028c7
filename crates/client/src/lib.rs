//! A small Kafka client, for people and the REST proxy rather than for load: it speaks to any broker since Kafka 2.1.
//!
//! - `connection`: one broker, one request at a time, with the version both sides know; `sasl`: who the client is;
//! - [`Client`]: which broker to ask (any, the controller, a partition's leader, a group's coordinator), and trying again
//!   until a deadline where the broker says that this may help;
//! - one file per subject: [`topics`], [`groups`], [`offsets`], [`produce`], [`fetch`]; [`member`]: being in a group.
//!
//! Record batches are the log's own codec. It knows nothing of Playhouse's server, schemas or SQL.

mod client;
mod connection;
mod error;
pub mod fetch;
pub mod groups;
pub mod member;
pub mod offsets;
pub mod produce;
mod sasl;
pub mod topics;

pub use client::{Client, Options};
pub use error::Error;
pub use kafka_protocol::ResponseError;
pub use playhouse_log::batch::Compression;
pub use sasl::Credentials;

use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}
