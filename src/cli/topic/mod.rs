//! `playhouse topic`: one file per subcommand.

mod alter;
mod create;
mod delete;
mod describe;
mod list;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Topic {
    /// List topics
    List(list::Args),
    /// Make a topic
    Create(create::Args),
    /// Show a topic's partitions, their offsets, and its settings
    Describe(describe::Args),
    /// Delete topics with all their records
    Delete(delete::Args),
    /// Change a topic's settings, or add partitions
    Alter(alter::Args),
}

pub async fn run(command: Topic) -> Result<()> {
    match command {
        Topic::List(args) => list::run(args).await,
        Topic::Create(args) => create::run(args).await,
        Topic::Describe(args) => describe::run(args).await,
        Topic::Delete(args) => delete::run(args).await,
        Topic::Alter(args) => alter::run(args).await,
    }
}
