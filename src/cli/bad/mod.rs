//! `playhouse bad`: one file per subcommand, each speaking to the admin API of a running Playhouse.

mod admin;
mod drop;
mod filter;
mod fix;
mod list;
mod repair;
mod replay;
mod show;
mod stats;

use std::process::ExitCode;

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
    /// Fix bad events by a JSON patch or an SQL expression, and replay them, each once
    Fix(fix::Args),
    /// Replay bad events as they are, after a change of the schema, say, each once
    Replay(replay::Args),
    /// Mark bad events as dropped: nobody wants to repair them
    Drop(drop::Args),
}

pub async fn run(command: Bad) -> Result<ExitCode> {
    match command {
        Bad::List(args) => list::run(args).await.map(|()| ExitCode::SUCCESS),
        Bad::Show(args) => show::run(args).await.map(|()| ExitCode::SUCCESS),
        Bad::Stats(args) => stats::run(args).await.map(|()| ExitCode::SUCCESS),
        Bad::Fix(args) => fix::run(args).await,
        Bad::Replay(args) => replay::run(args).await,
        Bad::Drop(args) => drop::run(args).await,
    }
}
