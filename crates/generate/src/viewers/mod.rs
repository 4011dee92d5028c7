//! The simulated audience.
//!
//! [`generator`] owns the clock: a heap of sessions, each due for its next event. [`session`] decides what a viewer does
//! next, [`audience`] who the viewers are and when they are awake, [`render`] writes an event as a line, [`faults`] says
//! how a line may be wrong, and [`truth`] keeps the expected answers.
//!
//! Everything is integer arithmetic on one ChaCha8 stream: floating point functions differ between platforms, and hash
//! map order between runs.

mod addresses;
mod agents;
mod audience;
mod catalogue;
mod config;
mod dice;
mod faults;
mod generator;
mod live;
mod render;
mod session;
mod truth;

pub use catalogue::{Catalogue, Track};
pub use config::{Config, ConfigError, Share};
pub use generator::Generator;
pub use live::LiveViewers;
pub use truth::Truth;
