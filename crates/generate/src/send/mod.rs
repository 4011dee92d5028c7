//! Delivery to the ingest door.
//!
//! A [`Courier`] takes batches of events in order, keeps a few under way over kept-alive connections, and settles them in
//! order: [`Courier::acknowledged`] is how far everything was answered. It tries again on 429, on server errors and on
//! broken connections, which is safe since the events' ids drop repeats. A [`Summary`] tells what became of them.

mod client;
mod courier;
mod pace;
mod summary;

pub use client::{Client, ClientConfig, SendError, Target, TargetError};
pub use courier::{Batch, Courier};
pub use pace::Pace;
pub use summary::{ReasonCount, Summary};
