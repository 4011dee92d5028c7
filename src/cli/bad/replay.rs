//! `playhouse bad replay`

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::repair::{self, ChoiceArgs};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Write nothing: show what would still be bad
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    repair::run(args.choice, "replay", json!({"dry_run": args.dry_run})).await
}
