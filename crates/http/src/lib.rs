//! The HTTP doors: event ingest ([`ingest`]), administration ([`admin`]) and the schema registry ([`registry`]).
//!
//! - [`ingest`]: `POST /events/{topic}` and `POST /events`: one object, an array or NDJSON, plain, gzip or zstd; pages of
//!   other origins, beacons and pixels;
//! - [`admin`]: health, metrics, status, bad events and the OpenAPI document;
//! - [`registry`]: Confluent's registry API over `playhouse_registry`;
//! - `host`: which names of this machine the doors answer to that web pages must not reach;
//! - [`Problem`]: what a request as a whole is refused with (RFC 9457); `request_id`: which request that was;
//! - `body`, `encoding`, [`ByteBudget`]: a request body read into one buffer within limits of size, memory and time;
//! - [`serve`]: HTTP/1.1 connections with time limits and a bounded shutdown.
//!
//! This crate hands bytes to the gate, proposals to the registry, and shows what callbacks of the binary tell it. It knows
//! nothing of how events are validated or schemas compared, of SQL, the engine, sinks or configuration files.

pub mod admin;
mod body;
mod budget;
mod encoding;
mod host;
pub mod ingest;
mod problem;
pub mod registry;
mod request_id;
mod serve;
mod stall;

pub use body::{BodyLimits, LeasedBody, Received, receive};
pub use budget::{ByteBudget, Lease, OverBudget};
pub use encoding::Encoding;
pub use host::this_machine_only;
pub use problem::Problem;
pub use serve::{ServeOptions, serve};
