//! The gate: the only way in.
//!
//! Whatever the door, an event is split from its request, validated against its topic's schema, framed and appended to
//! the log; the payload stays byte for byte what was sent. The caller gets one result per event. A rejected event is
//! appended to the topic `bad_events` before the reply. The gate knows nothing of sockets, HTTP, SQL or sinks: a door
//! hands it bytes and an [`Origin`].
//!
//! - [`Gate`]: topics, budgets, counters;
//! - `ingest`: event requests, by way of `split` (a body into events) and `frame` (events into batches);
//! - `fields`: named texts into one event;
//! - `produce`: Kafka batches;
//! - `check`: whether a value is one of its topic, by the topic's settings (`binding`) and schemas ([`SchemaSource`], of which the
//!   registry is one: `registered`);
//! - [`BadEvents`]: what was rejected, and what has become of it; `repair`: the way back in.
//! - [`Failure`]: what fails behind the gate, and becomes a bad event;
//! - [`KeyRing`]: API keys; [`Rates`]: how much each caller may send; [`Access`]: both, as doors ask before they read a request.

mod access;
mod bad;
mod binding;
mod budget;
mod check;
mod failures;
mod fields;
mod frame;
mod gate;
mod ingest;
mod keys;
mod outcome;
mod produce;
mod rates;
mod registered;
mod repair;
mod schemas;
mod split;

pub use access::{Access, Denied, Visitor};
pub use bad::{
    BAD_EVENT_STATE_TOPIC, BAD_EVENTS_TOPIC, BadEvent, BadEvents, BadEventsError, BadEventsLimits, BadEventsUsage,
    BadFilter, BadState, BadStats, Displaced, Groups, REPLAY_HEADER, Selected, Stage, StateError,
};
pub use binding::{ANY_SUBJECT, ON_INVALID_SETTING, OnInvalid, SUBJECT_SETTING, VALIDATION_SETTING, Validation};
pub use failures::{Failure, FailureError};
pub use fields::FieldError;
pub use gate::{Counters, Gate, GateConfig, GateError, TopicRule, is_internal};
pub use keys::{Auth, Grant, GrantError, Key, KeyFile, KeyRing, KeysError, NewKey, Principal, Right, Shown};
pub use outcome::{EventResult, Origin, Outcome, Reason, RequestError, Share, Status};
pub use playhouse_log::{ReadError, partition_of};
pub use playhouse_registry::SCHEMAS_TOPIC;
pub use produce::{ProduceError, Produced, Rejected, RejectedRecord};
pub use rates::{Caller, RateLimits, Rates};
pub use repair::{Fix, Repair, RepairError, RepairOutcome};
pub use schemas::{FoundSchema, SchemaSource};
