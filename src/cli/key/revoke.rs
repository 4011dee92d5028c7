//! `playhouse key revoke`

use anyhow::{Result, bail};

use crate::cli::broker::print;
use crate::config::ConfigArgs;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Their ids, as `playhouse key list` shows them
    #[arg(required = true)]
    id: Vec<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn run(args: Args) -> Result<()> {
    let keys = super::keys(&args.config)?;
    let _in_turn = super::lock(&keys)?;
    for id in args.id {
        if !keys.revoke(&id)? {
            bail!("there is no key {id:?}: `playhouse key list` shows which there are");
        }
        print(&format!("revoked key {id}"));
    }
    Ok(())
}
