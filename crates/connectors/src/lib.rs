//! Sinks: tables, cache, lake
