//! The schema registry of this process: its state in memory, every change of it in the log.
//!
//! - `topic`: the compacted topic `_schemas`, in the format of Confluent's registry: read back at the start, appended to
//!   by every change;
//! - [`Registry`]: the state that readers have without a lock, and the one way to change it: decided, appended, durable, and
//!   only then visible.
//!
//! What may become of a subject is decided in `playhouse_schema::registry`. This crate knows nothing of HTTP, of events, or of
//! who asks: the gate and the registry's door stand above it.

mod registry;
mod topic;

pub use registry::{ChangeError, Registry, RegistryConfig, Snapshot};
pub use topic::{OpenError, SCHEMAS_TOPIC};
