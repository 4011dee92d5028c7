//! The SQL front half, from text to rows.

#[path = "sql/support.rs"]
mod support;

#[path = "sql/decode.rs"]
mod decode;
#[path = "sql/default_pipeline.rs"]
mod default_pipeline;
#[path = "sql/errors.rs"]
mod errors;
#[path = "sql/views.rs"]
mod views;
