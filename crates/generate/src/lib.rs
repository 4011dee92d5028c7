//! Traffic: synthetic viewers, and recorded traffic played again.
//!
//! - [`Generator`] simulates an audience and writes its events as NDJSON, the same bytes for the same [`Config`] on every
//!   machine; [`Truth`] is what a correct system must answer about them. [`LiveViewers`] is the same audience, now.
//! - [`replay`] reads web logs and recorded events as a stream of events with stable ids.
//! - [`send`] delivers either to the ingest door, retrying safely, and tells what became of every event.
//!
//! It knows the ingest door only as an HTTP address: nothing of the log, the gate or the engine.

pub mod replay;
pub mod send;
mod time;
mod viewers;

pub use time::{Time, TimeError, parse_span, parse_time};
pub use viewers::{Catalogue, Config, ConfigError, Generator, LiveViewers, Share, Track, Truth};
