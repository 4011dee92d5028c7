//! The real binary as a black-box test sees it: started on free ports, spoken to over its doors, stopped or killed.
//!
//! - [`Playhouse`]: one running process. Its output is kept, and shown when the test fails.
//! - [`Builder`]: how to start it, as often as the test wants on the same data directory.
//! - [`http`]: the least blocking HTTP client that a test needs.
//!
//! Everything here blocks, has a deadline, and panics with what the process said when something is not as it should be.
//! It knows nothing of the crates behind the doors: what a test checks is what a user would see.

pub mod http;
mod output;
mod playhouse;
mod wait;

pub use playhouse::{Builder, Playhouse};
pub use wait::wait_until;
