//! What every connector needs to know about a batch of rows: its JSON, its timestamps as text, the memory it holds.

mod json;
mod memory;
mod text;
mod time;

pub use json::RowWriter;
pub(crate) use json::{write_plain, write_string};
pub use memory::{retained_bytes, row_bytes};
pub(crate) use text::without_nul;
pub(crate) use time::write_sortable_timestamp;
pub use time::{write_date, write_timestamp};
