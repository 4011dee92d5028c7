//! The gRPC door: `playhouse.v1.Ingest`, with reflection and health.
//!
//! - `ingest`: the two calls, over the gate; `refusal`: what they are refused with;
//! - `doorway`: what every call passes: keys, counters, and
//!   - `metered`: bytes of requests count against a budget as they arrive, before there is a message,
//!   - `answers`: who does not take its answers is cut off;
//! - `incoming`: connections, as HTTP has them;
//! - [`serve`]: the server, and its bounded end.
//!
//! This crate hands bytes to the gate and shows its results. It knows nothing of schemas, SQL, the engine, HTTP/1 or
//! configuration files.

mod answers;
mod doorway;
mod incoming;
mod ingest;
mod metered;
mod refusal;
mod server;

pub use metered::Arrival;
pub use server::{GrpcConfig, GrpcError, serve};

/// Messages as generated from `proto/playhouse/v1`.
pub mod v1 {
    tonic::include_proto!("playhouse.v1");
}
