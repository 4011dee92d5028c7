//! Epochs on disk: what the engine decided, wholly there or never happened.
//!
//! One [`Epoch`] is one checksummed record: the offsets it covers, watermark and clock, the state delta, which rows were
//! dropped as seen before, and the rows that cannot be computed again from those (Arrow IPC, lz4). The [`EpochLog`] keeps
//! them in order in segment files, and the newest epochs' rows of all streams in memory; sinks and queries read it through
//! a [`Cursor`], each at its own pace, and segments that nobody needs any more are removed. It knows neither what the
//! delta means nor what a sink does with the rows.

mod codec;
mod cursor;
mod log;

pub use codec::{CodecError, Epoch, Header, OffsetRange, PartitionTime};
pub use cursor::{Cursor, EpochRef};
pub use log::{EpochLog, EpochLogConfig, EpochLogError, Identity};
