//! Connectors: what lets a pipeline write to a store.
//!
//! One folder per store, each with an embedded and a real server behind the same [`playhouse_engine::sink::Sink`]:
//!
//! - [`tables`]: rows by key, SQLite or PostgreSQL;
//! - [`cache`]: newest value by key with a time to live, in process or Redis;
//! - [`lake`]: all history as a Delta table partitioned by date, on any object store.
//!
//! Every sink stores its position atomically with its rows. Which position a commit may follow is decided in one place
//! (`progress`), how a row looks as JSON in another ([`rows`]), so that two implementations of a store cannot differ.
//!
//! Connectors know the sink trait and the position of the engine, but no SQL, no epoch log and no door.

pub mod cache;
pub mod lake;
mod options;
mod progress;
pub mod rows;
pub mod tables;

pub use options::{ConnectorOptions, OptionSpec, known_options};
