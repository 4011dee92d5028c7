//! `playhouse group`: one file per subcommand.

mod describe;
mod list;
mod reset_offsets;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Group {
    /// List consumer groups
    List(list::Args),
    /// Show a group's members, committed offsets and lag
    Describe(describe::Args),
    /// Move a group's committed offsets; the group must have no members
    ResetOffsets(reset_offsets::Args),
}

pub async fn run(command: Group) -> Result<()> {
    match command {
        Group::List(args) => list::run(args).await,
        Group::Describe(args) => describe::run(args).await,
        Group::ResetOffsets(args) => reset_offsets::run(args).await,
    }
}
