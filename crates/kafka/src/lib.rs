//! The Kafka door: a protocol server over the gate and the log.
//!
//! - [`KafkaServer`] accepts connections on a listener that the binary bound;
//! - `connection` reads requests and writes responses in order, so that a request is read while the one before it
//!   still waits for the disk;
//! - `guard` walks a request's bytes before the codec sees them, so that no announced count makes it allocate more than
//!   the frame can hold;
//! - `api` has one file per API and one `match` that dispatches;
//! - `groups` has the consumer group state machine (no I/O, the clock passed in), the coordinator around it and the
//!   committed offsets, kept in the log's topic `__consumer_offsets`.
//! - `transactions` has the same for transactional ids: a state machine without I/O, and the coordinator around it, which
//!   keeps their states in the log's topic `__transaction_state`.
//!
//! Record batches stay opaque: the gate gets them as they came, and fetches give them as they lie in the log. This crate
//! knows nothing of schemas, SQL, HTTP or sinks.

mod access;
mod answers;
mod api;
mod broker_configs;
mod config;
mod connection;
mod fetch_response;
mod frame;
mod groups;
mod guard;
mod metrics;
mod quotas;
mod send_file;
mod server;
mod topic_configs;
mod transactions;
mod wire;

pub use config::{GroupConfig, KafkaConfig, TransactionConfig};
pub use groups::{GroupsError, OFFSETS_TOPIC};
pub use metrics::{ApiSnapshot, DoorSnapshot, LATENCY_BOUNDS, Metrics};
pub use server::{KafkaServer, StartError};
pub use transactions::{TRANSACTIONS_TOPIC, TransactionsError};
