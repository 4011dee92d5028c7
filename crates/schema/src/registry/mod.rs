//! The state of a schema registry, without I/O: subjects, versions, ids, settings, and what may become of them.
//!
//! [`State`] is an immutable value of persistent maps: a copy costs a few pointers, so readers keep one while a writer makes
//! the next. It changes only by [`State::apply`], one [`Change`] after another, so that everyone who reads the same records
//! has the same state. A request that wants a change is decided (`register`, `delete`, `settings`): the outcome is an
//! error with Confluent's code, or a [`Decision`], the changes to write down and then to apply.
//!
//! - `types`: levels, modes, references, what is proposed and what is registered;
//! - `record`: changes as the keys and values that Confluent's registry keeps in its topic `_schemas`;
//! - `state`: the maps; `read`: questions to them;
//! - `compare`: which versions a new schema has to fit, at each of the seven levels;
//! - `parsed`: parsed schemas, made when first needed, bounded in memory.
//!
//! It knows nothing of topics, disks, HTTP or clocks.

mod compare;
mod delete;
mod error;
mod parsed;
mod read;
mod record;
mod register;
mod settings;
mod state;
mod types;

#[cfg(test)]
mod tests;

pub use compare::Against;
pub use error::RegistryError;
pub use parsed::ParsedCache;
pub use read::{Place, Shown};
pub use record::{Change, RecordError};
pub use register::{Limits, Outcome, Rules};
pub use settings::ConfigUpdate;
pub use state::State;
pub use types::{Config, Level, Mode, Proposal, Reference, Registered, VersionSpec, subject_name};

/// What a request comes to: records to append and apply in this order (none, if everything is so already), and an answer.
#[derive(Debug)]
pub struct Decision<T> {
    pub changes: Vec<Change>,
    pub answer: T,
}
