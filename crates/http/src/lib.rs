//! The HTTP doors: event ingest ([`ingest`]), administration ([`admin`]) and the schema registry ([`registry`]).
//!
//! - [`ingest`]: `POST /events/{topic}` and `POST /events`: one object, an array or NDJSON, plain, gzip or zstd; pages of
//!   other origins, beacons and pixels;
//! - [`admin`]: health, metrics, status, bad events and the OpenAPI document;
//! - [`registry`]: Confluent's registry API over `playhouse_registry`;
//! - `doorkeeper`: whose API key is good for what, on the doors that show and change what is there;
//! - `host`: which names of this machine the doors answer to that web pages must not reach;
//! - [`Problem`]: what a request as a whole is refused with (RFC 9457); `request_id`: which request that was;
//! - `body`, `encoding`, [`ByteBudget`]: a request body read into one buffer within limits of size, memory and time;
//! - [`serve`]: HTTP/1.1 connections with time limits and a bounded shutdown; [`Incoming`], [`StallGuard`]: what they and
//!   the gRPC door stand on; [`Traffic`]: what doors count.
//!
//! This crate hands bytes to the gate, proposals to the registry, and shows what callbacks of the binary tell it. It knows
//! nothing of how events are validated or schemas compared, of SQL, the engine, sinks or configuration files.

pub mod admin;
mod body;
mod budget;
mod doorkeeper;
mod encoding;
mod host;
mod incoming;
pub mod ingest;
mod problem;
pub mod registry;
mod request_id;
mod serve;
mod stall;
mod traffic;

pub use body::{BodyLimits, LeasedBody, Received, receive};
pub use budget::{ByteBudget, Lease, OverBudget};
pub use doorkeeper::shown;
pub use encoding::Encoding;
pub use host::this_machine_only;
pub use incoming::{Incoming, Place};
pub use problem::Problem;
pub use serve::{ServeOptions, serve};
pub use stall::StallGuard;
pub use traffic::{Begun, LATENCY_BOUNDS, Traffic, TrafficSnapshot};
