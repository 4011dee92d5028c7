//! Keyed state: what must survive from one epoch to the next.
//!
//! Every state here has the same life: an epoch changes it and yields a delta; recovery loads the last checkpoint and
//! merges the deltas after it. The delta goes into the epoch record, so state and offsets commit together.

pub mod aggregate;
mod bytes;
pub mod dedup;
