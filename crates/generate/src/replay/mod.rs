//! Recorded traffic, played again.
//!
//! [`Input`] reads a web log (common or combined format) or recorded events (NDJSON or one JSON array), plain, gzip or
//! zstd, as a stream of events: a line of JSON each, never the whole file in memory. [`run`] delivers them through a
//! [`crate::send::Courier`], and [`Resume`] remembers how far it came. [`Shift`] moves recorded times to another span.
//!
//! Replaying is safe to repeat: an event's id follows from what is in the file alone.

mod array;
mod input;
mod json;
mod lines;
mod occurrence;
mod resume;
mod run;
mod shift;
mod weblog;

pub use input::{Format, Input, InputError, Item};
pub use resume::{Resume, ResumeError, ResumeKey};
pub use run::{Ending, Progress, ReplayError, ReplayOptions, run};
pub use shift::{Shift, ShiftError, Span};
