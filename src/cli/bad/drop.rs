//! `playhouse bad drop`

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::repair::{self, ChoiceArgs};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Make events that were dropped open again
    #[arg(long)]
    restore: bool,
}

pub async fn run(args: Args) -> Result<ExitCode> {
    repair::run(args.choice, "drop", json!({"restore": args.restore})).await
}
