//! `playhouse bad show`

use anyhow::Result;

use super::admin::{AdminArgs, encode};
use crate::cli::broker::print_json;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its `bad_id`, as `bad list` shows it
    bad_id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// JSON is the form that loses nothing of what was sent, for people as for scripts.
pub async fn run(args: Args) -> Result<()> {
    let event = args.admin.get(&format!("/api/bad-events/{}", encode(&args.bad_id)), &[]).await?;
    print_json(&event);
    Ok(())
}
