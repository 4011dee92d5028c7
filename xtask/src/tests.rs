//! The tests that `cargo test` leaves out: marked `#[ignore = "needs …"]`, run here and in CI.

use std::process::Command;

use anyhow::bail;

use crate::servers::Servers;

pub fn run_real(arguments: &[String]) -> anyhow::Result<()> {
    let servers = Servers::start()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["test", "--workspace"])
        .args(arguments)
        .args(["--", "--ignored"])
        .envs(servers.environment())
        .status()?;
    if !status.success() {
        bail!("tests against real servers failed");
    }
    Ok(())
}
