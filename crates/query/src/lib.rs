//! Doors for questions: the PostgreSQL wire over live views, lake and bad events, and the Redis wire over the cache.
//!
//! - [`Catalog`]: what can be asked: live views, lake tables ([`LakeSource`]), bad events;
//! - [`pg`]: the PostgreSQL door ([`PgServer`]): reads only, one snapshot per statement;
//! - [`redis`]: the Redis door ([`RedisServer`]) over a [`CacheReader`].
//!
//! Every statement sees one epoch: the snapshot of the views is taken once, and a lake table is pinned to that epoch when
//! the statement first scans it. Rows are read when they are asked for, and memory is bounded.
//!
//! This crate knows nothing of Delta, of the epoch log or of how a cache keeps its entries: the binary hands it in.

mod bad;
mod catalog;
mod lake;
pub mod pg;
pub mod redis;
mod rows;
mod view;

pub use catalog::{
    BadPages, BoxError, Catalog, LakeSource, PinnedLake, TailRows, ViewRows, ViewSnapshot, ViewSnapshots,
};
pub use pg::{PgConfig, PgServer};
pub use redis::{CacheReader, RedisConfig, RedisServer};
pub use rows::RowIter;

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("cannot listen on {address} ({setting}): {error}")]
    Listen { address: std::net::SocketAddr, setting: &'static str, error: std::io::Error },
    #[error("cannot start the threads of the PostgreSQL door: {0}")]
    Threads(std::io::Error),
    #[error("cannot prepare the SQL session: {0}")]
    Session(#[from] datafusion::error::DataFusionError),
}
