//! The gate: the only way in.
//!
//! Whatever the door, an event is split from its request, validated against its topic's schema, framed and appended to
//! the log; the payload stays byte for byte what was sent. The caller gets one result per event. A rejected event is
//! appended to the topic `bad_events` before the reply. The gate knows nothing of sockets, HTTP, SQL or sinks: a door
//! hands it bytes and an [`Origin`].

mod bad;
mod gate;
mod outcome;

pub use bad::{BAD_EVENTS_TOPIC, BadEvent, BadEvents, Stage};
pub use gate::{Counters, Gate, GateConfig, GateError, ProduceError, Produced, TopicRule};
pub use outcome::{EventResult, Origin, Outcome, Reason, RequestError, Status};
