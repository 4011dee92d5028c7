//! The HTTP doors: event ingest ([`ingest`]) and administration ([`admin`]).
//!
//! - [`ingest`]: `POST /events/{topic}` and `POST /events`: one object, an array or NDJSON, plain, gzip or zstd; pages of
//!   other origins, beacons and pixels;
//! - [`admin`]: health, metrics, status, bad events and the OpenAPI document;
//! - [`Problem`]: what a request as a whole is refused with (RFC 9457); `request_id`: which request that was;
//! - `body`, `encoding`, [`ByteBudget`]: a request body read into one buffer within limits of size, memory and time;
//! - [`serve`]: HTTP/1.1 connections with time limits and a bounded shutdown.
//!
//! This crate hands bytes to the gate and shows what callbacks of the binary tell it. It knows nothing of schemas, SQL,
//! the engine, sinks or configuration files.

pub mod admin;
mod body;
mod budget;
mod encoding;
pub mod ingest;
mod problem;
mod request_id;
mod serve;
mod stall;

pub use body::{BodyLimits, LeasedBody, Received, receive};
pub use budget::{ByteBudget, Lease, OverBudget};
pub use encoding::Encoding;
pub use problem::Problem;
pub use serve::{ServeOptions, serve};
