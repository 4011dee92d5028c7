//! `playhouse bad`: one file per subcommand, each speaking to the admin API of a running Playhouse.

mod admin;
mod filter;
mod list;
mod show;
mod stats;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Bad {
    /// List bad events, oldest first
    List(list::Args),
    /// Show one bad event with all of its reasons and what was sent
    Show(show::Args),
    /// Count bad events by topic, stage and reason
    Stats(stats::Args),
}

pub async fn run(command: Bad) -> Result<()> {
    match command {
        Bad::List(args) => list::run(args).await,
        Bad::Show(args) => show::run(args).await,
        Bad::Stats(args) => stats::run(args).await,
    }
}
