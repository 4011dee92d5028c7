//! Streaming SQL over the log, in epochs.
//!
//! A pipeline file declares sources, look-up tables, stateless views, materialized views and inserts into stores. Each
//! epoch fixes which offsets it covers, decodes their records to Arrow, drops ids already seen, runs the cached plans,
//! merges partial aggregates into keyed state, and appends offsets, watermark, state delta and the rows dropped as one
//! checksummed record to the epoch log. Sinks tail that log; live views are published from the state.
//!
//! - [`sql`]: the front half: pipeline text to [`sql::Pipeline`] (catalog, plans, functions, JSON decoder);
//! - [`state`]: keyed state: the dedup set, window aggregates;
//! - [`epoch`]: the epoch record and the epoch log on disk;
//! - [`views`]: immutable snapshots of the materialized views;
//! - [`sink`]: the trait that connectors implement, and the task that drives one;
//! - [`Engine`]: the loop that ties them together.
//!
//! The engine knows the log, but no door and no product behind a store.

mod engine;
pub mod epoch;
mod position;
pub mod sink;
pub mod sql;
pub mod state;
pub mod views;

pub use engine::{
    AttachedSink, BadEvents, BadRecord, Clock, Engine, EngineConfig, EngineError, EngineStatus, FailedStage, Freshness,
    InputStatus, KeepBad, LATE_EVENTS, Refused, RefusedRecords, Replay, ReplayError, ViewStatus, late_events_schema,
};
pub use position::{Position, TopicPartition};
pub use sink::SinkProgress;
