//! HTTP doors: event ingest, admin
