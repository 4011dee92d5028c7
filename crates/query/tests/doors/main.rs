//! The doors as clients see them, over providers made here.

mod hostile;
mod postgres;
mod psql;
mod redis;
mod support;
